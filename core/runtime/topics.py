"""The one list of topics: record types, key, partitions, retention, writer.

Names are `<run>.<layer>.<noun>`; the layer word names the only writer. No topic name is a string literal elsewhere:
code says `topics.MARKET_EVENT.name(run)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from schemas import control, dead, decision, derived, market, order, raw
from schemas.record import Record
from venues import VENUES

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

_CHECKPOINT_CONFIG = {
    # A new owner reads all of it: what was overwritten must go soon. The newest segment is never compacted.
    "segment.ms": "60000",
    "segment.bytes": "16777216",
    "min.cleanable.dirty.ratio": "0.2",
    "max.compaction.lag.ms": "60000",
    "max.message.bytes": "8388608",
}

Cleanup = Literal["delete", "compact"]
PartitionClass = Literal["hot", "one"]
"""hot: the run's partition count (a setting, 4 on one small machine); one: always a single partition."""


@dataclass(frozen=True)
class Topic:
    """One topic of every run.

    Attributes:
        noun: `<layer>.<noun>`, the name without the run.
        records: what may stand on it.
        key: what the key is, in words.
        retention_ms: -1 keeps everything; compacted topics keep the newest of each key.
    """

    noun: str
    records: tuple[type[Record], ...]
    key: str
    partitions: PartitionClass = "hot"
    cleanup: Cleanup = "delete"
    retention_ms: int = 3 * DAY_MS
    config: Mapping[str, str] = field(default_factory=dict)

    @property
    def layer(self) -> str:
        """The layer word, which names the only writer."""
        return self.noun.partition(".")[0]

    def name(self, run: str) -> str:
        """Return the topic's name in `run`."""
        return f"{run}.{self.noun}"


CONTROL_RUN = Topic("control.run", (control.Run,), "run", "one", "compact")

RAW_FEED = Topic("raw.feed", (raw.Opened, raw.Ready, raw.Closed), "feed", "one", retention_ms=30 * DAY_MS)
RAW_FRAME = Topic(
    "raw.frame", (raw.Frame, raw.Gap, raw.FeedTick, raw.RestBook, raw.Closed), "feed (partition: slot modulo n)"
)
RAW_INSTRUMENT = {
    venue: Topic(f"raw.instrument-{venue}", (raw.Description,), "instrument", cleanup="compact") for venue in VENUES
}

MARKET_INSTRUMENT = Topic("market.instrument", (market.Instrument,), "instrument", cleanup="compact")
MARKET_NOTICE = Topic("market.notice", (market.Notice,), "instrument or event", "one", retention_ms=30 * DAY_MS)
"""What the venues say on their streams of what only their catalogues say whole; catalogues are asked at once."""
MARKET_EVENT = Topic(
    "market.event",
    (
        market.BookSnapshot,
        market.BookDelta,
        market.AuditSnapshot,
        market.Trade,
        market.Status,
        market.FeedReset,
        market.Tick,
    ),
    "instrument",
)

DERIVED_BOOK = Topic(
    "derived.book",
    (derived.Quote, derived.Depth, derived.Audit, derived.Tick, market.Trade, market.Status),
    "instrument",
)
DERIVED_RESYNC = Topic("derived.resync", (derived.Resync,), "instrument", retention_ms=HOUR_MS)
DERIVED_CHECKPOINT = Topic(
    "derived.checkpoint",
    (control.Checkpoint,),
    "task, item (partition: the task's)",
    cleanup="compact",
    config=_CHECKPOINT_CONFIG,
)

