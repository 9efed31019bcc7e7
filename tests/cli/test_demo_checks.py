"""The demo's checks on small histories: what is missing or too many is found, what is whole is not."""

import json
from collections import Counter

import pytest
from rich.console import Console

from core.domain.errors import Misconfigured
from core.domain.units import MICRO
from decide import operator
from decide.strategies.registry import BUILT_IN
from infra.cli.reach import Reach
from infra.demo import cast, setup
from infra.demo.ending import Ending
from infra.demo.frames import Feeds, check, digest
from infra.demo.options import Options
from infra.demo.stage import IDLE_S, WRONG, Demo, is_good
from infra.demo.stops import Stops
from infra.demo.tap import Tap
from infra.demo.trades import Ours, check_fills, compare_accounts, holdings, profit_e6
from infra.demo.view import Picture, line, percentiles, screen
from schemas.decision import Edge, Entry, Ledger, Limit, Saga, Standing, Strategy
from schemas.derived import Quote
from schemas.order import Fill, OrderUpdate, Submitting, VenueCall
from schemas.raw import Closed, FeedTick, Frame
from tests.records import granted
from venues import VENUES

T = 1_780_000_000_000_000_000


def frame(number, payload, epoch=0, **changes):
    return Frame(
        feed="kalshi-0", venue="kalshi", epoch=epoch, frame_no=number, recv_ts_ns=T, payload=payload, **changes
    )


def sent(connection, *payloads, kind="orderbook_delta"):
    return [[connection, n, kind, "", 0, digest(payload)] for n, payload in enumerate(payloads, 1)]


# Frames


def test_all_frames_there_is_nothing_lost():
    feeds = Feeds()
    for number, payload in enumerate((b"a", b"b", b"b"), 1):
        feeds.add(frame(number, payload))
    feeds.add(FeedTick(feed="kalshi-0", venue="kalshi", epoch=0, frame_no=4, recv_ts_ns=T))
    result = check(sent(1, b"a", b"b", b"b"), set(), feeds.digests.values())
    assert (result.sent, result.lost, result.duplicated, feeds.holes(), feeds.repeated) == (3, 0, 0, 0, 0)


def test_a_frame_that_did_not_arrive_is_lost():
    result = check(sent(1, b"a", b"b", b"c"), set(), [{1: digest(b"a"), 2: digest(b"c")}])
    assert (result.lost, result.duplicated) == (1, 0)


def test_a_frame_that_stands_there_twice_is_duplicated():
    result = check(sent(1, b"a"), set(), [{1: digest(b"a"), 2: digest(b"a")}])
    assert (result.lost, result.duplicated) == (0, 1)


def test_what_a_closed_connection_sent_last_may_be_unread():
    truth = sent(1, b"a", b"b", b"c")
    assert check(truth, {1}, [{1: digest(b"a")}]).lost == 0
    assert check(truth, {1}, [{1: digest(b"a"), 2: digest(b"c")}]).lost == 1


def test_private_streams_and_keep_alives_are_not_market_data():
    truth = [*sent(1, b"x", kind="fill"), *sent(2, b"a"), *sent(2, b"PONG", kind="PONG")]
    assert check(truth, set(), [{1: digest(b"a"), 2: digest(b"PONG")}]).__dict__ == {
        "sent": 1, "lost": 0, "duplicated": 0,
    }  # fmt: skip


def test_a_missing_number_is_a_hole_and_a_number_used_twice_is_a_repeat():
    feeds = Feeds()
    feeds.add(frame(1, b"a"))
    feeds.add(frame(3, b"c"))
    feeds.add(frame(3, b"c"))
    feeds.add(Closed(feed="kalshi-0", venue="kalshi", epoch=0, frame_no=4, reason="", recv_ts_ns=T))
    assert (feeds.holes(), feeds.repeated) == (1, 1)


def test_chunks_are_put_together_before_they_are_compared():
    feeds = Feeds()
    feeds.add(frame(1, b"ab", chunk=0, chunks=2))
    feeds.add(frame(1, b"cd", chunk=1, chunks=2))
    assert check(sent(1, b"abcd"), set(), feeds.digests.values()).lost == 0
    assert feeds.repeated == 0


# Orders and fills


