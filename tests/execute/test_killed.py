"""A gateway that is killed at any step between its Grant and its last fill: never a second order, and every fill is told."""

import asyncio

import pytest

from core.runtime import topics
from core.runtime.clock import NS_PER_S
from schemas.order import Settled, Submitting

E6 = 1_000_000
BOTH = pytest.mark.parametrize("venue", ["kalshi", "polymarket"])


async def killed_before_the_answer(bench, **changes):
    """Let a gateway be killed that has sent an order and heard nothing of it; return the grant."""
    first = await bench.start()
    bench.stranger("SELL", 4_500, 20)
    bench.faults.order_swallow_answer_rate = 1.0
    # The stream would tell the outcome before the answer does; without it only hedges are sent.
    await bench.cut_streams()
    grant = bench.grant(purpose="HEDGE", **changes)
    await bench.until(lambda: bench.attempts == 1)
    await first.kill()
    assert bench.statuses(grant.id) == []
    bench.faults.order_swallow_answer_rate = 0.0
    return grant


async def is_filled_once(bench, grant, *, timeout_s=10.0):
    """Check that all that was filled is told, and that one order was sent."""
    ended = await bench.terminal(grant.id, timeout_s=timeout_s)
    assert (ended.status, ended.filled) == ("FILLED", 10 * E6)
    await bench.until(lambda: sum(f.size for f in bench.fills(grant.id)) == 10 * E6)
    assert bench.attempts == len(bench.venue_orders) == 1


