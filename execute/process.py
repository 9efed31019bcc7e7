"""The gateway's process: settings to parts, parts to a running gateway."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Sequence

import uvloop

from core.domain.errors import CrossbookError, Halt, Misconfigured
from core.domain.partition import partition_of
from core.domain.units import MICRO
from core.runtime import log, topics
from core.runtime.edge import EdgeProducer, EdgeReader, Unreadable
from core.runtime.settings import WorkerSettings
from core.runtime.worker import Parts, assemble, presence, wait_for
from execute.checks import Limits, Market
from execute.gateway import Gateway, Logs, Timing
from execute.guards import Jurisdiction
from execute.kalshi import KalshiVenue
from execute.kill import halt_file
from execute.polymarket import PolymarketVenue
from execute.ports import Venue
from execute.settings import ExecuteSettings, Resolved, load_credentials, resolve_endpoints
from schemas.dead import Dead
from schemas.derived import Quote, Tick
from schemas.market import Status
from schemas.record import Record
from venues.environment import Environment
from venues.kalshi.auth import Signer
from venues.polymarket.auth import Credentials, Wallet

STAGE = "execute"
BOOK_PATIENCE_MS = 20
"""How late a quote may come to the gateway's own checks, which allow a second: it would ask for every record else."""
_BOOK_KINDS = frozenset({Quote.schema_name, Tick.schema_name, Status.schema_name})
"""What `Market.apply` takes of derived.book; the rest is not decoded."""
_KINDS: set[type[Record]] = {
    kind
    for topic in (
        topics.ORDER_EVENT,
        topics.ORDER_FRAME,
        topics.DECISION_ORDER,
        topics.DECISION_JURISDICTION,
        topics.DECISION_PROFILE,
        topics.MARKET_INSTRUMENT,
    )
    for kind in topic.records
} | {Quote, Tick, Status, Dead}
"""Looked up at start, so that no record in mid-stream waits for the registry."""


def run(settings: WorkerSettings) -> int:
    """Run one gateway until told to stop.

    Raises:
        Misconfigured: this run may not use what it was given, or something is missing.
    """
    assert isinstance(settings, ExecuteSettings)
    resolved = resolve_endpoints(settings)
    market = Market(resolved.venue)
    venue = make_venue(resolved, settings, market)
    parts = assemble(settings, STAGE, log_name=settings.account)
    wait_for(lambda _: parts.codec.warm(*_KINDS), parts.clock, settings.start_wait_s)
    uvloop.run(_run(parts, settings, resolved, venue, market))
    return 0


def make_venue(resolved: Resolved, settings: ExecuteSettings, market: Market) -> Venue:
    """Return the venue of an account with its keys loaded."""
    known = load_credentials(resolved.credentials_file)
    if resolved.venue == "kalshi":
        for key in known.kalshi:
            if key.account == resolved.name:
                signer = Signer.from_pem(key.key_id, key.private_key_pem)
                return KalshiVenue(
                    signer=signer,
                    endpoints=resolved.endpoints,
                    tier=settings.kalshi_tier,
                    expiry_s=settings.kalshi_expiry_s,
                    instruments=market.instruments,
                )
    for wallet in known.polymarket if resolved.venue == "polymarket" else ():
        if wallet.account == resolved.name:
            return PolymarketVenue(
                wallet=Wallet(wallet.private_key),
                credentials=Credentials(api_key=wallet.api_key, secret=wallet.secret, passphrase=wallet.passphrase),
                funder=wallet.funder,
                signature_type=wallet.signature_type,
                chain_id=wallet.chain_id,
                endpoints=resolved.endpoints,
                instruments=market.instruments,
                tier=settings.polymarket_tier,
            )
    raise Misconfigured(f"{resolved.credentials_file} holds no {resolved.venue} account {resolved.name!r}")


def limits_of(settings: ExecuteSettings) -> Limits:
    """Return the gateway's own limits."""
    return Limits(
        size_max=settings.contracts_max * MICRO,
        order_notional_max_e6=settings.order_notional_max_usd * MICRO,
        day_notional_max_e6=settings.day_notional_max_usd * MICRO,
        open_orders_max=settings.open_orders_max,
        collar_e4=settings.collar_cents * 100,
        quote_age_max_ns=settings.quote_age_max_ms * 1_000_000,
    )


def timing_of(settings: ExecuteSettings) -> Timing:
    """Return how often and how long."""
    return Timing(
        report_s=settings.report_interval_s,
        payout_s=settings.payout_interval_s,
        alive_s=settings.alive_interval_s,
        stop_after_s=settings.stop_after_s,
        answer_timeout_s=settings.answer_timeout_s,
        open_poll_s=settings.open_poll_s,
        heartbeat_s=settings.heartbeat_s,
        warm_connections=settings.warm_connections,
        warm_s=settings.warm_interval_s,
    )