def grant(name="g1", account="kalshi:main", purpose="ENTRY", **changes):
    fields = dict(id=name, account=account, purpose=purpose, client_id=f"client-{name}")
    trail = [T + n * 1_000_000 for n in range(1, 6)]
    return granted("kalshi:X", **(dict(price=1, size=1, now_ns=T, trail=trail) | fields | changes))


def submitting(order="g1", account="kalshi:main", venue_order=""):
    return Submitting(
        event_id=f"s-{order}", order=order, account=account, instrument="kalshi:X", writer="w", method="POST", path="/",
        body=b"", venue_order=venue_order, send_by_ns=T, ts_ns=T, recv_ts_ns=T,
        trail=[T + n * 1_000_000 for n in range(1, 7)],
    )  # fmt: skip


def fill(order="g1", name="t1", size=5 * MICRO, account="kalshi:main"):
    return Fill(
        event_id=f"{order}/{name}", order=order, account=account, instrument="kalshi:X", fill=name, outcome="YES",
        token_side="BUY", size=size, price_e6=1, notional_e6=1, fee_e6=0, asset="USD", liquidity="TAKER",
        settlement="CONFIRMED", ts_ns=T, recv_ts_ns=T,
    )  # fmt: skip


def update(status, order="g1", account="kalshi:main"):
    return OrderUpdate(
        event_id=f"{order}/{status}", order=order, account=account, instrument="kalshi:X", status=status, terminal=True,
        writer="w", ts_ns=T, recv_ts_ns=T,
    )  # fmt: skip


def call(order="g1", after_us=2_500):
    return VenueCall(
        account="kalshi:main", order=order, method="POST", path="/", request=b"", status=200, response=b"",
        sent_ts_ns=T + after_us * 1_000, recv_ts_ns=T,
    )  # fmt: skip


def ours(*records):
    made = Ours()
    for record in records:
        made.add(record)
    return made


def truth(event, name="client-g1", trade="t1", size=5 * MICRO, venue="kalshi"):
    fact = {"venue": venue, "event": event, "account": "main", "order_id": f"venue-{name}", "client_order_id": name}
    if venue == "polymarket":
        fact = {"venue": venue, "event": event, "account": "main", "order_id": name}
    return {**fact, "trade_id": trade, "size_e6": size}


def test_fills_that_agree_are_neither_lost_nor_doubled():
    known = ours(grant(), submitting())
    result = check_fills([truth("accepted"), truth("filled")], [("t1", "g1", 5 * MICRO)], known, "main")
    assert (result.fills, result.lost, result.duplicated, result.sent_twice) == (1, 0, 0, 0)


def test_a_fill_that_is_missing_or_short_is_lost():
    known = ours(grant(), submitting())
    assert check_fills([truth("filled")], [], known, "main").lost == 1
    assert check_fills([truth("filled")], [("t1", "g1", 4 * MICRO)], known, "main").lost == 1


def test_a_fill_row_that_stands_twice_is_doubled():
    known = ours(grant(), submitting())
    rows = [("t1", "g1", 5 * MICRO)] * 2
    assert check_fills([truth("filled")], rows, known, "main").duplicated == 1
    assert check_fills([], rows[:1], known, "main").duplicated == 1


def test_a_polymarket_trade_is_the_sum_of_its_parts():
    known = ours(grant("p1", "polymarket:main"), submitting("p1", "polymarket:main", "0xabc"))
    facts = [truth("accepted", "0xabc", venue="polymarket"), truth("filled", "0xabc", venue="polymarket")]
    rows = [("t1:0x1", "p1", 2 * MICRO), ("t1:0x2", "p1", 3 * MICRO)]
    result = check_fills(facts, rows, known, "main")
    assert (result.fills, result.lost, result.duplicated, result.sent_twice) == (1, 0, 0, 0)


def test_an_order_the_venue_took_twice_or_that_we_never_submitted_is_found():
    known = ours(grant(), submitting())
    assert check_fills([truth("accepted")] * 2, [], known, "main").sent_twice == 1
    assert check_fills([truth("accepted", "stranger")], [], known, "main").sent_twice == 1
    assert check_fills([{**truth("accepted", "stranger"), "account": "second"}], [], known, "main").sent_twice == 0


