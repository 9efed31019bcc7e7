"""Grant to bytes: from a Grant handed to Kafka to the first byte of its order at the venue, with real gateway processes.

The venue is the simulated one over loopback, in a process of its own that notes when the first byte of each request
comes in; a real one is a network away. Between the two times lie two passages through Kafka (the Grant; the Submitting,
acknowledged and read back), the gateway's checks, the signature and the write.
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path

import uvloop
from cryptography.hazmat.primitives.asymmetric import rsa

from benchmarks.frames import answers
from benchmarks.measure import Effort, Figure
from benchmarks.path import quantile
from benchmarks.rig import PARTITIONS, VENUES, Rig, small_registry
from core.domain.errors import Unavailable
from core.runtime.admin import create_run, delete_run
from core.runtime.clock import SystemClock
from core.runtime.codec import Codec, HttpRegistry
from core.runtime.flow import Output
from core.runtime.producer import Publisher
from core.runtime.settings import WorkerSettings, load
from core.runtime.topics import CONTROL_RUN
from execute.kalshi import KalshiVenue
from execute.signing import Signatures, at_once
from infra.mock_cluster import MockCluster
from schemas.control import Run
from venues.environment import Environment
from venues.kalshi import hosts
from venues.kalshi.auth import Signer

RUN = "bench-gateway"
GAP_S = 0.04
"""Between two orders, so that none waits for another; a third more or less."""
SETTLE_S = 1.0
IDLE_S = 3.0
LEGS = (2, 4)
LAG_EVERY_S = 0.005
LAG_TICK_S = 0.001
RSA_BITS = 2_048
HOPS = ("read, checked, built", "claimed, read back, signed", "on the wire")


@dataclass(frozen=True)
class Passage:
    """One order's way, in ns since the epoch: granted, Submitting made, written, first byte at the venue."""

    times_ns: tuple[int, int, int, int]

    @property
    def total_ms(self) -> float:
        """Grant to first byte."""
        return (self.times_ns[3] - self.times_ns[0]) / 1e6

    def hop_ms(self, number: int) -> float:
        """Return what one hop took."""
        return (self.times_ns[number + 1] - self.times_ns[number]) / 1e6


@dataclass(frozen=True)
class Found:
    """What one rig showed.

    Attributes:
        passages: of single orders, by venue.
        spreads_ms: between the first bytes of a saga's entries granted together, by what they were.
        unsent: orders that never came to the venue.
        opened: connections the venues accepted while all that was measured.
    """

    passages: dict[str, list[Passage]]
    spreads_ms: dict[str, list[float]]
    unsent: int
    opened: int


def run(effort: Effort) -> list[Figure]:
    """Measure on the mock cluster, and on a real broker where one answers; then what a signature does to the loop.

    Raises:
        Unavailable: the gateways did not begin, or sent nothing.
    """
    orders = effort.orders
    with tempfile.TemporaryDirectory() as folder, MockCluster() as cluster, small_registry() as registry:
        cluster.create_run(RUN, PARTITIONS)
        _begin_run(cluster.bootstrap, registry)
        found = uvloop.run(measure(cluster.bootstrap, registry, RUN, Path(folder), orders))
    figures = figures_of(found, "mock cluster")
    settings = load(WorkerSettings)
    if answers(settings.bootstrap):
        name = f"{RUN}-{os.getpid()}"
        create_run(bootstrap=settings.bootstrap, registry_url=settings.registry_url, run=name, partitions=PARTITIONS)
        try:
            with tempfile.TemporaryDirectory() as folder:
                found = uvloop.run(measure(settings.bootstrap, settings.registry_url, name, Path(folder), orders))
        finally:
            delete_run(settings.bootstrap, name)
        figures += figures_of(found, "one real broker")
    return [*figures, *lag_figures(effort)]


