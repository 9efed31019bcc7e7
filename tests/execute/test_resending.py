"""Each venue's rule on sending an order again: the table of docs/orders.md, a test for each row."""

import asyncio
import re
from pathlib import Path

import pytest

from core.runtime import topics
from execute.ports import Lane
from schemas.order import VenueCall
from simulate.faults import parse
from tests.leaping import leaping
from venues.refusal import Outcome

PROJECT = Path(__file__).resolve().parents[2]
E6 = 1_000_000
BOTH = pytest.mark.parametrize("venue", ["kalshi", "polymarket"])


def befall(bench, fault, **parameters):
    bench.world.injector.inject(parse({"venue": bench.name, "fault": fault, **parameters}))


def calls(bench, grant, method="POST"):
    """Return the requests about one order that came to an answer."""
    found = bench.log.read(topics.ORDER_FRAME)
    return [call for call in found if isinstance(call, VenueCall) and (call.order, call.method) == (grant.id, method)]


async def send_again(bench, running, grant):
    """Send the identical bytes once more, past everything that keeps a gateway from it."""
    gateway = running.gateway
    request = gateway._venue.build(grant, bench.instrument)
    assert request.body == bench.submittings(grant.id)[0].body
    reply = await gateway._http.call(request, lane=Lane.HEDGE)
    return gateway._venue.read_answer(grant, request, reply)


# --- an id that was used


