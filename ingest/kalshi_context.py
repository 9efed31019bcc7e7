"""What Kalshi says beside a market: its event, its series, and the fee changes that are to come.

None of it says by itself that it changed (an event's override does on the stream, see `forget`; its settlement sources do
not), so all of it is read again when it is older than a bound: oldest first, so many requests a poll, hundreds of events
in one. What no market of the last lists belongs to is left alone.

What cannot be read costs nobody else anything: it is counted, goes to the back, and what was read of it last stands.
A market of what was never read is not described by halves: it stays as it stands.

A change of fees that was scheduled stays beside the series it is of until the series was read well after its time: the
venue lists upcoming ones only, and what was read before says the old fee.

Source: docs.kalshi.com get-events, get-series, get-series-fee-changes, get-event-fee-changes.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import Literal, NamedTuple

import msgspec

from core.domain.errors import Reject, Unavailable
from core.runtime import log, metrics
from core.runtime.clock import NS_PER_S, Clock
from core.runtime.queues import NewestDict
from ingest.rest import RestClient
from venues.kalshi.fee_changes import FeeChange, FeeChanges, decode_fee_changes
from venues.kalshi.hosts import API_ROOT
from venues.text import decode

EVENTS_PAGE = 200
EVENTS_TICKERS = 100
"""Events asked for by name in one request."""
EVENTS_ONE_BY_ONE = 10
"""More unknown events than these are fetched by page."""
EVENTS_MAX = 50_000
"""Events, and series, remembered; what was learnt longest ago is asked for again."""
CHANGES_PAGES_MAX = 5
CHANGES_MAX = 10_000
"""Scheduled changes remembered; beyond it the soonest count."""
IDLE_POLLS = 3
"""An event that no market of so many lists belongs to is not read again."""
FAILURES_MAX = 2
"""Events, or series, for which the host fails in a row: the others are left for later, before the host is paused."""
FRESH_TRIES = 2
"""How often something is asked for in a row; what failed before, once."""
SAID_MAX = 200
"""Reasons for which something could not be read that are logged."""
CHANGE_SETTLES_NS = 60 * NS_PER_S
"""How long after its time a change stays beside its series: the series may say it a little later."""

_CHANGING_EVENT = ("markets", "last_updated_ts")
_CHANGING_SERIES = ("last_updated_ts", "volume_fp")


class _EventHead(msgspec.Struct):
    event_ticker: str
    series_ticker: str


class _Events(msgspec.Struct):
    events: list[msgspec.Raw]
    cursor: str = ""


class _OneEvent(msgspec.Struct):
    event: msgspec.Raw


class _OneSeries(msgspec.Struct):
    series: msgspec.Raw


_EVENT_HEAD, _EVENTS = msgspec.json.Decoder(_EventHead), msgspec.json.Decoder(_Events)
_EVENT, _SERIES = msgspec.json.Decoder(_OneEvent), msgspec.json.Decoder(_OneSeries)
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


Kind = Literal["event", "series"]
KINDS: tuple[Kind, ...] = ("series", "event")


class _Known(NamedTuple):
    """What was read of an event or a series; `asked_s` is on the monotonic clock, `asked_ns` on the wall's.

    `text` is empty where the venue does not state it.
    """

    asked_s: float
    asked_ns: int
    text: bytes
    series: str = ""


class Beside(NamedTuple):
    """Series, event and scheduled changes as one object, empty where the venue does not state them.

    `asked_ns`: when the older of event and series was asked for.
    """

    text: bytes
    asked_ns: int


class KalshiContext:
    """Events, series and scheduled fee changes of the markets that are listed."""

    def __init__(self, rest: RestClient, clock: Clock, *, kept_s: float, requests_max: int) -> None:
        """`kept_s`: what is older is read again. `requests_max`: for that, a poll; others wait for the next."""
        self._rest = rest
        self._clock = clock
        self._kept_s = kept_s
        self._requests_max = requests_max
        self._events: NewestDict[str, _Known] = NewestDict("kalshi events", EVENTS_MAX)
        self._series: NewestDict[str, _Known] = NewestDict("kalshi series", EVENTS_MAX)
        self._needed_s: NewestDict[str, float] = NewestDict("kalshi events told of", EVENTS_MAX)
        self._failed_s: NewestDict[tuple[Kind, str], float] = NewestDict("kalshi context unread", EVENTS_MAX)
        """When what could not be read since was tried last."""
        self._said: set[str] = set()
        self._seen: dict[str, int] = {}
        """event -> the last poll in which a market belonged to it"""
        self._polls = 0
        self._changes: dict[tuple[str, str], list[FeeChange]] = {}
        """("series" or "event", ticker) -> scheduled changes, soonest first"""

    def forget(self, event_ticker: str) -> None:
        """Read an event and its series again before a market of it is described the next time: the stream says it changed."""
        now_s = self._clock.monotonic_s()
        self._needed_s[event_ticker] = now_s
        known = self._events.get(event_ticker)
        if known is not None:
            self._needed_s[_of_series(known.series)] = now_s

    async def refresh(self) -> None:
        """Read again what is older than allowed; call it once a poll, before the markets."""
        left = self._requests_max - await self._read_changes()
        # A list that broke off says nothing of what no market belongs to: it does not count, see `broke_off`.
        self._seen = {event: poll for event, poll in self._seen.items() if self._polls - poll < IDLE_POLLS}
        self._polls += 1
        overdue = self._overdue("event")
        # Series are asked for one by one: they get what events leave, half at least if so many are due.
        half = left // 2
        of_events = max(1, left - min(half, len(self._overdue("series"))))
        left -= await self._read_events(overdue[: max(1, half) * EVENTS_TICKERS], of_events)
        await self._in_turn("series", self._overdue("series")[: max(left, 1)])
        self._tell_overdue()

    def broke_off(self) -> None:
        """The list that followed the last `refresh` was not complete."""
        self._polls -= 1

    async def learn(self, events: Collection[str]) -> None:
        """Read those events that are not known, or were told of since they were read."""
        self._seen.update(dict.fromkeys(events, self._polls))
        await self._learn_unknown(set(events) - set(self._events))
        needed = [event for event in events if self._is_needed(event, self._events.get(event))]
        await self._in_turn("event", self._failed_last("event", needed))

    async def beside(self, events: Collection[str]) -> dict[str, Beside | None]:
        """Return what is said beside the markets of each event.

        None where they could not be read (again): what is true of its markets is not known.
        """
        series = {self._events[event].series for event in events if event in self._events}
        wanted = [one for one in series if one and self._is_wanted(one)]
        await self._in_turn("series", self._failed_last("series", wanted))
        return {event: self._beside(event) for event in events}

    def _beside(self, event_ticker: str) -> Beside | None:
        event = self._events.get(event_ticker)
        if event is None or self._is_needed(event_ticker, event):
            return None
        if not event.text:
            return Beside(b"", event.asked_ns)
        series = self._series.get(event.series)
        if series is None or self._is_wanted(event.series):
            return None
        asked_ns = min(event.asked_ns, series.asked_ns)
        if not series.text:
            return Beside(b"", asked_ns)
        parts = b'{"series":' + series.text + b',"event":' + event.text + self._changes_text(event_ticker, event) + b"}"
        return Beside(parts, asked_ns)

    # --- what is due

    def _seen_of(self, kind: Kind) -> Iterator[tuple[str, _Known]]:
        """Give the events, or their series, that markets of the last lists belong to, as far as they are known."""
        events = [(event, self._events[event]) for event in self._seen if event in self._events]
        if kind == "event":
            yield from events
            return
        for series in dict.fromkeys(event.series for _, event in events):
            known = self._series.get(series)
            if known is not None:
                yield series, known

    def _overdue(self, kind: Kind) -> list[str]:
        """Return those that are to be read again, oldest first; a read that failed counts for the order."""
        now_s, now_ns = self._clock.monotonic_s(), self._clock.now_ns()
        found = []
        for ticker, one in self._seen_of(kind):
            failed_s = self._failed_s.get((kind, ticker)) or 0.0
            came = any(one.asked_ns < change.at_ns <= now_ns for change in self._changes.get((kind, ticker), ()))
            if came or now_s - one.asked_s >= self._kept_s:
                found.append((not came or failed_s > one.asked_s, max(one.asked_s, failed_s), ticker))
        return [ticker for *_, ticker in sorted(found)]

    def _failed_last(self, kind: Kind, tickers: Iterable[str]) -> list[str]:
        return sorted(tickers, key=lambda ticker: (self._failed_s.get((kind, ticker)) or 0.0, ticker))

    def _is_wanted(self, series: str) -> bool:
        known = self._series.get(series)
        return known is None or self._is_needed(_of_series(series), known)

    def _tell_overdue(self) -> None:
        ages = [self._clock.monotonic_s() - one.asked_s for kind in KINDS for _, one in self._seen_of(kind)]
        metrics.LEVELS.labels("ingest", "context_overdue").set(sum(len(self._overdue(kind)) for kind in KINDS))
        metrics.LEVELS.labels("ingest", "context_oldest_s").set(max(ages, default=0.0))

    def _is_needed(self, name: str, known: _Known | None) -> bool:
        needed_s = self._needed_s.get(name)
        return known is not None and needed_s is not None and known.asked_s <= needed_s

    # --- what is read

    async def _in_turn(self, kind: Kind, tickers: list[str]) -> int:
        """Read one after another until the host fails for a few in a row; return how many were asked for."""
        read = self._read_event if kind == "event" else self._read_series
        asked = failures = 0
        for ticker in tickers:
            if failures == FAILURES_MAX:
                break
            asked += 1
            try:
                await read(ticker, 1 if (kind, ticker) in self._failed_s else FRESH_TRIES)
            except (Unavailable, Reject) as e:
                # Who answers what cannot be read is there.
                failures = failures + 1 if isinstance(e, Unavailable) else 0
                self._failed_s[kind, ticker] = self._clock.monotonic_s()
                self._say_failure(e)
            else:
                failures = 0
                self._failed_s.pop((kind, ticker))
        return asked

    def _say_failure(self, error: Exception) -> None:
        metrics.EVENTS.labels("ingest", "context_failed").inc()
        self._say("catalogue.context", error)

    def _say(self, line: str, error: Exception) -> None:
        reason = str(error)
        if reason not in self._said and len(self._said) < SAID_MAX:
            self._said.add(reason)
            log.get().warning(line, venue="kalshi", reason=reason)

    async def _read_events(self, tickers: list[str], requests_max: int) -> int:
        """Read events by name, many in a request; those that did not come, one by one as far as requests go."""
        asked = 0
        missing: list[str] = []
        for first in range(0, len(tickers), EVENTS_TICKERS):
            some = tickers[first : first + EVENTS_TICKERS]
            query = {"tickers": ",".join(some), "limit": str(EVENTS_TICKERS)}
            asked += 1
            try:
                found, _ = await self._read_page(query)
            except (Unavailable, Reject) as e:
                self._say_failure(e)
                missing += some
                break
            missing += [ticker for ticker in some if ticker not in found]
        return asked + await self._in_turn("event", missing[: max(0, requests_max - asked)])

    async def _read_page(self, query: dict[str, str]) -> tuple[set[str], str]:
        """Read a page of events; return which could be read, and the cursor of the next if there is anything on it."""
        asked_s, asked_ns = self._clock.monotonic_s(), self._clock.now_ns()
        page = _events_of(await self._rest.get(f"{API_ROOT}/events", query, tries=FRESH_TRIES))
        found = set()
        for event in page.events:
            try:
                found.add(self._learn(bytes(event), asked_s, asked_ns))
            except Reject as e:
                self._say_failure(e)
        return found, page.cursor if page.events else ""

    async def _read_event(self, ticker: str, tries: int) -> None:
        asked_s, asked_ns = self._clock.monotonic_s(), self._clock.now_ns()
        body = await self._rest.get(f"{API_ROOT}/events/{ticker}", tries=tries)
        if body is not None:
            self._learn(bytes(decode(_EVENT, body, "kalshi event").event), asked_s, asked_ns)
            return
        # What the venue said last stands when it does not state it any more.
        metrics.EVENTS.labels("ingest", "event_not_stated").inc()
        known = self._events.get(ticker) or _Known(asked_s, asked_ns, b"")
        self._events[ticker] = known._replace(asked_s=asked_s, asked_ns=asked_ns)

    async def _learn_unknown(self, unknown: set[str]) -> None:
        cursor, failed = "", {ticker for ticker in unknown if ("event", ticker) in self._failed_s}
        while len(unknown - failed) > EVENTS_ONE_BY_ONE:
            query = {"status": "open", "limit": str(EVENTS_PAGE)} | ({"cursor": cursor} if cursor else {})
            try:
                _, cursor = await self._read_page(query)
            except (Unavailable, Reject) as e:
                self._say_failure(e)
                break
            unknown = unknown - set(self._events)
            if not cursor:
                break
        await self._in_turn("event", self._failed_last("event", unknown))

    def _learn(self, event: bytes, asked_s: float, asked_ns: int) -> str:
        head = decode(_EVENT_HEAD, event, "kalshi event")
        text = _without(event, *_CHANGING_EVENT)
        self._events[head.event_ticker] = _Known(asked_s, asked_ns, text, head.series_ticker)
        return head.event_ticker

    async def _read_series(self, ticker: str, tries: int) -> None:
        asked_s, asked_ns = self._clock.monotonic_s(), self._clock.now_ns()
        body = await self._rest.get(f"{API_ROOT}/series/{ticker}", tries=tries)
        if body is None:
            metrics.EVENTS.labels("ingest", "series_not_stated").inc()
            known = self._series.get(ticker) or _Known(asked_s, asked_ns, b"")
            self._series[ticker] = known._replace(asked_s=asked_s, asked_ns=asked_ns)
            return
        text = bytes(decode(_SERIES, body, "kalshi series").series)
        self._series[ticker] = _Known(asked_s, asked_ns, _without(text, *_CHANGING_SERIES))

    # --- scheduled changes of fees

    async def _read_changes(self) -> int:
        """Read what is scheduled; a list that cannot be had stands as it was. Return how many requests it took."""
        asked, found = 0, []
        for kind in KINDS:
            try:
                some, pages = await self._upcoming(kind)
            except (Unavailable, Reject) as e:
                metrics.EVENTS.labels("ingest", "fee_changes_failed").inc()
                self._say("catalogue.fee_changes", e)
                some, pages = [one for (of, _), known in self._changes.items() if of == kind for one in known], 1
            asked += pages
            found += some
        now_ns = self._clock.now_ns()
        kept = [change for changes in self._changes.values() for change in changes if self._lingers(change, now_ns)]
        by_place = {(change.of, change.ticker, change.at_ns): change for change in (*kept, *found)}
        self._changes = {}
        for change in sorted(by_place.values(), key=lambda one: one.at_ns)[:CHANGES_MAX]:
            if change.at_ns > now_ns or self._lingers(change, now_ns):
                self._changes.setdefault((change.of, change.ticker), []).append(change)
        return asked

    async def _upcoming(self, kind: Kind) -> tuple[list[FeeChange], int]:
        """Return the changes that are scheduled of events or series, and how many requests that took."""
        if kind == "series":
            return (await self._read_upcoming("/series/fee_changes", {})).changes, 1
        found: list[FeeChange] = []
        cursor = ""
        for asked in range(1, CHANGES_PAGES_MAX + 1):
            query = {"limit": str(EVENTS_PAGE)} | ({"cursor": cursor} if cursor else {})
            page = await self._read_upcoming("/events/fee_changes", query)
            found += page.changes
            cursor = page.cursor
            if not cursor or not page.rows:
                return found, asked
        metrics.EVENTS.labels("ingest", "fee_changes_cut").inc()
        return found, CHANGES_PAGES_MAX

    async def _read_upcoming(self, path: str, query: dict[str, str]) -> FeeChanges:
        body = await self._rest.get(API_ROOT + path, query)
        if body is None:
            # Nothing scheduled would be an empty list.
            raise Unavailable(f"{path}: not found")
        page = decode_fee_changes(body)
        if page.unreadable:
            metrics.EVENTS.labels("ingest", "fee_change_unreadable").inc(page.unreadable)
        return page

    def _lingers(self, change: FeeChange, now_ns: int) -> bool:
        """Say whether a change whose time has come is not said yet by what it changes."""
        known = (self._events if change.of == "event" else self._series).get(change.ticker)
        return change.at_ns <= now_ns and known is not None and known.asked_ns < change.at_ns + CHANGE_SETTLES_NS

    def _changes_text(self, event_ticker: str, event: _Known) -> bytes:
        wanted = [*self._changes.get(("series", event.series), ()), *self._changes.get(("event", event_ticker), ())]
        return b',"fee_changes":[' + b",".join(change.text for change in wanted) + b"]" if wanted else b""


def _of_series(ticker: str) -> str:
    return f"series/{ticker}"


def _events_of(body: bytes | None) -> _Events:
    return decode(_EVENTS, body or b'{"events":[]}', "kalshi events")


def _without(text: bytes, *fields: str) -> bytes:
    kept = {key: value for key, value in decode(_FIELDS, text, "kalshi context").items() if key not in fields}
    return msgspec.json.encode(kept)