async def _run(parts: Parts, settings: ExecuteSettings, resolved: Resolved, venue: Venue, market: Market) -> None:
    group = f"{settings.writes}.{STAGE}.{settings.account.replace(':', '-')}"
    own = [partition_of(settings.account, parts.run.partitions)]

    def unreadable(found: Unreadable) -> None:
        gateway.unreadable(found)

    def reader(
        topic: topics.Topic,
        run: str,
        *,
        partitions: list[int] | None,
        on_unreadable: Callable[[Unreadable], None] | None = None,
    ) -> EdgeReader:
        return EdgeReader(
            bootstrap=settings.bootstrap,
            codec=parts.codec,
            run=run,
            topic=topic,
            group=group,
            partitions=partitions,
            on_unreadable=on_unreadable,
        )

    out = EdgeProducer(
        bootstrap=settings.bootstrap,
        codec=parts.codec,
        clock=parts.clock,
        run=settings.writes,
        stage=STAGE,
        partitions=parts.run.partitions,
        # The Submittings of legs that leave together do not wait for each other's acknowledgements.
        pipelined=True,
    )
    # Decisions and order events are the writer's own run: paper trading reads live books and its own grants.
    events = reader(topics.ORDER_EVENT, settings.writes, partitions=own)
    decisions = reader(topics.DECISION_ORDER, settings.writes, partitions=own, on_unreadable=unreadable)
    books = EdgeReader(
        bootstrap=settings.bootstrap,
        codec=parts.codec,
        run=settings.reads,
        topic=topics.DERIVED_BOOK,
        group=group,
        start="end",
        wants=lambda key, kind: kind in _BOOK_KINDS and (not key or key.startswith(f"{resolved.venue}:")),
        patience_ms=BOOK_PATIENCE_MS,
    )
    instruments = reader(topics.MARKET_INSTRUMENT, settings.reads, partitions=None)
    sign_offs = [
        reader(topics.DECISION_JURISDICTION, settings.writes, partitions=None),
        reader(topics.DECISION_PROFILE, settings.writes, partitions=None),
    ]
    gateway = Gateway(
        account=settings.account,
        venue=venue,
        base=resolved.endpoints.order_rest,
        logs=Logs(out, events, decisions, books, instruments, sign_offs),
        limits=limits_of(settings),
        timing=timing_of(settings),
        clock=parts.clock,
        market=market,
        # What a human signs off is about real markets: simulated ones have no law, but obey one that is written down.
        sign_off_required=resolved.endpoints.environment is not Environment.SIMULATED,
        halt_file=halt_file(settings.halt_dir, settings.writes, settings.account),
        host=socket.gethostname(),
        region=settings.region,
    )

    def facts() -> dict[str, object]:
        reason = gateway.health.not_ready_reason()
        return {"ok": not reason, "reason": reason, "account": settings.account, "out": len(gateway.orders.out())}

    with presence(settings, STAGE, settings.account, facts):
        try:
            law = gateway.guards.jurisdiction
            await _read_law(law, sign_offs, settings.start_wait_s)
            misplaced = law.misplaced()
            if misplaced:
                raise Misconfigured(
                    f"{settings.account} is not to be traded from here: {misplaced}; if something of it still rests, "
                    f"`crossbook halt --direct --account {settings.account}` takes it back"
                )
            await _until_told(gateway)
        finally:
            for one in (events, decisions, books, instruments, *sign_offs):
                await one.close()
            left = await out.close()
            log.get().info("gateway.ended", unacknowledged=left)


async def _read_law(law: Jurisdiction, readers: Sequence[EdgeReader], wait_s: float) -> None:
    """Take in what was signed off so far: before the venue hears of us. The gateway reads on from there."""

    async def read(reader: EdgeReader) -> None:
        async for batch in reader.batches():
            for item in batch:
                law.apply(item.record)

    reading = [asyncio.ensure_future(read(reader)) for reader in readers]
    known = [asyncio.ensure_future(reader.caught_up.wait()) for reader in readers]
    try:
        async with asyncio.timeout(wait_s):
            for done, task in zip(known, reading, strict=True):
                await asyncio.wait((done, task), return_when=asyncio.FIRST_COMPLETED)
                if task.done():
                    task.result()  # it ends only by failing, and says why
    except TimeoutError as e:
        raise Misconfigured(f"sign-offs could not be read within {wait_s:g} s: does Kafka answer?") from e
    finally:
        for waiting in (*reading, *known):
            waiting.cancel()
        await asyncio.gather(*reading, *known, return_exceptions=True)


async def _until_told(gateway: Gateway) -> None:
    loop = asyncio.get_running_loop()
    running = asyncio.ensure_future(gateway.run())
    stopping: set[asyncio.Task[None]] = set()

    async def stop() -> None:
        await gateway.stop()
        running.cancel()

    def told() -> None:
        stopping.add(asyncio.ensure_future(stop()))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
    with contextlib.suppress(asyncio.CancelledError):
        try:
            await running
        except* CrossbookError as group:
            # One line and an exit code say more than a tree of tracebacks.
            first = _leaf(group)
            raise (first if isinstance(first, Halt) else Halt(str(first))) from None


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
