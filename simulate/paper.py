"""Paper trading: the simulated venues' order side on the live market's books (`python -m simulate paper`).

It reads `market.instrument` and `derived.book` of the run it reads and writes no topic at all. Gateways of run `paper` trade here
over loopback with the signing they would use anywhere. Accounts, fees, collateral, minimums, taker delays and on-chain
settlement are the simulated venues'; books and trades are the live market's (`simulate/paper_market.py`).

When Kafka is away nothing is heard: ticks grow old, books fill nothing, takers are refused, what rests stays. When it is back
the log is read on from where it stopped, so nothing in between is missed and nothing is taken in twice. A run that is made
anew ends it. Accounts live as long as this process: one that is started again begins with new ones, so it wants a new run of
`paper` too.
"""

import asyncio
import signal
from typing import Literal

import uvloop

from core.domain.errors import CrossbookError, Halt, Misconfigured
from core.runtime import log as logs
from core.runtime import topics
from core.runtime.admin import find_run
from core.runtime.edge import EdgeReader
from core.runtime.settings import LIVE, WorkerSettings
from core.runtime.worker import Parts, assemble, main, presence, wait_for
from schemas.derived import Depth, Quote, Tick
from schemas.market import Instrument, Status, Trade
from simulate.paper_feed import PaperFeed
from simulate.paper_settings import PaperSettings
from simulate.settings import SimulateSettings, TruthFrames
from simulate.world import World

log = logs.get()

STAGE = "simulate"
CHECK_S = 0.1
"""How often all books are judged by the time that has passed."""
TURN_RECORDS = 50
"""Records handled before the sockets are served again."""
REOPEN_S = 1.0
"""Before a log that failed is read again."""
ASK_S = 5.0
"""How often it is asked whether the run is still the one whose books are known."""
_BOOK_KINDS = frozenset(kind.schema_name for kind in (Depth, Quote, Tick, Trade, Status))


def start() -> int:
    """Run the process; settings are a worker's, from the environment."""
    return main(PaperSettings, run)


def run(settings: WorkerSettings) -> int:
    """Serve the paper venues until told to stop.

    Raises:
        Misconfigured: the run reads itself or writes live, or something is missing.
    """
    assert isinstance(settings, PaperSettings)
    if settings.writes == settings.reads:
        raise Misconfigured(
            f"paper trading reads one run and writes another, both are {settings.reads!r}: set CROSSBOOK_READ_RUN"
        )
    if settings.writes == LIVE:
        raise Misconfigured("paper trading may not write the run live: set CROSSBOOK_WRITE_RUN=paper")
    parts = assemble(settings, STAGE, log_name="paper")
    wait_for(
        lambda _: parts.codec.warm(Depth, Quote, Tick, Trade, Status, Instrument), parts.clock, settings.start_wait_s
    )
    uvloop.run(_serve(parts, settings))
    return 0


def world_of(settings: PaperSettings) -> World:
    """Return both venues without a market, a flow or a fault."""
    folder = settings.paper_folder
    return World(
        SimulateSettings(
            flow=False,
            quote_at_start=False,
            faults="",
            drive=None,
            kalshi_port=settings.paper_kalshi_port,
            clob_port=settings.paper_clob_port,
            accounts=settings.paper_accounts,
            cash_usd=settings.paper_cash_usd,
            taker_delay_ms=settings.paper_taker_delay_ms,
            truth_frames=TruthFrames.NONE,
            truth_dir=folder / "truth",
            links_file=folder / "links.json",
            credentials_file=folder / "credentials.json",
            ready_file=folder / "ready.json",
        ),
        universe=[],
    )


async def _serve(parts: Parts, settings: PaperSettings) -> None:
    world = world_of(settings)
    feed = PaperFeed(
        world.kalshi.exchange,
        world.clob.exchange,
        parts.clock.now_ns,
        latency_ns=settings.paper_latency_ms * 1_000_000,
        tick_age_max_ns=settings.paper_tick_age_ms * 1_000_000,
        note=world.truth.note,
    )
    world.control.paper = feed.figures
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    described = asyncio.Event()
    tasks: list[asyncio.Task[object]] = [
        asyncio.create_task(_describe(parts, settings, feed, described)),
        asyncio.create_task(_follow(parts, settings, feed, described)),
        asyncio.create_task(_check(feed)),
        asyncio.create_task(_keep_asking(parts, settings)),
    ]
    known = asyncio.create_task(described.wait())
    waiting = [*tasks, asyncio.create_task(stopped.wait())]
    try:
        await asyncio.wait([*waiting, known], return_when=asyncio.FIRST_COMPLETED)
        ready = await world.start()
        log.info("paper.ready", reads=settings.reads, writes=settings.writes, control=ready["sim_url"])
        with presence(settings, STAGE, "paper", lambda: {"ok": True, "reason": "", "markets": len(feed.seats)}):
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    except CrossbookError as e:
        raise e if isinstance(e, Halt | Misconfigured) else Halt(str(e)) from e
    finally:
        for task in (*waiting, known):
            task.cancel()
        await asyncio.gather(*waiting, known, return_exceptions=True)
        feed.check()
        await world.stop()


