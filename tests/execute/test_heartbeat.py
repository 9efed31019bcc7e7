"""Polymarket's dead-man switch: one owner a key, kept alive while the gateway may trade, silent when it may not."""

import dataclasses

import pytest

from execute.heartbeat import Heartbeat
from execute.kill import halt_file, write_halt


@pytest.fixture
def quick(new_bench):
    """Return a maker of benches whose venue cancels 1.5 s after the last heartbeat."""

    def make(venue="polymarket"):
        return new_bench(venue, heartbeat_limit_s=1.5, heartbeat_sweep_s=0.2)

    return make


def beating(bench):
    bench.timing = dataclasses.replace(bench.timing, heartbeat_s=0.3)
    return bench.exchange.accounts["main"]


async def rest(bench):
    grant = bench.grant(time_in_force="GTC", price=4_300)
    await bench.until(lambda: "ACCEPTED" in bench.statuses(grant.id))
    return grant


async def test_what_rests_stays_while_the_gateway_lives_and_goes_when_it_dies(quick) -> None:
    async with quick() as bench:
        account = beating(bench)
        running = await bench.start()
        await bench.until(lambda: account.heartbeat_id)
        await rest(bench)
        first = account.heartbeat_id
        await bench.until(lambda: account.heartbeat_id != first)
        began = bench.clock.monotonic_s()
        await bench.until(lambda: bench.clock.monotonic_s() - began > 3.0)
        assert len(account.open) == 1
        await running.kill()
        await bench.until(lambda: not account.open)


async def test_gateway_that_is_halted_by_hand_falls_silent(quick, tmp_path) -> None:
    async with quick() as bench:
        account = beating(bench)
        bench.halt_file = halt_file(tmp_path, "r", bench.account)
        running = await bench.start()
        await bench.until(lambda: account.heartbeat_id)
        write_halt(bench.halt_file, by="op", why="drill", at="now")
        await bench.until(running.gateway.health.stop_reason)
        # The venue forgets the key's heartbeat once it has cancelled for it.
        await bench.until(lambda: not account.heartbeat_id)


async def test_only_one_of_two_beats_and_the_other_takes_over_in_time(new_bench) -> None:
    async with new_bench("polymarket", heartbeat_limit_s=5.0, heartbeat_sweep_s=0.2) as bench:
        account = beating(bench)
        first, second = await bench.start(), await bench.start()
        owner, other = sorted((first, second), key=lambda one: one.gateway.writer)
        await bench.until(lambda: owner.gateway.heartbeat.last_s)
        await rest(bench)
        await bench.until(lambda: not other.gateway.twins.we_come_first() and owner.gateway.twins.we_come_first())
        quiet_since = other.gateway.heartbeat.last_s
        began = bench.clock.monotonic_s()
        await bench.until(lambda: bench.clock.monotonic_s() - began > 1.0)
        assert other.gateway.heartbeat.last_s == quiet_since
        await owner.kill()
        await bench.until(lambda: other.gateway.heartbeat.last_s > quiet_since)
        began = bench.clock.monotonic_s()
        await bench.until(lambda: bench.clock.monotonic_s() - began > 3.5)
        assert len(account.open) == 1


async def test_successor_is_told_the_right_id_by_the_refusal_of_a_wrong_one(quick) -> None:
    async with quick() as bench:
        account = beating(bench)
        first = await bench.start()
        await bench.until(lambda: account.heartbeat_id)
        await rest(bench)
        await first.kill()
        known = account.heartbeat_id
        second = await bench.start()
        await bench.until(lambda: account.heartbeat_id not in {known, ""} and second.gateway.heartbeat.last_s)
        assert second.gateway.heartbeat._id == account.heartbeat_id


async def test_venue_without_such_a_switch_is_sent_none(quick) -> None:
    async with quick("kalshi") as bench:
        bench.timing = dataclasses.replace(bench.timing, heartbeat_s=0.1)
        running = await bench.start()
        heartbeat: Heartbeat = running.gateway.heartbeat
        await heartbeat.run()  # returns at once
        assert heartbeat.last_s == 0.0
