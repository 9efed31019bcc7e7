"""What markets paid, from the venue's list to the account's ledger: a real gateway, real HTTP, the simulated Kalshi."""

import asyncio
import json
from dataclasses import replace

import aiohttp
import orjson
import pytest

from core.domain.errors import Unavailable
from core.runtime import topics
from core.runtime.clock import NS_PER_S, SystemClock
from core.runtime.flow import Input, TaskContext
from decide.accounts import AccountsTask
from execute import payouts
from execute.kalshi_views import payout_view
from normalize import kalshi, polymarket
from schemas.decision import Entry, Limit, Profile
from schemas.order import Payout, Settled, VenueReport
from schemas.raw import Description
from simulate.kalshi.catalogue import market_row as kalshi_row
from simulate.polymarket.gamma import market_row as gamma_row
from venues.kalshi import account as kalshi_account

E6 = 1_000_000


async def resolve(bench, do, **words):
    url = f"{bench.ready['sim_url']}/sim/resolve"
    named = {"ticker": bench.place.ticker} if bench.name == "kalshi" else {"condition_id": bench.place.condition_id}
    body = {**named, "do": do, **words}
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as reply:
        assert reply.status == 200, await reply.text()


async def hold(bench, side="BUY", size=10):
    """Trade with a stranger at 45 cents."""
    bench.stranger("SELL" if side == "BUY" else "BUY", 4_500, size)
    bench.quote(4_500, 4_500)
    grant = bench.grant(side=side, price=4_500, size=size * E6, time_in_force="IOC")
    await bench.terminal(grant.id)
    await bench.until(lambda: sum(fill.size for fill in bench.fills(grant.id)) == size * E6, "the fill")
    return grant


def stated(bench):
    return [record for record in bench.log.read(topics.ORDER_EVENT) if isinstance(record, Payout)]


class Books:
    """The accounts' task on what gateways wrote."""

    def __init__(self, bench):
        self.bench = bench
        self.task = AccountsTask(TaskContext(incarnation=7))
        self.entries = []
        self._read = 0
        self._offset = 0
        profile = Profile(id=bench.account, venue=bench.name, account_set="main", entity="Test", currency="USD")
        limit = Limit(
            id="main", state="RUNNING", order_notional_max_e6=E6, market_notional_max_e6=E6, open_sagas_max=1,
            unwind_budget_e6=0, set_by="a human", reason="test", heal_max_e6=0,
        )  # fmt: skip
        for record in (bench.instrument, profile, limit):
            self.feed(record)

    def feed(self, record):
        item = Input(record, "log", 0, self._offset, "", self.bench.clock.now_ns())
        self._offset += 1
        said = (one.record for one in self.task.handle(item) if isinstance(one.record, Entry))
        self.entries += [one for one in said if one.kind != "OPENING"]

    def follow(self):
        for record in self.bench.log.read(topics.ORDER_EVENT)[self._read :]:
            self._read += 1
            self.feed(record)
        return self.task._sets["main"].ledgers[self.bench.account]

    def equal(self):
        """Say whether the ledger is the venue's own account, to the unit."""
        ledger, theirs = self.follow(), self.bench.exchange.accounts["main"]
        if self.bench.name == "polymarket":
            names = zip(("YES", "NO"), self.bench.place.tokens, strict=True)
            ours = {token: ledger.holding(self.bench.instrument.instrument, word).size for word, token in names}
            return (ledger.cash_e6, ours) == (theirs.collateral_e6, {t: theirs.tokens.get(t, 0) for t in ours})
        held = theirs.position(self.bench.place.ticker).size_e6
        return (ledger.cash_e6, ledger.holding(self.bench.instrument.instrument, "YES").size) == (theirs.cash_e6, held)


def quick(bench):
    bench.timing = replace(bench.timing, payout_s=0.05, report_s=0.1)


@pytest.mark.parametrize(
    ("side", "result", "value", "cents"),
    [("BUY", "yes", None, 1_000), ("BUY", "no", None, 0), ("SELL", "no", None, 1_000), ("BUY", "scalar", "0.3700", 370), ("BUY", "void", "0.5000", 500)],
)  # fmt: skip
async def test_a_payout_is_read_once_and_booked_as_the_venue_did(new_bench, side, result, value, cents) -> None:
    async with new_bench("kalshi") as bench:
        quick(bench)
        books = Books(bench)
        await bench.start()
        await bench.until(lambda: books.follow().known, "the first report")
        await hold(bench, side)
        await resolve(bench, "determine", result=result, value=value)
        await asyncio.sleep(0.3)
        assert stated(bench) == []
        await resolve(bench, "settle")
        (paid,) = await bench.until(lambda: stated(bench))
        sizes = (10 * E6, 0) if side == "BUY" else (0, 10 * E6)
        assert (paid.instrument, paid.yes_size, paid.no_size) == (bench.instrument.instrument, *sizes)
        assert (paid.revenue_e6, paid.result) == (cents * 10_000, result)
        await bench.until(books.equal, "the ledger is the venue's account")
        assert [(one.phase, one.payout) for one in books.entries] == [("FINAL", paid.event_id)]
        # It is listed for ever, and said once; reports that follow find nothing to heal.
        await asyncio.sleep(0.6)
        assert books.equal()
        assert len(stated(bench)) == len(books.entries) == 1


