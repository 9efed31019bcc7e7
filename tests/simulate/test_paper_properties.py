"""What holds for paper's market whatever the live market does: checked against bookkeeping that shares no code with it."""

from hypothesis import given, settings
from hypothesis import strategies as st

from simulate.matching import Canceled, Filled, Order, Side, TimeInForce
from simulate.paper_market import PaperMarket

SIDES = st.sampled_from(list(Side))
SIZES = st.integers(1, 40)
LADDER = st.lists(st.integers(0, 40), min_size=4, max_size=4)
DEPTHS = st.tuples(st.just("depth"), st.integers(-2, 2), LADDER, LADDER)
TRADES = st.tuples(st.just("trade"), SIDES, st.integers(4_994, 5_006), SIZES)
ORDERS = st.tuples(
    st.just("order"),
    SIDES,
    st.integers(4_994, 5_006),
    SIZES,
    st.sampled_from([TimeInForce.GTC, TimeInForce.IOC]),
    st.booleans(),
)
CANCELS = st.tuples(st.just("cancel"), st.integers(0, 40))
TRUSTS = st.tuples(st.just("trust"), st.booleans())
LATENCIES = st.sampled_from([0, 0, 1_500_000_000, 3_000_000_000])
"""Steps are a second apart."""
STEPS = st.lists(st.one_of(DEPTHS, TRADES, ORDERS, CANCELS, TRUSTS, DEPTHS, TRADES), max_size=50)


def ladders(middle, bids, asks):
    """Return a book around a moving middle; a level of size 0 is not there."""
    low, high = 4_999 + middle, 5_001 + middle
    return (
        [(low - place, size) for place, size in enumerate(bids) if size],
        [(high + place, size) for place, size in enumerate(asks) if size],
    )


class Run:
    """One course of steps on a market, with the fills it made."""

    def __init__(self, **fields):
        self.ns = 0
        self.market = PaperMarket(lambda: self.ns, **fields)
        self.market.trust(trusted=True)
        self.orders = []
        self.fills = []

    def step(self, action):
        """Take one step a second and return its events."""
        self.ns += 1_000_000_000
        match action:
            case ("depth", middle, bids, asks):
                events = self.market.depth(*ladders(middle, bids, asks), self.ns)
            case ("trade", taker, price, size):
                events = self.market.trade(price, size, taker, self.ns)
            case ("order", side, price, size, life, post_only):
                rests = post_only and life is TimeInForce.GTC
                order = Order(
                    f"o{len(self.orders)}", side, price, size, owner="us", time_in_force=life, post_only=rests
                )
                self.orders.append(order)
                events = self.market.submit(order)
            case ("cancel", place):
                events = self.market.cancel(self.orders[place % len(self.orders)]) if self.orders else []
            case ("trust", trusted):
                events = self.market.trust(trusted=trusted)
        self.fills += [
            (event.maker.order_id, event.taker.owner, event.price, event.size)
            for event in events
            if isinstance(event, Filled)
        ]
        return events


def strangers(events, *, makers):
    """Return (side, price at which the stranger stood, size) of what strangers gave us: as makers, or by crossing us."""
    for event in events:
        if isinstance(event, Filled):
            stranger = event.maker if makers else event.taker
            if not stranger.owner:
                yield stranger.side, stranger.price, event.size


@given(steps=STEPS, latency_ns=LATENCIES)
@settings(max_examples=250, deadline=None)
def test_no_more_is_taken_of_a_level_than_it_showed_between_refreshes(steps, latency_ns):
    run = Run(latency_ns=latency_ns)
    room: dict[tuple[Side, int], int] = {}
    live: dict[tuple[Side, int], int] = {}
    pending = None
    trusted = True

    def show(book):
        shown = {(side, price): size for side, levels in zip(Side, book, strict=True) for price, size in levels}
        for place in set(live) | set(shown):
            before, now = live.get(place, 0), shown.get(place, 0)
            # New size may be taken; what leaves is taken from what may still be taken, never given back.
            room[place] = max(0, room.get(place, 0) + now - before) if now else 0
        live.clear()
        live.update(shown)

    for action in steps:
        if action[0] == "depth":
            pending = ladders(*action[1:])
        if action[0] == "trust":
            trusted = action[1]
        if trusted and pending is not None:
            show(pending)
            pending = None
        events = run.step(action)
        # As takers we meet their levels; as makers only those who cross us by their depth give from a level.
        given_by = list(strangers(events, makers=True))
        if action[0] in ("depth", "trust"):
            given_by += strangers(events, makers=False)
        for side, price, size in given_by:
            room[side, price] = room.get((side, price), 0) - size
            assert room[side, price] >= 0, (side, price)
        for side in Side:
            for price, _ in run.market.levels(side):
                offered = sum(order.remaining for order in run.market.orders_at(side, price) if not order.owner)
                assert offered <= room.get((side, price), 0), (side, price)
        if not trusted:
            assert not [event for event in events if isinstance(event, Filled)]


@given(steps=STEPS, latency_ns=LATENCIES)
@settings(max_examples=250, deadline=None)
def test_nothing_heard_before_an_order_arrives_makes_a_maker_of_it(steps, latency_ns):
    """What crosses it meanwhile it takes, at that price; an order that may only rest never does."""
    run = Run(latency_ns=latency_ns)
    heard = 0
    for action in steps:
        events = run.step(action)
        if action[0] == "depth":
            heard = run.ns
        for event in events:
            if not isinstance(event, Filled):
                continue
            if event.maker.owner:
                # A trade counts from its own time, a depth from when it was heard, which may be before trust returned.
                assert event.maker.since_ns < (heard if action[0] == "trust" else run.ns)
            elif event.taker.owner:
                assert not event.taker.post_only


