"""Passive quoting: where it quotes, how much, when it moves, and when it is gone."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.errors import Reject
from decide.strategies.passive_quoting import Params
from decide.strategies.quoted import GHOSTS_MAX, SAGAS_MAX
from schemas.decision import Grant, Intent, Requote
from tests.decide.quotes import outcome

ONE = 1_000_000
PARAMS = {
    "half_spread_e4": 200,
    "size": 10 * ONE,
    "inventory_max": 30 * ONE,
    "skew_e4": 10,
    "fair": "mid",
    "requote_ms": 0,
    "cooldown_ms": 1_000,
}


def config(make, *, params=(), **changes):
    fields = dict(
        id="mm-1",
        kind="passive_quoting",
        params=json.dumps({**PARAMS, **dict(params)}),
        instruments=[make.KALSHI],
    )
    return make.strategy(**{**fields, **changes})


def begun(make, *, instruments=None, links=None, **changes):
    log = make.strategies().start(links=links or [make.link(status="SUSPENDED")], instruments=instruments)
    log.feed(config(make, **changes))
    return log


def book(log, make, bid, ask, *, name=None, ms=0, size=50 * ONE, **changes):
    """Feed a book after `ms`; return what is decided but for what is wanted still."""
    heard = []
    for past in range(0, ms, 500):
        heard += log.clock(min(ms - past, 500))
        log.tick()
    heard += log.book(name or make.KALSHI, len(log.items), bids=[(bid, size)], asks=[(ask, size)], **changes)
    heard = [record for record in heard if isinstance(record, Intent | Requote)]
    return [record for record in heard if not (isinstance(record, Requote) and record.action == "KEEP")]


def said(log, intent, state="RESTING", stands=0, *, price=None, size=None, reason=""):
    """What accounts say of a quote."""
    leg = intent.legs[0]
    rests = state == "RESTING"
    rested = {
        "price": (leg.price if price is None else price) if rests else 0,
        "size": (leg.size if size is None else size) if rests else 0,
    }
    return outcome(log, intent, state, stands, reason, **rested)


def quoting(make, **changes):
    """A log whose strategy has a bid and an ask on the book, around a fair value of .50."""
    log = begun(make, **changes)
    quotes = book(log, make, 4_900, 5_100)
    for quote in quotes:
        said(log, quote)
    return log, *quotes


def words(records, action=None):
    return [r for r in records if isinstance(r, Requote) and action in {None, r.action}]


# --- where and how much


def test_bid_and_ask_rest_around_the_mid(make):
    bid, ask = book(begun(make), make, 4_900, 5_100)
    for intent, side, price in ((bid, "BUY", 4_800), (ask, "SELL", 5_200)):
        (leg,) = intent.legs
        assert (leg.side, leg.price, leg.size, leg.rests, leg.reduces) == (side, price, 10 * ONE, True, False)
        assert (intent.link, intent.strategy, leg.account) == (make.KALSHI, "mm-1", "kalshi:main")
        assert leg.expires_s > intent.now_ns // 10**9
        assert leg.silence_ms == 3_000


def test_accounts_grant_what_it_intends(make):
    quotes = book(begun(make), make, 4_900, 5_100)
    accounts = make.accounts().start()
    grants = [record for quote in quotes for record in accounts.feed(quote) if isinstance(record, Grant)]
    assert [(grant.side, grant.post_only) for grant in grants] == [("BUY", True), ("SELL", True)]


def test_prices_are_on_the_grid_away_from_the_fair_value(make):
    bid, ask = book(begun(make), make, 4_900, 5_200)  # the middle is .505
    assert (bid.legs[0].price, ask.legs[0].price) == (4_800, 5_300)


def test_microprice_leans_to_the_side_with_less_on_it(make):
    log = begun(make, params={"fair": "microprice"})
    heard = log.book(make.KALSHI, 1, bids=[(4_800, 90 * ONE)], asks=[(5_200, 10 * ONE)])
    bid, ask = (record for record in heard if isinstance(record, Intent))
    assert (bid.legs[0].price, ask.legs[0].price) == (4_900, 5_400)  # .516 and half a spread of two cents


def test_it_never_offers_what_would_trade(make):
    log = begun(make, params={"half_spread_e4": 1})
    bid, ask = book(log, make, 4_900, 5_000)
    assert bid.legs[0].price < 5_000
    assert ask.legs[0].price > 4_900
    assert bid.legs[0].price < ask.legs[0].price


@pytest.mark.parametrize(
    ("bids", "asks", "state"),
    [
        ([], [(5_100, ONE)], "LIVE"),
        ([(4_900, ONE)], [], "LIVE"),
        ([(4_900, ONE)], [(5_100, ONE)], "SUSPECT"),
        ([(2_000, ONE)], [(5_100, ONE)], "LIVE"),
    ],
    ids=["no bid", "no ask", "not live", "too wide"],
)
def test_nothing_is_quoted_without_a_fair_value(make, bids, asks, state):
    log = begun(make)
    heard = log.book(make.KALSHI, 1, bids=bids, asks=asks, state=state)
    assert not [record for record in heard if isinstance(record, Intent)]


def test_what_is_held_moves_both_prices_and_bounds_one_side(make):
    log, bid, ask = quoting(make)
    said(log, bid, "DONE", 10 * ONE, reason="FILLED")
    heard = book(log, make, 4_900, 5_100, ms=1_000)
    (again,) = [record for record in heard if isinstance(record, Intent)]
    # Ten are held at a tenth of a cent each: both a cent lower.
    assert (again.legs[0].side, again.legs[0].price, again.legs[0].size) == ("BUY", 4_700, 10 * ONE)
    assert [(word.intents, word.price) for word in words(heard, "REPLACE")] == [([ask.id], 5_100)]
    said(log, again)
    said(log, again, "DONE", 10 * ONE, reason="FILLED")
    (last,) = [r for r in book(log, make, 4_900, 5_100, ms=1_000) if isinstance(r, Intent)]
    said(log, last)
    said(log, last, "DONE", 5 * ONE, reason="CANCELLED")
    (least,) = [r for r in book(log, make, 4_900, 5_100, ms=2_000) if isinstance(r, Intent)]
    assert least.legs[0].size == 5 * ONE  # twenty-five of thirty are held
    said(log, least, "DONE", 5 * ONE, reason="FILLED")
    assert not [r for r in book(log, make, 4_900, 5_100, ms=4_000) if isinstance(r, Intent)]


def test_held_tokens_are_sold_rather_than_the_others_bought_once_they_are_confirmed(make):
    log = begun(make, instruments=None, links=None)
    log.feed(config(make, instruments=[make.POLY]))
    bid, ask = book(log, make, 4_900, 5_100, name=make.POLY)
    assert not ask.legs[0].reduces
    said(log, bid)
    said(log, bid, "DONE", 10 * ONE, reason="FILLED")
    said(log, ask, "DONE", 0, reason="EXPIRED")
    heard = book(log, make, 4_900, 5_100, name=make.POLY, ms=1_000)
    (sale,) = [record for record in heard if isinstance(record, Intent) and record.legs[0].side == "SELL"]
    assert sale.legs[0].reduces
    said(log, sale, "REFUSED", reason="NOT_HELD")
    heard = book(log, make, 4_900, 5_100, name=make.POLY, ms=2_000)
    (other,) = [record for record in heard if isinstance(record, Intent) and record.legs[0].side == "SELL"]
    assert not other.legs[0].reduces


def test_quotes_live_at_a_time_are_bounded(make):
    names = [f"kalshi:KX-{number}" for number in range(1, 4)]
    log = begun(
        make,
        instruments=[make.instrument(name) for name in names],
        params={"quotes_max": 3},
    )
    log.feed(config(make, instruments=names, params={"quotes_max": 3}))
    begun_quotes = [quote for name in names for quote in book(log, make, 4_900, 5_100, name=name)]
    assert len(begun_quotes) == 3


# --- references


def test_fair_value_may_come_from_another_instrument(make):
    log = begun(make, instruments=None, params={"reference": {make.KALSHI: make.POLY}})
    log.feed(config(make, instruments=[make.KALSHI, make.POLY], params={"reference": {make.KALSHI: make.POLY}}))
    assert book(log, make, 4_000, 6_000) == []
    heard = book(log, make, 4_400, 4_600, name=make.POLY)
    assert [(q.link, q.legs[0].price) for q in heard] == [(make.KALSHI, 4_300), (make.KALSHI, 4_700)]
    for quote in heard:
        said(log, quote)
    # Its reference is not sure any more: both quotes go.
    heard = book(log, make, 4_400, 4_600, name=make.POLY, state="SUSPECT")
    assert sorted(name for word in words(heard, "CANCEL") for name in word.intents) == sorted(
        record.id for record in log.all(Intent)
    )


@pytest.mark.parametrize(("polarity", "prices"), [("SAME", (4_100, 4_500)), ("OPPOSITE", (5_500, 5_900))])
def test_fair_value_may_come_from_the_other_side_of_an_approved_pair(make, polarity, prices):
    payouts = {"payout_b_e6": [ONE, 0] if polarity == "SAME" else [0, ONE]}
    params = {"reference": {make.KALSHI: "L1"}}
    log = begun(make, links=[make.link(polarity=polarity, **payouts)], params=params)
    book(log, make, 3_000, 7_000)
    heard = [r for r in book(log, make, 4_200, 4_400, name=make.POLY) if isinstance(r, Intent)]
    heard = [intent for intent in heard if intent.strategy == "mm-1"]
    assert tuple(quote.legs[0].price for quote in heard) == prices
    for quote in heard:
        said(log, quote)
    heard = log.feed(make.link(version=2, status="SUSPENDED", polarity=polarity, **payouts))
    assert len(words(heard, "CANCEL")) == 2


def test_our_own_quotes_move_no_fair_value(make):
    log, bid, ask = quoting(make, params={"half_spread_e4": 300, "skew_e4": 0})
    # Strangers stand at .40 and .60; the best of the book is ours.
    for number in range(20):
        seen = log.book(
            make.KALSHI,
            100 + number,
            bids=[(4_700, 10 * ONE), (4_000, 50 * ONE)],
            asks=[(5_300, 10 * ONE), (6_000, 50 * ONE)],
        )
        assert not words(seen)
        log.tick()
    assert (bid.legs[0].price, ask.legs[0].price) == (4_700, 5_300)


# --- moving


def test_quotes_follow_the_fair_value_beyond_the_threshold(make):
    log, bid, ask = quoting(make, params={"requote_ticks": 2})
    assert book(log, make, 5_000, 5_200, ms=100) == []
    heard = book(log, make, 5_100, 5_300, ms=100)
    moved = {word.intents[0]: (word.price, word.size) for word in words(heard, "REPLACE")}
    # Below where our ask still may be, until it is known to have moved.
    assert moved == {bid.id: (5_000, 10 * ONE), ask.id: (5_400, 10 * ONE)}


def test_bid_stays_below_our_own_ask_until_that_is_known_to_have_moved(make):
    log, bid, ask = quoting(make)
    heard = words(book(log, make, 5_600, 5_800, ms=100), "REPLACE")
    assert {word.intents[0]: word.price for word in heard} == {bid.id: 5_100, ask.id: 5_900}
    said(log, ask, price=5_900)
    heard = words(log.clock(100), "REPLACE")
    assert [(word.intents, word.price) for word in heard] == [([bid.id], 5_500)]


def test_quotes_move_no_more_often_than_asked(make):
    log, *_ = quoting(make, params={"requote_ms": 500})
    prices = [4_900 + 200 * number for number in range(1, 10)]
    heard = [word for price in prices for word in words(book(log, make, price, price + 200, ms=100), "REPLACE")]
    assert len(heard) <= 4  # two quotes, nine tenths of a second


def test_total_counts_what_is_filled(make):
    log, bid, ask = quoting(make, params={"skew_e4": 0})
    said(log, bid, stands=4 * ONE)
    assert words(book(log, make, 4_900, 5_100, ms=100)) == []
    said(log, bid, stands=6 * ONE)
    heard = words(book(log, make, 4_900, 5_100, ms=100), "REPLACE")
    # Less than half is left: ten again, six being filled.
    assert [(word.intents, word.price, word.size) for word in heard] == [([bid.id], 4_800, 16 * ONE)]
    assert ask.legs[0].size == 10 * ONE


def test_quote_is_prolonged_at_half_its_life_at_its_price(make):
    log, bid, ask = quoting(make, params={"life_ms": 10_000, "requote_ticks": 3})
    assert not words(book(log, make, 5_000, 5_200, ms=4_000), "REPLACE")
    heard = words(book(log, make, 5_000, 5_200, ms=2_000), "REPLACE")
    assert {word.intents[0]: word.price for word in heard} == {bid.id: 4_800, ask.id: 5_200}
    assert {word.expires_s for word in heard} == {bid.legs[0].expires_s + 5}


# --- going


def gone(heard, *quotes):
    return sorted(name for word in words(heard, "CANCEL") for name in word.intents) == sorted(q.id for q in quotes)


@pytest.mark.parametrize("state", ["SUSPECT", "RECOVERING", "STALE"])
def test_quotes_go_at_once_when_the_book_is_not_sure(make, state):
    log, bid, ask = quoting(make)
    assert gone(book(log, make, 4_900, 5_100, state=state), bid, ask)
    assert not words(log.clock(100), "CANCEL")


def test_quotes_go_when_ticks_stop(make):
    log, bid, ask = quoting(make)
    assert not words(log.clock(900), "CANCEL")
    assert gone(log.clock(200), bid, ask)


def test_quotes_go_when_the_market_does_not_trade(make):
    log, bid, ask = quoting(make)
    log.feed(make.instrument(make.KALSHI, status="PAUSED"))
    log.tick()
    assert gone(log.clock(100), bid, ask)


def test_quotes_go_when_it_is_stopped_or_other_parameters_come(make):
    log, bid, ask = quoting(make)
    assert gone(log.feed(config(make, status="STOPPED")), bid, ask)
    log, bid, ask = quoting(make)
    assert gone(log.feed(config(make, params={"half_spread_e4": 300})), bid, ask)
    log.tick()
    assert not [r for r in book(log, make, 4_900, 5_100) if isinstance(r, Intent)]  # their end is awaited
    said(log, bid, "DONE", 2 * ONE, reason="STOPPED")
    (again,) = [r for r in book(log, make, 4_900, 5_100, ms=1_000) if isinstance(r, Intent)]
    assert again.legs[0].price == 4_600  # held two, seen by the new instance: a fifth of a cent, down to the grid


def test_instrument_that_is_named_no_more_is_quoted_no_more(make):
    log, bid, ask = quoting(make)
    log.feed(config(make, instruments=[make.POLY]))
    log.tick()
    assert gone(log.clock(100), bid, ask)


def test_draining_quotes_only_what_reduces_until_nothing_is_held(make):
    log, bid, ask = quoting(make)
    said(log, bid, "DONE", 6 * ONE, reason="CANCELLED")
    log.feed(config(make, status="DRAINING"))
    log.tick()
    assert gone(log.clock(100), ask)
    said(log, ask, "DONE", 0, reason="NOT_WANTED")
    (close,) = [r for r in book(log, make, 4_900, 5_100, ms=1_000) if isinstance(r, Intent)]
    (leg,) = close.legs
    assert (leg.side, leg.size, leg.reduces, leg.rests) == ("SELL", 6 * ONE, True, True)
    said(log, close)
    said(log, close, "DONE", 6 * ONE, reason="FILLED")
    assert book(log, make, 4_900, 5_100, ms=5_000) == []


def test_what_is_wanted_still_is_said_and_what_is_not_is_not(make):
    log, bid, ask = quoting(make)
    kept = words(log.clock(900), "KEEP")
    assert [word.intents for word in kept] == [[bid.id, ask.id]]
    book(log, make, 4_900, 5_100, state="SUSPECT")
    assert not words(log.clock(2_000), "KEEP")


def test_side_whose_quotes_end_in_vain_rests_longer_each_time(make):
    log = begun(make)
    (bid, _ask) = book(log, make, 4_900, 5_100)
    began_ns, times = log.now_ns, []
    for _ in range(6):
        said(log, bid, "REFUSED", reason="REDUCING")
        for _ in range(400):
            found = [r for r in book(log, make, 4_900, 5_100, ms=100) if isinstance(r, Intent)]
            if found:
                (bid,) = found
                times.append((log.now_ns - began_ns) // 10**8)
                break
    gaps = [late - early for early, late in zip([0, *times], times, strict=False)]
    assert gaps == [10, 20, 40, 80, 160, 320]


def test_quote_that_expires_at_once_rests_like_any_other(make):
    log, bid, _ask = quoting(make)
    said(log, bid, "DONE", 0, reason="EXPIRED")
    assert not [r for r in book(log, make, 4_900, 5_100, ms=900) if isinstance(r, Intent)]
    assert [r for r in book(log, make, 4_900, 5_100, ms=200) if isinstance(r, Intent)]


def test_what_it_remembers_is_bounded(make):
    log, bid, ask = quoting(make)
    for number in range(2 * SAGAS_MAX):
        log.now_ns += 10**9
        log.tick()
        said(log, bid, "DONE", 0, reason="EXPIRED")
        (bid,) = [r for r in book(log, make, 4_900, 5_100, ms=10) if isinstance(r, Intent)]
        said(log, bid, price=4_800 - 100 * (number % 40))
    watch = log.task._slots["mm-1"].running.watches[make.KALSHI]
    assert len(watch.sagas) <= SAGAS_MAX + 1
    assert len(watch.ghosts) <= GHOSTS_MAX
    # The one that has rested all the while is not among the forgotten.
    said(log, ask, "DONE", 3 * ONE, reason="EXPIRED")
    assert watch.position == -3 * ONE


@pytest.mark.parametrize(
    "params",
    [
        {"half_spread_e4": 0},
        {"fair": "magic"},
        {"nonsense": 1},
        {"silence_ms": 5_000, "life_ms": 4_000},
        {"size": 40 * ONE},
    ],
)
def test_parameters_out_of_range_are_rejected(make, params):
    log = make.strategies().start()
    with pytest.raises(Reject, match="passive_quoting"):
        log.feed(config(make, params=params))


# --- whatever happens


class Market:
    """Accounts and venue of one strategy: takes its words, fills what rests, speaks late and in its own time."""

    def __init__(self, make, log, dice):
        self.make, self.log, self.dice = make, log, dice
        self.quotes = {}
        """intent -> [side, total that may stand, filled, filled as it was said, is out]"""
        self.position = 0
        self.seen = 0

    def listen(self):
        """Take what the strategy said since."""
        outputs = self.log.outputs[self.seen :]
        self.seen = len(self.log.outputs)
        for output in outputs:
            record = output.record
            if isinstance(record, Intent):
                (leg,) = record.legs
                self.quotes[record.id] = [1 if leg.side == "BUY" else -1, leg.size, 0, 0, True, record]
            elif isinstance(record, Requote) and record.action == "REPLACE":
                quote = self.quotes[record.intents[0]]
                quote[1] = max(quote[1], record.size)

    def live(self):
        return [quote for quote in self.quotes.values() if quote[4]]

    def worst(self, sign):
        """What would be held if all that may fill on a side filled."""
        return sign * self.position + sum(quote[1] - quote[2] for quote in self.live() if quote[0] == sign)

    def fill(self):
        open_ = [quote for quote in self.live() if quote[1] > quote[2]]
        if open_:
            quote = self.dice.choice(open_)
            size = min(self.dice.randrange(1, 12) * ONE, quote[1] - quote[2])
            quote[2] += size
            self.position += quote[0] * size

    def speak(self):
        if self.live():
            quote = self.dice.choice(self.live())
            quote[3] = self.dice.choice([quote[2], quote[3]])
            ends = self.dice.random() < 0.3 or quote[1] == quote[2] == quote[3]
            if ends:
                quote[3], quote[4] = quote[2], False
            said(
                self.log,
                quote[5],
                "DONE" if ends else "RESTING",
                quote[3],
                reason=self.dice.choice(["EXPIRED", "LATE"]),
            )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_inventory_stays_within_its_limit_though_everything_in_flight_is_filled(make, seed):
    dice = random.Random(seed)
    log = begun(make, params={"requote_ms": dice.choice([0, 300]), "cooldown_ms": 100, "skew_e4": dice.choice([0, 20])})
    market, mid = Market(make, log, dice), 5_000
    for _ in range(80):
        match dice.choice(["book", "book", "fill", "speak", "clock", "tick"]):
            case "book":
                mid = min(max(mid + dice.choice([-200, -100, 0, 100, 200]), 1_000), 9_000)
                log.tick()
                book(log, make, mid - 100, mid + 100, state=dice.choice(["LIVE"] * 9 + ["SUSPECT"]))
            case "fill":
                market.fill()
            case "speak":
                market.speak()
            case "clock":
                log.clock(dice.choice([100, 500]))
            case "tick":
                log.tick()
        market.listen()
        for sign in (1, -1):
            assert market.worst(sign) <= PARAMS["inventory_max"]
        assert len([quote for quote in market.live() if quote[0] == 1]) <= 1


def test_defaults_are_within_each_other():
    params = Params()
    assert params.silence_ms < params.life_ms
    assert params.size <= params.inventory_max


def test_what_a_human_had_sold_is_not_offered(make):
    log, bid, _ = quoting(make)
    said(log, bid, "DONE", 10 * ONE, reason="FILLED")
    flattened = make.intent(id="flatten/1", strategy="mm-1", link=make.KALSHI)
    outcome(log, flattened, "DONE", 10 * ONE, "FILLED", sides=["SELL"])
    (again,) = [record for record in book(log, make, 4_900, 5_100, ms=1_000) if isinstance(record, Intent)]
    # Nothing is held: the price is that of the first quote.
    assert (again.legs[0].side, again.legs[0].price) == (bid.legs[0].side, bid.legs[0].price)