async def _describe(parts: Parts, settings: PaperSettings, feed: PaperFeed, described: asyncio.Event) -> None:
    """Take in descriptions for good; `described` is set when all that were there are known."""
    while True:
        reader = _reader(parts, settings, topics.MARKET_INSTRUMENT, "beginning", None)
        caught_up = asyncio.create_task(_pass_on(reader, described))
        try:
            async for batch in reader.batches():
                for item in batch:
                    if isinstance(item.record, Instrument):
                        feed.describe(item.record)
                await asyncio.sleep(0)
        except Halt:
            raise
        except CrossbookError as e:
            log.warning("paper.reopened", topic=topics.MARKET_INSTRUMENT.noun, reason=str(e))
        finally:
            caught_up.cancel()
            await reader.close()
        await asyncio.sleep(REOPEN_S)


async def _follow(parts: Parts, settings: PaperSettings, feed: PaperFeed, described: asyncio.Event) -> None:
    """Take in books and trades for good, each once; after a failure from where it stopped."""
    await described.wait()
    start: Literal["beginning", "end", "committed"] = settings.paper_from.value
    taken: dict[int, int] = {}
    """partition -> place of the newest record taken in"""
    while True:
        reader = _reader(parts, settings, topics.DERIVED_BOOK, start, _BOOK_KINDS)
        read: dict[int, int] = {}
        """the same of this reader, which goes forward only: what a new one reads again was taken in before"""
        try:
            async for batch in reader.batches():
                for place, item in enumerate(batch):
                    if item.offset <= read.get(item.partition, -1):
                        await asyncio.to_thread(_require_same_run, parts, settings)
                        # The log of the same run lost its end: what follows is new.
                        taken[item.partition] = item.offset - 1
                    read[item.partition] = item.offset
                    if item.offset > taken.get(item.partition, -1):
                        taken[item.partition] = item.offset
                        feed.take(item)
                    reader.commit(item)
                    if place % TURN_RECORDS == TURN_RECORDS - 1:
                        await asyncio.sleep(0)
                start = "committed"
        except Halt:
            raise
        except CrossbookError as e:
            log.warning("paper.reopened", topic=topics.DERIVED_BOOK.noun, reason=str(e))
        finally:
            await reader.close()
        await asyncio.sleep(REOPEN_S)
        await asyncio.to_thread(_require_same_run, parts, settings)


async def _keep_asking(parts: Parts, settings: PaperSettings) -> None:
    """Look for another run under the same name for good: a reader may go on in its log without a word.

    Raises:
        Halt: it was made anew.
    """
    while True:
        await asyncio.sleep(ASK_S)
        await asyncio.to_thread(_require_same_run, parts, settings)


def _require_same_run(parts: Parts, settings: PaperSettings) -> None:
    """Check that the run is the one whose books are known: in another, older places of the log say newer things.

    Raises:
        Halt: it was made anew.
    """
    try:
        found = find_run(settings.bootstrap, parts.codec, settings.reads, parts.clock)
    except CrossbookError:
        return  # not there: it is asked again, and until then no tick is young
    if found is not None and found.incarnation != parts.run.incarnation:
        raise Halt(
            f"run {settings.reads} was made anew (incarnation {found.incarnation}, was {parts.run.incarnation}): "
            "start paper trading again"
        )


def _reader(
    parts: Parts,
    settings: PaperSettings,
    topic: topics.Topic,
    start: Literal["beginning", "end", "committed"],
    kinds: frozenset[str] | None,
) -> EdgeReader:
    return EdgeReader(
        bootstrap=settings.bootstrap,
        codec=parts.codec,
        run=settings.reads,
        topic=topic,
        group=f"{settings.writes}.{STAGE}.paper",
        start=start,
        wants=None if kinds is None else lambda _, kind: kind in kinds,
    )


async def _pass_on(reader: EdgeReader, described: asyncio.Event) -> None:
    await reader.caught_up.wait()
    while not reader.is_idle:  # noqa: ASYNC110 -- the reader counts on its own thread; the last batches are still to be taken in
        await asyncio.sleep(CHECK_S)
    described.set()


async def _check(feed: PaperFeed) -> None:
    while True:
        await asyncio.sleep(CHECK_S)
        feed.check()
