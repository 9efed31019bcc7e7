"""Kalshi's WebSocket conversation: subscribe, watch the sequence, ask for snapshots again.

Source: docs.kalshi.com websockets/*, quick_start_websockets; fixtures: `ws__orderbook_trade_yes.jsonl` of the captures.

1. One subscribe for books and trades of this connection's markets; the venue gives each channel a `sid`.
2. `seq` counts from 1 within a `sid`, over all its markets and over control replies too; it is looked at before the type.
3. After a skip nothing says which market lost data: all books of the connection are suspect, and `get_snapshot` asks for
   all of them again. Its answers take their place in the same sequence: one from before the skip heals nothing, one from
   after it heals, whenever it was asked for. So what is on its way at a skip is asked for again only if then nothing comes
   for a second, and whole subscriptions are asked for once a second at most. Subscribing again would bring no snapshot.
   The venue limits commands (10,000/s), not the snapshots one of them brings, and asks for no buffering and replay.
4. Errors 10 and 25 end a subscription: only a new connection helps.
5. First snapshots that stop coming are asked for by name, once; what was asked for and does not come, or skips that come
   again and again, end the connection. A command the venue was too busy for is repeated with growing pauses and jitter.
"""

from collections import deque
from collections.abc import Callable, Mapping

import msgspec

from core.domain.errors import MalformedFrame
from core.runtime import log
from core.runtime.clock import NS_PER_S
from ingest.conversation import (
    NOTHING,
    PUBLISH_ONLY,
    Action,
    Actions,
    Complete,
    Gap,
    Ping,
    Publish,
    Reconnect,
    Send,
)
from venues.kalshi.control import WireError, decode_error, decode_subscribed, get_snapshot_command, subscribe_command
from venues.kalshi.wire import Envelope, peek

PING_EVERY_NS = 5 * NS_PER_S
"""The venue pings every 10 s; asking more often finds a dead connection sooner."""
ANSWER_NS_MAX = 15 * NS_PER_S
"""A snapshot that was asked for and has not come by then: the connection is broken."""
GAPS_MAX = 5
"""Skips within `GAPS_WINDOW_NS`; with more, a new connection is the better cure."""
GAPS_WINDOW_NS = 10 * NS_PER_S
ROUND_NS = NS_PER_S
"""Between two askings for all books of the subscription, and how long what is on its way at a skip is waited for."""
AGAIN_NS = NS_PER_S
"""Longest first pause before a command is repeated that the venue was too busy for; doubled each time, half is jitter."""
AGAIN_MAX = 4
"""Repeats of one command."""
SNAPSHOT_TICKERS_MAX = 500
"""Tickers of one `get_snapshot`."""
COMMANDS_KEPT = 256
"""Commands remembered, to know which one an error answers."""

_BOOK_CHANNEL = "orderbook_delta"
_LIFECYCLE_CHANNEL = "market_lifecycle_v2"
_PLAIN = frozenset({"orderbook_delta", "trade"})
_SEEN = frozenset(
    {"ok", "ticker", "market_lifecycle_v2", "event_lifecycle", "event_fee_update", "unsubscribed", "subscribed"}
)
_BUSY = frozenset({18, 27})
_MARKET_LIMIT = 26
_JITTER_BITS = 32


class _Body(msgspec.Struct):
    market_ticker: str


_BODY = msgspec.json.Decoder(_Body)


def _longest(_: int) -> int:
    return 0


