"""Everything the simulated venues can do wrong on purpose: by name, what happens then, and how a client can know.

Faults come by the control port (`POST /sim/faults {"venue", "fault", …}`), by a script (`--faults FILE`, a JSON list of
`{"at_s", "venue", "fault", …}`) or by a seed (`--faults seed:N`). Those below act on market data connections only;
private streams and order endpoints stay as they are, except where a fault takes `orders: true`: what can happen to
orders stands in `simulate/order_faults.py`.

Each fault that was injected stands in the truth folder's `faults.jsonl`, one line for each thing known of it, by `id`:

* `event: begin`: `ts_ns, id, fault, venue, connection | null, market | null, detail, until_ns` (0: until something of the
  client's ends it). With `connection` null it struck all of the venue, with `market` null all markets of the connection.
* `event: reveals`: `connection, ordinal, market, by`: this frame is the first that contradicts a client who took every
  frame of the connection at its word. `by`: `seq` (Kalshi's number is not the next one), `hash` (Polymarket's hash, and
  best bid and ask where they differ, are those of the true book and not of the client's), `timestamp` (a book older than
  a change already sent), `parse` (no JSON). Nothing contradicts him before it, and until then his book is wrong only
  where the truth log says that a version was not sent; where no such line follows, only silence, an ended socket or an
  answer over HTTP tells.
* `event: healed`: the client's book is right again by itself from this frame on (a lost change was stated again).
* `event: strikes` (`connection`): a fault that waited for a next subscription got one. `event: end` (`frames`: how many it had to do with), `event: skipped` (a scripted fault that found nothing to act on).

The truth log marks each frame a fault had to do with, `[id, did]`: `dropped` (ordinal 0: never sent; its versions are
those the client missed), `duplicated` (the second of two), `delayed` (sent later than said; its line stands where it was
sent), `changed` (other bytes than the dropped line before it), `added` (a frame the venue would not have sent).

A WebSocket stream does not lose, repeat or exchange single frames by itself: the venue's own fan-out does, before the
bytes reach TCP. That is where these faults are: after the venue numbered a frame, unless the fault says before.
"""

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from core.domain.errors import Misconfigured
from simulate import order_faults
from simulate.fault import BOTH, Fault
from simulate.order_faults import CHOICES, ORDER_NAMES

MIB = 1024 * 1024
SECONDS_MAX = 3_600.0


_REST = {"share": 1.0, "orders": False, "sockets": False}

