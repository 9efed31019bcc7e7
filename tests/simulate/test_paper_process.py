"""The paper process on Kafka's mock cluster: what it reads, that a log that fails is read on, and what `crossbook paper` tells its run."""

import asyncio
import json
import os
import signal
import time
from types import SimpleNamespace

import aiohttp
import pytest

from core.domain.errors import Halt, Unavailable
from core.runtime import topics
from core.runtime.clock import SystemClock
from core.runtime.codec import Codec, FileRegistry
from core.runtime.flow import Input, Output
from core.runtime.producer import Publisher
from core.runtime.targets import FOLDER
from core.runtime.worker import Parts
from infra.cli import paper as command
from infra.cli.reach import Reach
from infra.mock_cluster import MockCluster
from schemas.control import Run
from schemas.decision import Budget, Command, Limit, Strategy
from schemas.derived import Depth, Quote, Tick
from simulate import paper as process
from simulate.paper_settings import PaperSettings
from tests.records import sides
from tests.simulate.conftest import KalshiClient
from tests.simulate.paper_books import E6, KALSHI, TICKER, instrument
from tests.simulate.test_paper_venues import ASKS, BIDS

pytestmark = pytest.mark.mock

READS, WRITES = "demo-read", "paper-mock"
WAIT_S = 20.0


@pytest.fixture(scope="module")
def kafka():
    with MockCluster() as cluster:
        cluster.create_run(READS, 1)
        cluster.create_run(WRITES, 1)
        yield cluster


class Live:
    """Writes what a run that follows venues would."""

    def __init__(self, kafka, stage="derive"):
        self.clock = SystemClock()
        self.publisher = Publisher(
            bootstrap=kafka.bootstrap,
            codec=Codec(FileRegistry()),
            clock=self.clock,
            run=READS,
            stage=stage,
            partitions=1,
        )
        self.version = 0

    def write(self, topic, key, record):
        self.publisher.publish(Output(topic, key, record))

    def tick(self):
        self.write(topics.DERIVED_BOOK, "", Tick(partition=0, ts_ns=self.clock.now_ns()))

    def book(self, asks):
        self.version += 1
        place = {"instrument": KALSHI, "version_offset": self.version, "price_exp": -4, "size_exp": -6, "epoch": 1}
        place |= {"state": "LIVE", "recv_ts_ns": self.clock.now_ns()}
        depth = Depth(
            version_index=0,
            **sides(BIDS, asks),
            **place,
        )
        quote = Quote(
            version_index=1, depth_offset=self.version, depth_index=0, bid_price=4_800, bid_size=E6, ask_price=5_000,
            ask_size=E6, **place,
        )  # fmt: skip
        for record in (depth, quote):
            self.write(topics.DERIVED_BOOK, KALSHI, record)


class Paper:
    """The process's own loop in this one, with its readers at hand."""

    def __init__(self, kafka, folder, monkeypatch, **changes):
        self.folder = folder
        self.readers = []
        settings = PaperSettings(
            run=WRITES, read_run=READS, bootstrap=kafka.bootstrap, paper_folder=folder, _env_file=None, **changes
        )
        parts = Parts(
            settings, Codec(FileRegistry()), SystemClock(), Run(run=READS, incarnation=1, partitions=1, created_ts_ns=1)
        )
        made = process._reader

        def reader(*arguments):
            self.readers.append(made(*arguments))
            return self.readers[-1]

        monkeypatch.setattr(process, "_reader", reader)
        monkeypatch.setattr(process, "REOPEN_S", 0.1)
        self.serving = asyncio.create_task(process._serve(parts, settings))

    async def until(self, holds):
        deadline = time.monotonic() + WAIT_S
        while not (found := await holds()):
            if self.serving.done():
                self.serving.result()
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        return found

    async def ready(self):
        async def written():
            path = self.folder / "ready.json"
            return path.exists() and json.loads(path.read_text())

        return await self.until(written)

    async def stop(self):
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(self.serving, WAIT_S)


@pytest.fixture
def keeps_signals():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_it_follows_a_log_and_reads_on_where_a_failure_stopped_it(kafka, tmp_path, monkeypatch, keeps_signals):
    asyncio.run(_follow(kafka, tmp_path / "paper", monkeypatch))


