"""Days of a strategy, marks of what is open, mark-outs: from fills in PostgreSQL and quotes in QuestDB."""

from datetime import UTC, date, datetime

import pytest

from core.domain.errors import Unavailable
from core.domain.units import MICRO
from core.runtime.clock import ManualClock
from observe.jobs import Cleaning, Jobs, run_job
from observe.markouts import HORIZONS_MS, MarkOuts, gain_e6
from observe.marks import NEVER, Mark, Marks
from observe.performance import Performance, Trade, fold, payout_e6
from tests.observe.desk_records import INCARNATION, T0, S, Writer, entry, fill, grant, intent

DAY = 86_400 * S


def trade(day, size, cash, strategy="arb", account="kalshi:a", fee=0, payout=None):
    at = datetime(2026, 11, day, 12, tzinfo=UTC)
    return Trade(at, account, strategy, "kalshi:M", "kalshi:E", size, cash, fee, payout)


def test_profit_belongs_to_the_day_on_which_it_was_realised():
    book = fold([trade(1, 2 * MICRO, -800_000, fee=7), trade(2, -MICRO, 600_000, fee=5), trade(3, -MICRO, 300_000)])
    days = {key[0].day: (d.fills, d.fees_e6, d.realised_e6, d.open_cost_e6) for key, d in book.days.items()}
    assert days == {1: (1, 7, 0, 800_000), 2: (1, 5, 200_000, 400_000), 3: (1, 0, -100_000, 0)}


def test_each_strategy_has_its_own_cost_on_the_same_instrument():
    book = fold([trade(1, MICRO, -400_000, "a"), trade(1, -MICRO, 500_000, "b"), trade(2, -MICRO, 600_000, "a")])
    made = {(day.day, strategy): found.realised_e6 for (day, _, strategy), found in book.days.items()}
    assert made == {(1, "a"): 0, (1, "b"): 0, (2, "a"): 200_000}
    assert book.unrealised({"kalshi:M": Mark("LIVE", 550_000, 560_000)}) == {("kalshi:a", "b"): (-60_000, 0)}


def test_a_payout_goes_to_whoever_held_what_was_paid():
    held = [trade(1, 2 * MICRO, -800_000, "a"), trade(1, -MICRO, 500_000, "b"), trade(1, MICRO, -1, account="kalshi:z")]
    book = fold([*held, trade(2, 0, 0, "", payout=MICRO)])
    made = {(account, strategy): d.realised_e6 for (day, account, strategy), d in book.days.items() if day.day == 2}
    assert made == {("kalshi:a", "a"): 1_200_000, ("kalshi:a", "b"): -500_000}


def test_what_one_yes_was_paid_is_read_from_what_the_account_was_paid():
    assert payout_e6("kalshi:a", "YES", -2 * MICRO, 2 * MICRO) == MICRO
    assert payout_e6("kalshi:a", "YES", 2 * MICRO, 2 * MICRO) == 0
    assert payout_e6("polymarket:a", "NO", -2 * MICRO, 2 * MICRO) == 0
    assert payout_e6("polymarket:a", "NO", -2 * MICRO, MICRO) == 500_000
    assert payout_e6("kalshi:a", "YES", 0, 5) is None


def test_a_book_that_is_not_live_or_has_one_side_has_no_price():
    assert Mark("STALE").mid_e6 is None
    assert Mark("LIVE", 400_000, None).mid_e6 is None
    assert Mark("LIVE", 400_000, None).closing_e6(1) == 400_000
    assert Mark("LIVE", 400_000, None).closing_e6(-1) is None
    assert gain_e6(Mark("LIVE", 500_000, 510_000), -2 * MICRO, 1_200_000) == 190_000
    assert gain_e6(NEVER, MICRO, -1) is None


class Quotes:
    """A QuestDB that knows one instrument's bids by time."""

    def __init__(self, bids):
        self.bids, self.is_down = bids, False

    def __call__(self, statement):
        if self.is_down:
            raise Unavailable("QuestDB is away")
        if "cast(ts AS LONG)" in statement:
            return {"dataset": [[max(self.bids)]] if self.bids else []}
        limit = int(statement.partition("ts <= ")[2].split()[0]) if "ts <= " in statement else max(self.bids, default=0)
        times = [ts for ts in self.bids if ts <= limit]
        if not times:
            return {"dataset": []}
        bid = self.bids[max(times)]
        row = ["LIVE", bid, 1.0, bid + 0.02, 1.0] if bid else ["SUSPECT", 0.4, 1.0, 0.5, 1.0]
        return {"dataset": [["kalshi:M", *row] if "LATEST" in statement else row]}


