"""One partition of market.event, written by hand and handed to a real BookTask."""

from collections.abc import Callable, Iterable

import pytest

from core.runtime.flow import Input, Output, TaskContext
from derive.stage import BookTask
from schemas import derived, market
from schemas.record import Record
from tests.records import sides

T0 = 1_790_000_000_000_000_000
MS = 1_000_000
A = "kalshi:A"


class Log:
    """Makes market records; times are milliseconds after T0. `write` hands one to the task and returns what follows."""

    def __init__(self, partition: int = 2, **options: int) -> None:
        told = {name: str(value) for name, value in options.items()}
        self.context = TaskContext(partition=partition, partitions=4, options=told)
        self.task = BookTask(self.context)
        self.records: list[Record] = []
        self.outputs: list[Output] = []
        self.frame_no = 0

    def write(self, record: Record) -> list[Record]:
        outputs = list(self.task.handle(Input(record, "market.event", 2, len(self.records))))
        self.records.append(record)
        self.outputs += outputs
        return [output.record for output in outputs]

    def _place(self, epoch: int, frame_no: int | None, index: int) -> dict[str, int]:
        if frame_no is None:
            self.frame_no += 1
            frame_no = self.frame_no
        return {"epoch": epoch, "frame_no": frame_no, "index": index}

    def snapshot(
        self,
        bids: Iterable[tuple[int, int]] = ((4_700, 3), (4_600, 5)),
        asks: Iterable[tuple[int, int]] = ((5_200, 4), (5_300, 6)),
        *,
        ms: float = 0,
        instrument: str = A,
        epoch: int = 1,
        frame_no: int | None = None,
        index: int = 0,
        venue_ts_ns: int = 0,
        **more: object,
    ) -> market.BookSnapshot:
        bids, asks = list(bids), list(asks)
        return market.BookSnapshot(
            instrument=instrument,
            **self._place(epoch, frame_no, index),
            price_exp=-4,
            size_exp=-6,
            **sides(bids, asks),
            venue_ts_ns=venue_ts_ns,
            recv_ts_ns=T0 + int(ms * MS),
            trail=[7],
            **more,  # type: ignore[arg-type]
        )

    def audit(
        self,
        bids: Iterable[tuple[int, int]] = ((4_700, 3), (4_600, 5)),
        asks: Iterable[tuple[int, int]] = ((5_200, 4), (5_300, 6)),
        *,
        ms: float = 0,
        asked_ms: float | None = None,
        instrument: str = A,
        epoch: int = 1,
        frame_no: int | None = None,
    ) -> market.AuditSnapshot:
        bids, asks = list(bids), list(asks)
        return market.AuditSnapshot(
            instrument=instrument,
            **self._place(epoch, frame_no, 0),
            price_exp=-4,
            size_exp=-6,
            **sides(bids, asks),
            asked_ts_ns=T0 + int((ms if asked_ms is None else asked_ms) * MS),
            recv_ts_ns=T0 + int(ms * MS),
            trail=[6],
        )

    def delta(
        self,
        price: int,
        size: int,
        *,
        side: str = "BUY",
        kind: str = "SIGNED",
        ms: float = 0,
        instrument: str = A,
        epoch: int = 1,
        frame_no: int | None = None,
        index: int = 0,
        venue_ts_ns: int = 0,
        price_exp: int = -4,
        venue_hash: str = "",
    ) -> market.BookDelta:
        return market.BookDelta(
            instrument=instrument,
            **self._place(epoch, frame_no, index),
            price_exp=price_exp,
            size_exp=-6,
            side=side,  # type: ignore[arg-type]
            kind=kind,  # type: ignore[arg-type]
            price=price,
            size=size,
            hash=venue_hash,
            venue_ts_ns=venue_ts_ns,
            recv_ts_ns=T0 + int(ms * MS),
            trail=[8],
        )

    def tick(self, *, ms: float, epoch: int = 1) -> market.Tick:
        return market.Tick(
            feed=f"kalshi-{epoch}",
            venue="kalshi",
            recv_ts_ns=T0 + int(ms * MS),
            trail=[9],
            epoch=epoch,
            frame_no=self._place(epoch, None, 0)["frame_no"],
        )

    def reset(
        self,
        *instruments: str,
        ms: float = 0,
        epoch: int = 1,
        frame_no: int | None = None,
        index: int = 0,
        closed: bool = False,
        reason: str = "expected seq 4, found 6",
    ) -> market.FeedReset:
        return market.FeedReset(
            feed=f"kalshi-{epoch}",
            venue="kalshi",
            **self._place(epoch, frame_no, index),
            instruments=list(instruments),
            closed=closed,
            reason=reason,
            recv_ts_ns=T0 + int(ms * MS),
        )

    def trade(
        self,
        trade_id: str = "",
        *,
        ms: float = 0,
        instrument: str = A,
        epoch: int = 1,
        frame_no: int | None = None,
        index: int = 0,
    ) -> market.Trade:
        return market.Trade(
            instrument=instrument,
            **self._place(epoch, frame_no, index),
            price_exp=-4,
            size_exp=-6,
            price=4_800,
            size=1,
            aggressor="BUY",
            trade_id=trade_id,
            recv_ts_ns=T0 + int(ms * MS),
        )

    def status(
        self,
        status: str,
        *,
        venue_ts_ns: int,
        ms: float = 0,
        instrument: str = A,
        epoch: int = 1,
        frame_no: int | None = None,
        index: int = 0,
        reason: str = "",
    ) -> market.Status:
        return market.Status(
            instrument=instrument,
            **self._place(epoch, frame_no, index),
            status=status,  # type: ignore[arg-type]
            price_exp=-4,
            reason=reason,
            venue_ts_ns=venue_ts_ns,
            recv_ts_ns=T0 + int(ms * MS),
        )

    def quotes(self, instrument: str = A) -> list[derived.Quote]:
        """Return the quotes of an instrument so far, repeats left out."""
        return [
            output.record
            for output in self.outputs
            if isinstance(output.record, derived.Quote)
            and output.record.instrument == instrument
            and not output.record.repeat
        ]

    def states(self, instrument: str = A) -> list[str]:
        return [quote.state for quote in self.quotes(instrument)]

    def state(self, instrument: str = A) -> str:
        return self.quotes(instrument)[-1].state

    def said(self, instrument: str = A) -> tuple[str, str]:
        """Return state and cause as they were said last."""
        quote = self.quotes(instrument)[-1]
        return quote.state, quote.cause

    def audits(self) -> list[derived.Audit]:
        return [output.record for output in self.outputs if isinstance(output.record, derived.Audit)]

    def depths(self, instrument: str = A) -> list[derived.Depth]:
        return [
            output.record
            for output in self.outputs
            if isinstance(output.record, derived.Depth) and output.record.instrument == instrument
        ]

    def beat(self, until_ms: int, *, since_ms: int = 0, epochs: Iterable[int] = (1,)) -> None:
        """Let feeds tick every 250 ms."""
        for ms in range(since_ms + 250, until_ms + 1, 250):
            for epoch in epochs:
                self.write(self.tick(ms=ms, epoch=epoch))

    def resyncs(self) -> list[derived.Resync]:
        return [output.record for output in self.outputs if isinstance(output.record, derived.Resync)]

    def live(self) -> "Log":
        """Bring the book of A to LIVE at 0 ms."""
        self.write(self.snapshot())
        self.write(self.tick(ms=0.001))
        return self


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def live() -> Log:
    return Log().live()


@pytest.fixture
def new_log() -> Callable[[], Log]:
    return Log
