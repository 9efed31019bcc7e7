"""What settled markets pay, in PostgreSQL: provisional entries move nothing, final ones once, corrections in any order."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.units import MICRO
from core.runtime.clock import ManualClock
from observe.accounts import account_lines
from observe.lots import lots
from observe.marks import Mark, Marks
from observe.months import SHEETS, _trades, month_of
from observe.performance import Performance, fold, provisional, trades
from observe.postgres import moment
from schemas import decision
from tests.observe.conftest import fresh_database
from tests.observe.desk_records import INCARNATION, T0, S, Writer, contents, fill, grant, intent, report

pytestmark = pytest.mark.broker
DAY = 86_400 * S


def entry(name, phase, *, size=0, cash=0, payout=-1, held=0, expected=0, reverses="", statement="", yes_cash=0, at=T0):
    return decision.Entry(
        id=name, account="kalshi:a", kind="SETTLEMENT", instrument="kalshi:M", outcome="YES", size=size, cash_e6=cash,
        phase=phase, payout=statement, payout_e6=payout, held=held, expected_e6=expected, reverses=reverses,
        yes_cash_e6=yes_cash, now_ns=at, log_partition=0, log_offset=1,
    )  # fmt: skip


def bought(two=2 * MICRO):
    return [intent(1), grant(1, 1), fill(1, size=two)]


EXPECTED = entry("p1", "PROVISIONAL", payout=MICRO, held=2 * MICRO, expected=2 * MICRO, at=T0 + S)
EXPECTED_NO_MORE = entry(
    "p2", "PROVISIONAL", payout=MICRO, held=-2 * MICRO, expected=-2 * MICRO, reverses="p1", at=T0 + 2 * S
)
PAID = entry(
    "f1", "FINAL", size=-2 * MICRO, cash=2 * MICRO, payout=MICRO, statement="s1", yes_cash=2 * MICRO, at=T0 + 2 * S
)
TAKEN_BACK = entry(
    "f2", "FINAL", size=2 * MICRO, cash=-2 * MICRO, payout=MICRO, statement="s1", yes_cash=-2 * MICRO, reverses="f1",
    at=T0 + DAY,
)  # fmt: skip
CORRECTED = entry(
    "f3", "FINAL", size=-2 * MICRO, cash=500_000, payout=250_000, statement="s2", yes_cash=500_000, at=T0 + DAY
)


@pytest.fixture
def writer(database):
    return Writer(database)


def test_what_is_provisional_moves_nothing_and_what_is_final_closes_the_position(writer):
    writer.write(*bought(), EXPECTED)
    assert writer.position() == (2 * MICRO, 800_000, 0, 5_000, 0, 1)
    assert provisional(writer.database, INCARNATION) == {("kalshi:a", "kalshi:M"): MICRO}
    writer.write(EXPECTED_NO_MORE, PAID)
    assert writer.position() == (0, 0, 1_200_000, 5_000, 0, 1)
    assert provisional(writer.database, INCARNATION) == {}


def test_a_correction_makes_the_position_anew_from_what_stands(writer):
    writer.write(report(10 * MICRO), *bought(), PAID)
    writer.write(TAKEN_BACK, CORRECTED)
    assert writer.position() == (0, 0, -300_000, 5_000, 0, 1)
    writer.write(report(10 * MICRO - 800_000 - 5_000 + 500_000, at=T0 + 2 * DAY))
    (line,) = account_lines(writer.database, INCARNATION)
    assert (line.differences, line.our_cash_e6) == ([], 10 * MICRO - 305_000)


def test_a_short_that_is_paid_and_a_fill_that_comes_late_end_at_the_venues_cash(writer):
    writer.write(report(10 * MICRO), intent(1), grant(1, 1), fill(1, size=2 * MICRO, token_side="SELL"))
    # Three were sold by then and are all paid at no; accounts hear of the third later.
    writer.write(
        entry("f1", "FINAL", size=3 * MICRO, cash=2 * MICRO, payout=0, statement="s1", yes_cash=0, at=T0 + 2 * S)
    )
    writer.write(fill(2, order_number=1, size=MICRO, price=300_000, token_side="SELL", at=T0 + S))
    assert writer.position()[:3] == (0, 0, 1_100_000)
    writer.write(report(10 * MICRO + 1_100_000 - 10_000, at=T0 + 3 * S))
    (line,) = account_lines(writer.database, INCARNATION)
    assert line.differences == []


def test_what_was_never_booked_moves_the_account_when_it_is_taken_back_and_closes_nothing(writer):
    # Paid at a dollar, says the statement that a report's figures held; then at forty cents.
    back = {"payout": MICRO, "statement": "s1", "reverses": "s1", "at": T0 + 2 * S}
    taken_back = entry("f2", "FINAL", size=2 * MICRO, cash=-2 * MICRO, yes_cash=-2 * MICRO, **back)
    again = entry(
        "f3", "FINAL", size=-2 * MICRO, cash=800_000, payout=400_000, statement="s2", yes_cash=800_000, at=T0 + 2 * S
    )
    writer.write(report(10 * MICRO), taken_back, again)
    assert writer.position()[:3] == (0, 0, -1_200_000)
    writer.write(report(10 * MICRO - 1_200_000, at=T0 + 3 * S))
    (line,) = account_lines(writer.database, INCARNATION)
    assert line.differences == []
    rows = writer.database.rows(
        "SELECT id, stands FROM payout WHERE incarnation = %(i)s ORDER BY id", {"i": INCARNATION}
    )
    assert rows == [("f2", False), ("f3", True)]
    assert len(trades(writer.database, INCARNATION, moment(T0 + DAY))) == 1


def test_strategies_share_a_payout_to_the_unit_as_accounts_do(writer):
    third = entry(
        "f1", "FINAL", size=-3 * MICRO, cash=MICRO, payout=330_000, statement="s1", yes_cash=MICRO, at=T0 + 2 * S
    )
    held = [
        record
        for number in (1, 2, 3)
        for record in (intent(number, strategy=f"s{number}"), grant(number, number), fill(number, size=MICRO, fee=0))
    ]
    writer.write(report(10 * MICRO), *held, third)
    book = fold(trades(writer.database, INCARNATION, moment(T0 + DAY)))
    made = {strategy: position.realised_e6 for (_, strategy, _), position in book.positions.items()}
    assert made == {"s1": -400_000 + 333_334, "s2": -400_000 + 333_333, "s3": -400_000 + 333_333}
    assert sum(made.values()) == writer.position()[2]
    assert sum(lot.realised_e6 for lot in lots(_trades(writer.database, INCARNATION, moment(T0 + DAY)))) == -200_000
    writer.write(report(10 * MICRO - 200_000, at=T0 + 3 * S))
    (line,) = account_lines(writer.database, INCARNATION)
    assert line.differences == []


def test_profit_by_strategy_follows_the_provisional_payout_the_final_one_and_its_correction(writer):
    job = Performance(
        writer.database, Marks(lambda _: {"dataset": []}, "demo", 0), ManualClock(T0 + 2 * DAY), INCARNATION
    )

    def made():
        job.run()
        return writer.database.rows(
            "SELECT strategy, sum(realised_e6)::bigint, sum(unrealised_e6)::bigint, sum(unmarked)::bigint "
            "FROM performance GROUP BY strategy"
        )

    writer.write(*bought())
    assert made() == [("arb", 0, 0, 1)]
    writer.write(EXPECTED)
    assert made() == [("arb", 0, 1_200_000, 0)]
    writer.write(EXPECTED_NO_MORE, PAID)
    assert made() == [("arb", 1_200_000, 0, 0)]
    writer.write(TAKEN_BACK, CORRECTED)
    assert made()[0][:2] == ("arb", -300_000)


def test_a_day_on_which_only_what_was_taken_back_was_made_is_a_day_of_nothing(writer):
    job = Performance(
        writer.database, Marks(lambda _: {"dataset": []}, "demo", 0), ManualClock(T0 + 9 * DAY), INCARNATION
    )
    by_day = "SELECT realised_e6 FROM performance WHERE realised_e6 <> 0 OR fills <> 0 ORDER BY day"
    later = [decision.Entry(**{name: getattr(PAID, name) for name in PAID.__struct_fields__} | {"now_ns": T0 + DAY})]
    writer.write(*bought(), *later)
    job.run()
    assert writer.database.rows(by_day) == [(0,), (1_200_000,)]
    days = [TAKEN_BACK, CORRECTED]
    later = [
        decision.Entry(**{name: getattr(one, name) for name in one.__struct_fields__} | {"now_ns": T0 + 3 * DAY})
        for one in days
    ]
    writer.write(*later)
    job.run()
    assert writer.database.rows(by_day) == [(0,), (-300_000,)]


def test_the_months_books_show_each_phase_and_close_lots_at_what_stands(writer):
    writer.write(*bought(), EXPECTED, EXPECTED_NO_MORE, PAID, TAKEN_BACK, CORRECTED)
    begin, end = month_of("2026-11")
    (sheet,) = [one for one in SHEETS if one.name == "payouts"]
    rows = writer.database.rows(sheet.query, {"incarnation": INCARNATION, "begin": begin, "end": end})
    names = [name for name, _ in sheet.columns]
    found = [
        {name: row[names.index(name)] for name in ("entry", "phase", "paid", "expected", "stands")} for row in rows
    ]
    assert [tuple(row.values()) for row in found] == [
        ("p1", "PROVISIONAL", 0, 2 * MICRO, False),
        ("f1", "FINAL", 2 * MICRO, 0, False),
        ("p2", "PROVISIONAL", 0, -2 * MICRO, False),
        ("f2", "FINAL", -2 * MICRO, 0, False),
        ("f3", "FINAL", 500_000, 0, True),
    ]
    (lot,) = lots(_trades(writer.database, INCARNATION, end))
    assert (lot.close_fill, lot.realised_e6) == ("f3", -300_000)


def test_the_books_of_a_strategy_are_those_of_what_stands(writer):
    writer.write(*bought(), PAID, TAKEN_BACK, CORRECTED)
    book = fold(trades(writer.database, INCARNATION, moment(T0 + 2 * DAY)))
    assert {key[1:]: position.realised_e6 for key, position in book.positions.items()} == {
        ("arb", "kalshi:M"): -300_000
    }
    assert book.unrealised({"kalshi:M": Mark("LIVE", 1, 2)}) == {}


TABLES = ("position", "entry", "fill")
STORY = [fill(1, size=2 * MICRO), EXPECTED, EXPECTED_NO_MORE, PAID, TAKEN_BACK, CORRECTED]


@pytest.fixture(scope="module")
def kept(postgres_stack):
    """One database for many examples, each an incarnation of its own."""
    with fresh_database(postgres_stack) as made:
        Writer(made, 1).write(*STORY)
        yield made, contents(made, 1, TABLES), itertools.count(2)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.booleans())
def test_entries_and_what_takes_them_back_in_any_order_cut_anywhere_give_the_same_tables(kept, seed, cut, repeats):
    database, wanted, numbers = kept
    writer, dice = Writer(database, next(numbers)), random.Random(seed)
    pairs = [writer.placed(record) for record in STORY]
    dice.shuffle(pairs)
    for first in range(0, len(pairs), cut):
        writer.write_placed(pairs[first : first + cut])
        if repeats:
            writer.write_placed(pairs[first : first + cut])
    assert contents(database, writer.incarnation, TABLES) == wanted


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("is_turned", [True, False])
def test_what_takes_back_a_statement_that_was_never_booked_may_be_read_before_or_after_the_correction(
    writer, at_once, is_turned
):
    back = {"payout": MICRO, "statement": "s0", "reverses": "s0", "at": T0 + S}
    pair = [entry("f0", "FINAL", size=2 * MICRO, cash=-2 * MICRO, yes_cash=-2 * MICRO, **back), CORRECTED]
    pair = pair[::-1] if is_turned else pair
    for some in [pair] if at_once else [[one] for one in pair]:
        writer.write(*some)
    assert writer.position()[:3] == (0, 0, -1_500_000)
