"""The two processes of ingest, built from their settings: a feed worker and a catalogue of one venue."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from core.domain.errors import CrossbookError
from core.runtime import topics
from core.runtime.edge import EdgeProducer, EdgeReader
from core.runtime.shares import SharedTable
from core.runtime.worker import Parts, assemble, presence
from ingest.catalogue import Catalogue
from ingest.host import HostGate, host_of
from ingest.rest import RestClient
from ingest.settings import IngestSettings
from ingest.venues import breaker_limits, catalogue_base, listing_of, venue_of
from ingest.worker import Worker
from schemas.market import Notice
from schemas.raw import Description

STAGE = "ingest"
CATALOGUE_ASKING_MAX = 2
_NAME_BITS = 32


def run_feeds(settings: IngestSettings, venue_name: str) -> int:
    """Feed this worker's share of a venue's instruments until told to stop."""
    parts = assemble(settings, STAGE, log_name=f"feed-{venue_name}")
    _run(_feed(parts, settings, venue_name))
    return 0


def run_catalogue(settings: IngestSettings, venue_name: str) -> int:
    """Keep a venue's list of instruments until told to stop."""
    parts = assemble(settings, STAGE, log_name=f"catalogue-{venue_name}")
    _run(_catalogue(parts, settings, venue_name))
    return 0


async def _feed(parts: Parts, settings: IngestSettings, venue_name: str) -> None:
    venue = venue_of(venue_name, settings)
    name = f"{socket.gethostname()}-{os.getpid()}-{parts.clock.random_bits(_NAME_BITS):08x}"
    parts.codec.warm(*topics.RAW_FEED.records, *topics.RAW_FRAME.records)
    producer = _producer(parts, settings)
    group = f"{settings.writes}.{STAGE}.feed-{venue_name}"

    def reader(topic: topics.Topic) -> EdgeReader:
        return EdgeReader(
            bootstrap=settings.bootstrap,
            codec=parts.codec,
            run=settings.writes,
            topic=topic,
            group=f"{group}.{topic.noun}",
            start="end",
        )

    feed_log, resync_log = reader(topics.RAW_FEED), reader(topics.DERIVED_RESYNC)
    worker = Worker(
        name=name,
        venue=venue,
        producer=producer,
        table=_table(parts, settings, group, venue_name),
        feed_log=feed_log,
        resync_log=resync_log,
        clock=parts.clock,
        settings=settings,
        partitions=parts.run.partitions,
    )
    with presence(settings, STAGE, f"feed-{venue_name}", worker.health):
        _on_signals(worker.stop)
        try:
            await worker.run()
        finally:
            await feed_log.close()
            await resync_log.close()
            await producer.close()


async def _catalogue(parts: Parts, settings: IngestSettings, venue_name: str) -> None:
    parts.codec.warm(Description, Notice)
    producer = _producer(parts, settings)
    group = f"{settings.writes}.{STAGE}.catalogue-{venue_name}"
    table = _table(parts, settings, group, venue_name)
    # From the beginning: what was said while no catalogue ran is answered too.
    notices = EdgeReader(
        bootstrap=settings.bootstrap,
        codec=parts.codec,
        run=settings.writes,
        topic=topics.MARKET_NOTICE,
        group=f"{group}.{topics.MARKET_NOTICE.noun}",
        start="beginning",
    )
    base = catalogue_base(venue_name, settings)
    rest = RestClient(
        base,
        parts.clock,
        HostGate(host_of(base), parts.clock, breaker_limits(settings), CATALOGUE_ASKING_MAX),
        request_s_max=settings.catalogue_request_s_max,
        per_s=settings.catalogue_requests_per_s,
    )
    async with rest:
        catalogue = Catalogue(
            venue_name,
            listing_of(venue_name, rest, parts.clock, settings),
            producer,
            table,
            parts.clock,
            partitions=parts.run.partitions,
            poll_s=settings.catalogue_poll_s,
            markets_max=settings.catalogue_markets_max,
            notices=notices,
        )
        with presence(settings, STAGE, f"catalogue-{venue_name}", catalogue.health):
            _on_signals(catalogue.stop)
            try:
                await catalogue.run()
            finally:
                await notices.close()
                await table.close()
                await producer.close()


def _producer(parts: Parts, settings: IngestSettings) -> EdgeProducer:
    return EdgeProducer(
        bootstrap=settings.bootstrap,
        codec=parts.codec,
        clock=parts.clock,
        run=settings.writes,
        stage=STAGE,
        partitions=parts.run.partitions,
    )


def _table(parts: Parts, settings: IngestSettings, group: str, venue_name: str) -> SharedTable:
    return SharedTable(
        bootstrap=settings.bootstrap,
        codec=parts.codec,
        run=settings.writes,
        topic=topics.RAW_INSTRUMENT[venue_name],
        group=group,
    )


def _on_signals(stop: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


def _run(work: Coroutine[Any, Any, None]) -> None:
    try:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(work)
    except BaseExceptionGroup as group:
        # One cause is enough for the one line that is printed; the others are its consequences.
        cause = group.subgroup(CrossbookError)
        if cause is None:
            raise
        raise _leaf(cause) from group


def _leaf(error: BaseException) -> BaseException:
    return _leaf(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