MARKET_NAMES: dict[str, Fault] = {
    "gap": Fault(
        "The next `count` book changes (of `market`, if named; on Polymarket also a book sent after a trade) on one "
        "connection are numbered, where the venue numbers, and not sent.",
        "kalshi: at once, the next frame of the sid skips a number. polymarket: no sign by itself; the next change or "
        "book of that market carries the true book's hash and best prices.",
        "kalshi.md 2.5 (a gap says nothing of which market); polymarket.md 7.5 (loss shows by hash only).",
        parameters={"count": 1},
    ),
    "duplicate": Fault(
        "The next `count` book changes are sent twice, the same bytes, Kalshi's number included.",
        "kalshi: at once, the number does not go on. polymarket: same hash; sizes are absolute, so nothing is wrong.",
        "polymarket.md 2.2 and 7.7 (the same change is sent again routinely); kalshi: general, a fan-out that retries.",
        parameters={"count": 1},
    ),
    "reorder": Fault(
        "A book change is held and leaves right after the next one (of the sid; on Polymarket of its market), or after "
        "`seconds` if none comes; `count` times.",
        "kalshi: at once, by number. polymarket: the overtaking change has the hash of both; where both set one level, "
        "the older size stays until that level changes again.",
        "polymarket.md 7.5 (no sequence number, arrival order is all there is); kalshi: general, parallel fan-out.",
        seconds=5.0,
        parameters={"count": 1},
    ),
    "delta_before_snapshot": Fault(
        "The next subscription gets `deltas` changes of a market before that market's first snapshot (at most 2 s late, "
        "and numbered as sent). `force` cuts one connection so that a next subscription comes.",
        "at once: changes of a book that no snapshot began.",
        "kalshi.md 2.4 (acknowledgement race, fixed 2026-09-17); polymarket.md 7.9 and 1.4 (changes without a snapshot).",
        seconds=20.0,
        parameters={"deltas": 1, "force": True},
    ),
    "duplicate_snapshot": Fault(
        "A market's whole book is sent twice in a row, unasked; both are true, and on Kalshi each has its number.",
        "harmless: a snapshot replaces the book.",
        "polymarket.md 2.1 (books come again after trades); kalshi.md 2.5 (snapshots of the same counter at any time).",
    ),
    "silent_freeze": Fault(
        "One connection goes quiet for `seconds`; pings and PING are answered. polymarket: what happens meanwhile is "
        "never sent. kalshi: frames wait (numbered) and leave at the end in order, or with `overflow` the subscription "
        "ends with error 25 and they are lost.",
        "by silence while it lasts; afterwards polymarket: by hash, each market at its next change; kalshi: nothing is "
        "missing, all of it is late (or error 25).",
        "polymarket.md 1.4 (py-clob-client#292: PONG answers, no book data for hours); kalshi.md 6.19 (delta age grows to "
        "21 s) and 2.10 (code 25).",
        seconds=5.0,
        parameters={"overflow": False},
    ),
    "half_open": Fault(
        "One connection's other end is gone: nothing is read, nothing is written, no ping is answered; after `seconds` "
        "it is reset.",
        "by missing answers to pings and by silence.",
        "general: a host or a NAT that lost the connection's state sends nothing, not even a reset.",
        seconds=15.0,
    ),
    "close_without_reason": Fault(
        "One connection ends: `how` abort (reset, no closing handshake) or close (a close frame without a code).",
        "at once.",
        "kalshi.md 2.1 (disconnects are to be expected, close codes are not documented); general.",
        parameters={"how": "abort"},
    ),
    "slow_frames": Fault(
        "All frames of one connection, answers to pings too, leave `delay_ms` late and in order; with `trickle_bytes` "
        "they leave in pieces of so many bytes, `trickle_ms` apart. What still waits at the end leaves at once.",
        "by venue times that fall behind; nothing is missing.",
        "kalshi.md 6.19 (delta age 8 to 21 s on one connection); general.",
        seconds=5.0,
        parameters={"delay_ms": 1_500, "trickle_bytes": 0, "trickle_ms": 2},
    ),
    "huge_snapshot": Fault(
        "A market's book really gets `levels` levels (its grid is made finer first where it must be, in the venue's "
        "words) and is sent whole to all its followers; after `seconds` they are taken away and it is sent again.",
        "harmless.",
        "kalshi.md 2.1 (messages up to 64 MiB); polymarket.md 1.4 (raise the read limit to 32 MiB).",
        seconds=8.0,
        parameters={"levels": 5_000},
    ),
    "huge_frame": Fault(
        "One connection gets one true snapshot of a market in a frame of `bytes`, filled up by an unknown field.",
        "harmless.",
        "kalshi.md 2.1 (64 MiB), polymarket.md 1.4 (32 MiB and more).",
        parameters={"bytes": 40 * MIB},
    ),
    "malformed_json": Fault(
        "The next book change of one connection arrives broken: `how` cut (its first half), garbage, empty, or utf8 "
        "(bytes no text frame may hold: a correct client ends the connection). What it said is lost.",
        "at once, by that frame; kalshi also by the number it hid.",
        "general: a proxy or a bug of the venue; polymarket.md 7.22 (HTML where JSON was expected).",
        parameters={"how": "cut"},
    ),
    "unknown_type": Fault(
        "One connection gets a message of a type nobody knows; on Kalshi it takes a number of the book's sid.",
        "harmless if its number is counted.",
        "kalshi.md 2.5 (every frame with sid and seq counts, whatever its type); polymarket.md 2.0 (unknown types are to "
        "be tolerated).",
    ),
    "tick_change": Fault(
        "A market's grid changes and its quotes follow. polymarket: 0.01 to 0.001 and back, told by tick_size_change and "
        "fresh books. kalshi: one step finer, told on the life-cycle channel; the book goes on. Resting orders stay.",
        "at once.",
        "polymarket.md 2.4 (both directions were captured); kalshi.md 2.9 and 3 (price_level_structure_updated).",
    ),
    "asset_silent": Fault(
        "One market of one connection goes silent while the others speak. polymarket: what happens to it meanwhile is "
        "never sent; after `seconds` (0: only for a new connection) it speaks again. kalshi: its messages wait before "
        "they are numbered, so no number is missing, and come late, in order (a snapshot asked for meanwhile is true and "
        "takes the place of what waited).",
        "by the market's own silence, or an audit; afterwards polymarket: by hash at its next change; kalshi: nothing is "
        "missing.",
        "polymarket.md 1.4 (nautilus_trader#4901: single assets never deliver while others do); kalshi: general, one "
        "stalled shard of a fan-out.",
        seconds=8.0,
    ),
    "http_429": Fault(
        "A `share` of HTTP requests is answered 429: kalshi's bare body without Retry-After, polymarket's with "
        "Retry-After `retry_after_s`. `sockets`: WebSocket upgrades too. `orders`: signed endpoints too.",
        "at once.",
        "kalshi.md 4.1, polymarket.md 3.4 (limits are by address, with Retry-After).",
        seconds=5.0,
        parameters={**_REST, "retry_after_s": 1},
    ),
    "http_5xx": Fault(
        "A `share` of HTTP requests is answered with one of `statuses`; 502 and 504 with a proxy's HTML page.",
        "at once; whether the request took effect is unknown (with `orders` it did not).",
        "kalshi.md 4.1 (500, 503, 504), polymarket.md 3.3 (error 500 captured) and 7.22 (HTML pages).",
        seconds=5.0,
        parameters={**_REST, "statuses": [500, 502, 503, 504]},
    ),
    "maintenance": Fault(
        "For `seconds` the venue is down: market data sockets are closed (1001), upgrades and HTTP get 503, nothing "
        "trades and books stand still. kalshi's status endpoint says so with its usual body; `orders` closes private "
        "sockets and signed endpoints too (polymarket's orders then get 425, a matching-engine restart).",
        "at once.",
        "kalshi.md 4.2 and 6.23 (Thursday window, sockets close), polymarket.md 6 (restarts, trading disabled).",
        seconds=8.0,
        parameters={"orders": False},
    ),
    "clock_skew": Fault(
        "The times in the venue's public messages are off by `offset_ms` (Polymarket's hashes are over the time stated); "
        "signatures, orders and private messages keep the right one.",
        "by comparing with one's own clock; nothing else is wrong.",
        "general; kalshi.md 1 (skew beyond seconds is refused the other way round).",
        seconds=8.0,
        parameters={"offset_ms": -30_000},
    ),
    "connection_limit": Fault(
        "For `seconds` further sockets are refused with 429 while `limit` or more are open (0: as many as are now). "
        "`force` cuts one first, so that its successor meets the limit. (Kalshi's private sockets come through the same "
        "door and are refused as well.)",
        "at once.",
        "kalshi.md 2.1 (default 200 for each user; how it refuses is not published), polymarket.md 10 (not published).",
        seconds=6.0,
        parameters={"limit": 0, "force": True},
    ),
    "stale_snapshot": Fault(
        "A whole book as it is now is sent, unasked, only after `behind` later changes of it: Kalshi's with the number it "
        "was given now, Polymarket's with its time and hash of now. `rest`: instead the market's book over HTTP is for "
        "`seconds` as it is now.",
        "kalshi: at once, by number. polymarket: by the book's time, older than that of changes already seen, and by the "
        "hash of the next change. `rest`: the stream is right and the evidence is not.",
        "polymarket.md 3.1 (py-clob-client#180: a stale book over REST) and 7.5; kalshi.md 8 (whether a snapshot is "
        "atomic with the deltas is not established).",
        seconds=5.0,
        parameters={"behind": 2, "rest": False},
    ),
}


