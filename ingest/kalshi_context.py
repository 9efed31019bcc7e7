"""What Kalshi says beside a market: its event, its series, and the fee changes that are to come.

None of it says by itself that it changed (an event's override does on the stream, see `forget`; its settlement sources do
not), so all of it is read again when it is older than a bound: oldest first, so many requests a poll, hundreds of events
in one. What no market of the last lists belongs to is left alone.

A change of fees that was scheduled stays beside the series it is of until the series was read well after its time: the
venue lists upcoming ones only, and what was read before says the old fee.

Source: docs.kalshi.com get-events, get-series, get-series-fee-changes, get-event-fee-changes.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

import msgspec

from core.domain.errors import Reject, Unavailable
from core.runtime import log, metrics
from core.runtime.clock import NS_PER_S, Clock
from core.runtime.queues import NewestDict
from ingest.rest import RestClient
from venues.kalshi.fee_changes import FeeChange, decode_fee_changes
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


class _Known(NamedTuple):
    """What was read of an event or a series; `asked_s` is on the monotonic clock, `asked_ns` on the wall's."""

    asked_s: float
    asked_ns: int
    text: bytes
    series: str = ""


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
        self._seen: dict[str, int] = {}
        """event -> the last poll in which a market belonged to it"""
        self._polls = 0
        self._changes: dict[tuple[str, str], list[FeeChange]] = {}
        """("series" or "event", ticker) -> scheduled changes, soonest first"""
        self._said_changes = ""

    def forget(self, event_ticker: str) -> None:
        """Read an event and its series again before a market of it is described the next time: the stream says it changed."""
        now_s = self._clock.monotonic_s()
        self._needed_s[event_ticker] = now_s
        known = self._events.get(event_ticker)
        if known is not None:
            self._needed_s[_of_series(known.series)] = now_s

    async def refresh(self) -> None:
        """Read again what is older than allowed; call it once a poll, before the markets.

        Raises:
            Unavailable: the venue does not answer.
        """
        left = self._requests_max - await self._read_changes()
        self._seen = {event: poll for event, poll in self._seen.items() if self._polls - poll < IDLE_POLLS}
        self._polls += 1
        overdue = self._overdue(self._events, self._seen)
        # Series are asked for one by one: they get what events leave, half at least.
        batches = max(1, left // 2)
        left -= await self._read_events(overdue[: batches * EVENTS_TICKERS], max(left, 1))
        series = self._overdue(self._series, dict.fromkeys(self._series_seen()))
        for ticker in series[: max(left, 1)]:
            await self._read_series(ticker)
        late = len(self._overdue(self._events, self._seen)) + max(0, len(series) - max(left, 1))
        metrics.LEVELS.labels("ingest", "context_overdue").set(late)

    async def learn(self, events: Collection[str]) -> None:
        """Read those events that are not known, or were told of since they were read.

        Raises:
            Unavailable: the venue does not answer.
        """
        self._seen.update(dict.fromkeys(events, self._polls))
        await self._learn_unknown(set(events) - set(self._events))
        for ticker in sorted(event for event in events if self._is_needed(event, self._events.get(event))):
            await self._read_event(ticker)

    async def text_of(self, event_ticker: str) -> bytes:
        """Return series, event and scheduled changes as one object, empty where the venue does not state them.

        Raises:
            Unavailable: the venue does not answer.
        """
        event = self._events.get(event_ticker)
        if event is None:
            return b""
        series = self._series.get(event.series)
        if series is None or self._is_needed(_of_series(event.series), series):
            series = await self._read_series(event.series)
        if not series.text:
            return b""
        return b'{"series":' + series.text + b',"event":' + event.text + self._changes_text(event_ticker, event) + b"}"

    # --- what is due

    def _series_seen(self) -> Iterator[str]:
        for event in self._seen:
            known = self._events.get(event)
            if known is not None:
                yield known.series

    def _overdue(self, known: NewestDict[str, _Known], wanted: Iterable[str]) -> list[str]:
        """Return those that are to be read again, oldest first."""
        now_s, now_ns = self._clock.monotonic_s(), self._clock.now_ns()
        found = []
        for ticker in wanted:
            one = known.get(ticker)
            if one is None:
                continue
            kind = "event" if known is self._events else "series"
            came = any(one.asked_ns < change.at_ns <= now_ns for change in self._changes.get((kind, ticker), ()))
            if came or now_s - one.asked_s >= self._kept_s:
                found.append((not came, one.asked_s, ticker))
        return [ticker for *_, ticker in sorted(found)]

    def _is_needed(self, name: str, known: _Known | None) -> bool:
        needed_s = self._needed_s.get(name)
        return known is not None and needed_s is not None and known.asked_s <= needed_s

    # --- what is read

    async def _read_events(self, tickers: list[str], requests_max: int) -> int:
        """Read events by name, many in a request; those that did not come, one by one as far as requests go."""
        asked = 0
        missing: list[str] = []
        for first in range(0, len(tickers), EVENTS_TICKERS):
            some = tickers[first : first + EVENTS_TICKERS]
            asked_s, asked_ns = self._clock.monotonic_s(), self._clock.now_ns()
            query = {"tickers": ",".join(some), "limit": str(EVENTS_TICKERS)}
            body = await self._rest.get(f"{API_ROOT}/events", query)
            asked += 1
            found = {self._learn(bytes(one), asked_s, asked_ns) for one in _events_of(body).events}
            missing += [ticker for ticker in some if ticker not in found]
        for ticker in missing[: max(0, requests_max - asked)]:
            await self._read_event(ticker)
            asked += 1
        return asked

    async def _read_event(self, ticker: str) -> None:
        asked_s, asked_ns = self._clock.monotonic_s(), self._clock.now_ns()
        body = await self._rest.get(f"{API_ROOT}/events/{ticker}")
        if body is not None:
            self._learn(bytes(decode(_EVENT, body, "kalshi event").event), asked_s, asked_ns)
        elif ticker in self._events:
            # The venue does not state it any more: what it said last stands.
            metrics.EVENTS.labels("ingest", "event_not_stated").inc()
            self._events[ticker] = self._events[ticker]._replace(asked_s=asked_s, asked_ns=asked_ns)

    async def _learn_unknown(self, unknown: set[str]) -> None:
        cursor = ""
        while len(unknown) > EVENTS_ONE_BY_ONE:
            asked_s, asked_ns = self._clock.monotonic_s(), self._clock.now_ns()
            query = {"status": "open", "limit": str(EVENTS_PAGE)} | ({"cursor": cursor} if cursor else {})
            page = _events_of(await self._rest.get(f"{API_ROOT}/events", query))
            for event in page.events:
                self._learn(bytes(event), asked_s, asked_ns)
            unknown = unknown - set(self._events)
            cursor = page.cursor
            if not cursor or not page.events:
                break
        for ticker in sorted(unknown):
            await self._read_event(ticker)

    def _learn(self, event: bytes, asked_s: float, asked_ns: int) -> str:
        head = decode(_EVENT_HEAD, event, "kalshi event")
        text = _without(event, *_CHANGING_EVENT)
        self._events[head.event_ticker] = _Known(asked_s, asked_ns, text, head.series_ticker)
        return head.event_ticker

    async def _read_series(self, ticker: str) -> _Known:
        asked_s, asked_ns = self._clock.monotonic_s(), self._clock.now_ns()
        body = await self._rest.get(f"{API_ROOT}/series/{ticker}")
        text = bytes(decode(_SERIES, body, "kalshi series").series) if body is not None else b""
        known = self._series[ticker] = _Known(asked_s, asked_ns, _without(text, *_CHANGING_SERIES) if text else b"")
        return known

    # --- scheduled changes of fees

    async def _read_changes(self) -> int:
        """Read what is scheduled; where that cannot be had the last list stands. Return how many requests it took."""
        try:
            found, asked = await self._upcoming()
        except (Unavailable, Reject) as e:
            metrics.EVENTS.labels("ingest", "fee_changes_failed").inc()
            if str(e) != self._said_changes:
                self._said_changes = str(e)
                log.get().warning("catalogue.fee_changes", venue="kalshi", reason=str(e))
            return 1
        now_ns = self._clock.now_ns()
        kept = [change for changes in self._changes.values() for change in changes if self._lingers(change, now_ns)]
        by_place = {(change.of, change.ticker, change.at_ns): change for change in (*kept, *found)}
        self._changes = {}
        for change in sorted(by_place.values(), key=lambda one: one.at_ns)[:CHANGES_MAX]:
            if change.at_ns > now_ns or self._lingers(change, now_ns):
                self._changes.setdefault((change.of, change.ticker), []).append(change)
        return asked

    async def _upcoming(self) -> tuple[list[FeeChange], int]:
        body = await self._rest.get(f"{API_ROOT}/series/fee_changes")
        found, _ = decode_fee_changes(body) if body is not None else ([], "")
        cursor, asked = "", 1
        for _ in range(CHANGES_PAGES_MAX):
            query = {"limit": str(EVENTS_PAGE)} | ({"cursor": cursor} if cursor else {})
            body = await self._rest.get(f"{API_ROOT}/events/fee_changes", query)
            asked += 1
            page, cursor = decode_fee_changes(body) if body is not None else ([], "")
            found += page
            if not cursor or not page:
                break
        else:
            metrics.EVENTS.labels("ingest", "fee_changes_cut").inc()
        return found, asked

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
    kept = {key: value for key, value in _FIELDS.decode(text).items() if key not in fields}
    return msgspec.json.encode(kept)
