"""For each cause of distrust: no intent, no grant, and no gateway sends what it is handed; and after healing, orders again.

The feed goes on speaking after the cause, and what it says would be a gain; so would what it said before.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from core.domain import trust
from core.runtime.flow import ALL_PARTITIONS
from schemas.market import AuditSnapshot, Tick
from venues.polymarket.book_hash import book_hash

ONE = 1_000_000
MS = 1_000_000
KALSHI, POLY = "kalshi:KX-1", "polymarket:0xc2"
PEERS = {KALSHI: "kalshi:KX-2", POLY: "polymarket:0xc4"}
LIMITS = {"hash_sample": "1", "silent_floor_ms": "2000", "silent_learn_ms": "3000"}
"""Every hash is checked, and who spoke for three seconds may be silent for two."""
BIDS, ASKS = [(4_800, 50 * ONE), (4_700, 50 * ONE)], [(5_000, 50 * ONE), (5_100, 50 * ONE)]
POLLED_EPOCH = 900


def venue_of(name):
    return name.partition(":")[0]


def other_of(name):
    return POLY if name == KALSHI else KALSHI


class Case(NamedTuple):
    """What normalize writes when it happens, what goes on being said, and what ends it."""

    state: str
    word: str
    happens: Callable[[Any, str], None]
    heals: Callable[[Any, str], None] = lambda chain, name: chain.calm(name)
    speaks: Callable[[Any, str], None] = lambda chain, name: chain.cheapen(name)
    names: tuple[str, ...] = (KALSHI, POLY)


def keeps_silent(chain, name):
    """Its own word would end the cause: only the other market moves."""


def reset(reason, **options):
    return lambda chain, name: chain.reset(name, reason, **options)


def reopened(chain, name):
    """The feed ended; the next one brings its snapshots."""
    chain.reopen(name)
    chain.calm(name)
    chain.tick(venue_of(name))


def falls_below_zero(chain, name):
    chain.level(name, "BUY", 4_800, -60 * ONE, kind="SIGNED")


def crosses(chain, name):
    chain.level(name, "BUY", 5_500, 50 * ONE)


def stays_crossed(chain, name):
    crosses(chain, name)
    chain.advance(1_500)


def cheapens_crossed(chain, name):
    """As `cheapen`, and the bid that crosses all of it stays."""
    chain.cheapen(name)
    assert chain.quote(name).ask_price == 0


def uncrosses(chain, name):
    chain.level(name, "BUY", 5_500, 0)
    chain.calm(name)


def feed_stops(chain, name):
    chain.silent.add(venue_of(name))
    chain.advance(1_500)


def feed_ticks_again(chain, name):
    chain.silent.clear()
    chain.tick(venue_of(name))


def all_but_one_speak(chain, name):
    """Its peer speaks on, the feed ticks on."""
    for number in range(30):
        for one in (KALSHI, POLY, PEERS[name]):
            if one != name or number < 8:
                chain.level(one, "BUY", 4_600, (50 + number) * ONE)
        chain.advance(500)


def is_late(chain, name):
    """What comes now, the venue said long ago; what came before did not."""
    chain.level(name, "BUY", 4_700, 40 * ONE)
    chain.level(name, "BUY", 4_700, 60 * ONE, venue_ts_ns=chain.clock.now_ns() - 60_000 * MS)


def cheapens_late(chain, name):
    before_ns = chain.clock.now_ns() - 60_000 * MS
    for price in (4_800, 4_700):
        chain.level(name, "BUY", price, 0, venue_ts_ns=before_ns)
    chain.level(name, "SELL", 3_900, 50 * ONE, venue_ts_ns=before_ns)


def is_in_time(chain, name):
    chain.level(name, "SELL", 9_000, 1 * ONE)
    chain.calm(name)


def says(status):
    return lambda chain, name: chain.status(name, status=status)


def opens_again(chain, name):
    chain.advance(50)
    chain.status(name, status="OPEN")


def proven_book(chain, name):
    """A book with the venue's own hash, as the first of a subscription states it."""
    now = chain.clock.now_ns()
    stated = book_hash(
        market=name.partition(":")[2],
        asset_id="111",
        time_ms=now // MS,
        bids=BIDS,
        asks=ASKS,
        size_min=5 * ONE,
        tick=100,
        neg_risk=False,
        last_trade_price="0.500",
    )
    facts = {"token": "111", "tick": 100, "size_min": 5 * ONE, "last_price": "0.500"}
    chain.snapshot(name, BIDS, ASKS, hash=stated, **facts)


