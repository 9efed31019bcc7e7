"""What a saga does next when more was sold back than was bought."""

from types import SimpleNamespace

import pytest

from decide.saga import End, LegState, Saga
from decide.saga_steps import advance


def order(purpose: str, effective: int):
    return SimpleNamespace(
        grant=SimpleNamespace(purpose=purpose),
        effective=effective,
        spent_e6=0,
        complete=True,
        was_refused=False,
        yes_notional_e6=effective // 2,
        fees_e6=0,
        cash_e6=0,
        status="FILLED",
        ended_ns=0,
    )


def leg(*orders) -> LegState:
    instrument = SimpleNamespace(size_step=10_000, size_min=10_000, venue="kalshi", notional_min_e6=0)
    return LegState(SimpleNamespace(side="BUY", price=5_000), instrument, list(orders))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(
            leg(order("ENTRY", 10_000_000), order("UNWIND", 10_000_000), order("UNWIND", 10_000_000)),
            leg(),
            id="the first leg was sold twice, the second never entered",
        ),
        pytest.param(
            leg(order("ENTRY", 0)),
            leg(order("HEDGE", 10_000_000), order("UNWIND", 20_000_000)),
            id="the second leg was sold twice, the first never filled",
        ),
    ],
)
def test_a_leg_that_was_oversold_is_held_for_a_person(first, second):
    saga = Saga(intent=None, legs=(first, second), size=10_000_000, floor_e6=1_000_000, budget_e6=1_000_000)
    assert advance(saga, 1) == End("HOLDING", "OVERSOLD")
