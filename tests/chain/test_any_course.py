"""Whatever the feeds say, whoever freezes, dies or lags: what was decided was usable, what left might leave, and left once."""

from hypothesis import given, settings
from hypothesis import strategies as st

from core.runtime import topics
from core.runtime.flow import ALL_PARTITIONS
from schemas.decision import Saga
from schemas.order import OrderUpdate

ONE = 1_000_000
KALSHI, POLY, TWIN = "kalshi:KX-1", "polymarket:0xc2", "kalshi:KX-3"
PARAMS = {order: f'{{"cooldown_ms": 100, "leg_order": "{order}"}}' for order in ("ONE_BY_ONE", "TOGETHER")}
WORKERS = ("normalize", "derive", "strategies", "accounts", "kalshi", "polymarket")

TASKS = ("derive", "strategies", "accounts")

NAMES = st.sampled_from([KALSHI, POLY, TWIN])
MIDS = st.integers(20, 80)
STEP = st.one_of(
    # Mostly books that move and time that passes, so that there is something to lose.
    st.tuples(st.just("gains"), NAMES, MIDS),
    st.tuples(st.just("gains"), NAMES, MIDS),
    st.tuples(st.just("moves"), NAMES, MIDS),
    st.tuples(st.just("level"), NAMES, st.sampled_from(["BUY", "SELL"]), MIDS, st.integers(0, 40)),
    st.tuples(st.just("time"), st.sampled_from([50, 100, 100, 300, 600, 1_100, 2_500])),
    st.tuples(st.just("time"), st.sampled_from([50, 100, 200])),
    st.tuples(st.just("gap"), NAMES),
    st.tuples(st.just("below"), NAMES, MIDS),
    st.tuples(st.just("closed"), NAMES, MIDS),
    st.tuples(st.just("status"), NAMES, st.sampled_from(["PAUSED", "OPEN", "OPEN", "CLOSED"])),
    st.tuples(st.just("silent"), NAMES),
    st.tuples(st.just("speaks")),
    st.tuples(st.just("freezes"), st.sampled_from(WORKERS)),
    st.tuples(st.just("thaws")),
    st.tuples(st.just("thaws")),
    st.tuples(st.just("dies"), st.sampled_from(WORKERS), st.integers(0, 20)),
    st.tuples(st.just("is written down"), st.sampled_from(TASKS)),
    st.tuples(st.just("is restored"), st.sampled_from(TASKS)),
    st.tuples(st.just("hangs"), st.integers(0, 1)),
    st.tuples(st.just("predecessor"), st.integers(1, 30), st.integers(1, 10)),
    st.tuples(st.just("breaks under way"), NAMES),
    st.tuples(st.just("reads late"), st.sampled_from(["kalshi", "polymarket"])),
    st.tuples(st.just("reads on")),
    st.tuples(st.just("conflates"), st.booleans()),
    st.tuples(st.just("slow"), st.sampled_from([0, 0, 200, 600, 1_200])),
)


def moves(chain, name, mid):
    """The market is somewhere else, by a snapshot: it heals what was broken."""
    bids = [((mid - 1 - n) * 100, (20 + n) * ONE) for n in range(3)]
    asks = [((mid + 1 + n) * 100, (20 + n) * ONE) for n in range(3)]
    chain.snapshot(name, bids, asks)


def gains(chain, name, mid):
    """A market is eight cents cheaper than the one it is linked to."""
    moves(chain, POLY if name == KALSHI else KALSHI, mid + 8)
    moves(chain, name, mid)


def closed(chain, name, mid):
    chain.reset(name, "closed: 1006", of_all=True, closed=True)
    chain.reopen(name)
    moves(chain, name, mid)
    chain.tick(name.partition(":")[0])


def dies(chain, worker, uncommitted):
    chain.frozen.discard(worker)
    if worker in chain.gateways:
        chain.workers[worker].restart()
    else:
        chain.workers[worker].restart(uncommitted)


def is_restored(chain, worker):
    chain.frozen.discard(worker)
    chain.workers[worker].restore()


