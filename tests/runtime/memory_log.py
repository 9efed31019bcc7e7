"""One partition of a log in memory, with its group's committed offset, for loops that die between any two steps."""

from confluent_kafka import TopicPartition

from core.runtime.codec import Codec, FileRegistry
from schemas.market import Trade

CODEC = Codec(FileRegistry())


class Crash(Exception):
    """kill -9."""


class Message:
    """What the client hands over, for one record of the log in memory."""

    def __init__(self, offset, value, headers=None):
        self._offset, self._value, self._headers = offset, value, headers

    def offset(self):
        return self._offset

    def value(self):
        return self._value

    def headers(self):
        return self._headers

    def partition(self):
        return 0

    def key(self):
        return b"kalshi:A"

    def timestamp(self):
        return 1, 0


class Log:
    """One partition, its group's committed offset, and what was published from it."""

    def __init__(self, values, headers=None):
        self.messages = [Message(n, v, headers[n] if headers else None) for n, v in enumerate(values)]
        self.committed = 0
        self.published = []


class Reader:
    """Reads a log; a process of its own has one of its own."""

    def __init__(self, log, batch):
        self.log, self.size, self.at = log, batch, 0

    def committed(self, places):
        return [TopicPartition(p.topic, p.partition, self.log.committed) for p in places]

    def edges(self, place, *, cached=False):
        return 0, len(self.log.messages)

    def take(self, places):
        self.at = max(places[0].offset, 0)

    def batch(self, records_max, timeout_s):
        found = self.log.messages[self.at : self.at + self.size]
        self.at += len(found)
        return found, []

    def commit(self, offsets, *, wait=False):
        # A twin that lost its membership is refused by the broker; one that still has it may move the offset back.
        self.log.committed = offsets[0].offset
        return ""

    def pause(self, places):
        raise AssertionError("nothing here is retried")


def trade(size):
    """Return a trade as it stands on the log."""
    return CODEC.encode(
        Trade(
            instrument="kalshi:A",
            epoch=1,
            frame_no=1,
            index=0,
            price_exp=-4,
            size_exp=-6,
            price=1,
            size=size,
            aggressor="BUY",
            recv_ts_ns=0,
        )
    )


def distinct(published):
    """What a reader that drops what it has seen (by version) is left with."""
    last, kept = (-1, -1), []
    for output in published:
        version = (output.record.version_offset, output.record.version_index)
        if version > last:
            kept.append(output.record)
            last = version
    return kept
