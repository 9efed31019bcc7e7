"""Edges against an oracle that knows no walk: it tries every size, fills it greedily and counts in fractions."""

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from decide.edges import Level, OpenLeg, floor_of, payout_floor, walk
from tests.decide.events import event

ONE = 1_000_000
STEP = 10_000
CENT = Fraction(1, 100)

books = st.lists(
    st.tuples(st.integers(1, 99), st.integers(1, 12)), min_size=1, max_size=5, unique_by=lambda level: level[0]
)


def fill(levels, side, contracts):
    """Return (price in dollars, size) parts of filling `contracts` greedily, None if there is not enough."""
    parts = []
    for price, size in sorted(levels, reverse=side == "SELL"):
        part = min(Fraction(size), contracts)
        if part > 0:
            parts.append((Fraction(price, 100), part))
            contracts -= part
    return parts if contracts == 0 else None


def exact_profit(legs, floor, contracts):
    """Return the guaranteed profit in dollars with unrounded fees, None if it cannot be filled."""
    profit = floor * contracts
    for levels, side, rate in legs:
        parts = fill(levels, side, contracts)
        if parts is None:
            return None
        for price, size in parts:
            profit -= size * (price if side == "BUY" else 1 - price) + rate * size * price * (1 - price)
    return profit


@settings(max_examples=100, deadline=None)
@given(
    books, books, st.sampled_from([("BUY", "SELL"), ("SELL", "BUY"), ("BUY", "BUY"), ("SELL", "SELL")]), st.booleans()
)
def test_walk_finds_the_best_size_up_to_fee_rounding(make, kalshi_book, poly_book, sides, void):
    same = sides[0] != sides[1]
    pays_b = [ONE, 0] if same else [0, ONE]
    table = dict(states=["yes", "no"], payout_a_e6=[ONE, 0], payout_b_e6=pays_b)
    if void:
        table = {k: [*v, x] for (k, v), x in zip(table.items(), ["void", 450_000, 500_000], strict=True)}
    floor_e6 = payout_floor(make.link(**table), *sides)
    a = make.instrument(make.KALSHI)
    b = make.instrument(make.POLY, size_min=STEP, notional_min_e6=0)
    legs = [(kalshi_book, sides[0], Fraction(7, 100)), (poly_book, sides[1], Fraction(4, 100))]
    found = walk(
        OpenLeg(a, sides[0], levels(kalshi_book, sides[0])),
        OpenLeg(b, sides[1], levels(poly_book, sides[1])),
        floor_e6=floor_e6,
        size_max=1_000 * ONE,
    )
    # Every whole size: the levels end at whole contracts, and between them profit is linear.
    total = min(sum(size for _, size in kalshi_book), sum(size for _, size in poly_book))
    floor = Fraction(floor_e6, ONE)
    by_size = {size: exact_profit(legs, floor, Fraction(size)) for size in range(1, total + 1)}
    best = max(by_size.values())
    # A level of Kalshi's may be bounded a cent and ten roundings of 101e-6 above its exact fee, one of Polymarket's
    # ten half units of 1e-5 and the unit it is rounded up to.
    slack = (CENT + Fraction(1_010, ONE)) * len(kalshi_book) + Fraction(60, ONE) * len(poly_book)
    if found is None:
        assert best <= slack + Fraction(4, ONE)
        return
    profit = Fraction(found.profit_e6, ONE)
    exact = exact_profit(legs, floor, Fraction(found.size, ONE))
    assert profit <= exact
    assert exact - profit <= slack + Fraction(4, ONE)
    assert best - profit <= slack + Fraction(4, ONE)


def levels(book, side):
    return [Level(price * 100, size * ONE) for price, size in sorted(book, reverse=side == "SELL")]


@settings(max_examples=100, deadline=None)
@given(books, books, st.integers(1, 40), st.integers(1, 3))
def test_sized_legs_add_up_and_end_at_their_limit(make, kalshi_book, poly_book, size_max, step):
    a = make.instrument(make.KALSHI, size_step=step * STEP)
    b = make.instrument(make.POLY)
    found = walk(
        OpenLeg(a, "SELL", levels(kalshi_book, "SELL")),
        OpenLeg(b, "BUY", levels(poly_book, "BUY")),
        floor_e6=ONE,
        size_max=size_max * ONE,
    )
    if found is None:
        return
    assert 0 < found.size <= size_max * ONE
    assert found.size % (step * STEP) == 0
    assert found.size >= b.size_min
    assert found.profit_e6 > 0
    for leg, book, side in zip(found.legs, (kalshi_book, poly_book), ("SELL", "BUY"), strict=True):
        assert leg.size == found.size
        assert leg.limit == leg.taken[-1].price
        offered = {level.price: level.size for level in levels(book, side)}
        assert all(level.size <= offered[level.price] for level in leg.taken)
        assert leg.fee_max_e6 >= 0
    assert open_limit_cost(found) >= found.cost_e6


def open_limit_cost(found):
    sell, buy = found.legs
    return ((10_000 - sell.limit) * sell.size + buy.limit * buy.size) // 10_000 + 2


