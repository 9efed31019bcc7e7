"""`crossbook dead` over real servers and the real stages: nothing that comes back ever reaches a book."""

import json
import threading
import time
import uuid
from collections import Counter
from contextlib import contextmanager

import psycopg
import pytest
from confluent_kafka import TopicPartition

from core.domain.errors import MalformedFrame
from core.runtime import topics
from core.runtime.clock import SystemClock
from core.runtime.codec import Codec, HttpRegistry
from core.runtime.consumer import LogReader, from_beginning, value_bytes
from core.runtime.flow import Output, TaskContext
from core.runtime.producer import Publisher
from core.runtime.tables import KafkaTables
from core.runtime.task import LogSpec, TaskLoop
from derive.stage import BookTask
from infra.cli.app import run as crossbook
from infra.stack.provision import provision
from normalize.stage import FrameTask, InstrumentTask
from observe.questdb import QuestDb
from observe.settings import ObserveSettings
from observe.stage import Sink
from schemas import market, raw
from schemas.dead import Dead
from schemas.decision import Cancel
from tests.records import binary

pytestmark = [pytest.mark.broker, pytest.mark.slow]

WAIT_S = 30.0
PARTITIONS = 4
TICKER = "KXDEAD-1"
BOOK = f"kalshi:{TICKER}"
FRAMES = LogSpec(stage="normalize", log="frame", topic=topics.RAW_FRAME, remembers=False)
BOOKS = LogSpec(stage="derive", log="book", topic=topics.MARKET_EVENT)


class OlderFrameTask(FrameTask):
    """A version that cannot read the frames yet that say `"newer"`; like the real one it resets their books."""

    def _frame(self, record, payload):
        if b"newer" in payload:
            error = MalformedFrame("this version does not know them")
            error.outputs = tuple(self._reset(record, [], "unparseable: newer"))
            raise error
        return super()._frame(record, payload)


