"""What stands on Kafka of links, instruments and descriptions, read from the beginning to the end; and the next word."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from core.domain.errors import Reject
from core.runtime import topics
from core.runtime.clock import Clock
from core.runtime.consumer import key_text
from core.runtime.flow import Output
from core.runtime.topics import Topic
from decide.links import Instruments
from infra.cli.reach import Reach
from infra.cli.tail import Tail, Wish
from infra.links import terms
from infra.links.terms import Terms
from schemas.decision import Link
from schemas.market import Instrument
from schemas.raw import Description
from schemas.record import Record


@dataclass
class Standing:
    """Links by id in their newest version, and what is listed."""

    links: dict[str, Link] = field(default_factory=dict)
    instruments: Instruments = field(default_factory=Instruments)
    terms: dict[str, Terms] = field(default_factory=dict)
    """of descriptions that were asked for"""
    unreadable: int = 0
    """descriptions that say nothing we understand"""


def read_links(reach: Reach) -> Standing:
    """Return links and instruments.

    Raises:
        Unavailable: Kafka does not answer.
        Misconfigured: the run has no such topics.
    """
    found = Standing()
    for _, record in _newest(reach, topics.MARKET_INSTRUMENT):
        if isinstance(record, Instrument):
            found.instruments[record.instrument] = record
    for record in _all(reach, topics.DECISION_LINK):
        if isinstance(record, Link):
            known = found.links.get(record.id)
            if known is None or record.version >= known.version:
                found.links[record.id] = record
    return found


def read_terms(reach: Reach, standing: Standing, only: Collection[str] = ()) -> None:
    """Read the descriptions of these instruments; without names, of all that can be traded.

    Raises:
        Unavailable: Kafka does not answer.
    """
    for topic in topics.RAW_INSTRUMENT.values():
        for name, record in _newest(reach, topic):
            instrument = standing.instruments.get(name)
            if not isinstance(record, Description) or instrument is None:
                continue
            if name not in only if only else not can_be_linked(instrument):
                continue
            try:
                standing.terms[name] = terms.read(record, instrument)
            except Reject:
                standing.unreadable += 1


def can_be_linked(instrument: Instrument) -> bool:
    """Say whether an instrument is worth a proposal: described, and not yet decided."""
    return (
        instrument.kind == "BINARY"
        and instrument.status in {"PENDING", "OPEN", "PAUSED"}
        and bool(instrument.rules_hash)
    )


def publish(reach: Reach, clock: Clock, links: Collection[Link]) -> None:
    """Write links and wait until Kafka has them.

    Raises:
        Unavailable: Kafka does not acknowledge.
    """
    reach.publish((Output(topics.DECISION_LINK, link.id, link) for link in links), clock)


def _newest(reach: Reach, topic: Topic) -> Iterator[tuple[str, Record | None]]:
    newest: dict[str, Record | None] = {}
    for message, _, record in Tail(reach, Wish(topic, "beginning")).records():
        newest[key_text(message)] = record if isinstance(record, Record) else None
    yield from newest.items()


def _all(reach: Reach, topic: Topic) -> Iterator[Record]:
    for _, _, record in Tail(reach, Wish(topic, "beginning")).records():
        if isinstance(record, Record):
            yield record