def test_orders_are_counted_by_what_became_of_them():
    known = ours(
        *(submitting(f"g{n}") for n in range(5)),
        fill("g0"),
        update("CANCELLED", "g0"),
        update("REJECTED", "g1"),
        update("CANCELLED", "g2"),
        update("EXPIRED_UNSENT", "g3"),
    )
    assert known.orders() == {
        "kalshi": {"sent": 4, "filled": 1, "rejected": 1, "cancelled": 1, "open": 1, "expired_unsent": 1}
    }


def strategy(name, status="RUNNING"):
    return Strategy(id=name, kind="momentum", status=status, account_set="main", params="{}")


def saga(intent, whose):
    return Saga(
        id=intent, strategy=whose, link="l", account_set="main", state="DONE", now_ns=T, log_partition=0, log_offset=1,
        recv_ts_ns=T,
    )  # fmt: skip


def test_orders_are_counted_by_who_asked_for_them_and_who_sent_none_is_named():
    known = ours(
        strategy("one"), strategy("two"), strategy("none"), strategy("none", "STOPPED"), strategy("off", "STOPPED"),
        saga("i1", "one"), saga("i2", "two"), grant("g1", intent="i1"), grant("g2", intent="i2"),
        submitting("g1"), submitting("g2"), fill("g1"), update("EXPIRED_UNSENT", "g2"),
    )  # fmt: skip
    told = known.orders_by_strategy()
    assert list(told) == ["none", "one", "two"]
    assert (told["one"]["sent"], told["one"]["filled"], told["two"]["expired_unsent"]) == (1, 1, 1)
    assert known.idle() == ["none", "two"]


def judged(**changes):
    report = {
        "seconds": 300.0, "accounts_match": True, "idle_strategies": [], "lost": 0, "duplicated": 0,
        "reservations_leaked": 0, "orders_doubled": 0, "budgets_exceeded": 0, "stops": 0,
        "detail": {"kill_problems": [], "ending_problems": []},
    }  # fmt: skip
    return is_good(report | changes)


def test_a_demo_is_good_only_if_nothing_at_all_went_wrong():
    assert judged()
    assert judged(pnl_matches=True)
    wrong = [{name: 1} for name in WRONG]
    wrong += [
        {"accounts_match": False},
        {"pnl_matches": False},
        {"detail": {"kill_problems": ["it had gone"], "ending_problems": []}},
    ]
    wrong += [{"detail": {"kill_problems": [], "ending_problems": ["not booked"]}}]
    assert [change for change in wrong if judged(**change)] == []


def test_a_strategy_that_sent_nothing_fails_a_long_demo_and_is_only_named_by_a_short_one():
    assert not judged(idle_strategies=["momentum"])
    assert judged(idle_strategies=["momentum"], seconds=IDLE_S)


class Book:
    """Simulated venues with pairs of which one was asked for by an event, and what Kalshi says is held."""

    def __init__(self, **held) -> None:
        self.held, self.calls = held, []

    def links(self):
        return [
            {"kalshi": {"ticker": f"T{n}"}, "polymarket": {"condition_id": f"0x{n}"}, "polarity": polarity}
            for n, polarity in zip(range(20), ("SAME", "OPPOSITE") * 10, strict=True)
        ]

    def events(self):
        return [{"key": "E", "tickers": ["T3"]}]

    def accounts(self):
        positions = {ticker: {"size_e6": size} for ticker, size in self.held.items()}
        return {"kalshi": [{"account": "main", "positions": positions}]}

    def call(self, path, body):
        self.calls.append((path, body))


def test_of_the_markets_nobody_else_looks_at_the_one_held_most_ends_in_the_middle():
    book = Book(T0=-90, T3=80, T4=5, T5=-7, T19=70)
    ending = Ending(book, 60.0)
    assert [ending.turn(second) for second in (0, 23.9)] == ["", ""]
    assert ending.turn(24.0) == "kalshi:T5 is determined: yes"
    assert ending.turn(25.0) == ""
    assert ending.turn(26.1) == "kalshi:T5 is paid"
    assert ending.turn(50.0) == ""
    assert book.calls == [
        ("resolve", {"ticker": "T5", "do": "determine", "result": "yes"}),
        ("resolve", {"condition_id": "0x5", "do": "resolve", "value": "0"}),
        ("resolve", {"ticker": "T5", "do": "settle"}),
    ]
    assert ending.missing({"kalshi:T4"}) == ["kalshi:T5 was held and paid, and no entry of the ledger says so"]
    assert ending.missing({"kalshi:T5"}) == []