class Flow:
    """A run of its own with real normalize, derive and observe loops on threads, and the command line over it."""

    def __init__(self, stack, monkeypatch, capsys):
        self.stack = stack
        self.capsys = capsys
        self.run = f"test-{uuid.uuid4().hex[:10]}"
        self.clock = SystemClock()
        self.codec = Codec(HttpRegistry(stack.registry_url))
        provision(stack.settings, self.run)
        self.t0 = self.clock.now_ns()
        self.publisher = self._publisher("ingest")
        for name, value in {
            "CROSSBOOK_RUN": self.run,
            "CROSSBOOK_BOOTSTRAP": stack.bootstrap,
            "CROSSBOOK_REGISTRY_URL": stack.registry_url,
            "CROSSBOOK_STACK_DATA": str(stack.settings.data),
        }.items():
            monkeypatch.setenv(name, value)

    def _publisher(self, stage):
        return Publisher(
            bootstrap=self.stack.bootstrap,
            codec=self.codec,
            clock=self.clock,
            run=self.run,
            stage=stage,
            partitions=PARTITIONS,
        )

    def loop(self, spec, factory, *, with_tables=False):
        tables = None
        if with_tables:
            tables = KafkaTables(
                bootstrap=self.stack.bootstrap,
                run=self.run,
                group=spec.group(self.run),
                codec=self.codec,
                clock=self.clock,
                partitions=PARTITIONS,
            )
            tables.load(10)
        return TaskLoop(
            spec=spec,
            factory=factory,
            publisher=self._publisher(spec.stage),
            codec=self.codec,
            clock=self.clock,
            bootstrap=self.stack.bootstrap,
            read_run=self.run,
            context=TaskContext(partitions=PARTITIONS),
            tables=tables,
            commit_interval_s=0.05,
        )

    def sink(self):
        questdb = QuestDb(self.stack.questdb_http)
        questdb.prepare()
        settings = ObserveSettings(
            run=self.run,
            bootstrap=self.stack.bootstrap,
            questdb_http=self.stack.questdb_http,
            flush_interval_ms=50,
        )
        return Sink(
            settings=settings,
            codec=self.codec,
            clock=self.clock,
            publisher=self._publisher("observe"),
            questdb=questdb,
        )

    def put(self, topic, key, record, partition=-1):
        self.publisher.publish(Output(topic, key, record, partition))
        assert self.publisher.wait_acknowledged(10)

    def frame(self, number, payload):
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        record = raw.Frame(
            feed="kalshi-0", venue="kalshi", epoch=0, frame_no=number, recv_ts_ns=self.t0 + number, payload=body
        )
        self.put(topics.RAW_FRAME, "kalshi-0", record, 1)

    def open(self):
        self.put(
            topics.RAW_FEED,
            "kalshi-0",
            raw.Opened(feed="kalshi-0", venue="kalshi", worker="w", slot=1, instruments=[BOOK], recv_ts_ns=self.t0),
        )
        self.put(topics.MARKET_INSTRUMENT, BOOK, binary(BOOK, recv_ts_ns=self.t0))

    def read(self, topic):
        """All records of a topic, decoded, as they stand now."""
        count = PARTITIONS if topic.partitions == "hot" else 1
        places = from_beginning(topic.name(self.run), count)
        reader = LogReader.assigned(self.stack.bootstrap, group=f"{self.run}.test", positions=places)
        found, unread = [], {place.partition for place in places}
        deadline = time.monotonic() + WAIT_S
        try:
            while unread and time.monotonic() < deadline:
                messages, ended = reader.batch(500, 0.1)
                found += [self.codec.decode(value) for m in messages if (value := value_bytes(m)) is not None]
                unread -= {place.partition for place in ended}
            return found
        finally:
            reader.close()

    def until(self, topic, holds):
        deadline = time.monotonic() + WAIT_S
        while not holds(found := self.read(topic)):
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found

    def end(self, topic, partition=0):
        reader = LogReader.assigned(self.stack.bootstrap, group=f"{self.run}.test", positions=[])
        try:
            return reader.edges(TopicPartition(topic.name(self.run), partition))[1]
        finally:
            reader.close()

    def rows(self, sql):
        host, port = self.stack.questdb_pg
        with psycopg.connect(f"host={host} port={port} user=admin password=quest dbname=qdb", autocommit=True) as sink:
            return sink.execute(sql.replace("$RUN", f"run = '{self.run}'")).fetchall()

    def until_rows(self, sql, expected):
        deadline = time.monotonic() + WAIT_S
        while (found := self.rows(sql)) != expected:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)

    def letter(self, stage, **changes):
        """Write a dead letter by hand."""
        facts = {
            "stage": stage,
            "source_topic": topics.MARKET_EVENT.name(self.run),
            "source_partition": 0,
            "source_offset": 5,
            "error_class": "REJECT",
            "error": "MalformedFrame",
            "reason": "torn",
            "key": BOOK.encode(),
            "value": self.codec.encode(trade(self, 1)),
            "ts_ns": self.t0,
        } | changes
        self.put(topics.DEAD[stage], facts["key"].decode(), Dead(**facts))

    def dead(self, *arguments):
        """Run a command; return its exit code and what it printed."""
        self.capsys.readouterr()
        code = crossbook(["dead", *arguments])
        captured = self.capsys.readouterr()
        return code, captured.out or captured.err

    def dead_json(self, *arguments):
        code, text = self.dead(*arguments, "--json")
        # Loops of the test log to the same place; the command itself prints objects only.
        found = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        assert found or code == 0, text
        return code, found


def trade(flow, frame_no):
    return market.Trade(
        instrument=BOOK, epoch=0, frame_no=frame_no, index=0, price_exp=-4, size_exp=-6, price=4_700, size=1,
        aggressor="BUY", recv_ts_ns=flow.t0,
    )  # fmt: skip


def snapshot(seq=1):
    return {
        "type": "orderbook_snapshot",
        "sid": 1,
        "seq": seq,
        "msg": {
            "market_ticker": TICKER,
            "market_id": "m",
            "yes_dollars_fp": [["0.4000", "10.00"]],
            "no_dollars_fp": [["0.5000", "10.00"]],
        },
    }


def delta(seq, price="0.4100", **more):
    return {
        "type": "orderbook_delta",
        "sid": 1,
        "seq": seq,
        "msg": {
            "market_ticker": TICKER,
            "market_id": "m",
            "price_dollars": price,
            "delta_fp": "5.00",
            "side": "yes",
            "ts": "2026-11-20T12:00:00Z",
            **more,
        },
    }