@BOTH
@leaping
async def test_id_of_a_resting_order_is_refused(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        running = await bench.start()
        grant = bench.grant(time_in_force="GTC", price=4_400)
        await bench.until(lambda: "ACCEPTED" in bench.statuses(grant.id))
        answer = await send_again(bench, running, grant)
        assert (answer.refusal, answer.views) == (Outcome.DUPLICATE, ())
        assert len(bench.venue_orders) == 1


@BOTH
@leaping
async def test_id_of_a_cancelled_order_is_not_free_again(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        running = await bench.start()
        grant = bench.grant(time_in_force="GTC", price=4_400)
        await bench.until(lambda: "ACCEPTED" in bench.statuses(grant.id))
        bench.cancel(grant.id)
        assert (await bench.terminal(grant.id)).status == "CANCELLED"
        answer = await send_again(bench, running, grant)
        assert answer.refusal is Outcome.DUPLICATE
        assert len(bench.venue_orders) == 1


@BOTH
@leaping
async def test_id_of_a_filled_order_is_not_free_again(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        running = await bench.start()
        bench.stranger("SELL", 4_500, 40)
        grant = bench.grant()
        assert (await bench.terminal(grant.id)).status == "FILLED"
        answer = await send_again(bench, running, grant)
        assert answer.refusal is Outcome.DUPLICATE
        assert len(bench.venue_orders) == 1


# --- no answer, or one that says nothing


@BOTH
@pytest.mark.parametrize("how", ["reset", "504", "500"])
@leaping
async def test_bytes_without_an_answer_go_again_before_send_by_and_the_venue_takes_one(new_bench, venue, how) -> None:
    async with new_bench(venue) as bench:
        bench.life_ms = 2_000
        await bench.start()
        bench.stranger("SELL", 4_500, 40)
        # Neither the stream nor a look-up tells before it goes again.
        befall(bench, "private_silent", seconds=3.0)
        befall(bench, "lagging_reads", seconds=3.0, lag_ms=1_500)
        befall(bench, "accept_then_timeout", how=how)
        grant = bench.grant(purpose="HEDGE")
        ended = await bench.terminal(grant.id, timeout_s=10)
        assert (ended.status, ended.filled) == ("FILLED", 10 * E6)
        assert bench.attempts == 2
        assert len(bench.venue_orders) == 1
        bodies = {call.request for call in calls(bench, grant)}
        assert bodies == {bench.submittings(grant.id)[0].body}


@BOTH
@leaping
async def test_bytes_without_an_answer_do_not_go_again_after_send_by(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        bench.life_ms = 300
        await bench.start()
        bench.stranger("SELL", 4_500, 40)
        befall(bench, "private_silent", seconds=3.0)
        # The answer is waited for longer than the order may be sent.
        befall(bench, "accept_then_timeout", how="swallow")
        grant = bench.grant(purpose="HEDGE")
        ended = await bench.terminal(grant.id, timeout_s=10)
        assert (ended.status, ended.filled, bench.attempts) == ("FILLED", 10 * E6, 1)


@BOTH
@leaping
async def test_server_error_that_did_nothing_is_mended_by_the_same_bytes(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        bench.life_ms = 2_000
        await bench.start()
        bench.stranger("SELL", 4_500, 40)
        befall(bench, "order_5xx", seconds=0.12, statuses=[503])
        grant = bench.grant()
        ended = await bench.terminal(grant.id, timeout_s=10)
        assert (ended.status, ended.filled) == ("FILLED", 10 * E6)
        assert len(bench.venue_orders) == bench.attempts == 1
        assert len(bench.submittings(grant.id)) == 1


# --- an answer that says it was not done


@BOTH
@leaping
async def test_throttled_bytes_go_again_before_send_by(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        bench.life_ms = 4_000
        await bench.start()
        bench.stranger("SELL", 4_500, 40)
        befall(bench, "order_429", seconds=0.1)
        grant = bench.grant()
        ended = await bench.terminal(grant.id, timeout_s=10)
        assert (ended.status, ended.filled) == ("FILLED", 10 * E6)
        statuses = [call.status for call in calls(bench, grant)]
        assert statuses[0] == 429
        assert statuses[-1] in {200, 201}
        assert len(bench.venue_orders) == 1


@pytest.mark.parametrize(
    ("venue", "fault", "status"), [("kalshi", "trading_paused", 409), ("polymarket", "order_425", 425)]
)
@leaping
async def test_what_a_paused_venue_refused_is_not_sent_again(new_bench, venue, fault, status) -> None:
    async with new_bench(venue) as bench:
        bench.life_ms = 2_000
        await bench.start()
        bench.stranger("SELL", 4_500, 40)
        befall(bench, fault, seconds=0.2)
        grant = bench.grant()
        ended = await bench.terminal(grant.id)
        assert ended.status == "REJECTED"
        await asyncio.sleep(0.5)
        assert [call.status for call in calls(bench, grant)] == [status]
        assert bench.venue_orders == []


@BOTH
@leaping
async def test_what_the_venue_refused_for_itself_is_not_sent_again(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        bench.life_ms = 2_000
        await bench.start()
        bench.stranger("SELL", 4_500, 40)
        account = bench.exchange.accounts["main"]
        # Somebody took the money out at the venue; our own figure is not read again before the next report.
        if venue == "kalshi":
            account.cash_e6 = 0
        else:
            account.collateral_e6 = 0
        grant = bench.grant()
        ended = await bench.terminal(grant.id)
        assert ended.status == "REJECTED"
        assert ended.reason.startswith("venue: ")
        await asyncio.sleep(0.3)
        assert len(calls(bench, grant)) == 1


# --- after a restart


@BOTH
@leaping
async def test_successor_never_sends_what_its_predecessor_submitted(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        bench.life_ms = 5_000
        first = await bench.start()
        bench.stranger("SELL", 4_500, 40)
        first.gateway._http.call = _never
        grant = bench.grant(purpose="HEDGE")
        await bench.until(lambda: bench.submittings(grant.id))
        await first.kill()
        second = await bench.start()
        second.gateway._venue.acceptance_window_s = 0.5
        # send_by is far away: it may not be sent all the same.
        ended = await bench.terminal(grant.id, timeout_s=15)
        assert (ended.status, bench.attempts) == ("REJECTED", 0)
        assert [record.writer for record in bench.submittings(grant.id)] == [first.gateway.writer]


async def _never(*_, **__):
    return await asyncio.Event().wait()


# --- cancels


@BOTH
@leaping
async def test_cancel_goes_again_until_the_order_is_at_its_end(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        await bench.start()
        grant = bench.grant(time_in_force="GTC", price=4_400)
        await bench.until(lambda: "ACCEPTED" in bench.statuses(grant.id))
        befall(bench, "order_5xx", seconds=0.6, statuses=[503])
        bench.cancel(grant.id)
        ended = await bench.terminal(grant.id, timeout_s=10)
        assert (ended.status, ended.filled) == ("CANCELLED", 0)
        statuses = [call.status for call in calls(bench, grant, "DELETE")]
        assert statuses[0] == 503
        assert len(statuses) >= 2


# --- the table


def rows():
    text = (PROJECT / "docs" / "orders.md").read_text()
    table = text[text.index("| what became of the first |") :].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_each_row_of_the_table_names_tests_that_exist():
    found = rows()
    assert len(found) >= 10
    for row in found:
        named = re.findall(r"`((?:\w+/)?test_\w+\.py)::(test_\w+)`", row[-1])
        assert named, row
        for path, test in named:
            text = (PROJECT / "tests" / (path if "/" in path else f"execute/{path}")).read_text()
            assert f"def {test}(" in text, f"{path}::{test}"
