"""What crosses between a pure task and the loop that runs it. No client library is imported here.

A task is made for one partition of its log and remembers what it likes; `handle` is a pure function of what it
remembers and the record in hand. The loop polls, calls `handle`, publishes what it returns, and commits once that is
acknowledged. A task sees each record of its log at least once and in order; after a restart it sees the log again from
its checkpoint, or from the start where it has none (its outputs below the committed offset are then not published
again).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import msgspec

from core.domain.errors import StateUnreadable
from core.runtime.topics import Topic
from schemas.market import Instrument
from schemas.raw import Opened
from schemas.record import Record

BY_KEY = -1
"""Kafka's own default for the key: murmur2."""
ALL_PARTITIONS = -2
"""One copy to every partition of the topic."""


class Source(NamedTuple):
    """Where a sequenced record stood before its sequencer appended it."""

    noun: str
    partition: int
    offset: int


class Input(NamedTuple):
    """One record of a task's log.

    Attributes:
        record: the decoded record.
        noun: topic without the run, `market.event`.
        partition: of the log.
        offset: in the log.
        key: as text, empty if none.
        log_ns: log time in ns. For sequenced logs: the largest time any sequencer has stamped so far (0 before the
            first); elsewhere 0, and the task takes time from the records.
        source: where a sequencer took it from, None for a record that was written to the log directly.
    """

    record: Record
    noun: str
    partition: int
    offset: int
    key: str = ""
    log_ns: int = 0
    source: Source | None = None


class Output(NamedTuple):
    """One record a task wants published. The loop adds its timestamp to the record's trail."""

    topic: Topic
    key: str
    record: Record
    partition: int = BY_KEY


class Task(Protocol):
    """A pure function of one partition of one log.

    `handle` may raise a branch of `core.domain.errors`: `Reject` dead-letters the record and advances, `Retry` keeps
    the offset and asks again after a pause, `Halt` stops the stage. A task whose own state is wrong publishes that
    (`Resync`, `Unknown` are handled inside).
    """

    def handle(self, item: Input) -> Iterable[Output]:
        """Return what follows from `item`."""
        ...


StateItems = Iterable[tuple[str, bytes]]
"""Items of a task's state by name, whole: what is not among them is not there."""
StateChanges = Iterable[tuple[str, bytes | None]]
"""Items that changed; None removes one."""


@runtime_checkable
class Checkpointed(Protocol):
    """What a `Task` offers beside `handle` if its state can be written down and taken up again.

    A task that was restored and handles the rest of its log returns the same outputs as one that handled all of it.
    Items are small (a book, an order): the loop writes those that changed every few seconds, in one transaction. The
    item "" is the task's own small state. Item names are the task's business; a name keeps its meaning for ever, and
    the bytes carry a version (`StateCodec`).
    """

    def changed(self) -> StateChanges | None:
        """Return the items that changed since the last call, as they are now; every item the first time.

        None: this state cannot be written down at present (part of it belongs to somebody who does not offer it);
        nothing counts as written, and the task is rebuilt from its last checkpoint, or its whole log.
        """
        ...

    def restore(self, items: StateItems) -> None:
        """Take a state up; called at most once, before the first `handle`. What it brought counts as written.

        Raises:
            StateUnreadable: another version of the code wrote it; the loop throws the task away and reads the log.
        """
        ...


StateT = TypeVar("StateT", bound=msgspec.Struct)


class StateCodec(Generic[StateT]):
    """A state struct to bytes and back: one byte version, then msgpack."""

    def __init__(self, kind: type[StateT], version: int) -> None:
        """`version` (0 to 255) is raised whenever `kind` changes its meaning."""
        self._kind = kind
        self._version = version
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(kind)

    def encode(self, state: StateT) -> bytes:
        """Return the state's bytes."""
        return bytes((self._version,)) + self._encoder.encode(state)

    def decode(self, data: bytes) -> StateT:
        """Return the state.

        Raises:
            StateUnreadable: another version, or not such a state at all.
        """
        if not data or data[0] != self._version:
            found = data[0] if data else "nothing"
            raise StateUnreadable(f"{self._kind.__name__}: expected version {self._version}, found {found}")
        try:
            return self._decoder.decode(memoryview(data)[1:])
        except msgspec.MsgspecError as e:
            raise StateUnreadable(f"{self._kind.__name__} version {self._version}: {e}") from e


class Tables(Protocol):
    """Reference tables: facts that never change for the life of what they describe.

    What can change (tick, status) comes in band on the task's own log.
    """

    def opened(self, epoch: int) -> Opened:
        """Return the Opened of a feed's epoch.

        Raises:
            Retry: `raw.feed` is not read past that epoch yet.
            Reject: no feed has that epoch.
        """
        ...

    def instrument(self, instrument: str) -> Instrument | None:
        """Return the newest description of an instrument, or None while it is not known."""
        ...

    def instruments(self) -> Mapping[str, Instrument]:
        """Return all that are known."""
        ...


@dataclass(frozen=True)
class TaskContext:
    """What a task is told when it is made for a partition.

    Attributes:
        partition: of its log.
        partitions: how many partitions the hot topics of the run have (of the run it writes).
        incarnation: random number of the run whose log it reads; enters every decision id.
        tables: reference tables, where the stage asked for them.
    """

    partition: int = 0
    partitions: int = 1
    incarnation: int = 0
    tables: Tables | None = None
    options: Mapping[str, str] = field(default_factory=dict)


class TaskFactory(Protocol):
    """Makes a fresh task for a partition."""

    def __call__(self, context: TaskContext) -> Task:
        """Return a task that remembers nothing yet."""
        ...


def run_through(task: Task, items: Sequence[Input]) -> list[Output]:
    """Feed `items` to `task` in order and return all outputs: the smallest loop, for tests and what-if runs."""
    return [output for item in items for output in task.handle(item)]