NAMES: dict[str, Fault] = {**MARKET_NAMES, **ORDER_NAMES}


class BadFault(Exception):
    """A fault that is asked for in words it does not know, or that finds nothing to act on (`missing`)."""

    def __init__(self, text: str, *, missing: bool = False) -> None:
        super().__init__(text)
        self.missing = missing


class Wanted(NamedTuple):
    """A fault as asked for, checked."""

    fault: str
    venue: str
    connection: int | None
    market: str | None
    seconds: float
    parameters: dict[str, Any]


class Scheduled(NamedTuple):
    """A fault of a script, `at_s` after the start."""

    at_s: float
    wanted: Wanted

    def as_json(self) -> dict[str, Any]:
        """Return the entry of a script file."""
        wanted = self.wanted
        body = {"at_s": self.at_s, "fault": wanted.fault, "venue": wanted.venue, "seconds": wanted.seconds}
        body |= {name: value for name in ("connection", "market") if (value := getattr(wanted, name)) is not None}
        return body | wanted.parameters


def parse(body: Any) -> Wanted:
    """Check a fault as the control port and scripts write it.

    Raises:
        BadFault: naming what is wrong.
    """
    if not isinstance(body, dict):
        raise BadFault(f"expected an object with fault and venue, found {body!r}")
    fields = dict(body)
    name, venue = fields.pop("fault", None), fields.pop("venue", None)
    known = NAMES.get(name) if isinstance(name, str) else None
    if known is None:
        raise BadFault(f"no fault is called {name!r}; there are {', '.join(NAMES)}")
    if venue not in known.venues:
        raise BadFault(f"{name}: venue must be one of {', '.join(known.venues)}, was {venue!r}")
    connection, market = fields.pop("connection", None), fields.pop("market", None)
    seconds = fields.pop("seconds", known.seconds)
    if not _is_like(seconds, 0.0) or not 0 <= seconds <= SECONDS_MAX:
        raise BadFault(f"{name}: seconds must lie within 0 and {SECONDS_MAX:.0f}, was {seconds!r}")
    if not (connection is None or _is_like(connection, 0)) or not (market is None or isinstance(market, str)):
        raise BadFault(f"{name}: connection is a number and market a name, found {connection!r} and {market!r}")
    for key, value in fields.items():
        if key not in known.parameters:
            raise BadFault(f"{name} has no {key}; it takes seconds, connection, market, {', '.join(known.parameters)}")
        if not _is_like(value, known.parameters[key]):
            raise BadFault(f"{name}: expected {key} as {known.parameters[key]!r}, found {value!r}")
        words = CHOICES.get(str(name), {}).get(key)
        if words is not None and value not in words:
            raise BadFault(f"{name}: {key} must be one of {', '.join(words)}, was {value!r}")
    return Wanted(str(name), str(venue), connection, market, float(seconds), {**known.parameters, **fields})


