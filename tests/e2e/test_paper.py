"""Paper trading as a user runs it, on real servers: a run that follows venues, and `crossbook paper` on its books.

The venues it follows are simulated (and so it is not named `live`, which needs three brokers), so the test knows them; they are other processes than the paper venues, on which
alone orders are placed. Each fill is judged from the live run's own log.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from dataclasses import replace

import pytest

from core.runtime import topics
from core.runtime.admin import create_run, register_schemas
from core.runtime.topics import TOPICS
from infra.cli.reach import Reach
from infra.demo import cast, scan, setup
from infra.demo.options import Options
from infra.demo.tap import Tap
from infra.demo.world import World
from infra.stack.processes import Processes
from infra.stack.settings import PROJECT
from schemas.decision import Grant
from schemas.derived import Depth
from schemas.market import Trade
from schemas.order import Fill
from venues import VENUES

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(400)]

LIVE, PAPER = "demo-followed", "paper-e2e"
MARKETS = 20
SECONDS = 25
WAIT_S = 60.0
FOLLOWS = ("derive", "normalize", "instrument", "catalogue", "ingest")


class Following:
    """A run that follows venues and decides nothing."""

    def __init__(self, stack, folder):
        self.reach = Reach(
            run=LIVE,
            partitions=2,
            replication=0,
            bootstrap=stack.bootstrap,
            registry_url=stack.registry_url,
            questdb_http=stack.questdb_http,
            questdb_pg="",
            stack=stack.settings,
        )
        self.options = Options(markets=MARKETS, rate_per_s=200, edges_per_s=2.0, seed=11, folder=folder)
        self.processes = Processes(stack.settings.data, LIVE)
        self.world = World(self.options, self.processes)
        self.parts = [part for part in cast.parts() if part.name.startswith(FOLLOWS)]
        self.tap = Tap(self.reach)

    def start(self):
        reach = self.reach
        register_schemas(reach.registry_url)
        create_run(bootstrap=reach.bootstrap, registry_url=reach.registry_url, run=LIVE, partitions=reach.partitions)
        self.processes.start_arbiter()
        self.world.start()
        cast.start(reach, self.processes, self.parts, cast.environment(reach, self.world, self.options))
        cast.wait_ready(reach, self.processes, self.parts, self.options.ready_timeout_s)
        self.tap.start()
        deadline = time.monotonic() + self.options.ready_timeout_s
        while self._live() < MARKETS * len(VENUES):
            assert time.monotonic() < deadline, self.tap.figures.states
            time.sleep(0.1)

    def _live(self):
        return sum(state == "LIVE" for state in list(self.tap.figures.states.values()))

    def freeze(self, ready):
        """Freeze derive for a while once paper trades; return how many paper markets were open before, during and after."""
        trading = self._open(ready, lambda count: count == MARKETS * len(VENUES))
        time.sleep(SECONDS / 3)
        (pid,) = self.processes.list()["derive"]
        os.kill(pid, signal.SIGSTOP)
        try:
            during = self._open(ready, lambda count: count == 0)
        finally:
            os.kill(pid, signal.SIGCONT)
        return trading, during, self._open(ready, lambda count: count > MARKETS)

    def _open(self, ready, holds):
        """Ask the paper venues how many markets are open until it holds, and return it."""
        deadline = time.monotonic() + WAIT_S
        count = None
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, ValueError):
                url = json.loads(ready.read_text())["sim_url"]
                with urllib.request.urlopen(f"{url}/sim/paper", timeout=10) as answer:
                    count = json.loads(answer.read())["open"]
                if holds(count):
                    break
            time.sleep(0.1)
        return count

    def close(self):
        self.tap.stop()
        self.processes.stop_all()


class Story:
    """What a paper run left behind."""

    def __init__(self, code, output, report, following, folder, open_markets):
        self.open_before, self.open_frozen, self.open_after = open_markets
        self.code, self.output, self.report = code, output, report
        self.reach = following.reach
        self.venue_orders = following.world.orders()
        self.truth = {
            name: [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
            for name in ("orders", "paper")
        }
        paper = replace(following.reach, run=PAPER)
        self.fills = {
            found.record.event_id: found.record
            for found in scan.records(paper, [topics.ORDER_EVENT])
            if isinstance(found.record, Fill)
        }
        self.grants = {
            found.record.id: found.record
            for found in scan.records(paper, [topics.DECISION_ORDER])
            if isinstance(found.record, Grant)
        }


@pytest.fixture(scope="module")
def story(stack, tmp_path_factory):
    """A live run, a paper run on it to its end, and everything that can be read of both."""
    folder = tmp_path_factory.mktemp("paper")
    following = Following(stack, folder / "venues")
    try:
        following.start()
        desk = folder / "desk.json"
        desk.write_text(json.dumps(setup.desk(following.world.links(), following.world.events())))
        report = folder / "paper.json"
        ports = {
            f"CROSSBOOK_STACK_{name.upper()}": str(getattr(stack.settings, name))
            for name in type(stack.settings).model_fields
            if name.endswith("_port")
        }
        process = subprocess.Popen(
            [
                sys.executable, "-m", "infra.cli", "paper", "--run", PAPER, "--reads", LIVE, "--seconds", str(SECONDS),
                "--desk", str(desk), "--report", str(report), "--no-records",
            ],
            cwd=PROJECT,
            env={**os.environ, **ports, "CROSSBOOK_STACK_DATA": str(stack.settings.data), "COLUMNS": "160"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip
        left = stack.settings.data / "simulate" / PAPER
        try:
            open_markets = following.freeze(left / "ready.json")
            output, _ = process.communicate(timeout=300)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(60)
        assert report.exists(), output
        yield Story(process.returncode, output, json.loads(report.read_text()), following, left / "truth", open_markets)
    finally:
        following.close()


def test_the_ledger_equals_the_paper_venues_accounts_to_the_unit(story):
    assert (story.code, story.report["differences"]) == (0, []), story.output
    for venue in VENUES:
        (state,) = story.report["accounts"][venue]
        assert [fill for fill in story.fills.values() if fill.account.startswith(venue)], story.output
        assert state["cash_e6"] != state["cash_start_e6"]
        assert state["open_orders"] == []


def test_no_market_is_open_on_paper_while_the_run_it_reads_says_nothing(story):
    everything = MARKETS * len(VENUES)
    assert (story.open_before, story.open_frozen) == (everything, 0)
    assert story.open_after > MARKETS


def test_our_fills_are_the_paper_venues_own(story):
    ours = defaultdict(int)
    for fill in story.fills.values():
        ours[fill.account.partition(":")[0]] += fill.size
    theirs = defaultdict(int)
    for fact in story.truth["orders"]:
        if fact["event"] == "filled":
            theirs[fact["venue"]] += fact["size_e6"]
    assert ours == theirs


def test_no_fill_is_larger_than_what_the_live_book_showed(story):
    """Every fill names the live record that filled it; of one shown level nobody of ours got more than it showed."""
    causes = {fact["cause"] for fact in story.truth["paper"]}
    books, trades = {}, {}
    for found in scan.records(story.reach, [topics.DERIVED_BOOK]):
        record = found.record
        if isinstance(record, Depth):
            label = f"depth:{record.version_offset}:{record.version_index}"
            if label in causes:
                books[record.instrument, label] = record
        elif isinstance(record, Trade):
            trades[record.instrument, f"trade:{record.epoch}:{record.frame_no}:{record.index}"] = record
    got = defaultdict(int)
    for fact in story.truth["paper"]:
        key = (fact["instrument"], fact["cause"])
        got[*key, fact["side"], fact["price"]] += fact["size"]
        if fact["how"] in ("took", "crossed"):
            book = books[key]
            assert book.state == "LIVE"
            bids = dict(zip(book.bid_prices, book.bid_sizes, strict=True))
            asks = dict(zip(book.ask_prices, book.ask_sizes, strict=True))
            shown = (asks if fact["side"] == "bid" else bids).get(fact["price"], 0)
            if fact["how"] == "crossed":
                # A resting order of ours gave its own price to whoever crossed it.
                shown = fact["live"]
                assert shown in (asks if fact["side"] == "bid" else bids).values()
        else:
            assert fact["how"] in ("queue", "through")
            shown = trades[key].size
        assert got[*key, fact["side"], fact["price"]] <= shown, fact
    filled = sum(fact["size_e6"] for fact in story.truth["orders"] if fact["event"] == "filled")
    assert sum(got.values()) == filled > 0


def test_the_live_run_and_its_venues_received_no_order(story):
    ends = scan.ends(story.reach, TOPICS)
    written = {noun for noun, places in ends.items() if sum(places.values())}
    assert not {noun for noun in written if noun.startswith(("decision.", "order."))}
    assert story.venue_orders == {venue: {"main": {}, "second": {}} for venue in VENUES}
    assert story.grants


def test_paper_orders_are_signed_and_taken_once(story):
    accepted = [
        fact.get("client_order_id") or fact["order_id"] for fact in story.truth["orders"] if fact["event"] == "accepted"
    ]
    assert len(accepted) == len(set(accepted)) > 0