def test_no_market_ends_in_a_run_too_short_for_its_payment_to_be_read():
    for seconds in (0.0, 20.0):
        book = Book(T5=1)
        ending = Ending(book, seconds)
        assert [ending.turn(second) for second in (0, 10, 1_000)] == [""] * 3
        assert (ending.instrument, ending.missing(()), book.calls) == ("", [], [])


def test_the_end_of_a_market_waits_until_one_is_held():
    book = Book(T0=-90, T3=80)
    ending = Ending(book, 60.0)
    assert [ending.turn(second) for second in (24.0, 30.0)] == ["", ""]
    book.held["T6"] = -3
    assert ending.turn(41.9) == "kalshi:T6 is determined: yes"
    assert ending.turn(43.8) == ""
    assert ending.missing(()) == ["kalshi:T6 is determined and was never paid"]
    assert ending.turn(43.9) == "kalshi:T6 is paid"
    assert ending.turn(50.0) == ""
    assert ending.missing({"kalshi:T6"}) == []


def test_in_the_shortest_run_there_is_one_try():
    ending = Ending(Book(T6=3), 30.0)
    assert [ending.turn(second) for second in (11.9, 12.6)] == ["", "kalshi:T6 is determined: yes"]
    ending = Ending(Book(), 30.0)
    assert [bool(ending.turn(second)) for second in (11.9, 12.6, 13.1)] == [False, True, False]


@pytest.mark.parametrize("links", [20, 3], ids=["none held", "none there"])
def test_a_run_in_which_nothing_of_the_kind_was_held_until_it_is_too_late_proves_nothing_and_says_so(links):
    book = Book(T0=-90, T3=80)
    all_links = book.links()[:links]
    book.links = lambda: all_links
    ending = Ending(book, 60.0)
    assert [ending.turn(second) for second in (24.0, 42.0)] == ["", ""]
    assert ending.turn(42.1) == "no market ends: none is held at Kalshi that only two-venue looks at"
    book.held["T6"] = 3
    assert [ending.turn(second) for second in (43.0, 50.0)] == ["", ""]
    assert (ending.instrument, book.calls) == ("", [])
    (problem,) = ending.missing({"kalshi:T6"})
    assert problem.startswith("no market ended: ")


def test_a_run_that_ended_before_its_market_could_proves_nothing():
    (problem,) = Ending(Book(T5=1), 60.0).missing({"kalshi:T5"})
    assert problem.startswith("no market ended: ")


@pytest.mark.parametrize("seconds", [0.0, 29.0])
def test_an_end_of_a_market_that_could_not_be_seen_is_not_asked_for(seconds):
    with pytest.raises(Misconfigured, match=r"--ending .* 30 s"):
        Demo(Reach.load("demo"), Options(seconds=seconds, ending=True), Console())


def standing(state, cause="", **changes):
    fields = dict(
        id="main|SET|", account_set="main", scope="SET", state=state, cause=cause, now_ns=T, log_partition=0,
        log_offset=1,
    )  # fmt: skip
    return Standing(**(fields | changes))


def entry(kind, **changes):
    fields = dict(
        id="e", account="kalshi:main", kind=kind, outcome="NONE", cash_e6=7, reason="two reports", now_ns=T,
        log_partition=0, log_offset=1,
    )  # fmt: skip
    return Entry(**(fields | changes))


def test_what_stopped_by_itself_and_what_was_healed_is_told_once():
    made = Stops()
    for record in (
        standing("RUNNING"), standing("REDUCING", "SILENCE"), standing("REDUCING", "SILENCE"), standing("RUNNING"),
        entry("OPENING"), entry("SETTLEMENT"), entry("EXTERNAL"), entry("EXTERNAL"),
    ):  # fmt: skip
        made.add(record)
    assert made.found() == [
        "main|SET| was REDUCING: SILENCE",
        "kalshi:main cash was healed by 0 (1e-6) and 7 (1e-6 dollars): two reports",
    ]


def test_socket_to_order_counts_entries_from_their_frame_to_their_first_request():
    known = ours(grant("g1"), grant("g2", purpose="HEDGE"), call("g1", 2_500), call("g1", 900), call("g2", 100))
    assert known.latencies_us(0) == [900.0]
    assert known.latencies_us(T + 10**9) == []


