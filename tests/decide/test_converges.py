"""Whatever goes wrong between us and the venues, and whoever dies meanwhile: our account ends as the venues' own."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.runtime import topics
from simulate.order_faults import CHOICES, ORDER_NAMES
from tests.decide.converging import VENUES, WHO, begun
from tests.leaping import run


def play(credentials, plan, *, seed=0):
    """Play a plan: steps of (ms to wait before, word, arguments)."""

    async def main():
        async with begun(credentials, seed) as whole:
            for wait_ms, word, arguments in plan:
                await asyncio.sleep(wait_ms / 1_000)
                await _do(whole, word, arguments)
            await whole.settle()
            whole.check_orders()
            whole.check_nothing_healed()
            return whole

    return run(main)


async def _do(whole, word, arguments):
    match word:
        case "intent":
            whole.open_edge(*arguments)
        case "pair":
            whole.open_pair(*arguments)
        case "rest":
            whole.rest(*arguments)
        case "word":
            whole.word(*arguments)
        case "sweep":
            whole.sweep(*arguments)
        case "fault":
            venue, name, parameters = arguments
            whole.fault(venue, name, **parameters)
        case "kill":
            await whole.kill(*arguments)
        case "freeze":
            whole.freeze(*arguments)
        case "fuse":
            whole.fuse(*arguments)
        case "usurp":
            whole.usurp(*arguments)
        case "twin":
            await whole.begin_gateway(*arguments)
        case "cut":
            await whole.cut(*arguments)
        case "noise":
            whole.decide.copies, whole.decide.hold_ms = arguments
        case _:
            raise AssertionError(word)


def test_undisturbed_intents_are_filled_on_both_sides(credentials):
    whole = play(credentials, [(0, "intent", ("buy", 10)), (1_000, "intent", ("sell", 5))])
    assert [(saga.state, saga.reason) for saga in whole.decide.sagas()] == [("DONE", "FILLED")] * 2
    assert whole.ours("kalshi")["YES"] == -5_000_000


def test_undisturbed_legs_leave_together_and_a_short_one_is_completed_or_the_other_taken_back(credentials):
    pairs = [(0, "pair", ("buy", 10, 60)), (900, "pair", ("sell", 10, 4)), (900, "pair", ("buy", 12, 0))]
    whole = play(credentials, pairs)
    sagas = sorted(whole.decide.sagas(), key=lambda saga: saga.id)
    assert [(saga.leg_order, saga.leg_order_reason) for saga in sagas] == [("TOGETHER", "AS_ASKED")] * 3
    assert [(saga.state, saga.reason, saga.standing_e6) for saga in sagas] == [
        ("DONE", "FILLED", [10_000_000] * 2),
        ("DONE", "FILLED", [10_000_000] * 2),
        ("DONE", "UNWOUND", [0, 0]),
    ]
    # Ten bought and sold again, twelve of one bought and taken back.
    assert set(whole.ours("kalshi")) == {"cash", "fees"}
    later = [grant for grant in whole.decide.grants.values() if grant.purpose != "ENTRY"]
    assert [(grant.purpose, grant.leg, grant.size) for grant in later] == [
        ("HEDGE", 1, 6_000_000),
        ("HEDGE", 1, 12_000_000),
        ("UNWIND", 0, 12_000_000),
    ]


@pytest.mark.parametrize(("leg_order", "is_behind_the_answer"), [("TOGETHER", False), ("ONE_BY_ONE", True)])
def test_no_leg_that_leaves_together_waits_for_the_answer_of_another(credentials, leg_order, is_behind_the_answer):
    slow = ("kalshi", "fill_before_acknowledgement", {"seconds": 5.0, "delay_ms": 300})
    mute = ("kalshi", "private_silent", {"seconds": 5.0})
    whole = play(credentials, [(0, "fault", slow), (0, "fault", mute), (100, "pair", ("buy", 10, 60, leg_order))])
    calls = {call.order: call for call in whole.log.read(topics.ORDER_FRAME) if getattr(call, "method", "") == "POST"}
    first, second = (calls[grant.id] for grant in sorted(whole.decide.grants.values(), key=lambda grant: grant.leg))
    assert first.recv_ts_ns - first.sent_ts_ns > 290_000_000
    assert (second.sent_ts_ns > first.recv_ts_ns) == is_behind_the_answer


@pytest.mark.parametrize("venue", VENUES)
def test_undisturbed_quotes_are_filled_moved_and_taken_back(credentials, venue):
    quotes = [
        (0, "intent", ("buy", 5)),
        (900, "rest", (venue, "BUY", 10, 30, 0)),
        (0, "rest", (venue, "SELL", 10, 30, 0)),
    ]
    moves = [
        (800, "word", ("REPLACE", 0, 100, 12)),
        (2_500, "word", ("REPLACE", 1, -100, 8)),
        (2_500, "sweep", (venue, "SELL", 70)),
    ]
    whole = play(credentials, [*quotes, *moves, (1_500, "word", ("CANCEL", 0, 0, 0))])
    sagas = {saga.id: saga for saga in whole.decide.sagas() if saga.id in whole.quotes}
    bid, ask = (sagas[name] for name in whole.quotes)
    assert (bid.state, bid.reason, bid.standing_e6) == ("DONE", "FILLED", [8_000_000])
    assert (ask.state, ask.reason, ask.standing_e6) == ("DONE", "WITHDRAWN", [0])


STEPS_TO_DIE_AT = [
    *(("decide", "write", steps) for steps in (1, 2, 3, 5)),
    *((venue, where, steps) for venue in VENUES for where in ("write", "call", "answer") for steps in (1, 2)),
]


@pytest.mark.parametrize(("who", "where", "steps"), STEPS_TO_DIE_AT)
def test_worker_that_dies_at_one_step_is_finished_by_its_successor(credentials, who, where, steps):
    intents = [(10, "intent", ("buy", 10)), (1_500, "intent", ("sell", 10)), (1_500, "intent", ("buy", 10))]
    whole = play(credentials, [(0, "fuse", (who, where, steps, 300)), *intents])
    # Of three intents one may be torn by the death; what it left half done is taken back, held and said, or refused.
    assert len(whole.decide.sagas()) == 3
    assert {saga.state for saga in whole.decide.sagas()} <= {"DONE", "HOLDING", "REFUSED"}


STEPS_OF_A_PAIR = [
    *(("decide", "write", steps) for steps in (1, 2, 3, 4, 5)),
    *(("kalshi", where, steps) for where in ("write", "call", "answer") for steps in (1, 2, 3)),
]


@pytest.mark.parametrize(("who", "where", "steps"), STEPS_OF_A_PAIR)
def test_legs_that_leave_together_past_a_worker_that_dies_are_finished_by_its_successor(credentials, who, where, steps):
    pairs = [(10, "pair", ("buy", 10, 6)), (1_500, "pair", ("sell", 10, 60)), (1_500, "pair", ("buy", 10, 60))]
    whole = play(credentials, [(0, "fuse", (who, where, steps, 300)), *pairs])
    sagas = whole.decide.sagas()
    assert len(sagas) == 3
    assert {saga.state for saga in sagas} <= {"DONE", "HOLDING", "REFUSED"}
    for saga in sagas:
        assert saga.state != "DONE" or len(set(saga.standing_e6)) == 1


QUOTED = [
    (0, "intent", ("buy", 5)),
    (900, "rest", ("kalshi", "BUY", 10, 8, 0)),
    (50, "rest", ("polymarket", "SELL", 10, 8, 0)),
    (900, "word", ("REPLACE", 1, 100, 12)),
    (100, "word", ("REPLACE", 0, 100, 12)),
    (300, "sweep", ("kalshi", "SELL", 64)),
    (0, "sweep", ("polymarket", "BUY", 64)),
    (700, "word", ("REPLACE", 1, -100, 12)),
    (0, "word", ("CANCEL", 0, 0, 0)),
]


@pytest.mark.parametrize(("who", "where", "steps"), STEPS_TO_DIE_AT)
def test_quotes_of_a_worker_that_dies_at_one_step_come_to_their_end(credentials, who, where, steps):
    whole = play(credentials, [QUOTED[0], (800, "fuse", (who, where, steps, 300)), *QUOTED[1:]])
    sagas = {saga.id: saga.state for saga in whole.decide.sagas() if saga.id in whole.quotes}
    assert len(sagas) == 2
    assert set(sagas.values()) <= {"DONE", "REFUSED"}


# --- any course


def _parameters(name):
    """Parameters of one fault of orders, short enough for a plan of seconds."""
    fault = ORDER_NAMES[name]
    drawn = {"seconds": st.sampled_from([0.3, 1.0, 2.5])}
    for key, words in CHOICES.get(name, {}).items():
        drawn[key] = st.sampled_from(words)
    ranges = {"count": (1, 3), "delay_ms": (20, 900), "lag_ms": (100, 1_500), "window_ms": (20, 200)}
    for key, (low, high) in ranges.items():
        if key in fault.parameters:
            drawn[key] = st.integers(low, high)
    if "share" in fault.parameters:
        drawn["share"] = st.sampled_from([0.0, 0.3, 0.7] if name == "partial_fill" else [0.5, 1.0])
    if name == "order_5xx":
        drawn["takes_effect"] = st.booleans()
    if name == "order_425":
        drawn["post_only_s"] = st.sampled_from([0.0, 1.0])
    return st.fixed_dictionaries(drawn)


PAIRS = [(venue, name) for name, fault in ORDER_NAMES.items() for venue in fault.venues]
FAULTS = st.sampled_from(PAIRS).flatmap(
    lambda pair: st.tuples(st.just(pair[0]), st.just(pair[1]), _parameters(pair[1]))
)
WAITS = st.integers(0, 700)
WAYS = st.sampled_from(["buy", "sell"])
INTENTS = st.one_of(
    st.tuples(st.just("intent"), st.tuples(WAYS, st.integers(5, 30))),
    # Of two legs that leave together, the second finds less than it asks for at its price.
    st.tuples(st.just("pair"), st.tuples(WAYS, st.integers(5, 30), st.integers(0, 40))),
)
TROUBLES = st.one_of(
    st.tuples(st.just("fault"), FAULTS),
    st.tuples(st.just("fault"), FAULTS),
    st.tuples(st.just("kill"), st.tuples(st.sampled_from(WHO), st.integers(0, 1_500))),
    st.tuples(st.just("freeze"), st.tuples(st.sampled_from(WHO), st.integers(50, 4_000))),
    st.tuples(
        st.just("fuse"),
        st.tuples(
            st.sampled_from(WHO), st.sampled_from(["write", "call", "answer"]), st.integers(1, 6), st.integers(0, 1_500)
        ),
    ),
    st.tuples(st.just("usurp"), st.tuples(st.integers(0, 2_500), st.integers(1, 60))),
    st.tuples(st.just("cut"), st.tuples(st.sampled_from(VENUES))),
    st.tuples(st.just("twin"), st.tuples(st.sampled_from(VENUES))),
    st.tuples(st.just("noise"), st.tuples(st.sampled_from([0.0, 0.5, 0.9]), st.sampled_from([0, 200, 1_500]))),
)
SIDES = st.sampled_from(["BUY", "SELL"])
RESTS = st.tuples(
    st.just("rest"),
    st.tuples(
        st.sampled_from(VENUES), SIDES, st.integers(5, 20), st.integers(2, 20), st.sampled_from([0, 0, 700, 3_000])
    ),
)
WORDS = st.tuples(
    st.just("word"),
    st.tuples(
        st.sampled_from(["REPLACE", "REPLACE", "REPLACE", "KEEP", "CANCEL"]),
        st.integers(0, 3),
        st.sampled_from([-200, -100, 0, 100, 200]),
        st.integers(3, 25),
    ),
)
SWEEPS = st.tuples(st.just("sweep"), st.tuples(st.sampled_from(VENUES), SIDES, st.integers(50, 90)))
# A quote, what is wanted of it, and somebody who takes it.
QUOTINGS = st.tuples(WAITS, RESTS, WAITS, st.one_of(WORDS, SWEEPS), WAITS, st.one_of(WORDS, SWEEPS, TROUBLES)).map(
    lambda step: [(step[0], *step[1]), (step[2], *step[3]), (step[4], *step[5])]
)
STEPS = st.one_of(
    QUOTINGS,
    st.tuples(WAITS, INTENTS).map(lambda step: [(step[0], *step[1])]),
    # Trouble that nothing meets says little: an intent comes right behind it.
    st.tuples(WAITS, TROUBLES, WAITS, INTENTS).map(lambda step: [(step[0], *step[1]), (step[2] // 4, *step[3])]),
    st.tuples(WAITS, TROUBLES).map(lambda step: [(step[0], *step[1])]),
)


# Half a second of processor time an example; a machine that is shared may take its time.
@pytest.mark.timeout(600)
@settings(
    max_examples=25,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.lists(STEPS, min_size=4, max_size=12), st.integers(0, 2**16))
def test_any_course_of_faults_crashes_and_freezes_ends_at_the_venues_own_account(credentials, parts, seed):
    plan = [step for part in parts for step in part]
    ends = [(300, "intent", ("sell", 10)), (100, "pair", ("sell", 10, 7))]
    play(credentials, [(0, "intent", ("buy", 10)), (50, "pair", ("buy", 10, 7)), *plan, *ends], seed=seed)
