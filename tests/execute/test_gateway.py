"""The life cycle of an order through stops, kills, twins, stalls and late answers: never a second order at a venue."""

import asyncio
import dataclasses

import pytest
from structlog.testing import capture_logs

from core.domain.errors import InvariantBroken
from core.runtime import topics
from core.runtime.clock import NS_PER_MS, NS_PER_S, SystemClock
from execute.checks import Market
from execute.ports import Lane
from execute.views import SettledView
from schemas.decision import Beat
from schemas.order import OrderUpdate, PrivateFrame, Settled, Submitting
from venues.kalshi.auth import Signer

E6 = 1_000_000
BOTH = pytest.mark.parametrize("venue", ["kalshi", "polymarket"])


class ShiftedClock(SystemClock):
    """The machine's clock, moved by `shift_ns`: a process that was frozen sees such a jump."""

    shift_ns = 0

    def now_ns(self) -> int:
        return super().now_ns() + self.shift_ns


# --- stopped


@BOTH
async def test_gateway_that_was_stopped_for_30_s_sends_nothing_old_but_cancels(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        first = await bench.start()
        resting = bench.grant(time_in_force="GTC", price=4_400)
        await bench.until(lambda: "ACCEPTED" in bench.statuses(resting.id))
        await first.kill()
        before = bench.attempts
        now = bench.clock.now_ns()
        late = bench.grant(now_ns=now - 30 * NS_PER_S, send_by_ns=now - 29 * NS_PER_S)
        bench.cancel(resting.id)
        await bench.start()
        assert (await bench.terminal(late.id)).status == "EXPIRED_UNSENT"
        assert (await bench.terminal(resting.id)).status == "CANCELLED"
        assert bench.attempts == before
        assert bench.submittings(late.id) == []


async def test_gateway_that_was_frozen_for_30_s_sends_nothing_old_but_cancels(new_bench) -> None:
    async with new_bench("kalshi", kalshi_clock_skew_s=3_600) as bench:
        bench.clock = ShiftedClock()
        running = await bench.start()
        resting = bench.grant(time_in_force="GTC", price=4_400)
        await bench.until(lambda: "ACCEPTED" in bench.statuses(resting.id))
        for reader in running.readers:
            reader.frozen.clear()
        late = bench.grant(send_by_ns=bench.clock.now_ns() + 500 * NS_PER_MS)
        bench.cancel(resting.id)
        bench.clock.shift_ns = 30 * NS_PER_S
        for reader in running.readers:
            reader.frozen.set()
        assert (await bench.terminal(late.id)).status == "EXPIRED_UNSENT"
        assert (await bench.terminal(resting.id)).status == "CANCELLED"
        assert bench.attempts == 1


async def test_order_that_waited_for_kafka_beyond_send_by_is_not_sent(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        bench.life_ms = 500
        running = await bench.start()
        bench.stranger("SELL", 4_500, 20)
        running.out.stall()
        grant = bench.grant()
        await asyncio.sleep(0.7)
        running.out.resume()
        ended = await bench.terminal(grant.id)
        assert ended.status == "EXPIRED_UNSENT"
        assert bench.attempts == 0
        # Its own Submitting stands in the log, so the word counts because it comes from the same writer.
        assert bench.submittings(grant.id)[0].writer == ended.writer


async def test_send_by_is_asked_again_when_a_connection_is_there(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        bench.life_ms = 500
        running = await bench.start()
        bench.stranger("SELL", 4_500, 20)
        session = running.gateway._http.session
        connect = session.connector.connect

        async def slow(*arguments: object, **named: object) -> object:
            await asyncio.sleep(0.7)
            return await connect(*arguments, **named)

        session.connector.connect = slow
        grant = bench.grant()
        ended = await bench.terminal(grant.id)
        assert ended.status == "EXPIRED_UNSENT"
        assert bench.attempts == 0


# --- repeated and doubled


@BOTH
async def test_order_record_delivered_twice_makes_one_order(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 50)
        grant = bench.grant()
        bench.log.append(topics.DECISION_ORDER, bench.account, grant)
        await bench.terminal(grant.id)
        bench.log.append(topics.DECISION_ORDER, bench.account, grant)
        await asyncio.sleep(0.2)
        assert bench.attempts == 1
        assert len(bench.submittings(grant.id)) == 1


@BOTH
async def test_two_gateways_at_once_make_one_order_each_time(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        await bench.start()
        await bench.start()
        bench.stranger("SELL", 4_500, 500)
        grants = [bench.grant(size=5 * E6) for _ in range(5)]
        for grant in grants:
            assert (await bench.terminal(grant.id)).status == "FILLED"
        await bench.until(lambda: all(sum(f.size for f in bench.fills(g.id)) == 5 * E6 for g in grants))
        assert bench.attempts == len(bench.venue_orders) == 5
        # Both may have claimed an order; the first in the log sent it.
        for grant in grants:
            assert isinstance(bench.events(grant.id)[0], Submitting)


async def test_refusal_of_a_second_gateway_does_not_end_what_the_first_claimed(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        running = await bench.start()
        grant = bench.grant(time_in_force="GTC", price=4_400)
        await bench.until(lambda: "ACCEPTED" in bench.statuses(grant.id))
        for status, reason in (("EXPIRED_UNSENT", "late"), ("REJECTED", "gateway: no quote was seen")):
            record = OrderUpdate(
                event_id=f"event-of-another-{status}",
                order=grant.id,
                account=bench.account,
                instrument=grant.instrument,
                status=status,
                terminal=True,
                reason=reason,
                writer="another",
                ts_ns=1,
                recv_ts_ns=1,
            )
            bench.log.append(topics.ORDER_EVENT, bench.account, record)
        bench.cancel(grant.id)
        await bench.until(lambda: running.gateway.orders[grant.id].status == "CANCELLED")


# --- unknown


@BOTH
async def test_order_without_an_answer_is_unknown_until_it_is_looked_up(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 20)
        bench.faults.order_swallow_answer_rate = 1.0
        # The private stream would tell at once: what is tested is the look-up.
        await bench.cut_streams()
        grant = bench.grant(purpose="HEDGE")
        ended = await bench.terminal(grant.id)
        assert (ended.status, ended.filled) == ("FILLED", 10 * E6)
        assert len(bench.venue_orders) == 1


@BOTH
async def test_identical_bytes_repeated_before_send_by_are_refused_as_duplicate_and_looked_up(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        bench.timing = type(bench.timing)(report_s=5.0, alive_s=0.1, answer_timeout_s=0.15, open_poll_s=1.0)
        running = await bench.start()
        bench.stranger("SELL", 4_500, 20)
        running.gateway._http._timeout_s = 0.15
        bench.faults.order_answer_delay_ms = 300
        # What would tell of the first attempt before a second is made: the stream, and the look-up.
        await bench.cut_streams()
        look_up = running.gateway._venue.look_up

        async def late_look_up(*arguments):
            await bench.until(lambda: bench.attempts >= 2)
            return await look_up(*arguments)

        running.gateway._venue.look_up = late_look_up
        now = bench.clock.now_ns()
        grant = bench.grant(purpose="HEDGE", send_by_ns=now + 2 * NS_PER_S)
        ended = await bench.terminal(grant.id)
        assert (ended.status, ended.filled) == ("FILLED", 10 * E6)
        await bench.until(lambda: bench.attempts >= 2)
        assert len(bench.venue_orders) == 1
        assert len({s.body for s in bench.submittings(grant.id)}) == 1


async def test_refusal_of_a_repeat_does_not_end_the_first(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        running = await bench.start()
        bench.stranger("SELL", 4_500, 20)
        send = running.gateway._http.call
        sent = 0

        async def lost_then_refused(request, **named):
            nonlocal sent
            if request.method != "POST":
                return await send(request, **named)
            sent += 1
            reply = await send(request, **named)
            # The first answer is lost on the way; then the venue pauses trading, so that a repeat is refused.
            if sent == 1:
                bench.exchange.trading = False
                return reply._replace(status=502, body=b"bad gateway")
            return reply

        running.gateway._http.call = lost_then_refused
        grant = bench.grant()
        ended = await bench.terminal(grant.id)
        assert (ended.status, ended.filled) == ("FILLED", 10 * E6)
        assert "REJECTED" not in bench.statuses(grant.id)


# --- cancels


async def test_cancel_before_the_bytes_makes_it_unsent(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        running = await bench.start()
        bench.stranger("SELL", 4_500, 20)
        running.readers[0].frozen.clear()
        grant = bench.grant()
        await bench.until(lambda: bench.submittings(grant.id))
        bench.cancel(grant.id)
        await bench.until(lambda: running.gateway.orders[grant.id].cancel)
        running.readers[0].frozen.set()
        assert (await bench.terminal(grant.id)).status == "EXPIRED_UNSENT"
        assert bench.attempts == 0


async def test_cancel_of_an_order_nobody_spoke_of_ends_it_for_every_gateway(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 20)
        grant = bench.grant(write=False)
        bench.cancel(grant.id)
        assert (await bench.terminal(grant.id)).status == "EXPIRED_UNSENT"
        bench.log.append(topics.DECISION_ORDER, bench.account, grant)
        await asyncio.sleep(0.2)
        assert bench.attempts == 0


async def test_cancel_is_repeated_until_the_order_is_terminal(new_bench) -> None:
    async with new_bench("polymarket", taker_delay_share=1.0, taker_delay_ms=700) as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 4)
        # While it is delayed the venue refuses to cancel it; then 4 match and 6 rest.
        grant = bench.grant()
        await bench.until(lambda: "ACCEPTED" in bench.statuses(grant.id))
        bench.cancel(grant.id)
        ended = await bench.terminal(grant.id)
        assert (ended.status, ended.filled) == ("CANCELLED", 4 * E6)


# --- fills


@BOTH
async def test_fills_missed_by_the_stream_are_found_over_rest_and_said_once(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        running = await bench.start()
        grant = bench.grant(time_in_force="GTC", price=4_400)
        await bench.until(lambda: "ACCEPTED" in bench.statuses(grant.id))
        await bench.cut_streams()
        bench.stranger("SELL", 4_400, 10)
        ended = await bench.terminal(grant.id)
        assert (ended.status, ended.filled) == ("FILLED", 10 * E6)
        await bench.until(lambda: sum(f.size for f in bench.fills(grant.id)) == 10 * E6)
        # The stream comes back, reconciles, and says nothing twice.
        await bench.until(lambda: not running.gateway.health.not_ready_reason(), timeout_s=10)
        await asyncio.sleep(0.3)
        raw = [r for r in bench.log.read(topics.ORDER_EVENT) if getattr(r, "order", "") == grant.id]
        assert len({r.event_id for r in raw}) == len(raw)
        assert sum(f.size for f in bench.fills(grant.id)) == 10 * E6


# --- stop conditions


async def test_late_beats_stop_new_orders_and_cancel_what_rests_until_they_return(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        bench.timing = type(bench.timing)(report_s=1.0, alive_s=0.05, stop_after_s=0.6, open_poll_s=5.0)
        await bench.start()
        resting = bench.grant(time_in_force="GTC", price=4_400)
        await bench.until(lambda: "ACCEPTED" in bench.statuses(resting.id))
        bench.beats = False
        assert (await bench.terminal(resting.id)).status == "CANCELLED"
        last = await bench.until(lambda: next((a for a in bench.alive()[-1:] if not a.ready), None))
        assert "Beat" in last.reason
        refused = bench.grant(purpose="HEDGE")
        assert "Beat" in (await bench.terminal(refused.id)).reason
        bench.beats = True
        await bench.until(lambda: bench.alive()[-1].ready)
        assert bench.attempts == 1


async def test_start_without_a_beat_is_no_error_but_beats_that_end_are(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        bench.timing = type(bench.timing)(report_s=1.0, alive_s=0.05, stop_after_s=0.4, open_poll_s=5.0)
        # What an earlier life of accounts said is no word of this one.
        old = Beat(account=bench.account, account_set="main", now_ns=bench.clock.now_ns() - 60 * NS_PER_S)
        bench.log.append(topics.DECISION_ORDER, bench.account, old)
        bench.beats = False
        with capture_logs() as lines:
            running = await bench.start(ready=False)
            await bench.until(lambda: running.gateway.health._stopped)
            # Nothing is sent meanwhile, however quiet it is about it.
            assert "Beat" in (await bench.terminal(bench.grant(purpose="HEDGE").id)).reason
            bench.beats = True
            await bench.until(lambda: bench.alive()[-1].ready)
            bench.beats = False
            await bench.until(lambda: running.gateway.health._stopped)
        levels = [line["log_level"] for line in lines if line["event"] == "gateway.stopped"]
        assert levels == ["info", "error"]


async def test_late_acknowledgements_stop_the_gateway(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        bench.timing = type(bench.timing)(report_s=1.0, alive_s=0.05, stop_after_s=0.6, open_poll_s=5.0)
        running = await bench.start()
        resting = bench.grant(time_in_force="GTC", price=4_400)
        await bench.until(lambda: "ACCEPTED" in bench.statuses(resting.id))
        running.out.stall()
        await bench.until(lambda: not bench.exchange.accounts["main"].resting)
        running.out.resume()
        assert (await bench.terminal(resting.id)).status == "CANCELLED"


async def test_refused_key_is_said_once_with_its_remedy_and_not_hammered(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        good = bench.venue(None)
        key = bench.world.credentials.kalshi[0]
        good._signer = Signer.from_pem("00000000-0000-0000-0000-000000000000", key.private_key_pem)
        with capture_logs() as lines:
            running = await bench.start(ready=False, venue=good)
            await bench.until(lambda: "NOT_FOUND" in running.gateway.health.not_ready_reason())
            await asyncio.sleep(1.5)
        alive = bench.alive()[-1]
        assert "authentication_error" in alive.reason
        assert "chrony" in alive.reason
        calls = bench.log.read(topics.ORDER_FRAME)
        assert 1 <= len(calls) <= 9
        assert len([line for line in lines if line.get("fault") == "key"]) == 1


async def test_gateway_asked_to_stop_finishes_what_is_under_way(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        running = await bench.start()
        bench.stranger("SELL", 4_500, 20)
        bench.faults.order_answer_delay_ms = 300
        grant = bench.grant()
        await bench.until(lambda: bench.attempts == 1)
        await running.gateway.stop()
        later = bench.grant()
        await bench.terminal(grant.id)
        await asyncio.sleep(0.1)
        assert bench.events(later.id) == []


# --- twins, halts, surprises


async def test_twin_that_is_not_ready_does_not_refuse_what_the_ready_one_sends(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        ready = await bench.start()
        twin = await bench.start()
        twin.gateway.health.fault("key", "refused")
        bench.stranger("SELL", 4_500, 20)
        # The ready one is slow, the other would have refused at once.
        ready.readers[1].frozen.clear()
        grant = bench.grant()
        await asyncio.sleep(0.15)
        assert bench.events(grant.id) == []
        ready.readers[1].frozen.set()
        assert (await bench.terminal(grant.id)).status == "FILLED"


async def test_gateway_that_is_alone_and_not_ready_refuses_at_once(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        running = await bench.start()
        running.gateway.health.fault("key", "refused")
        grant = bench.grant(send_by_ns=bench.clock.now_ns() + 60 * NS_PER_S)
        ended = await bench.terminal(grant.id)
        assert ended.status == "REJECTED"
        assert ended.reason == "gateway: key: refused"


async def test_another_order_under_our_id_halts_the_gateway_and_cancels_what_rests(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        running = await bench.start()
        resting = bench.grant(time_in_force="GTC", price=4_400)
        await bench.until(lambda: "ACCEPTED" in bench.statuses(resting.id))
        other = bench.grant(time_in_force="GTC", price=4_300)
        await bench.until(lambda: "ACCEPTED" in bench.statuses(other.id))
        # Somebody used the id of an order of ours for another one.
        bench.running.clear()
        clash = bench.grant(client_id=other.client_id, price=4_400, size=7 * E6, time_in_force="GTC")
        with pytest.raises(ExceptionGroup) as caught:
            await asyncio.wait_for(running.task, 10)
        assert caught.group_contains(InvariantBroken, match=f"another order under {clash.client_id}")
        assert not bench.exchange.accounts["main"].resting


async def test_fill_of_an_order_that_is_not_ours_is_counted_and_not_booked(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        running = await bench.start()
        bench.stranger("SELL", 4_500, 20)
        mine = bench.venue(None)
        foreign = bench.grant(write=False, client_id="by-hand")
        request = mine.build(foreign, bench.instrument)
        await running.gateway._http.call(request, lane=Lane.NEW)
        await bench.until(lambda: running.gateway.journal.foreign)
        assert bench.events(foreign.id) == []


async def test_malformed_private_frame_is_kept_and_the_stream_goes_on(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        running = await bench.start()
        parse = running.gateway._venue.parse
        broken = []

        def once_broken(payload):
            if b'"fill"' in payload and not broken:
                broken.append(payload)
                return parse(b'{"type":"fill","sid":1,"msg":{"trade_id":5}}')
            return parse(payload)

        running.gateway._venue.parse = once_broken
        bench.stranger("SELL", 4_500, 20)
        grant = bench.grant()
        await bench.terminal(grant.id)
        # The fill the frame held is found over REST.
        await bench.until(lambda: sum(f.size for f in bench.fills(grant.id)) == 10 * E6)
        assert any(f.payload == broken[0] for f in bench.log.read(topics.ORDER_FRAME) if isinstance(f, PrivateFrame))


async def test_settlement_the_stream_did_not_tell_is_asked_for(new_bench) -> None:
    async with new_bench("polymarket") as bench:
        bench.clock = ShiftedClock()
        running = await bench.start()
        parse = running.gateway._venue.parse
        running.gateway._venue.parse = lambda payload: [v for v in parse(payload) if not isinstance(v, SettledView)]
        bench.stranger("SELL", 4_500, 20)
        grant = bench.grant()
        await bench.until(lambda: bench.fills(grant.id))
        await asyncio.sleep(0.3)
        assert bench.events(grant.id, Settled) == []
        await running.gateway._upkeep.settle_once()
        assert bench.events(grant.id, Settled) == []
        bench.clock.shift_ns = 16 * NS_PER_S
        await running.gateway._upkeep.settle_once()
        await bench.until(lambda: bench.events(grant.id, Settled))
        await bench.until(lambda: not running.gateway.orders.unsettled())


async def test_events_wait_while_the_producer_is_full_and_none_is_lost(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        running = await bench.start()
        bench.stranger("SELL", 4_400, 20)
        resting = bench.grant(time_in_force="GTC", price=4_300)
        await bench.until(lambda: "ACCEPTED" in bench.statuses(resting.id))
        running.out.full = True
        bench.stranger("SELL", 4_300, 10)
        await bench.until(lambda: running.gateway.journal._backlog)
        assert bench.fills(resting.id) == []
        running.out.full = False
        ended = await bench.terminal(resting.id)
        assert (ended.status, ended.filled) == ("FILLED", 10 * E6)
        await bench.until(lambda: sum(f.size for f in bench.fills(resting.id)) == 10 * E6)


async def test_stream_that_breaks_under_its_own_ping_is_opened_again(new_bench) -> None:
    async with new_bench("polymarket") as bench:
        venue = bench.venue(market := Market("polymarket"))
        stream = venue.stream
        venue.stream = lambda now_ns: dataclasses.replace(stream(now_ns), ping_s=0.001)
        running = await bench.start(venue=venue, market=market)
        for _ in range(2):
            await bench.cut_streams()
            await bench.until(running.gateway.health.not_ready_reason)
            await bench.until(lambda: not running.gateway.health.not_ready_reason(), timeout_s=10)
        bench.stranger("SELL", 4_500, 20)
        bench.quote()
        grant = bench.grant()
        assert (await bench.terminal(grant.id)).status == "FILLED"