@contextmanager
def running(*loops):
    errors = []

    def target(loop):
        try:
            loop.run()
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=target, args=(loop,)) for loop in loops]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for loop in loops:
            loop.stop()
        for thread in threads:
            thread.join(WAIT_S)
            assert not thread.is_alive()
    assert errors == []


@pytest.fixture
def flow(stack, monkeypatch, capsys):
    return Flow(stack, monkeypatch, capsys)


def kinds(records):
    return Counter((type(record).__name__, record.frame_no) for record in records)


def quotes(records):
    return [record for record in records if type(record).__name__ == "Quote" and not record.repeat]


def test_a_book_frame_that_comes_back_is_a_row_and_never_in_a_book(flow):
    flow.open()
    derive = flow.loop(BOOKS, BookTask)
    with running(derive, flow.sink()):
        with running(flow.loop(FRAMES, OlderFrameTask, with_tables=True)):
            flow.frame(1, snapshot())
            flow.until(topics.DERIVED_BOOK, lambda found: [q.state for q in quotes(found)][-1:] == ["LIVE"])
            # The last frame of its epoch dies: the book is SUSPECT, and only a snapshot may heal it.
            flow.frame(2, delta(2, note="newer"))
            flow.until(topics.DERIVED_BOOK, lambda found: quotes(found)[-1].state != "LIVE")
            flow.until(topics.DEAD["normalize"], len)
        assert flow.dead("list", "--state", "all")[0] == 0
        events, shown = flow.read(topics.MARKET_EVENT), quotes(flow.read(topics.DERIVED_BOOK))

        with running(flow.loop(FRAMES, FrameTask, with_tables=True)):
            code, (plan,) = flow.dead_json("resend", "--dry-run")
            assert (code, plan) == (0, {"would": {"back to its source topic": 1}, "skipped": {}})
            code, (told,) = flow.dead_json("resend", "--yes")
            assert code == 0, told
            assert (told["resent"], told["came through"], told["records they became"]) == (1, 1, 1)
            flow.until_rows("select frame_no, price, size from market_book_delta where $RUN", [(2, 0.41, 5.0)])

            # Twice, and once more by force: the same distinct records.
            code, (told,) = flow.dead_json("resend", "--yes")
            assert (code, told["resent"], told["skipped_why"]) == (0, 0, {"already through": 1})
            code, (told,) = flow.dead_json("resend", "--yes", "--again")
            assert (code, told["resent"], told["came through"]) == (0, 1, 1)
            # What is alive goes on meanwhile, and ends later than anything that came back.
            flow.frame(3, snapshot(3))
            after = flow.until(topics.MARKET_EVENT, lambda found: len(found) > len(events))
        flow.until_rows("select frame_no, price, size from market_book_delta where $RUN", [(2, 0.41, 5.0)])

    assert len(flow.read(topics.DEAD_RETURNED)) == 2
    assert kinds(after) - kinds(events) == {("BookSnapshot", 3): 1}
    said = quotes(flow.read(topics.DERIVED_BOOK))
    assert len(said) > len(shown)
    assert {quote.bid_price for quote in said} <= {0, 4_000}, "the level of the dead frame is in a book"


def test_a_frame_that_dies_again_says_why_and_can_be_sent_once_more(flow):
    flow.open()
    with running(flow.loop(FRAMES, OlderFrameTask, with_tables=True)):
        flow.frame(1, delta(1, note="newer"))
        flow.until(topics.DEAD["normalize"], len)
        code, (told,) = flow.dead_json("resend", "--yes")
        assert (code, told["resent"], told["dead again"]) == (1, 1, 1)
        assert told["again_why"] == {"normalize/0": "MalformedFrame: this version does not know them"}
    with running(flow.loop(FRAMES, FrameTask, with_tables=True)):
        code, (told,) = flow.dead_json("resend", "--yes")
        assert (code, told["came through"]) == (0, 1)
    assert len(flow.read(topics.DEAD["normalize"])) == 1


