"""Who may send an order, and whose word ends it."""

import msgspec
import pytest

from execute.orders import DAY_NS, Orders
from schemas.order import Fill, OrderUpdate, Submitting
from tests.records import granted

ACCOUNT = "kalshi:main"
GRANT = granted(id="o", outcome="NONE", fee_max_e6=1)


def submitting(writer, event_id="s"):
    return Submitting(
        event_id=f"{event_id}-{writer}",
        order="o",
        account=ACCOUNT,
        instrument="kalshi:T",
        writer=writer,
        method="POST",
        path="/",
        body=b"",
        venue_order="v",
        send_by_ns=1,
        ts_ns=1,
        recv_ts_ns=1,
    )


def update(status, writer, *, terminal=True, reason="", filled=0, venue_order=""):
    return OrderUpdate(
        event_id=f"{status}-{writer}-{filled}",
        order="o",
        account=ACCOUNT,
        instrument="kalshi:T",
        status=status,
        terminal=terminal,
        reason=reason,
        filled=filled,
        venue_order=venue_order,
        writer=writer,
        ts_ns=1,
        recv_ts_ns=1,
    )


def fill(number, size):
    return Fill(
        event_id=f"f{number}",
        order="o",
        account=ACCOUNT,
        instrument="kalshi:T",
        fill=f"t{number}",
        outcome="YES",
        token_side="BUY",
        size=size,
        price_e6=1,
        notional_e6=1,
        fee_e6=0,
        asset="USD",
        liquidity="TAKER",
        settlement="CONFIRMED",
        ts_ns=1,
        recv_ts_ns=1,
    )


def folded(*records):
    orders = Orders(ACCOUNT)
    for record in records:
        orders.apply(record)
    return orders


def test_first_submitting_decides_who_may_send():
    order = folded(submitting("a"), submitting("b"))["o"]
    assert order.owner == "a"
    assert order.submitting.writer == "a"


def test_submitting_after_another_record_gives_nobody_the_right():
    order = folded(update("EXPIRED_UNSENT", "b"), submitting("a"))["o"]
    assert order.owner == ""
    assert order.submitting is None
    assert order.terminal


@pytest.mark.parametrize(("status", "reason"), [("EXPIRED_UNSENT", "late"), ("REJECTED", "gateway: no quote")])
def test_word_about_bytes_that_never_left_counts_from_the_owner_only(status, reason):
    assert not folded(submitting("a"), update(status, "b", reason=reason))["o"].terminal
    assert folded(submitting("a"), update(status, "a", reason=reason))["o"].terminal
    assert folded(update(status, "b", reason=reason))["o"].terminal


def test_word_of_the_venue_counts_whoever_heard_it():
    order = folded(submitting("a"), update("REJECTED", "b", reason="venue: invalid_price"))["o"]
    assert order.terminal


def test_order_is_complete_when_its_fills_reach_the_venues_figure():
    orders = folded(submitting("a"), fill(1, 4), update("FILLED", "a", filled=10))
    assert orders["o"].terminal
    assert not orders["o"].complete
    orders.apply(fill(2, 6))
    assert orders["o"].complete
    assert orders.out() == []


def test_fill_that_comes_twice_counts_once():
    assert folded(submitting("a"), fill(1, 4), fill(1, 4))["o"].filled_known == 4


def test_late_surprise_is_counted_though_the_order_was_terminal():
    order = folded(submitting("a"), update("CANCELLED", "a"), update("FILLED", "a", filled=3), fill(1, 3))["o"]
    assert order.status == "CANCELLED"
    assert (order.filled, order.filled_known) == (3, 3)


def test_records_of_another_account_are_none_of_ours():
    orders = Orders("kalshi:second")
    assert orders.apply(submitting("a")) is None
    assert list(orders) == []


def test_order_is_found_by_the_venues_id_and_by_ours():
    orders = folded(submitting("a"))
    assert orders.find(venue_order="v").id == "o"
    assert orders.find(venue_order="w", client_id="o").id == "o"
    assert orders.find(venue_order="x") is None


def test_order_that_is_held_counts_as_out_until_the_log_speaks_of_it():
    orders = Orders(ACCOUNT)
    tracked = orders.grant(GRANT)
    orders.hold(tracked, DAY_NS + 5)
    assert (orders.out_count(), orders.day_notional_e6(DAY_NS + 9)) == (1, 4_500_000)
    assert orders.day_notional_e6(2 * DAY_NS) == 0
    assert orders.out() == []
    orders.apply(msgspec.structs.replace(submitting("w"), ts_ns=DAY_NS + 6))
    # Once, though now the log counts it.
    assert (orders.out_count(), orders.day_notional_e6(DAY_NS + 9)) == (1, 4_500_000)
    orders.release(tracked)
    assert orders.out_count() == 1


def test_order_that_is_not_submitted_after_all_counts_no_more():
    orders = Orders(ACCOUNT)
    tracked = orders.grant(GRANT)
    orders.hold(tracked, DAY_NS)
    orders.release(tracked)
    assert (orders.out_count(), orders.day_notional_e6(DAY_NS)) == (0, 0)
    orders.hold(tracked, DAY_NS)
    orders.apply(update("EXPIRED_UNSENT", "another"))
    assert (orders.out_count(), orders.day_notional_e6(DAY_NS)) == (0, 0)
