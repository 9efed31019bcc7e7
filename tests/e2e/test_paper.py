"""Paper trading as a user runs it, on real servers: a run that follows venues, and `crossbook paper` on its books.

The venues it follows are simulated (and so it is not named `live`, which needs three brokers), so the test knows them; they
are other processes than the paper venues, on which alone orders are placed. Each fill is judged from the live run's own log.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter, defaultdict
from dataclasses import replace

import pytest

from core.domain.units import MICRO
from core.runtime import topics
from core.runtime.topics import TOPICS
from infra.demo import cast, rows, scan, setup
from infra.demo.options import Options
from infra.stack.settings import PROJECT
from schemas.decision import Grant
from schemas.derived import Depth
from schemas.market import Trade
from schemas.order import Fill
from tests.e2e.running import Running
from venues import VENUES

pytestmark = [pytest.mark.broker, pytest.mark.long, pytest.mark.slow, pytest.mark.timeout(400)]

LIVE, PAPER = "demo-followed", "paper-e2e"
MARKETS = 20
SECONDS = 25
WAIT_S = 60.0
QUOTED = 8
"""Pairs of which both sides are quoted."""
FOLLOWS = ("derive", "normalize", "instrument", "catalogue", "ingest")


class Following(Running):
    """A run that follows venues and decides nothing."""

    def __init__(self, stack, folder):
        options = Options(markets=MARKETS, rate_per_s=200, edges_per_s=2.0, seed=11, folder=folder)
        parts = [part for part in cast.parts() if part.name.startswith(FOLLOWS)]
        super().__init__(stack, LIVE, options, parts, live_within_s=options.ready_timeout_s)

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
        # The sink makes rows of what it reads: the same fill said twice is one row.
        sql = f"SELECT fill_id, order_id, size_e6 FROM order_fill WHERE run = '{PAPER}'"
        self.stored = Counter(int(size) for _, _, size in set(map(tuple, rows.export(paper, sql))))
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


def with_quotes(desk):
    """Return an operator's file whose desk quotes many markets, so that orders rest on paper and wait for live trades.

    The demo's own quoting is allowed too little for that: here all quotes may stand at once and all inventories be full.
    """
    pairs = [link for link in desk["links"] if "kalshi" in link][:QUOTED]
    names = [f"kalshi:{pair['kalshi']['ticker']}" for pair in pairs]
    names += [f"polymarket:{pair['polymarket']['condition_id']}" for pair in pairs]
    quotes, inventory = 2 * len(names), 100
    params = {
        "half_spread_e4": 50,
        "size": 5 * MICRO,
        "inventory_max": inventory * MICRO,
        "quotes_max": quotes,
        "cooldown_ms": 100,
    }
    quoting = {"id": setup.QUOTING, "kind": "passive_quoting", "instruments": names, "params": params}
    allowed = {"scope": "STRATEGY", "name": setup.QUOTING, "notional_max_e6": len(names) * inventory * MICRO}
    (limit,) = desk["limits"]
    return {
        **desk,
        "limits": [limit | {"open_sagas_max": limit["open_sagas_max"] + quotes}],
        "budgets": [one for one in desk["budgets"] if one["name"] != setup.QUOTING] + [allowed | {"reason": "test"}],
        "strategies": [one for one in desk["strategies"] if one["id"] != setup.QUOTING] + [quoting],
    }


@pytest.fixture(scope="module")
def story(stack, tmp_path_factory):
    """A live run, a paper run on it to its end, and everything that can be read of both."""
    folder = tmp_path_factory.mktemp("paper")
    following = Following(stack, folder / "venues")
    try:
        following.start()
        desk = folder / "desk.json"
        desk.write_text(json.dumps(with_quotes(setup.desk(following.world.links(), following.world.events()))))
        report = folder / "paper.json"
        ports = {
            f"CROSSBOOK_STACK_{name.upper()}": str(getattr(stack.settings, name))
            for name in type(stack.settings).model_fields
            if name.endswith("_port")
        }
        process = subprocess.Popen(
            [
                sys.executable, "-m", "infra.cli", "paper", "--run", PAPER, "--reads", LIVE, "--seconds", str(SECONDS),
                "--desk", str(desk), "--report", str(report),
            ],
            cwd=PROJECT,
            env={**os.environ, **ports, "CROSSBOOK_STACK_DATA": str(stack.settings.data),
                "CROSSBOOK_STACK_POSTGRES": "false", "COLUMNS": "160"},
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


def test_questdb_has_the_paper_runs_fills_under_its_own_name(story):
    assert story.stored == Counter(fill.size for fill in story.fills.values())


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
    """Every fill names the live record that filled it, which showed that size; a trade fills no more than it was."""
    books, trades = live_records(story)
    got = defaultdict(int)
    for fact in story.truth["paper"]:
        key = (fact["instrument"], fact["cause"])
        got[*key, fact["order_id"]] += fact["size"]
        got[key] += fact["size"]
        if fact["how"] == "took":
            assert got[*key, fact["order_id"]] <= sum(opposite(books[key], fact["side"]).values())
            assert fact["taken"] <= opposite(books[key], fact["side"])[fact["price"]] == fact["live"], fact
        elif fact["how"] == "crossed":
            # A resting order of ours gave its own price to whoever crossed it.
            at, bids = fact["price"], fact["side"] == "bid"
            crossing = opposite(books[key], fact["side"]).items()
            reach = sum(size for price, size in crossing if (price <= at if bids else price >= at))
            assert got[*key, fact["order_id"]] <= reach, fact
        else:
            assert fact["how"] in ("queue", "through")
            assert got[key] <= trades[key].size, fact
    filled = sum(fact["size_e6"] for fact in story.truth["orders"] if fact["event"] == "filled")
    assert sum(fact["size"] for fact in story.truth["paper"]) == filled > 0


def test_takers_got_no_more_of_a_level_than_it_showed_since_it_was_new(story):
    """The live log again, level by level, with nothing of paper's own bookkeeping: new size may be taken, once."""
    books, _ = live_records(story)
    wanted = defaultdict(list)
    for fact in story.truth["paper"]:
        if fact["how"] == "took":
            wanted[fact["instrument"], fact["cause"]].append(fact)
    room = defaultdict(int)
    live = defaultdict(dict)
    checked = 0
    for (name, label), book in books.items():
        for side in ("bid", "ask"):
            now, before = opposite(book, side), live[name, side]
            for price in {*now, *before}:
                grown = now.get(price, 0) - before.get(price, 0)
                room[name, side, price] = max(0, room[name, side, price] + grown) if price in now else 0
            live[name, side] = now
        for fact in wanted[name, label]:
            place = (name, fact["side"], fact["price"])
            room[place] -= fact["size"]
            assert room[place] >= 0, fact
            checked += 1
    assert checked == sum(map(len, wanted.values())) > 0


def test_resting_orders_were_filled_by_the_live_markets_trades(story):
    ways = Counter(fact["how"] for fact in story.truth["paper"])
    assert ways["queue"] + ways["through"] > 0, ways


def live_records(story):
    """Return the LIVE depths, in the order of their log, and the trades of the run that was read, by instrument and label."""
    books, trades = {}, {}
    for found in scan.records(story.reach, [topics.DERIVED_BOOK]):
        record = found.record
        if isinstance(record, Depth) and record.state == "LIVE":
            books[record.instrument, f"depth:{record.version_offset}:{record.version_index}"] = record
        elif isinstance(record, Trade):
            trades[record.instrument, f"trade:{record.epoch}:{record.frame_no}:{record.index}"] = record
    return books, trades


def opposite(book, side):
    """Return the levels an order of a side meets: price -> size."""
    if side == "bid":
        return dict(zip(book.ask_prices, book.ask_sizes, strict=True))
    return dict(zip(book.bid_prices, book.bid_sizes, strict=True))


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
