"""A feed that hands frames to a real FrameTask over tables filled by hand."""

import json
from collections.abc import Callable

import pytest

from core.domain.errors import Reject
from core.runtime.flow import Input, Output, TaskContext
from core.runtime.tables import MemoryTables
from normalize.stage import FrameTask, InstrumentTask
from schemas import market, raw
from tests.records import binary

RECV = 1_790_000_000_000_000_000
TICKER = "KXWTACHALLENGERMATCH-26JUN11JIMLEP-LEP"
CONDITION = "0x2f1ab0ffaf465c4acd76b9a4a1f8980db26bfae7d248a6bb289350586028307e"
YES = "94022367472047775158269173293876979533288470167463650966689320774843018181757"
NO = "3329029450753225654467003002742946394863848082479209219558348197750220015613"


def describe(instrument: str, *, tick: int = 100, tokens: list[str] | None = None) -> market.Instrument:
    return binary(instrument, tick_step=[tick], tokens=tokens or [], recv_ts_ns=RECV)


class Feed:
    """One feed of one venue, epoch 7."""

    epoch = 7

    def __init__(self, venue: str, instruments: list[market.Instrument], listed: list[str] | None = None) -> None:
        self.venue = venue
        self.name = f"{venue}-0"
        self.tables = MemoryTables()
        names = [one.instrument for one in instruments] if listed is None else listed
        self.tables.learn_feed(
            self.epoch,
            raw.Opened(feed=self.name, venue=venue, worker="w", slot=0, instruments=names, recv_ts_ns=RECV),
        )
        for one in instruments:
            self.tables.learn_instrument(one)
        self.task = FrameTask(TaskContext(partitions=4, tables=self.tables))
        self.offset = 0

    def frame(self, payload: object, *, frame_no: int = 0, chunk: int = 0, chunks: int = 1) -> raw.Frame:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return raw.Frame(
            feed=self.name,
            venue=self.venue,
            epoch=self.epoch,
            frame_no=frame_no or self.offset + 1,
            chunk=chunk,
            chunks=chunks,
            recv_ts_ns=RECV + self.offset,
            payload=data,
            trail=[RECV + 1],
        )

    def give(self, record: object) -> list[Output]:
        """Hand one raw record to the task."""
        item = Input(record, "raw.frame", 0, self.offset, self.name)  # type: ignore[arg-type]
        self.offset += 1
        return list(self.task.handle(item))

    def say(self, payload: object) -> list[object]:
        """Hand one frame to the task and return the records that follow."""
        return [output.record for output in self.give(self.frame(payload))]

    def refused(self, payload: object) -> tuple[Reject, list[Output]]:
        """Hand one frame that is rejected to the task; return the error and what is to be published before it."""
        with pytest.raises(Reject) as caught:
            self.give(self.frame(payload))
        return caught.value, list(caught.value.outputs)  # type: ignore[arg-type]


@pytest.fixture
def kalshi() -> Feed:
    """A Kalshi feed of one market on whole cents."""
    return Feed("kalshi", [describe(f"kalshi:{TICKER}")])


@pytest.fixture
def polymarket() -> Feed:
    """A Polymarket feed of one market with a tick of one cent."""
    return Feed("polymarket", [describe(f"polymarket:{CONDITION}", tokens=[YES, NO])])


@pytest.fixture
def feed_of() -> Callable[..., Feed]:
    """Make a feed of the venue, instruments and listing given."""
    return Feed


@pytest.fixture
def describing() -> Callable[..., market.Instrument]:
    return describe


@pytest.fixture
def instruments() -> InstrumentTask:
    return InstrumentTask(TaskContext(partitions=4))
