"""The kill switch that needs nothing but keys: no Kafka, no gateway, no state of ours.

    halt file written -> cancel all -> list what is open -> cancel that one by one -> … until the venue lists nothing,
    for as long as an order on its way may still appear

The list of the venue is the only proof: an answer to a cancel is none, and a list that cannot be read is never an empty
one. A gateway that sees its halt file stops and cancels as if Kafka were gone, so that nothing comes after the cancels.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.domain.errors import InvariantBroken, Reject, Retry, Unknown
from core.runtime.clock import Clock
from execute.ports import Caller, Lane, Reply, Request, Venue
from execute.views import Resting, Subject
from schemas.order import VenueCall

DEADLINE_S = 60.0
PAUSE_MIN_S = 0.1
PAUSE_MAX_S = 2.0
AT_ONCE_MAX = 8
"""Cancels of single orders that are out at once."""
TEXT_KEPT = 2_000


@dataclass(frozen=True)
class Halted:
    """What is known of one account at the end.

    Attributes:
        cancelled: orders that were still listed after the first cancel of all, and are no more.
        left: orders the venue still listed when time was up.
        error: why it is not known that nothing is open; empty when the venue said so for long enough.
    """

    account: str
    cancelled: int = 0
    left: tuple[Resting, ...] = ()
    error: str = ""

    @property
    def clean(self) -> bool:
        """Say whether the venue lists no open order of the account."""
        return not self.left and not self.error


# --- the halt file: what a gateway on this machine sees without Kafka


def halt_file(folder: Path, run: str, account: str) -> Path:
    """Return where the halt of one account stands."""
    return folder / run / account.replace(":", "-")


def write_halt(path: Path, *, by: str, why: str, at: str) -> None:
    """Stop the gateways of this machine that trade this account, until the file is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"by": by, "why": why, "at": at}) + "\n", encoding="utf-8")


def read_halt(path: Path) -> str:
    """Return why an account is halted by hand, empty if it is not; a file that cannot be read halts."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as e:
        return f"halted by hand: {path} cannot be read: {type(e).__name__}"
    try:
        said = json.loads(text)
        words = f"halted by hand: {said['why']} ({said['by']}, {said['at']})"
    except (ValueError, KeyError, TypeError):
        words = f"halted by hand: {path}"
    return f"{words}; `crossbook halt --direct --lift` ends it"


# --- what was exchanged, kept beside the halt file


class Tape:
    """Keeps each exchange as one line of JSON: the audit of what keys did while there was no Kafka."""

    def __init__(self, account: str, path: Path, *, by: str, why: str) -> None:
        self._account = account
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._write({"account": account, "by": by, "why": why})

    @property
    def account(self) -> str:
        """The venue account."""
        return self._account

    def frame(self, record: VenueCall) -> None:
        """Keep one request and its answer; headers, which carry the secrets, are not part of it."""
        self._write(
            {
                "method": record.method,
                "path": record.path,
                "request": _text(record.request),
                "status": record.status,
                "response": _text(record.response),
                "sent_ts_ns": record.sent_ts_ns,
                "recv_ts_ns": record.recv_ts_ns,
            }
        )

    def _write(self, line: Mapping[str, object]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _text(data: bytes) -> str:
    try:
        return data.decode()[:TEXT_KEPT]
    except UnicodeDecodeError:
        return base64.b64encode(data).decode()[:TEXT_KEPT]


# --- the switch


class CancelOnly:
    """A `Caller` that lets reads and cancels pass and nothing else: whoever holds it cannot place an order."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def call(self, request: Request, *, lane: Lane, order: str = "", **rest: object) -> Reply:
        """Send a GET or a DELETE.

        Raises:
            InvariantBroken: anything else.
        """
        if request.method not in {"GET", "DELETE"}:
            raise InvariantBroken(f"the kill switch sends no {request.method} {request.path}")
        return await self._caller.call(request, lane=lane, order=order)


async def halt(
    account: str,
    venue: Venue,
    caller: Caller,
    clock: Clock,
    *,
    deadline_s: float = DEADLINE_S,
    quiet_s: float | None = None,
) -> Halted:
    """Cancel everything that is open, until the venue has listed nothing for `quiet_s` (its acceptance window)."""
    caller = CancelOnly(caller)
    quiet_s = venue.acceptance_window_s if quiet_s is None else quiet_s
    until_s = clock.monotonic_s() + deadline_s
    seen: set[str] = set()
    listed: tuple[Resting, ...] = ()
    error = await _cancel_all(venue, caller)
    empty_since_s: float | None = None
    pause_s = PAUSE_MIN_S
    while True:
        began_s = clock.monotonic_s()
        try:
            listed = await venue.open_orders(caller)
        except (Retry, Unknown, Reject) as e:
            error, empty_since_s = f"open orders cannot be listed: {e}", None
        else:
            error = ""
            seen.update(one.venue_order for one in listed)
            if listed:
                empty_since_s = None
                await _cancel_each(venue, caller, listed)
                await _cancel_all(venue, caller)
            elif empty_since_s is None:
                empty_since_s = began_s
        if empty_since_s is not None and clock.monotonic_s() - empty_since_s >= quiet_s:
            return Halted(account, cancelled=len(seen))
        if clock.monotonic_s() >= until_s:
            left = {one.venue_order for one in listed}
            error = error or ("" if left else f"nothing is listed, but not yet for {quiet_s} s")
            return Halted(account, cancelled=len(seen - left), left=listed, error=error)
        await asyncio.sleep(pause_s)
        pause_s = PAUSE_MIN_S if listed and not error else min(pause_s * 2, PAUSE_MAX_S)


async def _cancel_all(venue: Venue, caller: Caller) -> str:
    """Ask for all at once; returns what spoke against it. The list says what came of it."""
    try:
        reply = await caller.call(venue.cancel_all(), lane=Lane.CANCEL)
    except (Retry, Unknown, Reject) as e:
        return str(e)
    if reply.status < 300:
        return ""
    error = venue.refusal(reply)
    return f"cancel-all answered {error.status} {error.code}: {error.message}"


async def _cancel_each(venue: Venue, caller: Caller, listed: Sequence[Resting]) -> None:
    places = asyncio.Semaphore(AT_ONCE_MAX)

    async def one(resting: Resting) -> None:
        subject = Subject(
            order=resting.client_id or resting.venue_order,
            instrument=resting.instrument,
            client_id=resting.client_id,
            venue_order=resting.venue_order,
            side="UNKNOWN",
            price=0,
            size=0,
            submitted_ns=0,
            answered=True,
        )
        async with places:
            try:
                await caller.call(venue.cancel(subject), lane=Lane.CANCEL, order=subject.order)
            except (Retry, Unknown, Reject):
                return  # whether it is gone, the next list says

    await asyncio.gather(*(one(resting) for resting in listed))
