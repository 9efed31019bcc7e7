"""Positions: each cent is in the cost or in the profit, whatever is traded in which words."""

from hypothesis import given
from hypothesis import strategies as st

from observe.fills import apply_entry
from observe.positions import Position, fold, locked_e6, yes_terms
from schemas.order import Fill

ONE = 1_000_000


def fill(outcome="YES", side="BUY", size=ONE, price=400_000, fee=0, account="kalshi:a", number=1):
    return Fill(
        event_id=f"e{number}", order="o", account=account, instrument="kalshi:M", fill=f"f{number}", outcome=outcome,
        token_side=side, size=size, price_e6=price, notional_e6=size * price // ONE, fee_e6=fee, asset="USD",
        liquidity="TAKER", settlement="CONFIRMED", ts_ns=1, recv_ts_ns=1,
    )  # fmt: skip


def test_buying_no_is_selling_yes_at_the_rest_of_the_dollar():
    assert yes_terms(fill("NO", "BUY", price=300_000)) == (-ONE, 700_000, ONE)
    assert yes_terms(fill("NO", "SELL", price=300_000)) == (ONE, -700_000, -ONE)
    assert yes_terms(fill("YES", "BUY")) == (ONE, -400_000, 0)
    assert yes_terms(fill("YES", "SELL")) == (-ONE, 400_000, 0)


def test_a_part_that_is_closed_realises_against_the_average_cost():
    position = Position()
    position.trade(2 * ONE, -800_000)
    position.trade(2 * ONE, -1_000_000)
    assert position.trade(-ONE, 600_000) == 600_000 - 450_000
    assert (position.size_e6, position.cost_e6) == (3 * ONE, 1_350_000)
    assert position.unrealised_e6(500_000) == 150_000


def test_what_crosses_zero_opens_the_rest_at_its_own_price():
    position = Position()
    position.trade(ONE, -400_000)
    assert position.trade(-3 * ONE, 1_800_000) == 200_000
    assert (position.size_e6, position.cost_e6) == (-2 * ONE, -1_200_000)
    assert position.unrealised_e6(500_000) == 200_000
    assert position.trade(2 * ONE, -1_000_000) == 200_000
    assert (position.size_e6, position.cost_e6, position.realised_e6) == (0, 0, 400_000)


def test_yes_and_no_held_together_are_flat_and_worth_their_dollar():
    position = fold([(*yes_terms(fill())[:2], 0, 0), (-ONE, 700_000, 0, ONE)])
    assert (position.size_e6, position.cost_e6, position.realised_e6) == (0, 0, 300_000)
    # 0.40 and 0.30 left the account; 0.30 is the profit because a dollar is locked in the pair.
    assert locked_e6("polymarket:a", position.size_e6, position.no_e6) == ONE
    assert locked_e6("kalshi:a", position.size_e6, position.no_e6) == 0


def test_a_payout_closes_a_long_a_short_and_a_no_token():
    long = fold([(ONE, -400_000, 0, 0)])
    apply_entry(long, "kalshi:a", "YES", -ONE, ONE)
    assert (long.size_e6, long.realised_e6) == (0, 600_000)
    short = fold([(-ONE, 700_000, 0, 0)])
    apply_entry(short, "kalshi:a", "YES", ONE, 0)  # YES won: the locked dollar is paid away
    assert (short.size_e6, short.realised_e6) == (0, -300_000)
    token = fold([(-ONE, 700_000, 0, ONE)])
    apply_entry(token, "polymarket:a", "NO", -ONE, ONE)  # NO won
    assert (token.size_e6, token.no_e6, token.realised_e6) == (0, 0, 700_000)
    void = fold([(-ONE, 700_000, 0, ONE)])
    apply_entry(void, "polymarket:a", "NO", -ONE, 500_000)
    assert void.realised_e6 == 200_000


TRADES = st.lists(
    st.tuples(
        st.sampled_from(["YES", "NO"]),
        st.sampled_from(["BUY", "SELL"]),
        st.integers(1, 5 * ONE),
        st.integers(1, ONE - 1),
    ),
    max_size=30,
)


@given(TRADES, st.sampled_from(["kalshi:a", "polymarket:a"]))
def test_profit_and_cost_hold_all_cash_and_the_account_has_it_to_the_unit(trades, account):
    position, cash, yes, no = Position(), 0, 0, 0
    for outcome, side, size, price in trades:
        made = fill(outcome, side, size, price, account=account)
        signed, yes_cash, moved = yes_terms(made)
        cash += yes_cash
        position.book(signed, yes_cash, 0, moved)
        if outcome == "YES":
            yes += size if side == "BUY" else -size
        else:
            no += moved
    assert position.realised_e6 - position.cost_e6 == cash
    assert position.size_e6 == yes - no
    assert position.no_e6 == no
    if position.size_e6 == 0:
        assert position.cost_e6 == 0
    # What left the account for tokens is the YES cash less the dollars they lock.
    token_cash = sum((-1 if side == "BUY" else 1) * (size * price // ONE) for outcome, side, size, price in trades)
    assert cash - locked_e6("polymarket:a", position.size_e6, no) == token_cash


@given(TRADES)
def test_the_sign_of_the_cost_is_that_of_the_position(trades):
    position = Position()
    for outcome, side, size, price in trades:
        position.book(*yes_terms(fill(outcome, side, size, price))[:2], 0, 0)
        assert position.cost_e6 * position.size_e6 >= 0