def test_legs_that_left_together_are_apart_by_their_first_and_last_request():
    together = [grant(f"g{n}", intent="saga", leg=n) for n in range(3)]
    alone, torn = [grant("h1", intent="other")], [grant("t1", intent="torn"), grant("t2", intent="torn", leg=1)]
    calls = [call("g0", 500), call("g1", 2_500), call("g2", 900), call("h1", 100), call("t1", 100)]
    known = ours(*together, *alone, *torn, *calls, grant("g4", purpose="HEDGE", intent="saga"), call("g4", 90_000))
    # Of the torn one a leg never left.
    assert known.spreads_us(0) == [2_000.0]
    # A quote that was granted anew is no second leg.
    quote = [
        grant("q1", intent="quote"),
        grant("q2", intent="quote", attempt=2),
        call("q1", 100),
        call("q2", 5_000_000),
    ]
    assert ours(*quote).spreads_us(0) == []
    assert known.spreads_us(T + 10**9) == []


# Accounts


def line_of(account, cash_e6, offset=0, **changes):
    fields = dict(
        id=account, account=account, outcome="NONE", cash_e6=cash_e6, known=True, now_ns=T, log_partition=0,
        log_offset=offset,
    )  # fmt: skip
    return Ledger(**(fields | changes))


def held(account, instrument, outcome, size, offset=1):
    return line_of(
        account, 0, offset, id=f"{account}|{instrument}|{outcome}", instrument=instrument, outcome=outcome, size=size
    )


VENUE_ACCOUNTS = {
    "kalshi": [
        {"account": "main", "cash_start_e6": 100, "cash_e6": 90, "fees_e6": 0, "positions": {"X": {"size_e6": -7}}}
    ],
    "polymarket": [
        {"account": "main", "cash_start_e6": 100, "cash_e6": 80, "fees_e6": 0, "tokens": {"11": 5, "12": 0}}
    ],
}
TOKENS = {"11": ("polymarket:0x1", "YES"), "12": ("polymarket:0x1", "NO")}


def ledger():
    return [
        line_of("kalshi:main", 100, 0),
        line_of("kalshi:main", 90, 5),
        held("kalshi:main", "kalshi:X", "YES", -7),
        line_of("polymarket:main", 100, 0),
        line_of("polymarket:main", 80, 6),
        held("polymarket:main", "polymarket:0x1", "YES", 5),
    ]


def test_equal_accounts_have_no_differences():
    assert compare_accounts(ours(*ledger()), VENUE_ACCOUNTS, "main", TOKENS) == []


def test_an_older_ledger_line_that_comes_late_changes_nothing():
    assert compare_accounts(ours(*ledger(), line_of("kalshi:main", 95, 4)), VENUE_ACCOUNTS, "main", TOKENS) == []


def test_a_difference_of_one_unit_is_told():
    found = compare_accounts(ours(*ledger(), line_of("kalshi:main", 91, 9)), VENUE_ACCOUNTS, "main", TOKENS)
    assert found == ["kalshi:main cash: ours 91, the venue's 90"]
    found = compare_accounts(
        ours(*ledger(), held("polymarket:main", "polymarket:0x1", "NO", 1, 9)), VENUE_ACCOUNTS, "main", TOKENS
    )
    assert found == ["polymarket:main polymarket:0x1 NO: ours 1, the venue's 0"]


def test_holdings_of_both_venues_have_one_form():
    assert holdings("kalshi", VENUE_ACCOUNTS["kalshi"][0], TOKENS) == {("kalshi:X", "YES"): -7}
    assert holdings("polymarket", VENUE_ACCOUNTS["polymarket"][0], TOKENS)["polymarket:0x1", "YES"] == 5


def test_a_hedged_pair_gains_its_edge_whatever_the_mids():
    # Long YES at 0.40 on one venue, short YES at 0.45 (paid 0.55) on the other: 0.05 a contract.
    for mid in (100_000, 900_000):
        mids = {"polymarket:P": mid, "kalshi:K": mid}
        long = profit_e6(-400_000, 0, {("polymarket:P", "YES"): MICRO}, mids)
        short = profit_e6(-550_000, 0, {("kalshi:K", "YES"): -MICRO}, mids)
        assert long + short == 50_000


# What is shown