def test_nobody_at_home_is_told_and_the_letter_waits_for_an_answer(flow):
    flow.letter("observe")
    code, (told,) = flow.dead_json("resend", "--yes", "--wait", "0.5")
    assert (code, told["resent"], told["no word yet"]) == (1, 1, 1)
    _, found = flow.dead_json("list", "--state", "resent")
    assert [one["letter"] for one in found] == ["observe/0"]
    with running(flow.sink()):
        flow.until_rows("select frame_no from market_trade where $RUN", [(1,)])
        flow.until(topics.DEAD_STATE, lambda found: found[-1].state == "THROUGH")
    _, found = flow.dead_json("list")
    assert found == []


def test_a_letter_of_derive_goes_to_the_sinks_alone(flow):
    flow.letter("derive", value=flow.codec.encode(trade(flow, 7)))
    before = flow.end(topics.MARKET_EVENT)
    with running(flow.sink(), flow.loop(BOOKS, BookTask)):
        code, (told,) = flow.dead_json("resend", "derive/0", "--yes")
        assert (code, told["came through"]) == (0, 1)
        flow.until_rows("select frame_no from market_trade where $RUN", [(7,)])
    assert flow.end(topics.MARKET_EVENT) == before


def test_what_decided_or_traded_never_comes_back_and_says_why(flow):
    cancel = Cancel(
        id="c", order="o", account="kalshi:main", instrument=BOOK, reason="", now_ns=flow.t0, recv_ts_ns=flow.t0
    )
    flow.letter("execute", source_topic=topics.DECISION_ORDER.name(flow.run), value=flow.codec.encode(cancel))
    flow.letter("decide", source_topic=topics.DECISION_ACCOUNT.name(flow.run))
    chunk = raw.Frame(
        feed="kalshi-0", venue="kalshi", epoch=0, frame_no=9, chunk=2, chunks=3, recv_ts_ns=flow.t0, payload=b"]"
    )
    flow.letter("normalize", source_topic=topics.RAW_FRAME.name(flow.run), value=flow.codec.encode(chunk))
    flow.letter("normalize", source_topic="live.raw.frame")
    ends = [flow.end(topic) for topic in (topics.DECISION_ORDER, topics.DECISION_ACCOUNT, topics.DEAD_RETURNED)]
    code, (told,) = flow.dead_json("resend", "--yes")
    assert (code, told["resent"], told["refused"]) == (0, 0, 4)
    reasons = " ".join(told["refused_why"])
    for words in ("an order is never sent", "reconciled", "one chunk of a frame", "belongs to run live"):
        assert words in reasons
    assert ends == [flow.end(topic) for topic in (topics.DECISION_ORDER, topics.DECISION_ACCOUNT, topics.DEAD_RETURNED)]


def test_a_description_comes_back_only_while_it_is_the_newest_of_its_key(flow):
    topic = topics.RAW_INSTRUMENT["kalshi"]
    spec = LogSpec(stage="normalize", log="instrument-kalshi", topic=topic, remembers=False)

    def description(payload):
        return raw.Description(instrument=BOOK, venue="kalshi", context=b"", recv_ts_ns=flow.t0, payload=payload)

    with running(flow.loop(spec, InstrumentTask)):
        flow.put(topic, BOOK, description(b"torn"))
        flow.until(topics.DEAD["normalize"], len)
        code, (told,) = flow.dead_json("resend", "--yes")
        assert (told["resent"], told["dead again"]) == (1, 1), "it is as torn as before, and was handled"
        newest = flow.read(topic)[-1]
        assert newest.payload == b"torn"
        flow.put(topic, BOOK, description(b"newer"))
        code, (told,) = flow.dead_json("resend", "normalize/0", "--yes")
        assert (code, told["resent"]) == (0, 0)
        assert "a newer record stands under its key" in next(iter(told["refused_why"]))
        assert flow.read(topic)[-1].payload == b"newer"


