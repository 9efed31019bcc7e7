"""Polymarket's market channel: subscribe once, keep alive with text, count the books that come.

Source: docs.polymarket.com market-data/websocket; fixtures: `ws_market_*` of the captures.

1. One opening message names the YES token of each market. The second token of a market repeats the first, and its
   changes come along with those of the first anyway.
2. There is no acknowledgement and no sequence: what came is known by counting the `book` of each token. Above an
   unpublished number of tokens on one connection books are silently left out.
3. `PING` and `PONG` are text and are no JSON; a protocol ping is not what the venue looks at.
4. Subscribing again brings no new book, so a suspect book gets a new feed beside this one: a small one for few of many
   books, else one of all, and this one ends when that is ready.
"""

from collections.abc import Mapping

import msgspec

from core.runtime import log
from core.runtime.clock import NS_PER_S
from ingest.conversation import NOTHING, PUBLISH_ONLY, Action, Actions, Complete, Publish, Reconnect, Renew, Send
from venues.polymarket.control import PING, PING_EVERY_S, subscribe_market

PING_EVERY_NS = PING_EVERY_S * NS_PER_S
BOOKS_NS_MAX = 15 * NS_PER_S
"""How long the first books may take to come."""
TEXT_BYTES_MAX = 16
"""Longer frames are no keep-alive."""

_PING = PING.encode()
_PONG = b"PONG"


class _Head(msgspec.Struct):
    event_type: str = ""
    asset_id: str = ""


_HEADS = msgspec.json.Decoder(list[_Head] | _Head)


class PolymarketConversation:
    """One connection's tokens, and which of them have had a book."""

    def __init__(self, subjects: dict[str, str], *, venue_wide: bool) -> None:
        """Take `subjects`: instrument by YES token. What concerns all markets comes on every connection."""
        self._instruments = subjects
        self._missing = set(subjects)
        self._missing_instruments = set(subjects.values())
        self._complete_ns = 0
        self._opened_ns = 0
        self._ping_ns = 0
        self._warned = False
        self._odd = 0

    @property
    def missing(self) -> int:
        """Number of tokens without a book so far."""
        return len(self._missing)

    @property
    def odd(self) -> int:
        """Number of frames that could not be read while books were waited for."""
        return self._odd

    def opened(self, now_ns: int) -> Actions:
        """Subscribe; the flag is needed for `market_resolved`."""
        self._opened_ns = self._ping_ns = now_ns
        return (Send(subscribe_market(list(self._instruments))),)

    # hot: 100k frames/s/worker (benchmarks/frames.py)
    def received(self, frame: bytes, now_ns: int) -> Actions:
        """Publish the frame, unless it is a keep-alive; once all books came nothing is looked into any more."""
        if len(frame) <= TEXT_BYTES_MAX:
            text = frame.strip()
            if text == _PONG:
                return NOTHING
            if text == _PING:
                return (Send(_PONG),)
        if not self._missing or b'"bids"' not in frame:
            return PUBLISH_ONLY
        return self._count_books(frame, now_ns)

    def beat(self, now_ns: int) -> Actions:
        """Send the keep-alive; look whether the first books came."""
        actions: list[Action] = []
        if now_ns - self._ping_ns >= PING_EVERY_NS:
            self._ping_ns = now_ns
            actions.append(Send(_PING))
        if self._missing and now_ns - self._opened_ns > BOOKS_NS_MAX and not self._warned:
            self._warned = True
            missing, asked = len(self._missing), len(self._instruments)
            log.get().warning("feed.books_missing", venue="polymarket", missing=missing, subscribed=asked)
            if missing * 2 > asked:
                reason = f"{missing} of {asked} books did not come within {BOOKS_NS_MAX // NS_PER_S} s"
                actions.append(Reconnect(reason, fewer=True))
        return actions

    def resync(self, requests: Mapping[str, int], now_ns: int) -> Actions:
        """Ask for new books on a new feed, unless this one's are newer than the request or may still come."""
        newest_ns = max(self._complete_ns, self._opened_ns)
        wanted = [
            instrument
            for instrument, asked_ns in requests.items()
            if asked_ns >= newest_ns and (self._warned or instrument not in self._missing_instruments)
        ]
        if not wanted:
            return NOTHING
        return (Renew(f"new books wanted for {len(wanted)} markets, {wanted[0]} first", tuple(wanted)),)

    def _count_books(self, frame: bytes, now_ns: int) -> Actions:
        try:
            heads = _HEADS.decode(frame)
        except msgspec.MsgspecError:
            self._odd += 1
            return PUBLISH_ONLY
        for head in heads if isinstance(heads, list) else (heads,):
            if head.event_type in {"book", ""} and head.asset_id in self._missing:
                self._missing.discard(head.asset_id)
                self._missing_instruments.discard(self._instruments[head.asset_id])
        if self._missing:
            return PUBLISH_ONLY
        self._complete_ns = now_ns
        return (Publish(), Complete())