async def measure(bootstrap: str, registry_url: str, run: str, folder: Path, orders: int) -> Found:
    """Send `orders` single orders to each venue, then entries of sagas whose legs leave together.

    Accounts grant these so at Kalshi alone (`decide/leg_order.py`); the other venue shows what the way itself costs.
    """
    dice = random.Random(1)
    async with Rig(bootstrap=bootstrap, registry_url=registry_url, run=run, folder=folder) as rig:
        await asyncio.sleep(SETTLE_S)
        # Whoever sends its first order builds and imports what the second finds.
        for venue in VENUES:
            rig.grant(venue)
        await asyncio.sleep(IDLE_S)
        _, before = await rig.arrived_ns()

        async def pause() -> None:
            await asyncio.sleep(GAP_S * dice.uniform(0.67, 1.33))

        single: dict[str, list[str]] = {venue: [] for venue in VENUES}
        for _ in range(orders):
            for venue in VENUES:
                single[venue].append(rig.grant(venue))
                await pause()
        groups: dict[str, list[list[str]]] = {}
        for _ in range(max(orders // 4, 2)):
            for venue in VENUES:
                for legs in LEGS:
                    groups.setdefault(f"{legs} {venue}", []).append(rig.grant_together([venue] * legs))
                    await pause()
            groups.setdefault("one of each venue", []).append(rig.grant_together(VENUES))
            await pause()
        await asyncio.sleep(SETTLE_S)
        arrived, accepted = await rig.arrived_ns()
        return Found(
            {venue: _passages(rig, arrived, names) for venue, names in single.items()},
            {what: _spreads(arrived, found) for what, found in groups.items()},
            len(rig.granted_ns) - len(arrived),
            accepted - before,
        )


def _passages(rig: Rig, arrived: dict[str, int], orders: list[str]) -> list[Passage]:
    return [
        Passage((rig.granted_ns[order], rig.submitted_ns[order], rig.written_ns[order], arrived[order]))
        for order in orders
        if order in arrived and order in rig.submitted_ns and order in rig.written_ns
    ]


def _spreads(arrived: dict[str, int], groups: list[list[str]]) -> list[float]:
    whole = [[arrived[order] for order in group] for group in groups if all(order in arrived for order in group)]
    return [(max(times) - min(times)) / 1e6 for times in whole]


def figures_of(found: Found, where: str) -> list[Figure]:
    """Return the percentiles of one rig.

    Raises:
        Unavailable: no order of a venue came through.
    """
    figures = []
    for venue, passages in found.passages.items():
        if not passages:
            raise Unavailable(f"no order of {venue} came to the venue over {where}")
        totals = [passage.total_ms for passage in passages]
        note = f"{len(passages)} orders, {found.unsent} unsent, {found.opened} connections opened meanwhile"
        figures.append(Figure(f"{where}, {venue}: grant to first byte, p50", quantile(totals, 0.5), "ms", note=note))
        figures.append(Figure(f"{where}, {venue}: grant to first byte, p99", quantile(totals, 0.99), "ms"))
        for number, name in enumerate(HOPS):
            hops = [passage.hop_ms(number) for passage in passages]
            note = f"p99 {quantile(hops, 0.99):.2f} ms"
            figures.append(Figure(f"{where}, {venue}:   of it {name}, p50", quantile(hops, 0.5), "ms", note=note))
    for what, spreads in found.spreads_ms.items():
        if spreads:
            note = f"p99 {quantile(spreads, 0.99):.2f} ms, {len(spreads)} groups"
            name = f"{where}: first bytes apart, {what} orders together, p50".replace("venue orders", "venue")
            figures.append(Figure(name, quantile(spreads, 0.5), "ms", note=note))
    return figures


# --- what a signature does to the loop


def lag_figures(effort: Effort) -> list[Figure]:
    """Return how late the loop is for a timer while requests are signed on it, and beside it."""
    endpoints = hosts.endpoints(Environment.SIMULATED, simulated="127.0.0.1:1")
    key = rsa.generate_private_key(public_exponent=65_537, key_size=RSA_BITS)
    venue = KalshiVenue(signer=Signer("bench", key), endpoints=endpoints)
    on: list[float] = []
    beside: list[float] = []
    for _ in range(effort.repeats):
        on += uvloop.run(_lags(venue, effort.lag_s, beside=False))
        beside += uvloop.run(_lags(venue, effort.lag_s, beside=True))
    note = f"a request every {LAG_EVERY_S * 1000:.0f} ms, a timer every {LAG_TICK_S * 1000:.0f} ms"
    return [
        Figure(
            f"the loop is late by, {name}",
            quantile(beside, part),
            "ms",
            None,
            "signed on the loop",
            quantile(on, part),
            note,
        )
        for name, part in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))
    ]


async def _lags(venue: KalshiVenue, seconds: float, *, beside: bool) -> list[float]:
    loop, clock = asyncio.get_running_loop(), SystemClock()
    signatures = Signatures(venue, clock)
    request = venue.touch()
    lags: list[float] = []
    end_s = loop.time() + seconds

    async def sign() -> None:
        while loop.time() < end_s:
            if beside:
                await signatures.sign(request)
            else:
                await at_once(lambda: venue.headers(request, clock.now_ns()))
            await asyncio.sleep(LAG_EVERY_S)

    signing = asyncio.create_task(sign())
    while loop.time() < end_s:
        due_s = clock.monotonic_s() + LAG_TICK_S
        await asyncio.sleep(LAG_TICK_S)
        lags.append((clock.monotonic_s() - due_s) * 1_000)
    await signing
    signatures.close()
    return lags


def _begin_run(bootstrap: str, registry_url: str) -> None:
    clock = SystemClock()
    publisher = Publisher(
        bootstrap=bootstrap,
        codec=Codec(HttpRegistry(registry_url)),
        clock=clock,
        run=RUN,
        stage="control",
        partitions=PARTITIONS,
    )
    made = Run(run=RUN, incarnation=1, created_ts_ns=clock.now_ns(), partitions=PARTITIONS)
    publisher.publish(Output(CONTROL_RUN, RUN, made))
    if not publisher.wait_acknowledged(10.0):
        raise Unavailable("the mock cluster does not acknowledge the record of the run")