@BOTH
async def test_gateway_killed_before_the_answer_leaves_one_order_that_its_successor_finds(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        grant = await killed_before_the_answer(bench)
        await bench.start()
        await is_filled_once(bench, grant)


@BOTH
async def test_gateway_killed_before_the_bytes_leaves_no_order_and_its_successor_says_so(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        first = await bench.start()
        bench.stranger("SELL", 4_500, 20)
        first.gateway._http.call = _never  # type: ignore[method-assign]
        grant = bench.grant()
        await bench.until(lambda: bench.submittings(grant.id))
        await first.kill()
        second = await bench.start()
        second.gateway._venue.acceptance_window_s = 1.0
        ended = await bench.terminal(grant.id, timeout_s=10)
        assert ended.status == "REJECTED"
        assert ended.reason.startswith("not found at the venue")
        assert bench.attempts == 0
        submitting = bench.submittings(grant.id)[0]
        assert ended.ts_ns > submitting.send_by_ns + NS_PER_S


@BOTH
async def test_gateway_killed_before_its_submitting_is_written_leaves_an_order_that_nobody_sends(
    new_bench, venue
) -> None:
    async with new_bench(venue) as bench:
        first = await bench.start()
        bench.stranger("SELL", 4_500, 20)
        first.out.stall()
        grant = bench.grant(send_by_ns=bench.clock.now_ns() + 3 * NS_PER_S)
        await bench.until(lambda: first.gateway.orders[grant.id].taken)
        await asyncio.sleep(0.05)
        await first.kill()
        assert bench.events(grant.id) == []
        # The successor comes to it before it has seen a book. It lived a moment ago, so a twin may send it until send_by.
        await bench.start()
        ended = await bench.terminal(grant.id, timeout_s=10)
        assert (ended.status, ended.reason.startswith("gateway: ")) == ("REJECTED", True)
        assert ended.ts_ns > grant.send_by_ns
        assert (bench.submittings(grant.id), bench.attempts) == ([], 0)
        again = bench.grant()
        assert (await bench.terminal(again.id)).status == "FILLED"


@BOTH
async def test_submitting_of_a_killed_gateway_that_arrives_late_is_not_sent_by_its_successor(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        first = await bench.start()
        bench.stranger("SELL", 4_500, 20)
        first.out.stall()
        grant = bench.grant(send_by_ns=bench.clock.now_ns() + 3 * NS_PER_S)
        await bench.until(lambda: any(isinstance(one[2], Submitting) for one in first.out._stalled or []))
        (late,) = [one[2] for one in first.out._stalled if isinstance(one[2], Submitting)]
        await first.kill()
        # The broker had it all along; the successor reads it as the first word on this order.
        bench.log.append(topics.ORDER_EVENT, bench.account, late)
        second = await bench.start()
        second.gateway._venue.acceptance_window_s = 1.0
        ended = await bench.terminal(grant.id, timeout_s=15)
        assert (ended.status, ended.reason.startswith("not found at the venue")) == ("REJECTED", True)
        assert [record.writer for record in bench.submittings(grant.id)] == [late.writer]
        assert bench.attempts == 0


@BOTH
async def test_order_of_a_killed_gateway_is_found_by_a_successor_that_has_not_read_its_grant_yet(
    new_bench, venue
) -> None:
    async with new_bench(venue) as bench:
        grant = await killed_before_the_answer(bench, send_by_ns=bench.clock.now_ns() + NS_PER_S // 2)
        await bench.until(lambda: bench.clock.now_ns() > grant.send_by_ns + NS_PER_S // 4)
        # What it asks the venue is answered within milliseconds; decision.order is read from its beginning.
        second = await bench.start(hears_decisions=False)
        second.gateway._venue.acceptance_window_s = 0.1
        await is_filled_once(bench, grant, timeout_s=5.0)
        second.readers[1].frozen.set()
        await asyncio.sleep(0.3)
        assert bench.attempts == len(bench.venue_orders) == 1


async def test_order_without_a_name_at_the_venue_is_not_called_unknown_there(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        grant = bench.grant(write=False, send_by_ns=bench.clock.now_ns())
        # As it was written before it said the name.
        bench.log.append(topics.ORDER_EVENT, bench.account, submitting(grant))
        gateway = await bench.start(hears_decisions=False)
        gateway.gateway._venue.acceptance_window_s = 0.1
        await bench.until(lambda: bench.statuses(grant.id) == ["OUTCOME_UNKNOWN"])
        await asyncio.sleep(1.0)
        assert bench.statuses(grant.id) == ["OUTCOME_UNKNOWN"]
        bench.log.append(topics.DECISION_ORDER, bench.account, grant)
        gateway.readers[1].frozen.set()
        assert (await bench.terminal(grant.id)).reason.startswith("not found at the venue")


@BOTH
async def test_gateway_killed_with_the_answer_in_its_hands_leaves_one_order_that_its_successor_tells(
    new_bench, venue
) -> None:
    async with new_bench(venue) as bench:
        first = await bench.start()
        bench.stranger("SELL", 4_500, 20)
        await bench.cut_streams()
        send = first.gateway._http.call
        answered = asyncio.Event()

        async def answer_and_die(request, **named):
            reply = await send(request, **named)
            if request.method == "POST":
                # From here on nothing is written any more.
                first.out.full = True
                answered.set()
            return reply

        first.gateway._http.call = answer_and_die
        grant = bench.grant(purpose="HEDGE")
        await asyncio.wait_for(answered.wait(), 5)
        await bench.until(lambda: first.gateway.orders[grant.id].answered)
        await first.kill()
        assert bench.statuses(grant.id) == []
        await bench.start()
        await is_filled_once(bench, grant)


@BOTH
async def test_gateway_killed_after_the_answer_leaves_its_fills_to_its_successor_and_nothing_is_sent_again(
    new_bench, venue
) -> None:
    async with new_bench(venue) as bench:
        first = await bench.start()
        parse = first.gateway._venue.parse
        # The stream tells nothing, and nothing is asked for: all that is written is the answer.
        first.gateway._venue.parse = lambda payload: parse(payload)[:0]
        first.gateway._follower.start = lambda tracked: None
        bench.stranger("SELL", 4_500, 20)
        grant = bench.grant()
        ended = await bench.terminal(grant.id)
        assert (ended.status, bench.fills(grant.id)) == ("FILLED", [])
        await first.kill()
        await bench.start()
        await bench.until(lambda: sum(f.size for f in bench.fills(grant.id)) == 10 * E6)
        assert bench.attempts == len(bench.venue_orders) == 1
        assert len(bench.submittings(grant.id)) == 1
        # And one more, to which nothing is left to do.
        before = len(bench.events(grant.id))
        await bench.running[-1].kill()
        await bench.start()
        await asyncio.sleep(0.3)
        settled = [record for record in bench.events(grant.id) if isinstance(record, Settled)]
        assert len(bench.events(grant.id)) - len(settled) <= before
        assert bench.attempts == 1


def submitting(grant) -> Submitting:
    return Submitting(
        event_id="s",
        order=grant.id,
        account=grant.account,
        instrument=grant.instrument,
        writer="gone",
        method="POST",
        path="/",
        body=b"{}",
        send_by_ns=grant.send_by_ns,
        ts_ns=grant.send_by_ns,
        recv_ts_ns=grant.recv_ts_ns,
    )


async def _never(*_: object, **__: object) -> object:
    return await asyncio.Event().wait()