def hash_differs(chain, name):
    """A change was lost on the way: the venue's hash after the next one is not ours."""
    chain.advance(50)
    proven_book(chain, name)
    chain.advance(50)
    chain.level(name, "BUY", 4_600, 10 * ONE, hash="0" * 40)


def proves_again(chain, name):
    chain.advance(50)
    proven_book(chain, name)


def audit_differs(chain, name):
    """Twice in a row REST shows another size at the same level, and nothing explains it."""
    chain.advance(3_000)
    for _ in range(2):
        now = chain.clock.now_ns()
        record = AuditSnapshot(
            instrument=name,
            **chain.place(name),
            price_exp=-4,
            size_exp=-6,
            bid_prices=[price for price, _ in BIDS],
            bid_sizes=[7 * ONE, 50 * ONE],
            ask_prices=[price for price, _ in ASKS],
            ask_sizes=[size for _, size in ASKS],
            asked_ts_ns=now - 10 * MS,
            recv_ts_ns=now,
        )
        chain.market(record)
        chain.advance(2_500)


def polls(chain, name, bids=BIDS, asks=ASKS):
    """The degraded feed ticks like any other."""
    venue = venue_of(name)
    place = {"epoch": POLLED_EPOCH, "frame_no": next(chain.polls), "index": 0}
    chain.snapshot(name, bids, asks, degraded=True, **place)
    tick = Tick(
        feed=f"{venue}-poll",
        venue=venue,
        epoch=POLLED_EPOCH,
        frame_no=next(chain.polls),
        recv_ts_ns=chain.clock.now_ns(),
    )
    chain.market(tick, ALL_PARTITIONS)


def is_polled(chain, name):
    """The stream failed, and the venue is asked over REST instead."""
    chain.reset(name, "closed: 1006", of_all=True, closed=True)
    polls(chain, name)


def polls_cheap(chain, name):
    polls(chain, name, [(3_700, 50 * ONE)], [(3_900, 50 * ONE)])
    assert chain.quote(name).ask_price == 3_900


CASES = {
    "gap": Case("SUSPECT", trust.GAP, reset("gap: expected seq 4, found 6")),
    "gap of the whole feed": Case("SUSPECT", trust.GAP, reset("gap: expected seq 4, found 6", of_all=True)),
    "hash": Case("SUSPECT", trust.HASH, hash_differs, proves_again, names=(POLY,)),
    "negative level": Case("SUSPECT", trust.NEGATIVE_LEVEL, falls_below_zero),
    "crossed for too long": Case("SUSPECT", trust.CROSSED, stays_crossed),
    "closed": Case("SUSPECT", trust.CLOSED, reset("closed: 1006", of_all=True, closed=True), reopened),
    "tick size": Case("SUSPECT", trust.TICK_SIZE, reset("tick size 100e-4 became 10e-4")),
    "unparseable": Case("SUSPECT", trust.UNPARSEABLE, reset("unparseable: not JSON")),
    "audit": Case("SUSPECT", trust.AUDIT, audit_differs),
    "feed silent": Case("STALE", trust.FEED_SILENT, feed_stops, feed_ticks_again),
    "instrument silent": Case("STALE", trust.INSTRUMENT_SILENT, all_but_one_speak, speaks=keeps_silent),
    "behind venue": Case("STALE", trust.BEHIND_VENUE, is_late, is_in_time, cheapens_late),
    "market closed": Case("STALE", trust.MARKET_CLOSED, says("CLOSED"), opens_again),
    "market paused": Case("STALE", trust.MARKET_PAUSED, says("PAUSED"), opens_again),
    "crossed for a moment": Case("STALE", trust.CROSSED, crosses, uncrosses, cheapens_crossed),
    "polled": Case("DEGRADED", trust.POLLED, is_polled, reopened, polls_cheap),
}