async def test_a_restarted_gateway_says_no_payout_again_and_a_twin_none_other(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        quick(bench)
        first = await bench.start()
        await hold(bench)
        for step in ("determine", "settle"):
            await resolve(bench, step, result="yes")
        await bench.until(lambda: stated(bench))
        await first.kill()
        await bench.start()
        await asyncio.sleep(0.5)
        assert len({one.event_id for one in stated(bench)}) == len(stated(bench)) == 1


async def test_a_correction_after_the_payout_is_said_and_both_are_booked(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        quick(bench)
        books = Books(bench)
        await bench.start()
        await bench.until(lambda: books.follow().known, "the first report")
        await hold(bench)
        for step in ("determine", "settle"):
            await resolve(bench, step, result="yes")
        await bench.until(lambda: len(stated(bench)) == 1 and books.equal(), "it is paid")
        await resolve(bench, "correct", result="scalar", value="0.2500")
        await bench.until(lambda: len(stated(bench)) == 2 and books.equal(), "it is corrected")
        first, back, again = books.entries
        assert (back.reverses, back.cash_e6, back.size) == (first.id, -first.cash_e6, -first.size)
        assert (again.cash_e6, again.payout_e6) == (2_500_000, 250_000)


async def test_reports_that_show_the_cash_first_wait_for_the_list(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        bench.timing = replace(bench.timing, payout_s=600.0, report_s=0.05)
        books = Books(bench)
        running = await bench.start()
        await bench.until(lambda: books.follow().known, "the first report")
        await hold(bench)
        for step in ("determine", "settle"):
            await resolve(bench, step, result="yes")
        # The catalogue says so, too.
        books.feed(described(bench))
        seen = len(reports(bench))
        await bench.until(lambda: len(reports(bench)) > seen + 8)
        books.follow()
        assert [one for one in books.entries if one.phase != "PROVISIONAL"] == []
        await read_now(running, bench)
        await bench.until(books.equal, "the ledger is the venue's account")
        assert [one.phase for one in books.entries] == ["PROVISIONAL", "FINAL", "PROVISIONAL"]
        assert books.entries[2].reverses == books.entries[0].id


def described(bench):
    """Return the market as the catalogue describes it now."""
    row, describe = (kalshi_row, kalshi.describe) if bench.name == "kalshi" else (gamma_row, polymarket.describe)
    found = Description(
        venue=bench.name, instrument=bench.instrument.instrument, payload=orjson.dumps(row(bench.place)), context=b"",
        recv_ts_ns=bench.clock.now_ns(),
    )  # fmt: skip
    return describe(found)


def reports(bench):
    return [record for record in bench.log.read(topics.ORDER_EVENT) if isinstance(record, VenueReport)]


async def read_now(running, bench):
    gateway = running.gateway
    await payouts.Payouts(
        venue=gateway._venue, caller=gateway._http, journal=gateway.journal, clock=bench.clock, interval_s=1.0
    ).read()


@pytest.mark.parametrize(
    ("side", "value", "paid"), [("BUY", "1", 10), ("BUY", "0", 0), ("BUY", "0.5", 5), ("SELL", "0", 10)]
)
async def test_tokens_of_a_resolved_market_are_expected_to_pay_and_booked_when_they_are_redeemed(
    new_bench, side, value, paid
) -> None:
    async with new_bench("polymarket") as bench:
        bench.timing = replace(bench.timing, report_s=0.1)
        books = Books(bench)
        await bench.start()
        await bench.until(lambda: books.follow().known, "the first report")
        bench.stranger("SELL" if side == "BUY" else "BUY", 4_500, 10)
        bench.quote(4_500, 4_500)
        grant = bench.grant(side=side, outcome="YES" if side == "BUY" else "NO", price=4_500, size=10 * E6)
        await bench.until(lambda: any(one.settlement == "CONFIRMED" for one in bench.events(grant.id, Settled)))
        await bench.until(books.equal, "the ledger is the venue's account")
        before = books.follow().cash_e6
        await resolve(bench, "propose")
        books.feed(described(bench))
        assert books.entries == []
        await resolve(bench, "resolve", value=value)
        books.feed(described(bench))
        (expected,) = books.entries
        assert (expected.phase, expected.expected_e6) == ("PROVISIONAL", paid * E6)
        seen = len(reports(bench))
        await bench.until(lambda: len(reports(bench)) > seen + 4)
        # Nothing is paid before it is redeemed.
        assert (books.follow().cash_e6, len(books.entries)) == (before, 1)
        await resolve(bench, "redeem")
        await bench.until(books.equal, "the ledger is the venue's account", 8.0)
        assert books.follow().cash_e6 == before + paid * E6
        assert [(one.phase, bool(one.reverses)) for one in books.entries[1:]] == [
            ("FINAL", False),
            ("PROVISIONAL", True),
        ]


class Listing:
    """A venue that lists what it is told to, and remembers since when it was asked."""

    states_payouts = True

    def __init__(self):
        self.asked = []
        self.views = ()

    async def payouts(self, caller, since_ns):
        self.asked.append(since_ns)
        return self.views


class Kept:
    account = "kalshi:main"

    def __init__(self):
        self.written = []

    def payouts(self, views, recv_ts_ns):
        self.written += views


class Hand(SystemClock):
    def __init__(self):
        self.at_ns = 1_800_000_000 * NS_PER_S

    def now_ns(self):
        return self.at_ns


def view(at_ns, revenue=100):
    row = {
        "ticker": "KX-1", "event_ticker": "KX", "market_result": "yes", "yes_count_fp": "1.00", "no_count_fp": "0.00",
        "revenue": revenue, "settled_time": "2026-06-11T06:29:30Z", "fee_cost": "0.3400", "value": 100,
    }  # fmt: skip
    (paid,), _ = kalshi_account.decode_settlements(json.dumps({"cursor": "", "settlements": [row]}).encode())
    return replace(payout_view(paid), venue_ts_ns=at_ns)


async def test_the_list_is_asked_from_the_newest_with_an_overlap_and_now_and_then_from_far_back() -> None:
    venue, journal, clock = Listing(), Kept(), Hand()
    reading = payouts.Payouts(venue=venue, caller=None, journal=journal, clock=clock, interval_s=1.0)
    begun_ns = clock.at_ns
    await reading.read()
    newest, older = view(begun_ns - 5), view(begun_ns - 7)
    venue.views = (newest, older)
    await reading.read()
    await reading.read()
    clock.at_ns += payouts.SWEEP_NS
    await reading.read()
    far = begun_ns - payouts.LOOK_BACK_NS
    assert venue.asked == [far, far, newest.venue_ts_ns - payouts.OVERLAP_NS, far + payouts.SWEEP_NS]
    # Oldest first: a correction follows what it corrects.
    assert journal.written[:2] == [older, newest]


async def test_a_venue_that_does_not_answer_is_asked_again_and_nothing_is_lost() -> None:
    venue, journal = Listing(), Kept()
    answers = [Unavailable("502"), None, Unavailable("502"), None]

    async def payouts_of(caller, since_ns):
        venue.asked.append(since_ns)
        if answers and (error := answers.pop(0)) is not None:
            raise error
        return (view(7),)

    venue.payouts = payouts_of
    reading = payouts.Payouts(venue=venue, caller=None, journal=journal, clock=Hand(), interval_s=0.01)
    running = asyncio.create_task(reading.run())
    async with asyncio.timeout(5):
        while len(venue.asked) < 5:  # noqa: ASYNC110 - a count has no event
            await asyncio.sleep(0.01)
    running.cancel()
    assert not answers
    assert {one.venue_ts_ns for one in journal.written} == {7}


async def test_a_venue_that_lists_nothing_is_never_asked() -> None:
    venue = Listing()
    venue.states_payouts = False
    await payouts.Payouts(venue=venue, caller=None, journal=Kept(), clock=Hand(), interval_s=1.0).run()
    assert venue.asked == []


def test_recorded_lists_and_the_documented_row_are_read(captures) -> None:
    for name in ("settlements__page", "settlements__end_of_session"):
        body = (captures / "kalshi" / f"{name}.json").read_bytes()
        assert kalshi_account.decode_settlements(body) == ([], "")
    paid = view(7)
    assert (paid.instrument, paid.revenue_e6, paid.fee_e6, paid.payout_e6) == ("kalshi:KX-1", E6, 340_000, E6)