def slow(chain, ms):
    """From now on so much time passes before a byte leaves."""
    for gateway in chain.gateways.values():
        gateway.door.before_write = lambda: chain.clock.advance(ms=ms)


def breaks_under_way(chain, name):
    """The next order finds a gap between its check and its bytes; the gateway has read of it."""

    def before(gateway):
        for one in chain.gateways.values():
            one.door.before_write = lambda: None
        record = chain.gap(name)
        chain.wire.append(topics.MARKET_EVENT, "", record, ALL_PARTITIONS)
        chain.derive.step()
        gateway.read_books()

    for gateway in chain.gateways.values():
        gateway.door.before_write = lambda gateway=gateway: before(gateway)


def thaws(chain):
    chain.frozen.clear()
    chain.derive.hung.clear()


def holds(chain, venue, held):
    for one in [venue] if venue else chain.gateways:
        chain.gateways[one].books_held = held


ACTIONS = {
    "gains": gains,
    "moves": moves,
    "level": lambda chain, name, side, cents, size: chain.level(name, side, cents * 100, size * ONE),
    "time": lambda chain, ms: chain.advance(ms),
    "gap": lambda chain, name: chain.reset(name, "gap: expected seq 4, found 6"),
    "below": lambda chain, name, cents: chain.level(name, "BUY", cents * 100, -10_000 * ONE, kind="SIGNED"),
    "closed": closed,
    "status": lambda chain, name, status: chain.status(name, status=status),
    "silent": lambda chain, name: chain.silent.add(name.partition(":")[0]),
    "speaks": lambda chain: chain.silent.clear(),
    "freezes": lambda chain, worker: chain.frozen.add(worker),
    "thaws": thaws,
    "is written down": lambda chain, worker: chain.workers[worker].checkpoint(),
    "is restored": is_restored,
    "hangs": lambda chain, partition: chain.derive.hung.add(partition),
    "predecessor": lambda chain, back, count: chain.derive.thaw_predecessor(back, count),
    "breaks under way": breaks_under_way,
    "dies": dies,
    "reads late": lambda chain, venue: holds(chain, venue, held=True),
    "reads on": lambda chain: holds(chain, "", held=False),
    "conflates": lambda chain, conflates: setattr(chain.strategies, "conflates", conflates),
    "slow": slow,
}


def test_any_course_of_events_leaves_no_order_that_should_not_have_left(new_chain):
    left, ways = [], set()

    @settings(max_examples=60)
    @given(steps=st.lists(STEP, min_size=10, max_size=50), leg_order=st.sampled_from(sorted(PARAMS)))
    def course(steps, leg_order):
        chain = new_chain(params=PARAMS[leg_order], twin=True)
        for name, *arguments in steps:
            ACTIONS[name](chain, *arguments)
            chain.settle()
        thaws(chain)
        holds(chain, "", held=False)
        chain.advance(3_000)

        assert chain.unsound() == []
        assert len(chain.sendings()) == len(chain.left())
        # Whatever was granted came to an end that stands in the log.
        ended = {update.order for update in chain.wire.all(topics.ORDER_EVENT, OrderUpdate) if update.terminal}
        assert {grant.id for grant in chain.grants()} <= ended
        left.append(len(chain.left()))
        sagas = {saga.id: saga for saga in chain.wire.all(topics.DECISION_SAGA, Saga) if saga.state != "REFUSED"}
        for saga in sagas.values():
            ways.add((saga.leg_order, saga.leg_order_reason))
            # All entries of a saga or none; one by one only the first is one.
            entries = [grant.leg for grant in chain.grants() if (grant.intent, grant.purpose) == (saga.id, "ENTRY")]
            assert sorted(entries) == list(range(len(saga.standing_e6) if saga.leg_order == "TOGETHER" else 1))

    course()
    # Else all of this says nothing.
    assert sum(left) >= 5, left
    assert {("TOGETHER", "AS_ASKED"), ("ONE_BY_ONE", "AS_ASKED")} <= ways, ways
