"""Real gateway processes between a Kafka and a doorstep, fed as decide and derive would feed them.

A run of its own on any broker; on librdkafka's mock cluster, which has no registry, a small one stands beside it, so that
the gateway's code and settings are those of a live one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks import samples
from core.domain.errors import Unavailable
from core.runtime import topics
from core.runtime.clock import NS_PER_MS, SystemClock
from core.runtime.codec import Codec, FileRegistry, HttpRegistry
from core.runtime.edge import EdgeProducer, EdgeReader
from schemas.decision import Beat, Grant
from schemas.derived import Quote, Tick
from schemas.market import Instrument
from schemas.order import Alive, Submitting, VenueCall

VENUES = ("kalshi", "polymarket")
PARTITIONS = 4
ASK_E4 = 4_500
E6 = 1_000_000
LIFE_MS = 500
READY_S = 40.0
_PULSE_S = 0.1
PROJECT = Path(__file__).resolve().parents[1]


@contextlib.contextmanager
def small_registry() -> Iterator[str]:
    """Serve the schemas of this checkout; yields the address."""
    known = FileRegistry()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["schema"]
            self._answer({"id": known.id_of(self.path.rpartition("/")[2], text)})

        def do_GET(self) -> None:
            self._answer({"schema": known.text_of(int(self.path.rpartition("/")[2]))})

        def _answer(self, found: dict[str, object]) -> None:
            body = json.dumps(found).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Rig:
    """Venues, gateways and the ends of their logs: `async with Rig(…) as rig`; the run and its topics must be there."""

    def __init__(self, *, bootstrap: str, registry_url: str, run: str, folder: Path) -> None:
        self.clock = SystemClock()
        self.granted_ns: dict[str, int] = {}
        """When each Grant was handed to the producer, by order."""
        self.names: dict[str, str] = {}
        """What the venue reads of each order (client id, salt), to the order."""
        self.submitted_ns: dict[str, int] = {}
        self.written_ns: dict[str, int] = {}
        self._bootstrap, self._registry_url, self._run, self._folder = bootstrap, registry_url, run, folder
        self._codec = Codec(HttpRegistry(registry_url))
        self._processes: list[subprocess.Popen[str]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._ready: set[str] = set()
        self._instruments: dict[str, Instrument] = {}

    async def __aenter__(self) -> Self:
        """Start everything and wait until both gateways can trade."""
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    def account(self, venue: str) -> str:
        """Return the traded account of a venue."""
        return f"{venue}:main"

    def grant_together(self, venues: Sequence[str]) -> list[str]:
        """Let accounts grant the entries of a saga whose legs leave together, one behind the other; returns their ids."""
        intent = f"bench-saga-{len(self.granted_ns):06d}"
        return [self.grant(venue, intent=intent, leg=leg) for leg, venue in enumerate(venues)]

    def grant(self, venue: str, *, intent: str = "bench", leg: int = 0) -> str:
        """Let accounts grant a small order that will be filled; returns its id."""
        instrument = self._instruments[venue]
        number = len(self.granted_ns)
        order, client, salt = f"bench-order-{number:06d}", f"bench-client-{number:06d}", 10**9 + number
        now = self.clock.now_ns()
        grant = Grant(
            id=order,
            intent=intent,
            account=self.account(venue),
            account_set="main",
            instrument=instrument.instrument,
            leg=leg,
            attempt=1,
            purpose="ENTRY",
            side="BUY",
            outcome="YES",
            token_side="BUY",
            token=instrument.tokens[0] if instrument.tokens else "",
            price=ASK_E4,
            size=max(instrument.size_min, E6),
            price_exp=-4,
            size_exp=-6,
            time_in_force="IOC",
            client_id=client,
            salt=salt,
            timestamp_ms=now // NS_PER_MS,
            neg_risk=instrument.neg_risk,
            fee_max_e6=E6,
            version_offset=1,
            version_index=0,
            now_ns=now,
            send_by_ns=now + LIFE_MS * NS_PER_MS,
            recv_ts_ns=now,
        )
        self.names[client if venue == "kalshi" else str(salt)] = order
        self.granted_ns[order] = self.clock.now_ns()
        self._out.send(topics.DECISION_ORDER, grant.account, grant)
        return order

    async def arrived_ns(self) -> tuple[dict[str, int], int]:
        """Return when the first byte of each order came to its venue, and how many connections were accepted so far."""
        door = self._processes[0]
        assert door.stdin is not None
        door.stdin.write("say\n")
        door.stdin.flush()
        found = await self._line(door)
        return {self.names[name]: ts_ns for name, ts_ns in reversed(found["orders"])}, found["accepted"]

    async def _start(self) -> None:
        door = self._open([sys.executable, "-m", "benchmarks.doorstep", str(self._folder)], dict(os.environ), "venues")
        where = await self._line(door)
        self._out = EdgeProducer(
            bootstrap=self._bootstrap,
            codec=self._codec,
            clock=self.clock,
            run=self._run,
            stage="bench",
            partitions=PARTITIONS,
        )
        self._readers = [
            EdgeReader(
                bootstrap=self._bootstrap, codec=self._codec, run=self._run, topic=topic, group=f"{self._run}.bench"
            )
            for topic in (topics.ORDER_EVENT, topics.ORDER_FRAME)
        ]
        self._tasks = [asyncio.create_task(self._read(reader)) for reader in self._readers]
        for venue in VENUES:
            facts = where["instruments"][venue]
            instrument = samples.instrument(facts.pop("instrument"), recv_ts_ns=1, **facts)
            self._instruments[venue] = instrument
            self._out.send(topics.MARKET_INSTRUMENT, instrument.instrument, instrument)
            env = {
                **os.environ,
                "CROSSBOOK_RUN": self._run,
                "CROSSBOOK_BOOTSTRAP": self._bootstrap,
                "CROSSBOOK_REGISTRY_URL": self._registry_url,
                f"CROSSBOOK_{venue.upper()}_SIMULATED": where[venue],
                "CROSSBOOK_SIM_CREDENTIALS_FILE": where["credentials_file"],
                "CROSSBOOK_HALT_DIR": str(self._folder / "halt"),
            }
            self._open([sys.executable, "-m", "execute", "--account", self.account(venue)], env, venue)
        self._tasks.append(asyncio.create_task(self._pulse()))
        deadline_s = self.clock.monotonic_s() + READY_S
        while len(self._ready) < len(VENUES):
            if self.clock.monotonic_s() > deadline_s or any(one.poll() is not None for one in self._processes):
                raise Unavailable(f"the gateways are not ready: see the logs in {self._folder}")
            await asyncio.sleep(0.05)

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for process in self._processes[1:]:
            process.terminate()
        for process in self._processes[:1]:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        for process in self._processes:
            try:
                await asyncio.to_thread(process.wait, 15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        if hasattr(self, "_out"):
            for reader in getattr(self, "_readers", ()):
                await reader.close()
            await self._out.close()

    def _open(self, command: list[str], env: dict[str, str], name: str) -> subprocess.Popen[str]:
        says = name == "venues"
        with (self._folder / f"{name}.log").open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                command,
                cwd=PROJECT,
                env=env,
                text=True,
                stdin=subprocess.PIPE if says else subprocess.DEVNULL,
                stdout=subprocess.PIPE if says else log,
                stderr=log,
            )
        self._processes.append(process)
        return process

    async def _line(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        assert process.stdout is not None
        line = await asyncio.to_thread(process.stdout.readline)
        if not line:
            raise Unavailable(f"the simulated venues ended: see the logs in {self._folder}")
        found: dict[str, Any] = json.loads(line)
        return found

    async def _read(self, reader: EdgeReader) -> None:
        async for batch in reader.batches():
            for item in batch:
                record = item.record
                if isinstance(record, Alive) and record.ready:
                    self._ready.add(record.account)
                elif isinstance(record, Submitting):
                    self.submitted_ns.setdefault(record.order, record.ts_ns)
                elif isinstance(record, VenueCall) and record.order and record.method == "POST":
                    self.written_ns.setdefault(record.order, record.sent_ts_ns)

    async def _pulse(self) -> None:
        """Quote, tick and beat, as the stages before the gateway do."""
        number = 0
        while True:
            now = self.clock.now_ns()
            for venue, instrument in self._instruments.items():
                number += 1
                self._out.send(
                    topics.DECISION_ORDER,
                    self.account(venue),
                    Beat(account=self.account(venue), account_set="main", now_ns=now),
                )
                quote = Quote(
                    instrument=instrument.instrument,
                    version_offset=number,
                    version_index=0,
                    depth_offset=1,
                    depth_index=0,
                    state="LIVE",
                    price_exp=-4,
                    size_exp=-6,
                    bid_price=ASK_E4 - 100,
                    bid_size=100 * E6,
                    ask_price=ASK_E4,
                    ask_size=100 * E6,
                    epoch=1,
                    recv_ts_ns=now,
                )
                self._out.send(topics.DERIVED_BOOK, instrument.instrument, quote)
            for partition in range(PARTITIONS):
                self._out.send(topics.DERIVED_BOOK, "", Tick(partition=partition, ts_ns=now), partition)
            await asyncio.sleep(_PULSE_S)
