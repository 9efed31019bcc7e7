"""Every worker of the chain is frozen and killed while edges come and go that only a stale view still shows: no order leaves on them.

Real processes on real servers. What left is judged from the logs and from the venues' own truth (`tests/chain/judge.py`).
"""

import json
import signal
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import pytest

from core.runtime import topics
from core.runtime.clock import NS_PER_MS, NS_PER_S, SystemClock
from core.runtime.sequenced import unpack
from infra.demo import cast, scan, setup
from infra.demo.options import Options
from schemas.decision import Amend, Grant, Intent, Saga
from schemas.derived import Depth, Quote, Tick
from schemas.order import OrderUpdate, Submitting, VenueCall
from tests.chain.judge import Seen, Sending, unsound_intents, unsound_sendings
from tests.e2e.running import Running, send
from venues import VENUES

pytestmark = [pytest.mark.broker, pytest.mark.long, pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(400)]

RUN = "test-no-order"
MARKETS = 12
WORKERS = (
    "ingest-kalshi",
    "ingest-polymarket",
    "normalize",
    "derive",
    "strategies",
    "accounts",
    "execute-polymarket",
    "execute-kalshi",
)
DOWN_S = 3.0
EDGE_CENTS = 12
WAIT_S = 30.0
ARRIVES_NS = 500 * NS_PER_MS
"""From the last moment a byte may leave to the venue's own note that it took the order, on a busy machine."""


class Act(NamedTuple):
    """A worker that was frozen or killed."""

    worker: str
    sig: int
    began_ns: int
    ended_ns: int


@dataclass
class Story:
    """What happened, as the logs and the venues tell it."""

    acts: list[Act] = field(default_factory=list)
    resumed_s: dict[tuple[str, str], float] = field(default_factory=dict)
    books: list[Seen] = field(default_factory=list)
    inputs: list[Seen] = field(default_factory=list)
    intents: dict[str, Intent] = field(default_factory=dict)
    grants: dict[str, Grant] = field(default_factory=dict)
    contents: dict[str, set[bytes]] = field(default_factory=dict)
    """What was said under each id of an intent or a grant, the time trail aside."""
    sagas: list[Saga] = field(default_factory=list)
    submitted: dict[str, Submitting] = field(default_factory=dict)
    updates: list[OrderUpdate] = field(default_factory=list)
    calls: dict[str, list[VenueCall]] = field(default_factory=dict)
    amends: dict[str, list[Amend]] = field(default_factory=dict)
    amended: dict[str, list[VenueCall]] = field(default_factory=dict)
    """Calls that changed an order that rests."""
    accepted: list[tuple[str, int]] = field(default_factory=list)
    """Our ids of the orders the venues took, and when."""
    attempts: dict[str, int] = field(default_factory=dict)

    def sendings(self) -> list[Sending]:
        """Return each order that left: as its gateway noted it, and where that note died with the gateway, as the venue did."""
        found = []
        left = {order: [call.sent_ts_ns for call in calls] for order, calls in self.calls.items()}
        for order, ts_ns in self.accepted:
            left.setdefault(order, [ts_ns])
        for order, times in left.items():
            grant = self.grants[order]
            found += [Sending(order, grant.instrument, sent_ns, grant.send_by_ns) for sent_ns in times]
        return found

    def changes(self) -> list[Sending]:
        """Return each change of an order that rests, with the latest `send_by` of what had been asked of it by then."""
        found = []
        for order, calls in self.amended.items():
            for number, call in enumerate(calls):
                asked = [amend.send_by_ns for amend in self.amends[order] if amend.now_ns <= call.sent_ts_ns]
                name = f"{order} amended {number}"
                found.append(Sending(name, self.grants[order].instrument, call.sent_ts_ns, max(asked, default=0)))
        return found


