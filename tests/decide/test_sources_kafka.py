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
from tests.decide.conftest import KALSHI, POLY, depth, holding, limit, profile, quote

pytestmark = pytest.mark.mock
RUN = "test-marks"
WAIT_S = 20.0


@pytest.fixture(scope="module")
def kafka():
    with MockCluster() as cluster:
        cluster.create_run(RUN, 1)
        yield cluster


def test_quotes_of_what_is_held_reach_the_accounts_log_and_nothing_else_of_a_book_does(kafka):
    codec = Codec(FileRegistry())

    def publisher(stage):
        return Publisher(
            bootstrap=kafka.bootstrap, codec=codec, clock=SystemClock(), run=RUN, stage=stage, partitions=1
        )

    desk, books = publisher("decide"), publisher("derive")
    for topic, key, record in (
        (topics.DECISION_PROFILE, "kalshi:main", profile("kalshi")),
        (topics.DECISION_LIMIT, "main", limit(day_loss_halt_e6=5)),
        (topics.DECISION_LEDGER, f"kalshi:main|{KALSHI}|YES", holding("kalshi:main", KALSHI)),
    ):
        desk.publish(Output(topic, key, record))
    assert desk.wait_acknowledged(WAIT_S)
    sequencer = Sequencer(
        log_topic=topics.DECISION_ACCOUNT,
        partition=0,
        sources=ACCOUNT_SOURCES,
        plan=AccountPlan(0, 1),
        publisher=publisher("decide"),
        codec=codec,
        clock=SystemClock(),
        bootstrap=kafka.bootstrap,
        read_run=RUN,
        stage="decide",
    )
    name = topics.DECISION_ACCOUNT.name(RUN)
    reader = LogReader.assigned(kafka.bootstrap, group=f"{RUN}.t", positions=[from_beginning(name, 1)[0]])
    sequencer.start()
    try:
        found, version, deadline = [], 0, time.monotonic() + WAIT_S
        while sum(isinstance(one, Quote) for one in found) < 3 and time.monotonic() < deadline:
            # Books may start at their end: they are said again until they are seen.
            for instrument in (KALSHI, POLY):
                version += 1
                seen = depth(instrument, version)
                for record in (seen, quote(seen)):
                    books.publish(Output(topics.DERIVED_BOOK, instrument, record))
            books.publish(Output(topics.DERIVED_BOOK, "", Tick(partition=0, ts_ns=version)))
            books.serve()
            messages, _ = reader.batch(100, 0.05)
            found += [codec.decode(value_bytes(message)) for message in messages]
    finally:
        sequencer.stop()
        reader.close()
    assert sequencer.failure is None
    assert {type(record) for record in found} == {Clock, Limit, Profile, Quote, Tick}
    assert {record.instrument for record in found if isinstance(record, Quote)} == {KALSHI}
    versions = [record.version_offset for record in found if isinstance(record, Quote)]
    assert versions == sorted(set(versions))
    # A window a second: of many quotes that were said, few came.
    assert version > 10 * len(versions)
    assert Depth not in {type(record) for record in found}
