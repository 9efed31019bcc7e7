"""An order on a book that was not LIVE and usable is found, wherever in the chain it went wrong."""

import pytest

from core.runtime.sequenced import pack
from infra.chaos.trust import Trust
from infra.demo.scan import Found
from schemas.decision import Clock, Intent, Leg
from schemas.derived import Quote, Tick
from schemas.order import Submitting
from tests.records import granted

S = 1_000_000_000
T = 1_780_000_000 * S
NAME = "kalshi:X"


class Message:
    def __init__(self, headers=None):
        self._headers = headers

    def headers(self):
        return self._headers


def found(record, noun, offset, at_ns=T, partition=0, headers=None):
    return Found(record, noun, partition, offset, at_ns // 1_000_000, Message(headers))


def quote(state="LIVE", depth=5):
    return Quote(
        instrument=NAME, version_offset=depth, version_index=1 if state == "LIVE" else 2, depth_offset=depth if state == "LIVE" else -1,
        depth_index=0 if state == "LIVE" else -1, state=state, price_exp=-4, size_exp=-6, bid_price=1, bid_size=1,
        ask_price=2, ask_size=2, epoch=1, recv_ts_ns=T,
    )  # fmt: skip


def leg(depth=5):
    return Leg(
        instrument=NAME, account="kalshi:main", side="BUY", price=2, size=1, price_exp=-4, size_exp=-6, fee_max_e6=1,
        version_offset=depth, version_index=0, recv_ts_ns=T, level_prices=[2], level_sizes=[1],
    )  # fmt: skip


def intent(offset, depth=5):
    return Intent(
        id="i", strategy="s", link="l", account_set="main", now_ns=T, legs=[leg(depth)], profit_e6=1, input_partition=0,
        input_offset=offset, recv_ts_ns=T,
    )  # fmt: skip


def grant(depth=5):
    return granted(NAME, version_offset=depth, now_ns=T)


def submitting(at_ns):
    return Submitting(
        event_id="e", order="g", account="kalshi:main", instrument=NAME, writer="w", method="POST", path="/", body=b"",
        send_by_ns=T, ts_ns=at_ns, recv_ts_ns=T,
    )  # fmt: skip


def log(*records):
    """Records of `decision.input`, each `(record, source offset, log time)`, as the sequencer appends them."""
    return [
        found(record, "decision.input", offset, headers=pack("derived.book", 0, source, now_ns))
        for offset, (record, source, now_ns) in enumerate(records)
    ]


def judged(*items):
    trust = Trust()
    for item in items:
        trust.add(item)
    return trust.compare()


SEEN = log((Tick(partition=0, ts_ns=T), 0, T), (quote(), 1, T + 1))


def test_an_intent_on_a_live_book_with_a_fresh_tick_is_right():
    outcome = judged(*SEEN, found(intent(1), "decision.account", 0))
    assert (outcome.legs, outcome.errors) == (1, 0)


@pytest.mark.parametrize(
    ("records", "offset", "depth", "why"),
    [
        (SEEN, 0, 5, "no quote"),
        (SEEN, 1, 6, "names depth"),
        ([*SEEN, *log((quote("SUSPECT"), 2, T + 2))], 1, 5, "SUSPECT"),
        (log((quote(), 1, T)), 0, 5, "tick"),
        (log((Tick(partition=0, ts_ns=T), 0, T), (quote(), 1, T + S)), 1, 5, "1.000 s old"),
        ([], 1, 5, "empty"),
    ],
)
def test_an_intent_without_a_usable_book_is_found(records, offset, depth, why):
    records = [one._replace(offset=number) for number, one in enumerate(records)]
    if why == "SUSPECT":
        offset = len(records) - 1
    outcome = judged(*records, found(intent(offset, depth), "decision.account", 0))
    assert dict(outcome.kinds) == {"intent": 1}
    assert why in outcome.examples[0]


def test_what_a_second_sequencer_said_again_was_not_seen():
    twice = log((Tick(partition=0, ts_ns=T), 0, T), (quote("SUSPECT"), 3, T), (quote(), 2, T))
    assert judged(*twice, found(intent(2), "decision.account", 0)).errors == 1


def test_an_older_quote_that_a_takeover_says_again_is_not_looked_at():
    again = log((Tick(partition=0, ts_ns=T), 0, T), (quote(depth=7), 1, T), (quote(depth=5), 2, T))
    assert judged(*again, found(intent(2, depth=7), "decision.account", 0)).errors == 0
    assert judged(*again, found(intent(2, depth=5), "decision.account", 0)).errors == 1


def test_an_old_tick_of_a_worker_that_thaws_takes_nothing_from_its_successors():
    ticks = log(
        (Tick(partition=0, ts_ns=T + 9 * S), 0, T + 9 * S),
        (Tick(partition=0, ts_ns=T), 1, T + 9 * S),
        (quote(), 2, T + 9 * S + 1),
    )
    assert judged(*ticks, found(intent(2), "decision.account", 0)).errors == 0
    late = found(Clock(now_ns=T + 10 * S), "decision.input", 3)
    assert judged(*ticks, late, found(intent(3), "decision.account", 0)).errors == 1


def test_time_records_make_ticks_old():
    later = [*SEEN, found(Clock(now_ns=T + 2 * S), "decision.input", 2)]
    assert judged(*later, found(intent(2), "decision.account", 0)).errors == 1
    assert judged(*later, found(intent(1), "decision.account", 0)).errors == 0


BOOK = [
    found(Tick(partition=0, ts_ns=T), "derived.book", 0, T),
    found(quote(), "derived.book", 1, T),
]


def test_a_grant_must_name_a_depth_that_was_quoted_live():
    assert judged(*BOOK, found(grant(), "decision.order", 0)).errors == 0
    assert dict(judged(*BOOK, found(grant(6), "decision.order", 0)).kinds) == {"grant": 1}
    dark = [BOOK[0], found(quote("STALE"), "derived.book", 1, T)]
    assert judged(*dark, found(grant(), "decision.order", 0)).errors == 1


def test_an_order_within_a_second_of_a_live_quote_and_a_fresh_tick_is_right():
    assert judged(*BOOK, found(submitting(T + S // 2), "order.event", 0)).errors == 0
    suspected = [*BOOK, found(quote("SUSPECT"), "derived.book", 2, T + S // 10)]
    # It left LIVE after the last moment the gateway can have looked: a view may be up to a second old.
    assert judged(*suspected, found(submitting(T + S // 2), "order.event", 0)).errors == 0


def test_an_order_on_a_book_that_was_suspect_for_over_a_second_is_found():
    ticks = [found(Tick(partition=0, ts_ns=T + n * S), "derived.book", 3 + n, T + n * S) for n in range(1, 4)]
    suspected = [*BOOK, found(quote("SUSPECT"), "derived.book", 2, T + S // 10), *ticks]
    outcome = judged(*suspected, found(submitting(T + 3 * S), "order.event", 0))
    assert dict(outcome.kinds) == {"order": 1}
    assert "not LIVE" in outcome.examples[0]


def test_an_order_after_the_ticks_stopped_is_found():
    outcome = judged(*BOOK, found(submitting(T + 2 * S), "order.event", 0))
    assert "tick is 2.000 s old" in outcome.examples[0]


def test_a_tick_that_was_made_later_vouches_for_nothing_before():
    late = [*BOOK, found(Tick(partition=0, ts_ns=T + S), "derived.book", 2, T + 5 * S)]
    assert judged(*late, found(submitting(T + 2 * S), "order.event", 0)).errors == 1


def test_an_order_for_a_book_nobody_quoted_is_found():
    assert judged(found(submitting(T), "order.event", 0)).errors == 1
