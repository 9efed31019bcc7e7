"""What the strategies' task remembers, and how it is written down: an item for each thing that changes by itself.

    (empty)                     the newest tick of each partition, the venue accounts
    book/<instrument>           newest quote and depth
    instrument/<id>, link/<id>  what is known
    notice/<id or event>        when a venue last said that this is no longer so
    resting/<link>              the version that was ready, while a fault that passes keeps it from being so
    strategy/<id>               configuration, links with an intent under way, the strategy's own memory

A strategy that does not offer its memory (`ports.Remembers`) leaves its shard without new checkpoints while it runs: a
takeover then reads the log from the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from core.domain.errors import StateUnreadable
from core.runtime.described import SILENCE, Words
from core.runtime.flow import StateCodec, StateItems
from decide.links import Instruments, fault, instruments_of, is_lasting
from decide.ports import Remembers
from decide.ports import Strategy as Running
from schemas.decision import Link, Profile, Strategy
from schemas.derived import Depth, Quote
from schemas.market import Instrument, Notice, Status

VERSION = 2
"""Of all items: raised when one changes its meaning; older checkpoints are then not read."""


@dataclass
class Book:
    """The newest of one instrument."""

    quote: Quote | None = None
    depth: Depth | None = None
    partition: int = 0
    """of `derived.book`, whose ticks vouch for it"""


@dataclass
class Slot:
    """One strategy of this shard."""

    config: Strategy
    running: Running | None
    busy: dict[str, str] = field(default_factory=dict)
    """link -> intent under way; outlives a change of parameters"""


class _Own(msgspec.Struct, frozen=True):
    ticks: dict[int, int]
    profiles: list[Profile]


class _Book(msgspec.Struct, frozen=True):
    quote: Quote | None
    depth: Depth | None
    partition: int


class _Instrument(msgspec.Struct, frozen=True):
    instrument: Instrument
    state: Status | None = None
    grid: Status | None = None


class _Noticed(msgspec.Struct, frozen=True):
    ts_ns: int


class _Resting(msgspec.Struct, frozen=True):
    version: int


class _Strategy(msgspec.Struct, frozen=True):
    config: Strategy
    busy: dict[str, str]
    memory: bytes | None
    """None: it is stopped"""


_OWN = StateCodec(_Own, VERSION)
_BOOKS = StateCodec(_Book, VERSION)
_INSTRUMENTS = StateCodec(_Instrument, VERSION)
_LINKS = StateCodec(Link, VERSION)
_NOTICES = StateCodec(_Noticed, VERSION)
_RESTING = StateCodec(_Resting, VERSION)
_STRATEGIES = StateCodec(_Strategy, VERSION)


@dataclass
class State:
    """What stands in the log so far; `changed_items` names what is not written down as it is."""

    books: dict[str, Book] = field(default_factory=dict)
    ticks: dict[int, int] = field(default_factory=dict)
    instruments: Instruments = field(default_factory=Instruments)
    """As they stand: the newest description, with the state and the grid that were said in band since."""
    words: dict[str, Words] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    profiles: dict[tuple[str, str], Profile] = field(default_factory=dict)
    """(account set, venue) -> its venue account"""
    slots: dict[str, Slot] = field(default_factory=dict)
    changed_books: set[str] = field(default_factory=set)
    changed_instruments: set[str] = field(default_factory=set)
    changed_links: set[str] = field(default_factory=set)
    changed_notices: set[str] = field(default_factory=set)
    changed_resting: set[str] = field(default_factory=set)
    _resting: dict[str, int] = field(default_factory=dict)
    """link -> version that was ready and has a fault that passes: another that lasts is still to be written down"""
    _last: dict[str, bytes] = field(default_factory=dict)
    """small items as they were last written"""
    _sound: dict[str, Link] = field(default_factory=dict)
    """approved and without a fault; follows from links and instruments, so it is not written down"""
    _sound_of: dict[str, dict[str, Link]] = field(default_factory=dict)
    """instrument -> those of it"""
    _concerned: dict[str, set[str]] = field(default_factory=dict)
    """instrument or event -> links that stand or fall with it, or did once"""
    _is_judged: bool = True
    """False: taken from a checkpoint, and not looked at yet"""
    _ready: list[Link] | None = None
    """`_sound` in order; thousands of links arrive one by one at the start"""

    def ready(self) -> list[Link]:
        """Return the approved links without a fault, in the order of their ids."""
        self._judge_all()
        if self._ready is None:
            self._ready = [link for _, link in sorted(self._sound.items())]
        return self._ready

    def ready_of(self, instrument: str) -> Sequence[Link]:
        """Return those of one instrument."""
        self._judge_all()
        found = self._sound_of.get(instrument)
        return [link for _, link in sorted(found.items())] if found else ()

    def ready_link(self, link: str) -> Link | None:
        """Return one of them."""
        self._judge_all()
        return self._sound.get(link)

    def learn_link(self, link: Link) -> bool:
        """Take a link in; say whether it was ready and no longer is."""
        known = self.links.get(link.id)
        if known is not None and link.version < known.version:
            return False
        self._judge_all()
        was_ready = link.id in self._sound
        self.links[link.id] = link
        self.changed_links.add(link.id)
        if link.status != "APPROVED" or self._resting.get(link.id) != link.version:
            self._rest(link.id, None)
        return bool(self._judge(link)) and was_ready

    def learn_instrument(self, instrument: Instrument) -> dict[str, str]:
        """Take what is known of an instrument in; return the links this struck, with their faults."""
        self._judge_all()
        known = self.instruments.get(instrument.instrument)
        instrument = self.words.get(instrument.instrument, SILENCE).applied(instrument)
        self.instruments[instrument.instrument] = instrument
        self.changed_instruments.add(instrument.instrument)
        return self._judge_again(
            (instrument.instrument, instrument.event_group, known.event_group if known is not None else "")
        )

    def learn_notice(self, notice: Notice) -> dict[str, str]:
        """Take a venue's word that its catalogue changed in; return the links this struck, with their faults."""
        self._judge_all()
        about = self.instruments.notice(notice)
        self.changed_notices.add(notice.instrument or notice.event_group)
        return self._judge_again(about)

    def _judge_again(self, keys: Iterable[str]) -> dict[str, str]:
        names: set[str] = set()
        for key in keys:
            names |= self._concerned.get(key, set())
        struck = {}
        for name in sorted(names):
            link = self.links[name]
            was_ready = name in self._sound
            was_good = was_ready or self._resting.get(name) == link.version
            reason = self._judge(link)
            lasts = is_lasting(reason)
            if reason and (was_ready or (was_good and lasts)):
                struck[name] = reason
            self._rest(name, link.version if was_good and reason and not lasts else None)
        return struck

    def learn_status(self, status: Status) -> dict[str, str]:
        """Take a word in band in, of an instrument that is known; return the links this struck, with their faults."""
        known = self.instruments.get(status.instrument)
        if known is None:
            return {}
        words = self.words.get(status.instrument, SILENCE)
        heard = words.hear(status)
        if heard == words:
            return {}
        self.words[status.instrument] = heard
        return self.learn_instrument(known)

    def _rest(self, name: str, version: int | None) -> None:
        """Note that a link rests for a fault that passes, or does so no longer: what it was approved on still counts."""
        if self._resting.get(name) == version:
            return
        if version is None:
            del self._resting[name]
        else:
            self._resting[name] = version
        self.changed_resting.add(name)

    def _judge_all(self) -> None:
        if self._is_judged:
            return
        self._is_judged = True
        for link in self.links.values():
            self._judge(link)

    def _judge(self, link: Link) -> str:
        """Note whether a link is ready; return why it is not."""
        for key in (*instruments_of(link), link.event_group):
            if key:
                self._concerned.setdefault(key, set()).add(link.id)
        known = self._sound.pop(link.id, None)
        if known is not None:
            for instrument in instruments_of(known):
                del self._sound_of[instrument][link.id]
        reason = fault(link, self.instruments) if link.status == "APPROVED" else f"it is {link.status}"
        if not reason:
            self._sound[link.id] = link
            for instrument in instruments_of(link):
                self._sound_of.setdefault(instrument, {})[link.id] = link
        self._ready = None
        return reason

    # What is written down

    def can_be_written(self) -> bool:
        """Say whether every running strategy offers its memory."""
        return all(slot.running is None or isinstance(slot.running, Remembers) for slot in self.slots.values())

    def changed(self) -> Iterator[tuple[str, bytes | None]]:
        """Yield what changed since the last call."""
        for name in sorted(self.changed_books):
            book = self.books[name]
            yield f"book/{name}", _BOOKS.encode(_Book(book.quote, book.depth, book.partition))
        self.changed_books.clear()
        for name in sorted(self.changed_instruments):
            item = _Instrument(self.instruments[name], *self.words.get(name, SILENCE))
            yield f"instrument/{name}", _INSTRUMENTS.encode(item)
        self.changed_instruments.clear()
        for name in sorted(self.changed_links):
            yield f"link/{name}", _LINKS.encode(self.links[name])
        self.changed_links.clear()
        for name in sorted(self.changed_notices):
            yield f"notice/{name}", _NOTICES.encode(_Noticed(self.instruments.noticed_ns[name]))
        self.changed_notices.clear()
        for name in sorted(self.changed_resting):
            version = self._resting.get(name)
            yield f"resting/{name}", None if version is None else _RESTING.encode(_Resting(version))
        self.changed_resting.clear()
        for name, data in self._small().items():
            if self._last.get(name) != data:
                self._last[name] = data
                yield name, data

    def _small(self) -> dict[str, bytes]:
        small = {"": _OWN.encode(_Own(self.ticks, list(self.profiles.values())))}
        for name, slot in self.slots.items():
            memory = slot.running.remember() if isinstance(slot.running, Remembers) else None
            small[f"strategy/{name}"] = _STRATEGIES.encode(_Strategy(slot.config, slot.busy, memory))
        return small

    def restore(self, items: StateItems, make: Callable[[Strategy], Running]) -> None:
        """Take items up, in any order; `make` makes a strategy that remembers nothing yet.

        Raises:
            StateUnreadable: one was written by another version.
            Reject: a strategy cannot be made any more.
        """
        self._is_judged = False
        for name, data in items:
            kind, _, key = name.partition("/")
            match kind:
                case "book":
                    book = _BOOKS.decode(data)
                    self.books[key] = Book(book.quote, book.depth, book.partition)
                case "instrument":
                    known = _INSTRUMENTS.decode(data)
                    self.instruments[key] = known.instrument
                    if known.state is not None or known.grid is not None:
                        self.words[key] = Words(known.state, known.grid)
                case "link":
                    self.links[key] = _LINKS.decode(data)
                case "notice":
                    self.instruments.noticed_ns[key] = _NOTICES.decode(data).ts_ns
                case "resting":
                    self._resting[key] = _RESTING.decode(data).version
                case "strategy":
                    self._restore_strategy(_STRATEGIES.decode(data), make)
                    self._last[name] = data
                case "":
                    own = _OWN.decode(data)
                    self.ticks.update(own.ticks)
                    self.profiles.update({(profile.account_set, profile.venue): profile for profile in own.profiles})
                    self._last[name] = data
                case _:
                    # Another version may know more; what this one wrote is all here.
                    continue

    def _restore_strategy(self, item: _Strategy, make: Callable[[Strategy], Running]) -> None:
        running = None
        if item.memory is not None:
            running = make(item.config)
            if not isinstance(running, Remembers):
                raise StateUnreadable(f"strategy {item.config.id}: kind {item.config.kind} has no memory any more")
            running.recall(item.memory)
        self.slots[item.config.id] = Slot(item.config, running, dict(item.busy))