def _is_like(value: Any, default: Any) -> bool:
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(default)


def read_script(text: str, seconds: float) -> list[Scheduled]:
    """Return the script `--faults` names: a JSON file, or `seed:N` drawn over `seconds`.

    Raises:
        Misconfigured: no such file, no JSON list, or an entry that is wrong, by its place.
    """
    if text.startswith("seed:"):
        if not text[5:].isdecimal():
            raise Misconfigured(f"--faults: expected seed:N with a whole number N, found {text!r}")
        number = int(text[5:])
        # Two draws: what a seed does to market data stays what it was before there were faults of orders.
        orders = script(number, seconds, faults=tuple(ORDER_NAMES), every_s=6.0)
        return sorted([*script(number, seconds), *orders], key=lambda scheduled: scheduled.at_s)
    try:
        entries = json.loads(Path(text).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Misconfigured(f"--faults: {text} is no JSON file: {error}") from error
    if not isinstance(entries, list):
        raise Misconfigured(f"--faults: {text} holds {type(entries).__name__}, expected a list of faults")
    found = []
    for number, entry in enumerate(entries, 1):
        try:
            body = dict(entry)
            at_s = float(body.pop("at_s"))
            found.append(Scheduled(at_s, parse(body)))
        except (BadFault, KeyError, TypeError, ValueError) as error:
            raise Misconfigured(f"--faults: entry {number} of {text}: {error!r}") from error
    return sorted(found, key=lambda scheduled: scheduled.at_s)


def script(
    seed: int,
    seconds: float,
    *,
    venues: Iterable[str] = BOTH,
    faults: Iterable[str] = tuple(MARKET_NAMES),
    first_s: float = 5.0,
    last_s: float = 10.0,
    every_s: float = 4.0,
) -> list[Scheduled]:
    """Draw a schedule: the same for the same arguments, on any machine.

    Each pair of fault and venue comes once before any comes again. Faults begin between `first_s` and `last_s` before
    the end, `every_s` apart in the mean; they may overlap.

    Args:
        seed: of the draw.
        seconds: length of the run.
        venues: which venues are struck.
        faults: which faults are drawn; those of market data unless named.
        first_s: nothing happens before; books must be LIVE first.
        last_s: nothing begins after; recoveries must be seen.
        every_s: mean pause between two.
    """
    rng = random.Random(f"faults/{seed}")
    chosen = set(venues)
    pairs = [(name, venue) for name in faults for venue in NAMES[name].venues if venue in chosen]
    drawn: list[Scheduled] = []
    pool: list[tuple[str, str]] = []
    at_s = first_s
    while pairs and at_s <= seconds - last_s:
        if not pool:
            pool = rng.sample(pairs, len(pairs))
        name, venue = pool.pop()
        drawn.append(Scheduled(round(at_s, 3), parse({"fault": name, "venue": venue, **_draw(name, rng)})))
        at_s += every_s * rng.uniform(0.5, 1.5)
    return drawn


def _draw(name: str, rng: random.Random) -> dict[str, Any]:
    """Return parameters that vary from time to time; the rest keep their defaults."""
    if name in ORDER_NAMES:
        return order_faults.draw(name, rng)
    seconds = NAMES[name].seconds
    drawn: dict[str, Any] = {"seconds": round(seconds * rng.uniform(0.5, 1.25), 2)} if seconds else {}
    match name:
        case "gap" | "duplicate" | "reorder":
            drawn["count"] = rng.randint(1, 3)
        case "close_without_reason":
            drawn["how"] = rng.choice(["abort", "close"])
        case "malformed_json":
            drawn["how"] = rng.choice(["cut", "garbage", "empty"])
        case "silent_freeze":
            drawn["overflow"] = rng.random() < 0.3
        case "slow_frames":
            drawn |= {"delay_ms": 0, "trickle_bytes": rng.randint(7, 64)} if rng.random() < 0.5 else {"delay_ms": 1_500}
        case "clock_skew":
            drawn["offset_ms"] = rng.choice([-60_000, -30_000, -5_000, 5_000, 60_000])
        case "http_429" | "http_5xx":
            drawn |= {"share": rng.choice([0.5, 1.0]), "sockets": rng.random() < 0.5}
        case "stale_snapshot":
            drawn["behind"] = rng.randint(1, 4)
    return drawn