def test_filters_find_what_they_say(flow):
    for number in range(4):
        flow.letter(
            "derive",
            source_offset=100 + number,
            key=f"kalshi:M{number}".encode(),
            error="OffGrid" if number == 3 else "MalformedFrame",
            reason=f"reason {number}",
            ts_ns=flow.t0 - number * 3_600 * 1_000_000_000,
        )
    flow.letter("observe", source_topic=topics.ORDER_EVENT.name(flow.run), key=b"kalshi:main")

    def names(*arguments):
        code, found = flow.dead_json("list", *arguments)
        assert code == 0
        return [one["letter"] for one in found]

    assert names() == ["derive/0", "derive/1", "derive/2", "derive/3", "observe/0"]
    assert names("--stage", "observe") == ["observe/0"]
    assert names("--topic", "order.event") == names("--topic", f"{flow.run}.order.event") == ["observe/0"]
    assert names("--error", "offgrid") == ["derive/3"]
    assert len(names("--error", "REJECT")) == 5
    assert names("--reason", "REASON 2") == ["derive/2"]
    assert names("--key", "kalshi:M1") == ["derive/1"]
    assert names("--key", "kalshi:M*") == ["derive/0", "derive/1", "derive/2", "derive/3"]
    assert names("--stage", "derive", "--from", "-90m") == ["derive/0", "derive/1"]
    assert names("--stage", "derive", "--to", "-90m") == ["derive/2", "derive/3"]
    assert names("--offsets", "101-102") == ["derive/1", "derive/2"]
    assert names("derive/2", "observe/0") == ["derive/2", "observe/0"]


def test_dropping_asks_marks_and_deletes_nothing(flow):
    flow.letter("observe")
    flow.letter("observe", reason="another")
    code, text = flow.dead("drop", "observe/0")
    assert (code, "Nobody can be asked here: say --yes" in text) == (2, True)
    assert flow.dead("drop", "observe/0", "--yes", "--dry-run") == (0, "would drop 1  already dropped 0\n")
    assert flow.dead_json("list", "--state", "dropped")[1] == []
    assert flow.dead("drop", "observe/0", "--yes", "--because", "one bad message") == (
        0,
        "dropped 1  already dropped 0\n",
    )
    assert flow.dead("drop", "observe/0", "--yes") == (0, "dropped 0  already dropped 1\n")
    assert [one["letter"] for one in flow.dead_json("list")[1]] == ["observe/1"]
    (dropped,) = flow.dead_json("list", "--state", "dropped")[1]
    assert (dropped["letter"], dropped["state_reason"]) == ("observe/0", "one bad message")
    assert len(flow.read(topics.DEAD["observe"])) == 2
    _, (told,) = flow.dead_json("resend", "--yes", "--wait", "0")
    assert (told["resent"], told["skipped_why"]) == (1, {"dropped": 1})


def test_show_tells_everything_about_a_letter_readable_or_not(flow):
    flow.letter("observe", reason="a [bold] reason")
    flow.letter("observe", value=b"\xff\x00torn")
    code, text = flow.dead("show", "observe/0", "observe/1")
    assert code == 0
    for words in ("a [bold] reason", "to the sinks alone", '"price": 4700', "unreadable", "ff00746f726e"):
        assert words in text
    code, (shown,) = flow.dead_json("show", "observe/0")
    assert (shown["record"]["frame_no"], shown["type"], shown["state"]) == (1, "Trade", "open")
    assert [one["letter"] for one in flow.dead_json("show", "--stage", "observe", "-n", "1")[1]] == ["observe/1"]
    code, text = flow.dead("show", "observe/7")
    assert (code, "has no letter observe/7" in text) == (2, True)


def test_tables_say_how_many_of_each_kind(flow):
    assert "no dead letters" in flow.dead("list")[1]
    for number in range(3):
        flow.letter("observe", source_offset=number)
    code, text = flow.dead("list", "-n", "2")
    assert code == 0
    assert "3 letters, the newest 2 shown" in text
    assert "observe/2" in text
    assert "observe/0" not in text


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["list", "--stage", "nobody"], "choose from ingest"),
        (["list", "--state", "odd"], "use waiting"),
        (["list", "--from", "yesterday"], "use -30m"),
        (["list", "--offsets", "a-b"], "use 120"),
        (["show", "observe"], "expected <stage>/<offset>"),
    ],
)
def test_a_word_that_means_nothing_is_one_line_with_the_remedy(flow, arguments, remedy):
    code, text = flow.dead(*arguments)
    assert code == 2
    assert remedy in text
    assert text.count("\n") == 1
