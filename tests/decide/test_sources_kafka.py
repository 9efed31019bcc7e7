"""What an account set's log gets from a broker's mock: the quotes of what it holds, sampled, and no record of its ledger."""

import time

import pytest

from core.runtime import topics
from core.runtime.clock import SystemClock
from core.runtime.codec import Codec, FileRegistry
from core.runtime.consumer import LogReader, from_beginning, value_bytes
from core.runtime.flow import Output
from core.runtime.producer import Publisher
from core.runtime.sequencer import Sequencer
from decide.sources import ACCOUNT_SOURCES, AccountPlan
from infra.mock_cluster import MockCluster
from schemas.decision import Clock, Limit, Profile
from schemas.derived import Depth, Quote, Tick
from schemas.market import Status
from tests.decide.conftest import KALSHI, POLY, depth, holding, limit, profile, quote

pytestmark = pytest.mark.mock
RUN = "test-marks"
WORDS = "test-words"
WAIT_S = 20.0


@pytest.fixture(scope="module")
def kafka():
    with MockCluster() as cluster:
        for run in (RUN, WORDS):
            cluster.create_run(run, 1)
        yield cluster


class Line:
    """The log of one account set of a run: what is published to its sources, and what its sequencer makes of that."""

    def __init__(self, kafka, run, known):
        self._kafka, self._run, self.codec = kafka, run, Codec(FileRegistry())
        desk, self.books = self._publisher("decide"), self._publisher("derive")
        for topic, key, record in known:
            desk.publish(Output(topic, key, record))
        assert desk.wait_acknowledged(WAIT_S)
        self.sequencer = Sequencer(
            log_topic=topics.DECISION_ACCOUNT,
            partition=0,
            sources=ACCOUNT_SOURCES,
            plan=AccountPlan(0, 1),
            publisher=self._publisher("decide"),
            codec=self.codec,
            clock=SystemClock(),
            bootstrap=kafka.bootstrap,
            read_run=run,
            stage="decide",
        )
        name = topics.DECISION_ACCOUNT.name(run)
        self.reader = LogReader.assigned(kafka.bootstrap, group=f"{run}.t", positions=[from_beginning(name, 1)[0]])

    def _publisher(self, stage):
        return Publisher(
            bootstrap=self._kafka.bootstrap, codec=self.codec, clock=SystemClock(), run=self._run, stage=stage,
            partitions=1,
        )  # fmt: skip

    def __enter__(self):
        self.sequencer.start()
        return self

    def __exit__(self, *_):
        self.sequencer.stop()
        self.reader.close()

    def read(self, records_max, timeout_s):
        messages, _ = self.reader.batch(records_max, timeout_s)
        return [self.codec.decode(value_bytes(message)) for message in messages]


def test_quotes_of_what_is_held_reach_the_accounts_log_and_nothing_else_of_a_book_does(kafka):
    known = (
        (topics.DECISION_PROFILE, "kalshi:main", profile("kalshi")),
        (topics.DECISION_LIMIT, "main", limit(day_loss_halt_e6=5)),
        (topics.DECISION_LEDGER, f"kalshi:main|{KALSHI}|YES", holding("kalshi:main", KALSHI)),
    )
    with Line(kafka, RUN, known) as line:
        found, version, deadline = [], 0, time.monotonic() + WAIT_S
        while sum(isinstance(one, Quote) for one in found) < 3 and time.monotonic() < deadline:
            # Books may start at their end: they are said again until they are seen.
            for instrument in (KALSHI, POLY):
                version += 1
                seen = depth(instrument, version)
                for record in (seen, quote(seen)):
                    line.books.publish(Output(topics.DERIVED_BOOK, instrument, record))
            line.books.publish(Output(topics.DERIVED_BOOK, "", Tick(partition=0, ts_ns=version)))
            line.books.serve()
            found += line.read(100, 0.05)
    assert line.sequencer.failure is None
    assert {type(record) for record in found} == {Clock, Limit, Profile, Quote, Tick}
    assert {record.instrument for record in found if isinstance(record, Quote)} == {KALSHI}
    versions = [record.version_offset for record in found if isinstance(record, Quote)]
    assert versions == sorted(set(versions))
    # A window a second: of many quotes that were said, few came.
    assert version > 10 * len(versions)
    assert Depth not in {type(record) for record in found}


def test_the_words_of_markets_reach_the_accounts_log_whether_or_not_anything_of_them_is_held(kafka):
    """A saga may be about to hold them: their grids are what its next order is made of."""
    known = (
        (topics.DECISION_PROFILE, "kalshi:main", profile("kalshi")),
        (topics.DECISION_LIMIT, "main", limit()),
    )
    with Line(kafka, WORDS, known) as line:
        found, number, deadline = [], 0, time.monotonic() + WAIT_S
        while not any(isinstance(one, Status) for one in found) and time.monotonic() < deadline:
            number += 1
            seen = depth(KALSHI, number, [(4_000, 1)], [(5_000, 1)])
            word = Status(
                instrument=KALSHI, epoch=1, frame_no=number, index=0, status="UNKNOWN", price_exp=-4,
                tick_from=[0], tick_to=[10_000], tick_step=[100], recv_ts_ns=number,
            )  # fmt: skip
            for record in (seen, quote(seen), word):
                line.books.publish(Output(topics.DERIVED_BOOK, KALSHI, record))
            assert line.books.wait_acknowledged(WAIT_S)
            found += line.read(500, 0.3)
    assert line.sequencer.failure is None
    assert any(isinstance(one, Status) and one.tick_step == [100] for one in found)
    assert not any(isinstance(one, Quote | Depth | Tick) for one in found)
