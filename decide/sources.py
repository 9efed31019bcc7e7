"""What the sequencers of both logs take in, and the plan of each of their partitions.

Instruments are forwarded all and from the beginning, links, strategies, profiles and limits too: whichever comes first,
nothing that came before it is lost. Books are forwarded by key and may start at the end: quotes and depths are repeated
every ten seconds, so a link that is added while the sequencer runs sees its books after the next repeat. Under load
only the newest quote of each instrument goes on, with its depth; trades and statuses among them all do. Accounts see a
quote of each instrument they hold once a second, where a loss limit or a command to sell needs it.
"""

from typing import get_args

from core.domain.partition import partition_of
from core.runtime import topics
from core.runtime.sequencer import SourceTopic
from decide.links import instruments_of
from decide.risk import is_flattening
from schemas.decision import Budget, Command, Ledger, Limit, Link, Profile, Strategy
from schemas.derived import Quote, Tick
from schemas.enums import LinkKind
from schemas.market import Status
from schemas.record import Record

STRATEGY_SOURCES = (
    SourceTopic(topics.DECISION_STRATEGY, configures=True),
    SourceTopic(topics.DECISION_LINK, configures=True),
    SourceTopic(topics.DECISION_PROFILE, configures=True),
    SourceTopic(topics.MARKET_INSTRUMENT),
    SourceTopic(topics.MARKET_NOTICE),
    SourceTopic(topics.DECISION_SAGA),
    SourceTopic(topics.DERIVED_BOOK, filtered=True, may_skip=True),
)

MARKED_EVERY_NS = 1_000_000_000
LINK_KINDS = frozenset(get_args(LinkKind))

ACCOUNT_SOURCES = (
    SourceTopic(topics.DECISION_PROFILE, configures=True),
    SourceTopic(topics.DECISION_LIMIT, configures=True),
    SourceTopic(topics.DECISION_LINK, configures=True),
    SourceTopic(topics.MARKET_INSTRUMENT),
    SourceTopic(topics.MARKET_NOTICE),
    SourceTopic(topics.ORDER_EVENT, filtered=True),
    # Marks of what is held, once a second, and what its market says at once of its end (the catalogue says so later,
    # and surely): what is held is learnt from our own ledger.
    SourceTopic(topics.DECISION_LEDGER, configures=True, forwards=False),
    # Words of markets come whatever is held: what a saga orders next lies on the grid they state.
    SourceTopic(
        topics.DERIVED_BOOK,
        filtered=True,
        may_skip=True,
        sampled_ns=MARKED_EVERY_NS,
        kinds=(Quote, Tick, Status),
        unfiltered=(Status,),
    ),
)


class StrategyPlan:
    """One shard of strategies: the books of those links that its strategies look at, of what they name, and all ticks.

    What one of them looked at once it goes on seeing.
    """

    def __init__(self, partition: int, partitions: int) -> None:
        self._partition = partition
        self._partitions = partitions
        self._strategies: set[str] = set()
        self._looks_at: set[str] = set()
        self._linked: dict[str, set[bytes]] = {}
        """kind of link -> instruments of those that were ever approved"""
        # Ticks have no key.
        self._keys: set[bytes] = {b""}

    def learn(self, record: Record) -> None:
        """Take in a strategy of this shard, or a link. A link that is suspended keeps its books coming."""
        if isinstance(record, Strategy):
            if partition_of(record.id, self._partitions) == self._partition:
                self._strategies.add(record.id)
                self._keys.update(instrument.encode() for instrument in record.instruments)
                for kind in LINK_KINDS - {*record.blind_to} - self._looks_at:
                    self._looks_at.add(kind)
                    self._keys.update(self._linked.get(kind, ()))
        elif isinstance(record, Link) and record.status == "APPROVED":
            instruments = {instrument.encode() for instrument in instruments_of(record)}
            self._linked.setdefault(record.kind, set()).update(instruments)
            if record.kind in self._looks_at:
                self._keys |= instruments

    def active(self) -> bool:
        """Say whether the shard has a strategy, whatever its status."""
        return bool(self._strategies)

    def wants(self, noun: str, key: bytes) -> bool:
        """Say whether a strategy may look at what has this key."""
        return key in self._keys


class AccountPlan:
    """The account sets of one partition: the order events of their venue accounts; where they are needed, their marks.

    Marks are the quotes of what is held, and of what was: its orders may still fill. Without a loss limit, or a command to
    sell what is held, there are none.
    """

    def __init__(self, partition: int, partitions: int) -> None:
        self._partition = partition
        self._partitions = partitions
        self._accounts: set[bytes] = set()
        self._held: dict[bytes, set[bytes]] = {}
        """instrument -> venue accounts that hold or held it, of all sets: whose an account is may be learnt later"""
        self._limited: set[str] = set()
        """ids of limits and budgets of this partition that limit losses, and of commands to sell"""

    def learn(self, record: Record) -> None:
        """Take in a venue account of this partition's sets, what limits its losses, and what it holds."""
        if isinstance(record, Profile) and self._is_ours(record.account_set):
            self._accounts.add(record.id.encode())
        elif isinstance(record, Limit) and self._is_ours(record.id):
            self._note(record.id, is_limited=max(record.day_loss_reduce_e6, record.day_loss_halt_e6) >= 0)
        elif isinstance(record, Budget) and self._is_ours(record.account_set):
            self._note(record.id, is_limited=record.day_loss_max_e6 >= 0)
        elif isinstance(record, Command) and self._is_ours(record.account_set):
            self._note(record.id, is_limited=is_flattening(record))
        elif isinstance(record, Ledger) and record.instrument:
            self._held.setdefault(record.instrument.encode(), set()).add(record.account.encode())

    def active(self) -> bool:
        """Say whether this partition has an account set."""
        return bool(self._accounts)

    def wants(self, noun: str, key: bytes) -> bool:
        """Say whether the event is of one of its accounts, or the quote of something it holds. Ticks have no key."""
        if noun == topics.ORDER_EVENT.noun:
            return key in self._accounts
        return bool(self._limited) and (not key or not self._accounts.isdisjoint(self._held.get(key, ())))

    def _is_ours(self, account_set: str) -> bool:
        return partition_of(account_set, self._partitions) == self._partition

    def _note(self, limit: str, *, is_limited: bool) -> None:
        if is_limited:
            self._limited.add(limit)
        else:
            self._limited.discard(limit)