@given(steps=STEPS, ahead=st.integers(1, 60), price=st.integers(4_997, 4_999))
@settings(max_examples=250, deadline=None)
def test_no_maker_is_filled_before_those_ahead_of_it_traded_or_left(steps, ahead, price):
    """One bid rests behind `ahead`; until it is crossed or traded through, it has at most what traded beyond those ahead.

    Those ahead can only become fewer by trades and by a level that shows less than they were; that bound needs no line.
    """
    run = Run()
    run.ns = 1_000
    run.market.depth([(price, ahead)], [(5_010, 1)], run.ns)
    mine = Order("mine", Side.BID, price, 30, owner="us")
    run.market.submit(mine)
    front, traded = ahead, 0
    for action in steps:
        if action[0] in ("order", "cancel", "trust"):
            continue
        before = mine.filled
        run.step(action)
        gained = mine.filled - before
        if action[0] == "depth":
            bids, asks = ladders(*action[1:])
            if asks and asks[0][0] <= price:
                return  # crossed: from here on it is another story
            assert gained == 0
            if not (bids and asks and bids[0][0] >= asks[0][0]):
                front = min(front, dict(bids).get(price, 0) + traded)
            continue
        _, taker, at, size = action
        if taker is Side.ASK and at < price:
            return  # traded through
        if taker is Side.ASK and at == price:
            traded += size
        # All that traded at the price since it came, less those who were ahead; a depth that shows fewer of them
        # frees the rest.
        assert mine.filled <= max(0, traded - front), (traded, front)
        if gained:
            assert taker is Side.ASK
            assert at == price


@given(steps=STEPS, latency_ns=st.integers(0, 3_000_000_000), lot=st.integers(1, 7))
@settings(max_examples=100, deadline=None)
def test_equal_inputs_give_equal_fills_and_every_quantity_is_kept(steps, latency_ns, lot):
    first, second = Run(latency_ns=latency_ns, lot=lot), Run(latency_ns=latency_ns, lot=lot)
    reduced: dict[str, int] = {}
    for action in steps:
        events = first.step(action)
        second.step(action)
        for event in events:
            if isinstance(event, Canceled):
                reduced[event.order.order_id] = reduced.get(event.order.order_id, 0) + event.size
            assert not isinstance(event, Filled) or event.size > 0
        bid, ask = first.market.best_bid(), first.market.best_ask()
        assert bid is None or ask is None or bid < ask
    assert first.fills == second.fills
    for order in first.orders:
        assert order.size == order.filled + order.remaining + reduced.get(order.order_id, 0)
    for side in Side:
        for price, size in first.market.levels(side):
            assert size == sum(order.remaining for order in first.market.orders_at(side, price)) > 0


class Line:
    """The true line of one price at the venue, and what a real order of ours in it would have got.

    Strangers' sizes before and behind our place; the venue's own line does not hold our order, so what a trade takes beyond those
    before us it takes there from those behind.
    """

    def __init__(self, before, mine):
        self.before, self.behind, self.left = before, 0, mine

    @property
    def size(self):
        return self.before + self.behind

    def trade(self, size):
        """Let a trade of at most the level's size happen and return its size."""
        size = min(size, self.size)
        ahead = min(size, self.before)
        self.before -= ahead
        rest = size - ahead
        self.behind -= rest
        self.left -= min(rest, self.left)
        return size


LINE_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["join", "leave_before", "leave_behind", "trade"]),
        st.integers(1, 40),
        st.sampled_from(["book first", "print first", "with a book between"]),
    ),
    max_size=40,
)


def follow(before, mine, steps, side):
    """Play a true line to paper's market, yielding (step, true line, our paper order) after each step."""
    now = [1_000]
    market = PaperMarket(lambda: now[0])
    market.trust(trusted=True)
    line = Line(before, mine)

    def book(size):
        levels = [(5_000, size)] if size else []
        market.depth(*((levels, []) if side is Side.BID else ([], levels)), now[0])

    book(before)
    order = Order("mine", side, 5_000, mine, owner="us")
    market.submit(order)

    for action, size, told in steps:
        now[0] += 300_000_000
        was = line.size
        match action:
            case "join":
                line.behind += size
            case "leave_before":
                line.before -= min(size, line.before)
            case "leave_behind":
                line.behind -= min(size, line.behind)
            case "trade":
                traded = line.trade(size)
                if traded:
                    if told == "book first":
                        book(line.size)
                    market.trade(5_000, traded, side.opposite, now[0])
                    if told == "with a book between":
                        # Another level changed between the print and its book: this one still shows what it did.
                        book(was)
        book(line.size)
        yield action, line, order, market


@given(before=st.integers(1, 60), mine=st.integers(1, 60), steps=LINE_STEPS, side=SIDES)
@settings(max_examples=300, deadline=None)
def test_a_paper_order_never_gets_more_than_a_real_one_in_its_place(before, mine, steps, side):
    for _, line, order, market in follow(before, mine, steps, side):
        assert order.filled <= mine - line.left
        assert market.level_size(side, 5_000) - order.remaining <= line.size


@given(before=st.integers(1, 60), mine=st.integers(1, 60), steps=LINE_STEPS, side=SIDES)
@settings(max_examples=300, deadline=None)
def test_where_nobody_ahead_leaves_a_paper_order_gets_what_a_real_one_gets(before, mine, steps, side):
    """So it is not merely careful: trades, and those who come and go behind it, are followed exactly."""
    steps = [step for step in steps if step[0] in ("join", "trade")]
    for _, line, order, _ in follow(before, mine, steps, side):
        assert order.filled == mine - line.left
