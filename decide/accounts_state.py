"""What the accounts' task remembers, and how it is written down: an item for each thing that changes by itself.

    link/<id>, instrument/<id>      what is known
    grid/<id>                       the market's newest word on the price grid of an instrument
    notice/<id or event>            when a venue last said that this is no longer so
    set/<name>                      limit, profiles, gateways, what waits, what was entered too early
    account/<set>/<id>              cash, holdings, reservations
    fill/<set>/<account>/<fill>     what a fill did, so that money moves once per fill id
    paid/<set>/<account>/<instrument>  what a settled market paid by the venue's statement, once and as corrected
    word/<instrument>               what a determined market is to pay, until it is forgotten
    saga/<intent>                   a saga with its legs and orders
    claims/<set>/<instrument>       quantity taken from levels
    refused/<minute>                intents that were refused in that minute of log time
    book/<set>/<strategy>           open positions of a strategy, and what its fills brought
    risk/<set>                      budgets, commands, stops, silence, the day
    mark/<instrument>, ticks        what holdings can be sold for

Sagas and fills are kept for ever: a settlement may fail, and a gateway may tell of an old fill, at any time. They are
written once and again when they change. Refused intents are kept for an hour of log time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from core.runtime.flow import StateCodec, StateItems
from decide.account_set import AccountSet
from decide.admission import Known
from decide.claims import Claim, Place
from decide.ledger import Account, Booked
from decide.links import Instruments
from decide.marks import Mark, Marks, PayoutWord
from decide.payouts import Paid
from decide.positions import Book
from decide.risk import Risk
from decide.saga import Saga
from schemas.decision import Limit, Link, Posting, Profile
from schemas.enums import Settlement
from schemas.market import Instrument, Status
from schemas.order import Alive

NS_PER_MINUTE = 60_000_000_000
REFUSED_MINUTES = 60
"""An intent that comes again after that is refused again, for its age."""
VERSION = 4
"""Of all items: raised when one changes its meaning; older checkpoints are then not read."""


class _Noticed(msgspec.Struct, frozen=True):
    ts_ns: int


class _Set(msgspec.Struct, frozen=True):
    name: str
    limit: Limit | None
    profiles: dict[str, Profile]
    owned: list[str]
    """venue accounts whose events this set gets"""
    alive: dict[str, Alive]
    waiting: list[tuple[str, str]]
    """in the order in which they began to wait"""
    postings: dict[str, Posting]


class _Account(msgspec.Struct, frozen=True):
    set: str
    account: Account


class _Fill(msgspec.Struct, frozen=True):
    set: str
    account: str
    fill: str
    booked: Booked | None
    final: Settlement | None


class _Paid(msgspec.Struct, frozen=True):
    set: str
    account: str
    paid: Paid


class _Word(msgspec.Struct, frozen=True):
    word: PayoutWord


class _Claims(msgspec.Struct, frozen=True):
    set: str
    held: list[tuple[Place, Claim]]


class _Saga(msgspec.Struct, frozen=True):
    saga: Saga


class _Refused(msgspec.Struct, frozen=True):
    minute: int
    intents: list[str]


class _Book(msgspec.Struct, frozen=True):
    set: str
    strategy: str
    book: Book


class _Risk(msgspec.Struct, frozen=True):
    set: str
    risk: Risk


class _Mark(msgspec.Struct, frozen=True):
    mark: Mark


class _Ticks(msgspec.Struct, frozen=True):
    ticks: dict[int, int]


_LINKS = StateCodec(Link, VERSION)
_INSTRUMENTS = StateCodec(Instrument, VERSION)
_NOTICES = StateCodec(_Noticed, VERSION)
_GRIDS = StateCodec(Status, VERSION)
_SETS = StateCodec(_Set, VERSION)
_ACCOUNTS = StateCodec(_Account, VERSION)
_FILLS = StateCodec(_Fill, VERSION)
_PAID = StateCodec(_Paid, VERSION)
_WORDS = StateCodec(_Word, VERSION)
_CLAIMS = StateCodec(_Claims, VERSION)
_SAGAS = StateCodec(_Saga, VERSION)
_REFUSALS = StateCodec(_Refused, VERSION)
_BOOKS = StateCodec(_Book, VERSION)
_RISKS = StateCodec(_Risk, VERSION)
_MARKS = StateCodec(_Mark, VERSION)
_TICKS = StateCodec(_Ticks, VERSION)


class Refused:
    """Intents that were refused lately, so that one that comes twice is refused once."""

    def __init__(self) -> None:
        self._minutes: dict[int, dict[str, None]] = {}
        self.changed: set[int] = set()

    def __contains__(self, intent: str) -> bool:
        return any(intent in intents for intents in self._minutes.values())

    def add(self, intent: str, now_ns: int) -> None:
        """Remember an intent, and forget those of an hour ago."""
        minute = now_ns // NS_PER_MINUTE
        if minute not in self._minutes:
            for old in [old for old in self._minutes if old <= minute - REFUSED_MINUTES]:
                del self._minutes[old]
                self.changed.add(old)
        self._minutes.setdefault(minute, {})[intent] = None
        self.changed.add(minute)

    def of(self, minute: int) -> list[str] | None:
        """Return the intents of one minute."""
        found = self._minutes.get(minute)
        return None if found is None else list(found)

    def restore(self, minute: int, intents: list[str]) -> None:
        """Know intents again."""
        self._minutes[minute] = dict.fromkeys(intents)


@dataclass
class State:
    """All of it; `changed_known` names links and instruments (`link/<id>`) that are not written down as they are."""

    known: Known = field(default_factory=lambda: Known({}, Instruments()))
    sets: dict[str, AccountSet] = field(default_factory=dict)
    set_of: dict[str, AccountSet] = field(default_factory=dict)
    """venue account -> its set"""
    refused: Refused = field(default_factory=Refused)
    marks: Marks = field(default_factory=Marks)
    changed_known: dict[str, None] = field(default_factory=dict)
    grids: dict[str, Status] = field(default_factory=dict)
    """instrument -> its market's newest word on its price grid"""
    _last: dict[str, bytes] = field(default_factory=dict)
    """small items as they were last written"""

    def changed(self) -> Iterator[tuple[str, bytes | None]]:
        """Yield what changed since the last call."""
        names, self.changed_known = self.changed_known, {}
        for name in names:
            kind, _, key = name.partition("/")
            match kind:
                case "link":
                    yield name, _LINKS.encode(self.known.links[key])
                case "grid":
                    yield name, _GRIDS.encode(self.grids[key])
                case "notice":
                    yield name, _NOTICES.encode(_Noticed(self.known.instruments.noticed_ns[key]))
                case _:
                    yield name, _INSTRUMENTS.encode(self.known.instruments[key])
        for minute in sorted(self.refused.changed):
            intents = self.refused.of(minute)
            yield f"refused/{minute}", None if intents is None else _REFUSALS.encode(_Refused(minute, intents))
        self.refused.changed.clear()
        yield from self._changed_marks()
        for accounts in self.sets.values():
            yield from self._changed_in(accounts)

    def _changed_marks(self) -> Iterator[tuple[str, bytes | None]]:
        for instrument in sorted(self.marks.changed):
            yield f"mark/{instrument}", _MARKS.encode(_Mark(self.marks.by_instrument[instrument]))
        self.marks.changed.clear()
        words = self.marks.words
        for instrument in sorted(words.changed):
            word = words.by_instrument.get(instrument)
            yield f"word/{instrument}", None if word is None else _WORDS.encode(_Word(word))
        words.changed.clear()
        ticks = _TICKS.encode(_Ticks(self.marks.ticks))
        if self.marks.ticks and self._last.get("ticks") != ticks:
            self._last["ticks"] = ticks
            yield "ticks", ticks

    def _changed_in(self, accounts: AccountSet) -> Iterator[tuple[str, bytes | None]]:
        small = {f"set/{accounts.name}": _SETS.encode(self._set_item(accounts))}
        small[f"risk/{accounts.name}"] = _RISKS.encode(_Risk(accounts.name, accounts.risk))
        for account in accounts.ledgers.values():
            small[f"account/{accounts.name}/{account.name}"] = _ACCOUNTS.encode(
                _Account(accounts.name, account.without_fills())
            )
            for fill in sorted(account.changed_fills):
                item = _Fill(accounts.name, account.name, fill, *account.known_fill(fill))
                yield f"fill/{accounts.name}/{account.name}/{fill}", _FILLS.encode(item)
            account.changed_fills.clear()
            for instrument in sorted(account.changed_paid):
                paid = account.paid(instrument)
                if paid is not None:
                    name = f"paid/{accounts.name}/{account.name}/{instrument}"
                    yield name, _PAID.encode(_Paid(accounts.name, account.name, paid))
            account.changed_paid.clear()
        for name, data in small.items():
            if self._last.get(name) != data:
                self._last[name] = data
                yield name, data
        for strategy in sorted(accounts.positions.changed):
            book = _Book(accounts.name, strategy, accounts.positions.books[strategy])
            yield f"book/{accounts.name}/{strategy}", _BOOKS.encode(book)
        accounts.positions.changed.clear()
        for name in sorted(accounts.changed_sagas):
            yield f"saga/{name}", _SAGAS.encode(_Saga(accounts.sagas[name]))
        accounts.changed_sagas.clear()
        for instrument in sorted(accounts.claims.changed):
            held = accounts.claims.on(instrument)
            yield (
                f"claims/{accounts.name}/{instrument}",
                _CLAIMS.encode(_Claims(accounts.name, held)) if held else None,
            )
        accounts.claims.changed.clear()

    def _set_item(self, accounts: AccountSet) -> _Set:
        owned = [account for account in accounts.profiles if self.set_of.get(account) is accounts]
        waiting = list(accounts.waiting.items())
        return _Set(accounts.name, accounts.limit, accounts.profiles, owned, accounts.alive, waiting, accounts.postings)

    def restore(self, items: StateItems) -> None:
        """Take items up, in any order.

        Raises:
            StateUnreadable: one was written by another version.
        """
        for name, data in items:
            kind, _, key = name.partition("/")
            match kind:
                case "link" | "instrument" | "grid" | "notice":
                    self._restore_known(kind, key, data)
                case "refused":
                    refused = _REFUSALS.decode(data)
                    self.refused.restore(refused.minute, refused.intents)
                case "set":
                    self._restore_set(_SETS.decode(data))
                    self._last[name] = data
                case "account":
                    account = _ACCOUNTS.decode(data)
                    self._restore_account(account.set, account.account)
                    self._last[name] = data
                case "fill":
                    fill = _FILLS.decode(data)
                    ledger = self._ledger(fill.set, fill.account)
                    ledger.restore_fill(fill.fill, fill.booked, fill.final)
                case "paid":
                    found = _PAID.decode(data)
                    self._ledger(found.set, found.account).restore_paid(found.paid)
                case "book":
                    book = _BOOKS.decode(data)
                    self._accounts(book.set).positions.books[book.strategy] = book.book
                case "risk":
                    risk = _RISKS.decode(data)
                    self._accounts(risk.set).risk = risk.risk
                    self._last[name] = data
                case "mark" | "ticks" | "word":
                    self._restore_mark(kind, key, data)
                case "saga":
                    saga = _SAGAS.decode(data).saga
                    self._accounts(saga.intent.account_set).restore_saga(saga)
                case "claims":
                    claims = _CLAIMS.decode(data)
                    self._accounts(claims.set).claims.restore(claims.held)
                case _:
                    # Another version may know more; what this one wrote is all here.
                    continue

    def _restore_known(self, kind: str, key: str, data: bytes) -> None:
        if kind == "link":
            self.known.links[key] = _LINKS.decode(data)
        elif kind == "instrument":
            self.known.instruments[key] = _INSTRUMENTS.decode(data)
        elif kind == "grid":
            self.grids[key] = _GRIDS.decode(data)
        else:
            self.known.instruments.noticed_ns[key] = _NOTICES.decode(data).ts_ns

    def _restore_mark(self, kind: str, key: str, data: bytes) -> None:
        if kind == "mark":
            self.marks.by_instrument[key] = _MARKS.decode(data).mark
        elif kind == "word":
            self.marks.words.by_instrument[key] = _WORDS.decode(data).word
        else:
            self.marks.ticks.update(_TICKS.decode(data).ticks)
            self._last[kind] = data

    def _accounts(self, name: str) -> AccountSet:
        return self.sets.setdefault(name, AccountSet(name))

    def _ledger(self, name: str, account: str) -> Account:
        """Return an account's ledger, which may come before its figures do."""
        return self._accounts(name).ledgers.setdefault(account, Account(account, nets=False, settles_later=False))

    def _restore_set(self, item: _Set) -> None:
        accounts = self._accounts(item.name)
        accounts.limit = item.limit
        accounts.profiles.update(item.profiles)
        accounts.alive.update(item.alive)
        accounts.waiting.update(item.waiting)
        accounts.postings.update(item.postings)
        for account in item.owned:
            self.set_of[account] = accounts

    def _restore_account(self, name: str, account: Account) -> None:
        known = self._ledger(name, account.name)
        account.take_fills(known)
        self._accounts(name).ledgers[account.name] = account