async def _follow(kafka, folder, monkeypatch):
    live, told = Live(kafka), Live(kafka, "normalize")
    told.write(topics.MARKET_INSTRUMENT, KALSHI, instrument(KALSHI))
    assert await asyncio.to_thread(told.publisher.wait_acknowledged, 10)
    paper = Paper(kafka, folder, monkeypatch)
    ready = await paper.ready()
    key = json.loads((folder / "credentials.json").read_text())["kalshi"][0]
    async with aiohttp.ClientSession() as session:
        client = KalshiClient(ready, _Key(key), session)

        async def take():
            _, body = await client.order(TICKER, "bid", "0.5000", "100.00", time_in_force="immediate_or_cancel")
            return body.get("fill_count", "")

        async def opened():
            live.tick()
            live.book(ASKS)
            async with session.get(f"{ready['sim_url']}/sim/paper") as answer:
                return (await answer.json())["open"] == 1

        await paper.until(opened)
        assert await take() == "40.00"

        # Kafka fails its reader; what is written meanwhile is read when it is back: the level went, and came back smaller.
        assert len(paper.readers) == 2
        books = paper.readers[1]
        await asyncio.to_thread(books._hand_over, Unavailable("the broker is away"))
        live.book([(5_100, E6)])
        live.book([(5_000, 3 * E6)])

        async def filled():
            live.tick()
            return await take()

        async def again():
            found = await filled()
            return found if found not in ("", "0.00") else None

        assert await paper.until(again) == "3.00"
        assert len(paper.readers) == 3
    await paper.stop()
    states = json.loads((folder / "truth" / "accounts.json").read_text())
    assert states["kalshi"][0]["positions"][TICKER]["size_e6"] == 43 * E6


def test_a_run_made_anew_ends_it(monkeypatch):
    settings = PaperSettings(run=WRITES, read_run=READS, _env_file=None)
    made = Run(run=READS, incarnation=1, partitions=1, created_ts_ns=1)
    parts = Parts(settings, Codec(FileRegistry()), SystemClock(), made)
    monkeypatch.setattr(process, "find_run", lambda *_: made)
    process._require_same_run(parts, settings)
    monkeypatch.setattr(process, "find_run", lambda *_: Run(run=READS, incarnation=2, partitions=1, created_ts_ns=2))
    with pytest.raises(Halt, match="made anew"):
        process._require_same_run(parts, settings)


class _Told:
    """A reader that hands over what it is given, and then fails or waits."""

    def __init__(self, offsets, error=None):
        self.offsets, self.error = offsets, error
        self.committed = []

    async def batches(self):
        yield [Input(Tick(partition=0, ts_ns=offset), topics.DERIVED_BOOK.noun, 0, offset) for offset in self.offsets]
        if self.error is not None:
            raise self.error
        await asyncio.Event().wait()

    def commit(self, item):
        self.committed.append(item.offset)

    async def close(self):
        pass


class _Feed:
    def __init__(self):
        self.taken = []

    def take(self, item):
        self.taken.append(item.offset)


@pytest.fixture
def followed(monkeypatch):
    """Follow a log through the given readers, in a run of the given incarnation; return the places taken in."""

    def play(readers, incarnation=1):
        settings = PaperSettings(run=WRITES, read_run=READS, _env_file=None)
        runs = [Run(run=READS, incarnation=number, partitions=1, created_ts_ns=1) for number in (1, incarnation)]
        parts = Parts(settings, Codec(FileRegistry()), SystemClock(), runs[0])
        waiting = list(readers)
        monkeypatch.setattr(process, "_reader", lambda *_: waiting.pop(0))
        monkeypatch.setattr(process, "REOPEN_S", 0)
        monkeypatch.setattr(process, "find_run", lambda *_: runs[1])
        feed, described = _Feed(), asyncio.Event()
        described.set()

        async def follow():
            following = asyncio.create_task(process._follow(parts, settings, feed, described))
            done, _ = await asyncio.wait([following], timeout=0.3)
            following.cancel()
            for task in done:
                task.result()

        asyncio.run(follow())
        return feed.taken

    return play


def test_what_is_read_again_after_a_failure_is_not_taken_in_twice(followed):
    again = _Told([3, 4, 5, 6])
    assert followed([_Told([3, 4, 5], Unavailable("the broker is away")), again]) == [3, 4, 5, 6]
    assert again.committed == [3, 4, 5, 6]


def test_a_log_of_the_same_run_that_lost_its_end_is_read_on(followed):
    assert followed([_Told([3, 4, 5, 4, 5, 6])]) == [3, 4, 5, 4, 5, 6]


def test_a_log_that_begins_anew_without_a_word_ends_it(followed):
    with pytest.raises(Halt, match="made anew"):
        followed([_Told([3, 4, 5, 0, 1])], incarnation=2)