class Stage(Running):
    """The workers of a run, whom to strike, and what makes edges."""

    def __init__(self, stack, folder) -> None:
        options = Options(markets=MARKETS, rate_per_s=120, edges_per_s=0.0, seed=5, folder=folder)
        super().__init__(stack, RUN, options, [part for part in cast.parts() if part.name != "observe"])
        self.story = Story()
        self._turn = 0

    def configure(self) -> None:
        """Approve the pairs and let all strategies trade."""
        setup.write(self.reach, SystemClock(), self.world, self.options.folder / "desk.json")

    def edge(self, seconds: float) -> None:
        """Push the next market of one venue away from the other, and take it back after `seconds`."""
        index = self._turn % MARKETS
        venue = VENUES[self._turn // MARKETS % len(VENUES)]
        self._turn += 1
        body = {"index": index, "venue": venue, "cents": EDGE_CENTS, "seconds": seconds}
        url = f"{self.world.facts['sim_url']}/sim/edge"
        with urllib.request.urlopen(urllib.request.Request(url, data=json.dumps(body).encode()), timeout=10) as reply:
            assert reply.status == 200

    def sent(self) -> int:
        """Return how many orders were sent, as far as order.event tells."""
        return sum(counter["sent"] for counter in self.tap.figures.orders.values())

    def trades(self) -> float:
        """Return after how many seconds an edge makes an order leave again."""
        before, began = self.sent(), time.monotonic()
        pushed_s = 0.0

        def left() -> bool:
            nonlocal pushed_s
            if time.monotonic() - pushed_s > 1.0:
                pushed_s = time.monotonic()
                self.edge(0.8)
            return self.sent() > before

        self.until(left, "an order leaves again")
        return time.monotonic() - began

    def strike(self, worker: str, sig: int) -> None:
        """Freeze or kill a worker; edges come and go just before, just after, and later while it is down."""
        (pid,) = self.processes.list()[worker]
        self.edge(0.4)
        time.sleep(0.06)
        began_ns = time.time_ns()
        send(pid, sig)
        down_s = time.monotonic()
        self.edge(0.4)
        time.sleep(1.2)
        self.edge(0.5)
        time.sleep(max(DOWN_S - (time.monotonic() - down_s), 0.0))
        if sig == signal.SIGSTOP:
            send(pid, signal.SIGCONT)
        self.story.acts.append(Act(worker, sig, began_ns, time.time_ns()))
        # What waited is handled before another edge makes it hard to tell.
        time.sleep(0.7)
        self.story.resumed_s[worker, signal.Signals(sig).name] = round(self.trades(), 1)

    def tell(self) -> Story:
        """Read everything."""
        story = self.story
        noted = (
            topics.DERIVED_BOOK,
            topics.DECISION_INPUT,
            topics.DECISION_ACCOUNT,
            topics.DECISION_ORDER,
            topics.DECISION_SAGA,
            topics.ORDER_EVENT,
            topics.ORDER_FRAME,
        )
        for found in scan.records(self.reach, noted):
            record = found.record
            if found.noun == topics.DECISION_INPUT.noun:
                story.inputs.append(Seen(found.partition, found.offset, record, unpack(found.message.headers())))
            elif found.noun == topics.DERIVED_BOOK.noun:
                # What accounts are shown of it, on a log of theirs, strategies do not see.
                if isinstance(record, Quote | Depth | Tick):
                    story.books.append(Seen(found.partition, found.offset, record))
            elif isinstance(record, Intent | Grant):
                known = story.intents if isinstance(record, Intent) else story.grants
                known.setdefault(record.id, record)
                content = msgspec.msgpack.encode(msgspec.structs.replace(record, trail=[]))
                story.contents.setdefault(record.id, set()).add(content)
            elif isinstance(record, Saga):
                story.sagas.append(record)
            elif isinstance(record, Submitting):
                story.submitted.setdefault(record.order, record)
            elif isinstance(record, OrderUpdate):
                story.updates.append(record)
            elif isinstance(record, Amend):
                story.amends.setdefault(record.order, []).append(record)
            elif isinstance(record, VenueCall) and record.order and record.method == "POST" and record.sent_ts_ns:
                calls = story.amended if record.path.endswith("/amend") else story.calls
                calls.setdefault(record.order, []).append(record)
        ours = {grant.client_id: grant.id for grant in story.grants.values()}
        ours |= {
            submitting.venue_order: order for order, submitting in story.submitted.items() if submitting.venue_order
        }
        for fact in self.world.truth("orders.jsonl"):
            if fact["event"] == "accepted" and fact["account"] == cast.ACCOUNT:
                name = fact.get("client_order_id") or fact["order_id"]
                story.accepted.append((ours[name], fact["ts_ns"]))
        for accounts in self.world.orders().values():
            for name, fact in accounts.get(cast.ACCOUNT, {}).items():
                story.attempts[ours[name]] = fact["attempts"]
        return story


@pytest.fixture(scope="module")
def story(stack, tmp_path_factory):
    """One run in which each worker was frozen and killed."""
    stage = Stage(stack, tmp_path_factory.mktemp("world"))
    try:
        stage.start()
        stage.trades()
        for worker in WORKERS:
            for sig in (signal.SIGSTOP, signal.SIGKILL):
                stage.strike(worker, sig)
        # What is quoted goes on else while the story is told.
        setup.stop_quoting(stage.reach, SystemClock(), stage.options.folder / "desk.json")
        time.sleep(3.0)
        told = stage.tell()
    finally:
        stage.close()
    print("seconds until an order left again:", told.resumed_s)
    return told


def test_orders_left_after_each_freeze_and_kill(story):
    assert set(story.resumed_s) == {(worker, name) for worker in WORKERS for name in ("SIGSTOP", "SIGKILL")}
    assert len(story.accepted) > len(story.acts)


def test_edges_were_seen_late_and_refused(story):
    """Else nobody was tempted."""
    late = Counter(saga.reason for saga in story.sagas if saga.state == "REFUSED")
    unsent = Counter(update.status for update in story.updates)
    assert late["LATE"] + late["OFF_TIME"] + unsent["EXPIRED_UNSENT"] > 0, (late, unsent)


def test_every_intent_was_decided_on_usable_quotes(story):
    assert story.intents
    assert unsound_intents(story.intents.values(), story.inputs) == []


def test_every_order_left_in_time_once_and_on_a_usable_book(story):
    assert unsound_sendings(story.sendings(), story.books) == []


def test_every_change_of_what_rests_left_in_time_and_on_a_usable_book(story):
    assert unsound_sendings(story.changes(), story.books) == []


def test_no_entry_left_whose_trigger_is_older_than_its_half_second(story):
    for sending in story.sendings():
        grant = story.grants[sending.order]
        if grant.purpose == "ENTRY":
            assert sending.sent_ns - story.intents[grant.intent].recv_ts_ns <= NS_PER_S // 2


def test_venues_took_each_order_once_and_none_after_its_time(story):
    assert max(Counter(order for order, _ in story.accepted).values()) == 1
    assert {order for order, attempts in story.attempts.items() if attempts != 1} == set()
    late = {
        order: (ts_ns - story.grants[order].send_by_ns) // NS_PER_MS
        for order, ts_ns in story.accepted
        if ts_ns > story.grants[order].send_by_ns + ARRIVES_NS
    }
    assert late == {}


def test_what_the_venue_took_is_what_was_written_down_before(story):
    """Bytes leave only after their Submitting; each order the venue took has one, from before."""
    for order, ts_ns in story.accepted:
        assert story.submitted[order].ts_ns <= ts_ns


def test_nothing_left_while_its_own_gateway_was_frozen(story):
    for act in story.acts:
        if act.sig != signal.SIGSTOP or not act.worker.startswith("execute-"):
            continue
        account = f"{act.worker.removeprefix('execute-')}:{cast.ACCOUNT}"
        during = [
            order
            for order, ts_ns in story.accepted
            if story.grants[order].account == account and act.began_ns + ARRIVES_NS < ts_ns < act.ended_ns
        ]
        assert during == []


def test_ids_of_restarted_workers_are_the_same(story):
    """A worker that says again what it said says the same: one content for each id."""
    assert len(story.contents) == len(story.intents) + len(story.grants)
    assert {name for name, contents in story.contents.items() if len(contents) > 1} == set()