def quote(state="LIVE", **changes):
    fields = dict(
        instrument="kalshi:X", version_offset=1, version_index=0, depth_offset=1, depth_index=0, state=state,
        price_exp=-4, size_exp=-6, bid_price=4_000, bid_size=1, ask_price=5_000, ask_size=1, epoch=0, recv_ts_ns=T,
        trail=[T + 1_000_000, T + 3_000_000, T + 6_000_000],
    )  # fmt: skip
    return Quote(**(fields | changes))


def edge(phase):
    return Edge(
        id="e", strategy="s", link="l", phase=phase, buy_instrument="a", sell_instrument="b", size=1, buy_price_e6=1,
        sell_price_e6=1, cost_e6=1, fees_e6=1, profit_e6=1, begin_ns=T, now_ns=T, input_partition=0, input_offset=0,
        recv_ts_ns=T,
    )  # fmt: skip


def tapped():
    tap = Tap(Reach.load("test-tap"))
    saga = dict(
        id="i", strategy="s", link="l", account_set="main", now_ns=T, log_partition=0, log_offset=0, recv_ts_ns=T
    )
    for record in (
        quote(), edge("BEGIN"), grant(), submitting(), submitting(), call(), fill(), fill(), update("FILLED"),
        Saga(**saga, state="DONE"), *ledger(),
    ):  # fmt: skip
        tap.take(record)
    return tap.figures


def test_the_tap_measures_each_hop_from_the_one_before():
    figures = tapped()
    assert [figures.hops_us[name][0] for name in ("ingest", "normalize", "derive")] == [1_000, 2_000, 3_000]
    assert figures.hops_us["strategies"][0] == figures.hops_us["accounts"][0] == figures.hops_us["gateway"][0] == 1_000
    assert list(figures.hops_us["socket to order"]) == [2_500]


def test_the_tap_counts_what_is_said_twice_once():
    figures = tapped()
    assert figures.orders["kalshi:main"]["sent"] == 1
    assert figures.fills["kalshi:main"] == 1
    assert figures.edges_open == {"e"}


def test_the_screen_and_the_line_show_the_figures():
    picture = Picture("running", tapped(), {"raw.frame": 1_000.0}, {"raw.frame": 5}, {"demo.derive.book": 3}, {})
    console = Console(record=True, width=160, force_terminal=False)
    console.print(screen(picture, Reach.load("test-tap")))
    text = console.export_text()
    for word in ("LIVE 1", "kalshi:main", "socket to order", "demo.derive.book", "DONE 1"):
        assert word in text
    assert "orders 1 sent 1 filled" in line(picture)


def test_percentiles_of_nothing_are_zero():
    assert percentiles([]) == (0.0, 0.0)
    assert percentiles(range(100)) == (50.0, 99.0)


def test_the_demo_starts_every_stage_and_both_venues():
    commands = {(part.command[0], part.command[1]) for part in cast.parts()}
    assert commands >= {
        ("observe", "questdb"), ("decide", "accounts"), ("decide", "strategies"), ("derive", "book"),
        ("normalize", "frame"), ("normalize", "instrument"), ("ingest", "catalogue"), ("ingest", "feed"),
    }  # fmt: skip
    assert {part.command[2] for part in cast.parts() if part.command[0] == "execute"} == {
        f"{venue}:main" for venue in VENUES
    }


def test_the_operators_file_of_the_demo_is_one_decide_accepts():
    pair = {"key": "k", "kalshi": {"ticker": "X"}, "polymarket": {"condition_id": "0x1"}, "polarity": "OPPOSITE"}
    event = {"key": "E", "tickers": ["X", "Y"]}
    outputs = operator.records(operator.read(json.dumps(setup.desk([pair], [event]))), now_ns=T)
    assert Counter(type(output.record).__name__ for output in outputs) == {
        "Profile": 2, "Limit": 1, "Budget": 5, "Link": 2, "Strategy": 4,
    }  # fmt: skip
    kinds = {output.record.kind for output in outputs if isinstance(output.record, Strategy)}
    assert kinds == set(BUILT_IN)
    (limit,) = [output.record for output in outputs if isinstance(output.record, Limit)]
    # Where killing happens every limit is on: who trips one is seen.
    assert [name for name in limit.__struct_fields__ if getattr(limit, name) == -1] == []