def test_minimum_profit_of_a_contract_ends_the_walk(make):
    a, b = make.instrument(make.KALSHI), make.instrument(make.POLY)
    legs = (
        OpenLeg(a, "SELL", [Level(6_000, 10 * ONE), Level(5_000, 10 * ONE)]),
        OpenLeg(b, "BUY", [Level(4_000, 20 * ONE)]),
    )
    assert walk(*legs, floor_e6=ONE, size_max=100 * ONE).size == 20 * ONE
    assert walk(*legs, floor_e6=ONE, size_max=100 * ONE, unit_profit_min_e6=150_000).size == 10 * ONE
    assert walk(*legs, floor_e6=ONE, size_max=7 * ONE).size == 7 * ONE


def test_order_worth_less_than_the_venues_minimum_is_no_edge(make):
    a, b = make.instrument(make.KALSHI), make.instrument(make.POLY)
    cheap = OpenLeg(b, "BUY", [Level(100, 90 * ONE)])
    dear = OpenLeg(a, "SELL", [Level(5_000, 1_000 * ONE)])
    # 90 at .01 are 90 cents, 100 would be the dollar.
    assert walk(dear, cheap, floor_e6=ONE, size_max=1_000 * ONE) is None
    enough = OpenLeg(b, "BUY", [Level(100, 100 * ONE)])
    assert walk(dear, enough, floor_e6=ONE, size_max=1_000 * ONE).size == 100 * ONE


def test_limit_off_the_grid_is_no_edge(make):
    a, b = make.instrument(make.KALSHI, tick_step=[100]), make.instrument(make.POLY)
    off = OpenLeg(a, "SELL", [Level(5_050, 10 * ONE)])
    assert walk(off, OpenLeg(b, "BUY", [Level(4_000, 10 * ONE)]), floor_e6=ONE, size_max=10 * ONE) is None


@settings(max_examples=60, deadline=None)
@given(st.lists(books, min_size=2, max_size=4), st.sampled_from(["BUY", "SELL"]), st.booleans())
def test_walk_over_many_legs_finds_the_best_size_up_to_fee_rounding(make, found_books, side, exhaustive):
    names = tuple(f"kalshi:KX-{number}" for number in range(len(found_books)))
    floor_e6 = floor_of(event(make, names, exhaustive=exhaustive), dict.fromkeys(names, side))
    expected = {"BUY": 1 if exhaustive else 0, "SELL": len(names) - 1}[side]
    assert floor_e6 == expected * ONE
    legs = [(book, side, Fraction(7, 100)) for book in found_books]
    found = walk(
        *(
            OpenLeg(make.instrument(name), side, levels(book, side))
            for name, book in zip(names, found_books, strict=True)
        ),
        floor_e6=floor_e6,
        size_max=1_000 * ONE,
    )
    total = min(sum(size for _, size in book) for book in found_books)
    floor = Fraction(floor_e6, ONE)
    best = max(exact_profit(legs, floor, Fraction(size)) for size in range(1, total + 1))
    slack = (CENT + Fraction(1_010, ONE)) * sum(len(book) for book in found_books) + Fraction(len(names), ONE)
    if found is None:
        assert best <= slack
        return
    profit = Fraction(found.profit_e6, ONE)
    exact = exact_profit(legs, floor, Fraction(found.size, ONE))
    assert profit <= exact
    assert exact - profit <= slack
    assert best - profit <= slack
    assert len(found.legs) == len(names)
    assert {leg.size for leg in found.legs} == {found.size}


payouts = st.lists(st.integers(0, ONE), min_size=3, max_size=3)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(payouts, min_size=1, max_size=5), st.lists(st.sampled_from(["BUY", "SELL", None]), min_size=3, max_size=3)
)
def test_guaranteed_pay_is_the_minimum_over_the_states(make, table, sides):
    names = ("kalshi:KX-1", "kalshi:KX-2", "kalshi:KX-3")
    rows = dict(
        states=[str(number) for number in range(len(table))], payouts_e6=[paid for row in table for paid in row]
    )
    chosen = {name: side for name, side in zip(names, sides, strict=True) if side}
    columns = [(place, chosen[name]) for place, name in enumerate(names) if name in chosen]
    pays = [sum(row[place] if side == "BUY" else ONE - row[place] for place, side in columns) for row in table]
    assert floor_of(event(make, names, **rows), chosen) == min(pays)
    # Nobody holds that these are all: then none of them may win.
    none_wins = sum(side == "SELL" for _, side in columns) * ONE
    assert floor_of(event(make, names, exhaustive=False, **rows), chosen) == min(*pays, none_wins)
    # A weak state counts as little as it pays, or as its haircut says.
    weak = dict(weak_states=["0"], haircut_e6=1_000, cap_e6=ONE)
    strong = min(pays[1:], default=min(pays)) - 1_000
    assert floor_of(event(make, names, **rows, **weak), chosen) == max(min(pays), strong)
    assert floor_of(event(make, names, **rows, weak_states=["0"]), chosen) == min(pays)


def test_table_that_is_not_whole_guarantees_nothing(make):
    names = ("kalshi:KX-1", "kalshi:KX-2")
    assert floor_of(event(make, names, payouts_e6=[ONE]), dict.fromkeys(names, "SELL")) == 0


def test_no_leg_at_all_is_no_edge():
    assert walk(floor_e6=ONE, size_max=ONE) is None
