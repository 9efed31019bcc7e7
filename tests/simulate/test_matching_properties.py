"""What holds for the matching engine whatever comes."""

from hypothesis import given, settings
from hypothesis import strategies as st

from simulate.matching import Canceled, Filled, Matcher, Order, Rested, Side, TimeInForce

ORDERS = st.tuples(
    st.sampled_from(list(Side)),
    st.integers(4_990, 5_010),
    st.integers(1, 30),
    st.sampled_from([TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK]),
    st.booleans(),
    st.sampled_from(["", "a", "b"]),
)
ACTIONS = st.lists(st.one_of(ORDERS, st.integers(0, 50)), max_size=60)


@given(actions=ACTIONS)
@settings(max_examples=150, deadline=None)
def test_no_crossed_book_quantity_is_kept_and_priority_holds(actions):
    book = Matcher()
    orders: list[Order] = []
    arrival: dict[str, int] = {}
    reduced: dict[str, int] = {}
    for action in actions:
        if isinstance(action, int):
            if orders:
                chosen = orders[action % len(orders)]
                for event in book.cancel(chosen):
                    reduced[chosen.order_id] = reduced.get(chosen.order_id, 0) + event.size
            continue
        side, price, size, time_in_force, post_only, owner = action
        order = Order(
            str(len(orders)), side, price, size, owner=owner, time_in_force=time_in_force, post_only=post_only
        )
        resting = [(level, book.orders_at(side.opposite, level)) for level, _ in book.levels(side.opposite)]
        orders.append(order)
        arrival[order.order_id] = len(orders)
        events = book.submit(order)
        fills = [event for event in events if isinstance(event, Filled)]
        # Best price first, then first come: the makers hit are a prefix of the line, none of them our own.
        line = [maker for _, makers in resting for maker in makers]
        assert [fill.maker for fill in fills] == line[: len(fills)]
        assert all(fill.price == fill.maker.price for fill in fills)
        assert all(not owner or fill.maker.owner != owner for fill in fills)
        assert all(fill.price <= price if side is Side.BID else fill.price >= price for fill in fills)
        for event in events:
            if isinstance(event, Canceled):
                reduced[order.order_id] = reduced.get(order.order_id, 0) + event.size
            elif isinstance(event, Rested):
                assert time_in_force is TimeInForce.GTC
        bid, ask = book.best_bid(), book.best_ask()
        assert bid is None or ask is None or bid < ask
    # Every quantity that came is filled, resting or cancelled, and levels are the sums of their orders.
    for order in orders:
        assert order.size == order.filled + order.remaining + reduced.get(order.order_id, 0)
    assert sum(o.filled for o in orders if o.side is Side.BID) == sum(o.filled for o in orders if o.side is Side.ASK)
    for side in Side:
        for price, size in book.levels(side):
            inside = book.orders_at(side, price)
            assert size == sum(order.remaining for order in inside) > 0
            assert [arrival[o.order_id] for o in inside] == sorted(arrival[o.order_id] for o in inside)