def test_every_cause_has_its_case():
    assert {case.word for case in CASES.values()} | {trust.NO_SNAPSHOT} == set(trust.CAUSES)
    stated = {(case.state, case.word) for case in CASES.values()}
    assert {("SUSPECT", word) for word in trust.SUSPECT_CAUSES} <= stated
    assert {("STALE", word) for word in trust.STALE_CAUSES} <= stated


def refuses_all(chain, name, words):
    """Say whether the gateway refuses every order it is handed past decide, for this reason."""
    for side, price in (("BUY", 5_000), ("BUY", 3_900), ("SELL", 4_800), ("SELL", 3_700)):
        for purpose in ("ENTRY", "HEDGE", "UNWIND"):
            why = chain.hand_over(name, side, price, purpose=purpose)
            assert why.startswith(words), why
    assert chain.left() == []


@pytest.mark.parametrize(
    ("case", "name"),
    [pytest.param(case, name, id=f"{label}-{name}") for label, case in CASES.items() for name in case.names],
)
def test_no_order_leaves_on_a_book_that_is_not_to_be_trusted(new_chain, case, name):
    chain = new_chain(limits=LIMITS)
    begun = len(chain.quotes(name))
    case.happens(chain, name)
    said = [(quote.state, trust.cause_in(quote.cause)) for quote in chain.quotes(name)[begun:]]
    assert (case.state, case.word) in said
    chain.raise_other(name)
    case.speaks(chain, name)
    chain.advance(200)

    quote = chain.quote(name)
    # A suspect book that has asked for its snapshot awaits it.
    awaits = quote.state == "SYNCING" and quote.cause.startswith(f"{trust.NO_SNAPSHOT}: since {case.word}")
    assert (quote.state, trust.cause_in(quote.cause)) == (case.state, case.word) or awaits
    if case.state != "DEGRADED":
        assert (quote.bid_price, quote.bid_size, quote.ask_price, quote.ask_size) == (0, 0, 0, 0)
    assert chain.intents() == chain.grants() == chain.edges() == []
    refuses_all(
        chain,
        name,
        (
            f"gateway: the book of {name} is {quote.state}: {quote.cause}",
            # What its status says is asked first.
            *(f"gateway: {name} is {status}" for status in ("CLOSED", "PAUSED") if status.lower() in case.word),
        ),
    )

    case.heals(chain, name)
    assert chain.quote(name).state == "LIVE"
    if not chain.left():
        # What healed it showed nothing new by itself.
        chain.advance(200)
        chain.level(name, "BUY", 3_000, 5 * ONE)
    assert len(chain.left()) == 1
    assert chain.unsound() == []


@pytest.mark.parametrize("name", [KALSHI, POLY])
def test_no_order_leaves_on_a_book_without_its_snapshot(new_chain, name):
    chain = new_chain(calm=False)
    chain.calm(other_of(name), *PEERS.values())
    # All that is said of it would make a book, and a gain.
    for side, price in (("BUY", 4_800), ("SELL", 5_000)):
        chain.level(name, side, price, 50 * ONE)
    chain.raise_other(name)
    chain.cheapen(name)
    chain.advance(200)
    quote = chain.quote(name)
    assert (quote.state, trust.cause_in(quote.cause)) == ("SYNCING", trust.NO_SNAPSHOT)
    assert chain.intents() == chain.grants() == chain.edges() == []
    refuses_all(chain, name, (f"gateway: the book of {name} is SYNCING: {trust.NO_SNAPSHOT}",))
    chain.calm(name)
    assert len(chain.left()) == 1
    assert chain.unsound() == []


@pytest.mark.parametrize("name", [KALSHI, POLY])
def test_no_order_leaves_on_a_market_nobody_has_seen_a_book_of(new_chain, name):
    chain = new_chain(calm=False)
    chain.calm(other_of(name), *PEERS.values())
    chain.raise_other(name)
    assert chain.intents() == chain.edges() == []
    refuses_all(chain, name, (f"gateway: no quote of {name} was seen",))
