"""Lots: first in, first out, each cent once."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from observe.lots import Trade, lots
from observe.positions import Position

ONE = 1_000_000
AT = datetime(2026, 11, 21, tzinfo=UTC)


def trade(number, size, cash, fee=0, **changes):
    return Trade("kalshi:a", "kalshi:M", f"f{number}", AT + timedelta(minutes=number), size, cash, fee)._replace(
        **changes
    )


def test_the_oldest_lot_is_closed_first_and_the_rest_stays_open():
    made = lots([trade(1, 2 * ONE, -800_000, 20), trade(2, ONE, -500_000), trade(3, -ONE, 600_000, 10)])
    closed, *still = made
    assert (closed.open_fill, closed.close_fill, closed.side, closed.size_e6) == ("f1", "f3", "LONG", ONE)
    assert (closed.realised_e6, closed.fees_e6) == (200_000, 20)
    assert [(lot.open_fill, lot.size_e6, lot.open_cash_e6, lot.closed_at) for lot in still] == [
        ("f1", ONE, -400_000, None), ("f2", ONE, -500_000, None),
    ]  # fmt: skip
    assert all(lot.realised_e6 == 0 for lot in still)


def test_one_fill_closes_several_lots_and_opens_the_other_side_with_the_rest():
    made = lots([trade(1, ONE, -400_000), trade(2, ONE, -500_000), trade(3, -3 * ONE, 1_800_000)])
    assert [(lot.side, lot.open_fill, lot.realised_e6) for lot in made] == [
        ("LONG", "f1", 200_000), ("LONG", "f2", 100_000), ("SHORT", "f3", 0),
    ]  # fmt: skip


def test_a_payout_closes_all_that_is_open():
    made = lots([trade(1, -ONE, 700_000), trade(2, -ONE, 600_000), trade(3, 0, 0, payout_e6=ONE)])
    assert [(lot.side, lot.realised_e6) for lot in made] == [("SHORT", -300_000), ("SHORT", -400_000)]
    assert lots([trade(1, 0, 0, payout_e6=ONE)]) == []


@given(
    st.lists(
        st.tuples(st.integers(-5 * ONE, 5 * ONE).filter(bool), st.integers(1, ONE), st.integers(0, 99_999)), max_size=30
    )
)
def test_no_cent_and_no_contract_is_lost_or_doubled(trades):
    made = lots(trade(number, size, -size * price // ONE, fee) for number, (size, price, fee) in enumerate(trades))
    position = Position()
    for size, price, fee in trades:
        position.book(size, -size * price // ONE, fee, 0)
    signed = sum((1 if lot.side == "LONG" else -1) * lot.size_e6 for lot in made if lot.closed_at is None)
    assert signed == position.size_e6
    assert sum(lot.open_cash_e6 + lot.close_cash_e6 for lot in made) == sum(-s * p // ONE for s, p, _ in trades)
    assert sum(lot.fees_e6 for lot in made) == position.fees_e6
    assert all(lot.size_e6 > 0 for lot in made)
