"""Task loops that run in a thread beside the test, what they read and what they said."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from core.runtime.consumer import LogReader, from_beginning, value_bytes
from core.runtime.task import TaskLoop
from schemas.market import Trade
from schemas.record import Record


def trade(number: int, instrument: str = "kalshi:A", size: int = 0) -> Trade:
    """Return a trade of `size`, or of its number."""
    return Trade(
        instrument=instrument,
        epoch=1,
        frame_no=number,
        index=0,
        price_exp=-4,
        size_exp=-6,
        price=5000,
        size=size or number,
        aggressor="BUY",
        recv_ts_ns=number,
    )


@contextmanager
def running(loop: TaskLoop, stop_s: float = 20.0) -> Iterator[list[BaseException]]:
    """Let a loop run; yields what ended it. It must stop within `stop_s` of being told to."""
    errors: list[BaseException] = []

    def target() -> None:
        try:
            loop.run()
        except BaseException as e:
            errors.append(e)

    thread = threading.Thread(target=target)
    thread.start()
    try:
        yield errors
    finally:
        loop.stop()
        thread.join(stop_s)
        assert not thread.is_alive()


def read_all(cluster, topic, expected: int, timeout_s: float = 15.0) -> list[Record]:
    """Return what stands on a topic, in each partition's order, once `expected` records are there and no more come."""
    count = cluster.partitions if topic.partitions == "hot" else 1
    reader = LogReader.assigned(
        cluster.bootstrap, group=f"{cluster.run}.test", positions=from_beginning(topic.name(cluster.run), count)
    )
    codec = cluster.codec
    found: list[Record] = []
    deadline = time.monotonic() + timeout_s
    quiet = 0
    while time.monotonic() < deadline and (len(found) < expected or quiet < 3):
        messages, _ = reader.batch(100, 0.1)
        quiet = 0 if messages else quiet + 1
        found += [codec.decode(value_bytes(m) or b"") for m in messages]
    reader.close()
    return found


def until(condition, timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)