def test_it_asks_again_and_again_whether_the_run_was_made_anew(monkeypatch):
    settings = PaperSettings(run=WRITES, read_run=READS, _env_file=None)
    found = [Run(run=READS, incarnation=number, partitions=1, created_ts_ns=number) for number in (1, 1, 2)]
    parts = Parts(settings, Codec(FileRegistry()), SystemClock(), found[0])
    monkeypatch.setattr(process, "find_run", lambda *_: found.pop(0))
    monkeypatch.setattr(process, "ASK_S", 0)
    with pytest.raises(Halt, match="made anew"):
        asyncio.run(asyncio.wait_for(process._keep_asking(parts, settings), WAIT_S))
    assert not found


def test_a_slow_answer_does_not_end_a_paper_run(monkeypatch):
    run = command.PaperRun.__new__(command.PaperRun)
    run.options = command.PaperOptions(seconds=0.2)
    asked = []

    def call(path, body=None):
        asked.append(path)
        raise Unavailable("timed out")

    run.venues = SimpleNamespace(are_alive=lambda: True, call=call)
    monkeypatch.setattr(command, "LOOK_S", 0.05)
    run._watch()
    assert len(asked) > 1


def test_orders_that_did_not_end_are_told():
    accounts = {
        "kalshi": [
            {"account": "main", "open_orders": [{"order_id": "v1", "client_order_id": "c1", "remaining_e6": 5}]},
            {"account": "second", "open_orders": []},
        ],
        "polymarket": [{"account": "main", "open_orders": [{"order_id": "0x1", "remaining_e6": 7}]}],
    }
    assert command.still_open(accounts) == [
        "kalshi:main order c1: still open, 5 left",
        "polymarket:main order 0x1: still open, 7 left",
    ]


class _Key:
    def __init__(self, facts):
        self.key_id, self.private_key_pem = facts["key_id"], facts["private_key_pem"]


def test_a_paper_run_is_told_what_the_run_it_reads_is_told_but_not_its_commands(kafka, monkeypatch, tmp_path):
    monkeypatch.setattr(Reach, "codec", property(lambda self: Codec(FileRegistry())))
    monkeypatch.setenv("CROSSBOOK_BOOTSTRAP", kafka.bootstrap)
    told = Live(kafka, "decide")

    def limit(state):
        return Limit(
            id="main",
            state=state,
            order_notional_max_e6=1,
            market_notional_max_e6=1,
            open_sagas_max=1,
            unwind_budget_e6=1,
            set_by="ann",
            reason="",
        )

    told.write(topics.DECISION_LIMIT, "main", limit("HALTED"))
    told.write(topics.DECISION_LIMIT, "main", limit("RUNNING"))
    budget = Budget(id="b", account_set="main", scope="STRATEGY", name="*", notional_max_e6=5, set_by="ann", reason="")
    told.write(topics.DECISION_LIMIT, "b", budget)
    halt = Command(id="c", account_set="main", scope="SET", state="HALTED", set_by="ann", reason="", ts_ns=1)
    told.write(topics.DECISION_LIMIT, "c", halt)
    strategy = Strategy(id="arb", kind="cross_venue", status="RUNNING", account_set="main", params="{}")
    told.write(topics.DECISION_STRATEGY, "arb", strategy)
    assert told.publisher.wait_acknowledged(10)
    run = command.PaperRun.__new__(command.PaperRun)
    run.reach = Reach.load(WRITES)
    run.options = command.PaperOptions(reads=READS)
    found = {output.key: output.record for output in run._configuration()}
    assert found["main"].state == "RUNNING"
    assert (found["b"].notional_max_e6, found["arb"].kind) == (5, "cross_venue")
    assert set(found) == {"main", "b", "arb"}


def test_paper_venues_that_halt_show_as_down_and_those_that_were_asked_to_stop_do_not(
    kafka, tmp_path, monkeypatch, keeps_signals
):
    def left():
        return [path.name for path in (tmp_path / "workers" / FOLDER).glob("*.json")]

    async def play(*, halts):
        live, told = Live(kafka), Live(kafka, "normalize")
        live.tick()
        told.write(topics.MARKET_INSTRUMENT, KALSHI, instrument(KALSHI))
        assert await asyncio.to_thread(told.publisher.wait_acknowledged, 10)
        anew = asyncio.Event()

        async def ask(*_):
            await anew.wait()
            raise Halt("the run was made anew")

        monkeypatch.setattr(process, "_keep_asking", ask)
        paper = Paper(kafka, tmp_path / "paper", monkeypatch, worker_dir=str(tmp_path / "workers"))
        await paper.ready()
        assert left() == ["simulate.paper.0.json"]
        if halts:
            anew.set()
            with pytest.raises(Halt, match="made anew"):
                await asyncio.wait_for(paper.serving, WAIT_S)
        else:
            await paper.stop()

    asyncio.run(play(halts=True))
    assert left() == ["simulate.paper.0.json"]
    asyncio.run(play(halts=False))
    assert left() == []