DECISION_STRATEGY = Topic("decision.strategy", (decision.Strategy,), "strategy", "one", "compact")
DECISION_LINK = Topic("decision.link", (decision.Link,), "link", "one", "compact")
DECISION_LIMIT = Topic(
    "decision.limit",
    (decision.Limit, decision.Budget, decision.Command, decision.Ruling, decision.Posting),
    "account set; of a Budget, Command, Ruling or Posting its id",
    "one",
    "compact",
)
DECISION_PROFILE = Topic("decision.profile", (decision.Profile,), "venue account", "one", "compact")
DECISION_TICKET = Topic("decision.ticket", (decision.ManualTicket,), "ticket", "one", retention_ms=-1)
DECISION_JURISDICTION = Topic(
    "decision.jurisdiction", (decision.Jurisdiction,), "entity, venue, category", "one", "compact"
)
DECISION_INPUT = Topic(
    "decision.input",
    (
        decision.Clock,
        derived.Quote,
        derived.Depth,
        derived.Audit,
        derived.Tick,
        market.Trade,
        market.Status,
        market.Instrument,
        market.Notice,
        decision.Strategy,
        decision.Link,
        decision.Profile,
        decision.Saga,
    ),
    "strategy (partition: its shard)",
)
DECISION_EDGE = Topic("decision.edge", (decision.Edge,), "link", retention_ms=30 * DAY_MS)
DECISION_ACCOUNT = Topic(
    "decision.account",
    (
        decision.Clock,
        decision.Intent,
        decision.Requote,
        decision.Link,
        decision.Limit,
        decision.Budget,
        decision.Command,
        decision.Ruling,
        decision.Posting,
        decision.Profile,
        market.Instrument,
        market.Notice,
        market.Status,
        derived.Quote,
        derived.Tick,
        order.Submitting,
        order.OrderUpdate,
        order.Fill,
        order.Settled,
        order.Payout,
        order.VenueReport,
        order.Alive,
    ),
    "account set",
    retention_ms=-1,
)
DECISION_ORDER = Topic(
    "decision.order",
    (decision.Grant, decision.Cancel, decision.Amend, decision.Beat),
    "venue account",
    retention_ms=90 * DAY_MS,
)
DECISION_LEDGER = Topic(
    "decision.ledger", (decision.Ledger, decision.Entry, decision.Standing), "ledger entry", cleanup="compact"
)
DECISION_SAGA = Topic("decision.saga", (decision.Saga,), "intent", cleanup="compact")
DECISION_CHECKPOINT = Topic(
    "decision.checkpoint",
    (control.Checkpoint,),
    "task, item (partition: the task's)",
    cleanup="compact",
    config=_CHECKPOINT_CONFIG,
)

ORDER_EVENT = Topic(
    "order.event",
    (
        order.Submitting,
        order.OrderUpdate,
        order.Fill,
        order.Settled,
        order.Payout,
        order.VenueReport,
        order.Alive,
    ),
    "venue account",
    retention_ms=-1,
)
ORDER_FRAME = Topic("order.frame", (order.VenueCall, order.PrivateFrame), "venue account", retention_ms=30 * DAY_MS)

WRITES = {"ingest": "raw", "normalize": "market", "derive": "derived", "decide": "decision", "execute": "order"}
"""The layer each stage writes."""
CHECKPOINT = {"derive": DERIVED_CHECKPOINT, "decide": DECISION_CHECKPOINT}
"""State of the tasks of each stage that remembers."""
STAGES = ("ingest", "normalize", "derive", "decide", "execute", "observe")
DEAD = {
    stage: Topic(f"dead.{stage}", (dead.Dead,), "as the source", "one", retention_ms=30 * DAY_MS) for stage in STAGES
}
DEAD_RETURNED = Topic("dead.returned", (dead.Returned,), "as the source", "one", retention_ms=30 * DAY_MS)
"""What comes back from `dead.*` for the sinks, and for nobody else."""
DEAD_STATE = Topic("dead.state", (dead.State,), "letter", "one", "compact")

TOPICS: tuple[Topic, ...] = (
    CONTROL_RUN,
    RAW_FEED,
    RAW_FRAME,
    *RAW_INSTRUMENT.values(),
    MARKET_INSTRUMENT,
    MARKET_NOTICE,
    MARKET_EVENT,
    DERIVED_BOOK,
    DERIVED_RESYNC,
    DERIVED_CHECKPOINT,
    DECISION_STRATEGY,
    DECISION_LINK,
    DECISION_LIMIT,
    DECISION_PROFILE,
    DECISION_JURISDICTION,
    DECISION_TICKET,
    DECISION_INPUT,
    DECISION_EDGE,
    DECISION_ACCOUNT,
    DECISION_ORDER,
    DECISION_LEDGER,
    DECISION_SAGA,
    DECISION_CHECKPOINT,
    ORDER_EVENT,
    ORDER_FRAME,
    *DEAD.values(),
    DEAD_RETURNED,
    DEAD_STATE,
)

BY_NOUN: Mapping[str, Topic] = {topic.noun: topic for topic in TOPICS}