@pytest.fixture
def writer(database):
    made = Writer(database)
    made.write(intent(), grant(), fill(at=T0))
    return made


def marked(writer):
    return writer.database.rows("SELECT horizon_ms, state, bid_e6, gain_e6 FROM mark_out ORDER BY horizon_ms")


@pytest.mark.broker
def test_a_mark_out_is_noted_once_when_its_time_can_be_seen(writer):
    quotes = Quotes({T0 - S: 0.40, T0 + S // 2: 0.45, T0 + 5 * S: 0.0, T0 + 50 * S: 0.30})
    clock = ManualClock(T0 + 2 * S)
    job = MarkOuts(writer.database, Marks(quotes, "demo", 0), clock, INCARNATION)
    assert job.run()[0] == 0
    clock.advance(ms=9_000)
    assert job.run() == (1, "0 without a price")
    assert job.run()[0] == 0
    clock.advance(ms=60_000)
    assert [job.run()[0], job.run()[0]] == [1, 0]
    assert marked(writer) == [(1_000, "LIVE", 450_000, 60_000), (10_000, "SUSPECT", None, None)]
    # The newest quote is older than the third horizon: it counts once so much time has passed that none comes any more.
    clock.advance(ms=60_000)
    assert job.run()[0] == 1
    clock.advance(ms=700_000)
    assert [job.run()[0], job.run()[0]] == [1, 0]
    assert marked(writer)[2:] == [(60_000, "LIVE", 300_000, -90_000), (600_000, "LIVE", 300_000, -90_000)]
    assert writer.database.rows("SELECT marks FROM fill") == [(len(HORIZONS_MS),)]


@pytest.mark.broker
def test_performance_is_noted_by_day_and_a_past_day_keeps_its_prices(writer):
    quotes = Quotes({T0: 0.50})
    clock = ManualClock(T0 + S)
    job = Performance(writer.database, Marks(quotes, "demo", 0), clock, INCARNATION)
    assert job.run()[0] == 2
    noted = "SELECT day, strategy, fills, fees_e6, realised_e6, open_cost_e6, unrealised_e6, unmarked FROM performance ORDER BY day"
    first = date(2026, 11, 18)
    assert writer.database.rows(noted) == [(first, "arb", 1, 5_000, 0, 400_000, 100_000, 0)]
    clock.advance(ns=DAY)
    quotes.bids[T0 + DAY] = 0.60
    writer.write(fill(2, order_number=1, token_side="SELL", price=600_000, at=T0 + DAY, size=MICRO // 2))
    job.run()
    assert writer.database.rows(noted) == [
        (first, "arb", 1, 5_000, 0, 400_000, 100_000, 0),
        (date(2026, 11, 19), "arb", 1, 5_000, 100_000, 200_000, 100_000, 0),
    ]
    writer.write(entry(1, size=-MICRO // 2, cash=MICRO // 2, at=T0 + DAY + S))
    clock.advance(ns=2 * S)
    job.run()
    assert writer.database.rows(noted)[1][4:] == (400_000, 0, 0, 0)


@pytest.mark.broker
def test_jobs_are_written_down_when_they_did_something_or_failed_anew(writer):
    quotes = Quotes({T0 + 60 * S: 0.5})
    clock = ManualClock(T0 + 100 * S)
    jobs = Jobs(
        writer.database,
        clock,
        "demo",
        [MarkOuts(writer.database, Marks(quotes, "demo", 0), clock, INCARNATION), Cleaning(writer.database)],
    )
    quotes.is_down = True
    for now_s in range(10):
        jobs.turn(float(now_s))
    quotes.is_down = False
    for now_s in range(10, 20):
        jobs.turn(float(now_s))
    assert writer.database.rows("SELECT job, run, outcome, rows FROM job_run ORDER BY id") == [
        ("mark-outs", "demo", "FAILED", 0), ("mark-outs", "demo", "DONE", 1), ("mark-outs", "demo", "DONE", 1),
    ]  # fmt: skip
    with writer.database.transaction() as connection:
        connection.execute("UPDATE job_run SET began_at = now() - interval '91 days' WHERE outcome = 'DONE'")
        connection.execute("UPDATE job_run SET began_at = now() - interval '89 days' WHERE outcome = 'FAILED'")
    assert run_job(writer.database, clock, "demo", Cleaning(writer.database)) == 2
    assert writer.database.rows("SELECT job, outcome FROM job_run ORDER BY id") == [
        ("mark-outs", "FAILED"), ("clean", "DONE"),
    ]  # fmt: skip