class KalshiConversation:
    """One connection's subscriptions, sequences and outstanding snapshots."""

    def __init__(
        self, subjects: dict[str, str], *, venue_wide: bool, random_bits: Callable[[int], int] = _longest
    ) -> None:
        """Take `subjects`: instrument by ticker. `venue_wide`: subscribe what concerns all markets, too.

        `random_bits`, the clock's, spreads repeats over time; without it each pause is the longest.
        """
        self._random_bits = random_bits
        self._instruments = subjects
        self._tickers = {instrument: ticker for ticker, instrument in subjects.items()}
        self._venue_wide = venue_wide
        self._missing = set(subjects)
        self._completed = False
        self._channels: dict[int, str] = {}
        self._book_sid: int | None = None
        self._seq_next: dict[int, int] = {}
        self._asked: dict[str, int] = {}
        self._snapshot_ns: dict[str, int] = {}
        self._owed: set[str] = set()
        """Without a snapshot since the last skip, and not asked for since then."""
        self._skip_ns = 0
        self._round_ns = 0
        self._gaps_ns: deque[int] = deque(maxlen=GAPS_MAX)
        self._commands: dict[int, bytes] = {}
        self._again: list[tuple[int, bytes]] = []
        self._repeats: dict[int, int] = {}
        self._progress_ns = 0
        self._asked_missing = False
        self._last_id = 0
        self._ping_ns = 0
        self._odd = 0

    @property
    def missing(self) -> int:
        """Number of markets without a snapshot so far."""
        return len(self._missing)

    @property
    def odd(self) -> int:
        """Number of frames that could not be read or are of an unknown type."""
        return self._odd

    def opened(self, now_ns: int) -> Actions:
        """Subscribe the books and trades of this connection's markets, and the life cycle of all markets once."""
        self._ping_ns = self._progress_ns = now_ns
        channels = [_BOOK_CHANNEL, "trade"]
        actions: list[Action] = [self._say(subscribe_command(self._next_id(), channels, list(self._instruments)))]
        if self._venue_wide:
            actions.append(self._say(subscribe_command(self._next_id(), [_LIFECYCLE_CHANNEL])))
        return actions

    # hot: 100k frames/s/worker (benchmarks/frames.py)
    def received(self, frame: bytes, now_ns: int) -> Actions:
        """Publish the frame; on a skip of its sequence say so and ask for snapshots."""
        try:
            envelope = peek(frame)
        except MalformedFrame:
            # If it was a frame of a sequence, the next one shows the skip.
            self._odd += 1
            return PUBLISH_ONLY
        seq, sid = envelope.seq, envelope.sid
        if seq is not None and sid is not None:
            expected = self._seq_next.get(sid, 1)
            self._seq_next[sid] = seq + 1
            if seq != expected:
                return self._skipped(envelope, sid, expected, seq, now_ns)
        if envelope.type in _PLAIN:
            return PUBLISH_ONLY
        return self._control(envelope, now_ns)

    def beat(self, now_ns: int) -> Actions:
        """Ping, repeat what the venue was too busy for, give up on snapshots that do not come."""
        actions: list[Action] = []
        if now_ns - self._ping_ns >= PING_EVERY_NS:
            self._ping_ns = now_ns
            actions.append(Ping())
        actions.extend(self._say_again(now_ns))
        if self._missing and not self._asked and now_ns - self._progress_ns > ANSWER_NS_MAX:
            actions.extend(self._ask_missing(now_ns))
        if self._owed:
            actions.extend(self._ask_owed(now_ns))
        if self._asked:
            ticker, asked_ns = next(iter(self._asked.items()))
            if now_ns - asked_ns > ANSWER_NS_MAX:
                actions.append(Reconnect(f"no snapshot of {ticker} within {ANSWER_NS_MAX // NS_PER_S} s of asking"))
        return actions

    def _say_again(self, now_ns: int) -> list[Action]:
        due = [command for due_ns, command in self._again if due_ns <= now_ns]
        self._again = [one for one in self._again if one[0] > now_ns]
        return [Send(command) for command in due]

    def _ask_missing(self, now_ns: int) -> Actions:
        waited_s = ANSWER_NS_MAX // NS_PER_S
        if self._book_sid is None:
            return (Reconnect(f"no answer to the subscription within {waited_s} s"),)
        if self._asked_missing:
            return (Reconnect(f"{len(self._missing)} first snapshots did not come, though asked for by name"),)
        self._asked_missing = True
        some = [ticker for ticker in self._instruments if ticker in self._missing]
        log.get().warning("feed.books_missing", venue="kalshi", missing=len(some), subscribed=len(self._instruments))
        return self._ask(some, now_ns)

    def resync(self, requests: Mapping[str, int], now_ns: int) -> Actions:
        """Ask for snapshots, except where one is on its way or came after the request."""
        wanted = []
        for instrument, asked_ns in requests.items():
            ticker = self._tickers.get(instrument)
            if ticker is None or ticker in self._missing or ticker in self._asked:
                continue
            if self._snapshot_ns.get(ticker, 0) <= asked_ns:
                wanted.append(ticker)
        return self._ask(wanted, now_ns)

    def _skipped(self, envelope: Envelope, sid: int, expected: int, found: int, now_ns: int) -> Actions:
        reason = f"sid {sid}: expected seq {expected}, found {found}"
        # What came late or twice takes no number back: the next one is still the one after the highest.
        self._seq_next[sid] = max(expected, found + 1)
        channel = self._channels.get(sid, "")
        overtaken = found < expected
        is_of_books = channel in ("", _BOOK_CHANNEL)
        if is_of_books:
            # All of them: what was skipped may be the first snapshot of a market. The frame in hand may pay the first.
            self._owed = set(self._instruments)
        # A snapshot that was overtaken is no answer to anything.
        is_answer = not (overtaken and envelope.type == "orderbook_snapshot")
        actions: list[Action] = [*(self._control(envelope, now_ns) if is_answer else PUBLISH_ONLY)]
        actions[0] = Publish(overtaken)
        if not is_of_books:
            # A trade or a status is lost; no book is the worse for it.
            log.get().warning("feed.sequence_skipped", channel=channel, reason=reason)
            return actions
        # Before the frame: a change after a hole must not be applied to a book that is still believed.
        actions.insert(0, Gap(reason))
        if len(self._gaps_ns) == GAPS_MAX and now_ns - self._gaps_ns[0] < GAPS_WINDOW_NS:
            actions.append(Reconnect(f"{reason}, the {GAPS_MAX + 1}th skip in {GAPS_WINDOW_NS // NS_PER_S} s"))
            return actions
        self._gaps_ns.append(now_ns)
        self._skip_ns = now_ns
        actions.extend(self._ask_owed(now_ns))
        return actions

    def _ask_owed(self, now_ns: int) -> Actions:
        """Ask for all books at once, not too often; for what is on its way only when it seems to be what was skipped."""
        if now_ns - self._round_ns < ROUND_NS:
            return NOTHING
        lost = now_ns - max(self._skip_ns, self._progress_ns) >= ROUND_NS
        wanted = [t for t in self._instruments if t in self._owed and (lost or t not in self._asked)]
        asked = self._ask(wanted, now_ns)
        if asked:
            self._round_ns = now_ns
        return asked

    def _control(self, envelope: Envelope, now_ns: int) -> Actions:
        match envelope.type:
            case "orderbook_snapshot":
                return self._snapshot(envelope, now_ns)
            case "subscribed":
                self._subscribed(envelope)
            case "error":
                return (Publish(), *self._refused(envelope, now_ns))
            case "unsubscribed" if envelope.sid == self._book_sid:
                return (Publish(), Reconnect("the venue ended the subscription of the books"))
            case kind if kind not in _SEEN and kind not in _PLAIN:
                self._odd += 1
        return PUBLISH_ONLY

    def _snapshot(self, envelope: Envelope, now_ns: int) -> Actions:
        try:
            ticker = _BODY.decode(envelope.msg).market_ticker
        except msgspec.MsgspecError:
            self._odd += 1
            return PUBLISH_ONLY
        self._asked.pop(ticker, None)
        self._owed.discard(ticker)
        self._snapshot_ns[ticker] = self._progress_ns = now_ns
        self._missing.discard(ticker)
        if self._missing or self._completed:
            return PUBLISH_ONLY
        self._completed = True
        return (Publish(), Complete())

    def _subscribed(self, envelope: Envelope) -> None:
        try:
            granted = decode_subscribed(envelope)
        except MalformedFrame:
            self._odd += 1
            return
        self._channels[granted.sid] = granted.channel
        if granted.channel == _BOOK_CHANNEL:
            self._book_sid = granted.sid

    def _refused(self, envelope: Envelope, now_ns: int) -> Actions:
        try:
            error = decode_error(envelope)
        except MalformedFrame:
            self._odd += 1
            return NOTHING
        said = f"error {error.code}: {error.message}"
        command = self._commands.get(error.command_id or 0)
        log.get().warning("feed.refused", venue="kalshi", said=said, command=(command or b"")[:120].decode())
        if error.ends_subscription:
            return (Reconnect(said),)
        if error.code == _MARKET_LIMIT:
            return (Reconnect(said, fewer=True),)
        if error.code in _BUSY and command is not None:
            return self._put_off(error, command, now_ns)
        return self._not_granted(error, said, command)

    def _put_off(self, error: WireError, command: bytes, now_ns: int) -> Actions:
        number = error.command_id or 0
        repeats = self._repeats[number] = self._repeats.get(number, 0) + 1
        if repeats > AGAIN_MAX:
            return (Reconnect(f"error {error.code}: {error.message}, {repeats} times for one command"),)
        # The venue is busy with all of our feeds at once: they must not all come back at once.
        longest_ns = AGAIN_NS * 2 ** (repeats - 1)
        jitter_ns = longest_ns * self._random_bits(_JITTER_BITS) >> (_JITTER_BITS + 1)
        self._again.append((now_ns + longest_ns - jitter_ns, command))
        return NOTHING

    def _not_granted(self, error: WireError, said: str, command: bytes | None) -> Actions:
        if command is None or _LIFECYCLE_CHANNEL.encode() in command:
            return NOTHING
        # Without its books the connection is worth nothing; get_snapshot fails only when the subscription is gone.
        return (Reconnect(said, refused=error.command_id == 1),)

    def _ask(self, tickers: list[str], now_ns: int) -> Actions:
        sid = self._book_sid
        if sid is None or not tickers:
            return NOTHING
        actions = []
        for first in range(0, len(tickers), SNAPSHOT_TICKERS_MAX):
            some = tickers[first : first + SNAPSHOT_TICKERS_MAX]
            actions.append(self._say(get_snapshot_command(self._next_id(), sid, some)))
        for ticker in tickers:
            # Asked for again is asked for last: `beat` looks at the oldest.
            self._asked.pop(ticker, None)
            self._asked[ticker] = now_ns
        self._owed.difference_update(tickers)
        return actions

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _say(self, command: bytes) -> Send:
        self._commands[self._last_id] = command
        self._commands.pop(self._last_id - COMMANDS_KEPT, None)
        self._repeats.pop(self._last_id - COMMANDS_KEPT, None)
        return Send(command)
