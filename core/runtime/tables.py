"""Reference tables: facts that never change, read beside a task's log.

`raw.feed` (who listed which instruments in which epoch) and `market.instrument` (exponents, tokens, event group). What
can change comes in band; a task never reads such a thing here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import msgspec

from core.domain.errors import Reject, Retry, Unavailable, UnknownInstrument
from core.runtime import topics
from core.runtime.clock import Clock
from core.runtime.codec import Codec, patiently
from core.runtime.consumer import LogReader, from_beginning, key_text, value_bytes
from core.runtime.queues import NewestDict
from core.runtime.topics import Topic
from schemas.market import Instrument
from schemas.raw import Opened

OPENED_MAX = 20_000
"""Feeds remembered; within the three days a frame is kept, that is one every 13 seconds."""


class MemoryTables:
    """Tables that are filled by hand: for tests and what-if runs."""

    def __init__(self) -> None:
        self._opened: NewestDict[int, Opened] = NewestDict("opened feeds", OPENED_MAX)
        self._feed_end = 0
        self._instruments: dict[str, Instrument] = {}

    def opened(self, epoch: int) -> Opened:
        found = self._opened.get(epoch)
        if found is not None:
            return found
        if epoch >= self._feed_end:
            raise Retry(f"raw.feed is read up to {self._feed_end}, epoch {epoch} is not there yet")
        raise UnknownInstrument(f"no feed was opened at offset {epoch} of raw.feed")

    def instrument(self, instrument: str) -> Instrument | None:
        return self._instruments.get(instrument)

    def instruments(self) -> Mapping[str, Instrument]:
        return self._instruments

    def learn_feed(self, offset: int, record: object) -> None:
        """Take in one record of `raw.feed`."""
        if isinstance(record, Opened):
            # Thousands of feeds list the same instruments: one text for each.
            names = [sys.intern(name) for name in record.instruments]
            self._opened[offset] = msgspec.structs.replace(record, instruments=names)
        self._feed_end = max(self._feed_end, offset + 1)

    def learn_instrument(self, record: Instrument) -> None:
        """Take in one record of `market.instrument`."""
        self._instruments[record.instrument] = record


class KafkaTables(MemoryTables):
    """Tables that follow their topics; `follow` is called by the loop between batches and before a retry."""

    def __init__(self, *, bootstrap: str, run: str, group: str, codec: Codec, clock: Clock, partitions: int) -> None:
        super().__init__()
        self._codec = codec
        self._clock = clock
        self._nouns: dict[str, Topic] = {
            topic.name(run): topic for topic in (topics.RAW_FEED, topics.MARKET_INSTRUMENT)
        }
        positions = []
        for name, topic in self._nouns.items():
            positions += from_beginning(name, partitions if topic.partitions == "hot" else 1)
        self._waiting_for = {(p.topic, p.partition) for p in positions}
        self._reader = LogReader.assigned(bootstrap, group=f"{group}.tables", positions=positions)

    def load(self, timeout_s: float) -> None:
        """Read both tables to their present end.

        Raises:
            Unavailable: that takes longer than `timeout_s`.
        """
        deadline = self._clock.monotonic_s() + timeout_s
        while self._waiting_for:
            if self._clock.monotonic_s() > deadline:
                raise Unavailable(f"reference tables not read after {timeout_s} s: is Kafka up?")
            self.follow(0.1)

    def follow(self, timeout_s: float = 0.0) -> None:
        """Take in what is new."""
        while True:
            messages, ended = self._reader.batch(500, timeout_s)
            for message in messages:
                value = value_bytes(message)
                if value is None:
                    self._instruments.pop(key_text(message), None)
                    continue
                try:
                    record = patiently(self._codec.decode, value, lambda: False)
                except Reject:
                    continue  # its writer dead-letters; a table just does not know it
                if isinstance(record, Instrument):
                    self.learn_instrument(record)
                else:
                    self.learn_feed(message.offset() or 0, record)
            for place in ended:
                self._waiting_for.discard((place.topic, place.partition))
            if not messages:
                return

    def close(self) -> None:
        """Stop following."""
        self._reader.close()
