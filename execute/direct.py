"""Accounts without Kafka: a venue, its keys, one connection pool. What `crossbook halt --direct` and `flatten` run on.

Arming: a run may load production keys only if it is `live` and armed for the account. The kill switch names its account
in the command, which arms it for what it can do: reads and cancels (`kill.CancelOnly`). Whoever sends orders this way
(flatten) must be armed like a gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from core.domain.errors import CrossbookError, Misconfigured
from core.runtime.clock import NS_PER_S, Clock
from core.runtime.settings import LIVE, load
from execute.calls import Http
from execute.checks import Market
from execute.closing import KalshiClosing, PolymarketClosing
from execute.flatten import Closing, Flattener
from execute.kalshi import KalshiVenue
from execute.kill import DEADLINE_S, Halted, Tape, halt, halt_file, write_halt
from execute.limiter import Limiter
from execute.polymarket import PolymarketVenue
from execute.ports import Venue
from execute.process import make_venue
from execute.settings import ExecuteSettings, credentials_file, load_credentials, resolve_endpoints
from venues import VENUES
from venues.refusal import VenueError


@dataclass(frozen=True)
class Said:
    """Who does it, and why: kept with what was done."""

    by: str
    why: str

    def __post_init__(self) -> None:
        """Refuse what says nobody or nothing."""
        if not self.by.strip() or not self.why.strip():
            raise Misconfigured("say who does this and why: --by NAME --why TEXT")


@dataclass(frozen=True)
class Direct:
    """One account, reachable with keys alone."""

    account: str
    venue: Venue
    caller: Http
    market: Market


def accounts_of(settings: ExecuteSettings) -> list[str]:
    """Return every account that has keys, of every venue; a venue without a credentials file has none."""
    found = []
    for venue in VENUES:
        try:
            known = load_credentials(credentials_file(settings, venue))
        except Misconfigured:
            continue
        names = [one.account for one in (known.kalshi if venue == "kalshi" else known.polymarket)]
        found += [f"{venue}:{name}" for name in dict.fromkeys(names)]
    return found


@contextlib.asynccontextmanager
async def reach(settings: ExecuteSettings, clock: Clock, said: Said, what: str) -> AsyncIterator[Direct]:
    """Open one account; `settings` name it. Each exchange is kept in a file under the halt folder.

    Raises:
        Misconfigured: this run may not reach it, or there are no keys.
    """
    resolved = resolve_endpoints(settings)
    market = Market(resolved.venue)
    venue = make_venue(resolved, settings, market)
    stamp = _stamp(clock.now_ns()).replace(":", "")
    file = halt_file(settings.halt_dir, settings.writes, settings.account)
    path = file.parent / f"{file.name}.{what}.{stamp}.jsonl"
    async with Http(
        base=resolved.endpoints.order_rest,
        venue=venue,
        journal=Tape(settings.account, path, by=said.by, why=said.why),
        limiter=Limiter(venue.budgets, clock),
        clock=clock,
        timeout_s=settings.answer_timeout_s,
        on_refusal=_ignore,
    ) as caller:
        yield Direct(settings.account, venue, caller, market)


def settings_of(account: str, overrides: Mapping[str, object], *, cancels_only: bool) -> ExecuteSettings:
    """Return the settings for one account; what can only cancel is armed by naming it."""
    settings = load(ExecuteSettings, **{**overrides, "account": account})
    if cancels_only and settings.writes == LIVE:
        return load(ExecuteSettings, **{**overrides, "account": account, "arm": account})
    return settings


async def halt_all(
    accounts: Sequence[str],
    overrides: Mapping[str, object],
    clock: Clock,
    said: Said,
    *,
    deadline_s: float = DEADLINE_S,
    quiet_s: float | None = None,
) -> list[Halted]:
    """Halt the accounts, all at once; what goes wrong with one does not keep the others waiting."""
    return list(
        await asyncio.gather(
            *(
                _halt_one(account, overrides, clock, said, deadline_s=deadline_s, quiet_s=quiet_s)
                for account in accounts
            )
        )
    )


async def _halt_one(
    account: str,
    overrides: Mapping[str, object],
    clock: Clock,
    said: Said,
    *,
    deadline_s: float,
    quiet_s: float | None,
) -> Halted:
    try:
        settings = settings_of(account, overrides, cancels_only=True)
        # Before the first cancel: a gateway of this machine must not place anew what is taken back here.
        path = halt_file(settings.halt_dir, settings.writes, account)
        file_error = ""
        try:
            write_halt(path, by=said.by, why=said.why, at=_stamp(clock.now_ns()))
        except OSError as e:
            file_error = f"gateways were not told: {path}: {e.strerror}"
        async with reach(settings, clock, said, "halt") as direct:
            found = await halt(account, direct.venue, direct.caller, clock, deadline_s=deadline_s, quiet_s=quiet_s)
    except (CrossbookError, OSError) as e:
        return Halted(account, error=str(e))
    if file_error and not found.error:
        return Halted(account, found.cancelled, found.left, file_error)
    return found


@contextlib.asynccontextmanager
async def flattener(
    account: str, overrides: Mapping[str, object], clock: Clock, said: Said, *, slip_e4: int
) -> AsyncIterator[Flattener]:
    """Open an account to sell what it holds; a live one must be armed by its setting, as for a gateway.

    Raises:
        Misconfigured: this run may not send orders there.
    """
    settings = settings_of(account, overrides, cancels_only=False)
    async with reach(settings, clock, said, "flatten") as direct:
        venue, closing = direct.venue, _closing(direct)
        yield Flattener(
            account=account, venue=venue, closing=closing, caller=direct.caller, clock=clock, slip_e4=slip_e4
        )


def _closing(direct: Direct) -> Closing:
    if isinstance(direct.venue, KalshiVenue):
        return KalshiClosing(direct.venue)
    assert isinstance(direct.venue, PolymarketVenue)
    return PolymarketClosing(direct.venue, direct.market.instruments)


def lift(accounts: Sequence[str], overrides: Mapping[str, object]) -> list[str]:
    """Remove the halt files; returns the accounts that had one."""
    lifted = []
    for account in accounts:
        settings = settings_of(account, overrides, cancels_only=True)
        path: Path = halt_file(settings.halt_dir, settings.writes, account)
        if path.exists():
            path.unlink()
            lifted.append(account)
    return lifted


def _stamp(now_ns: int) -> str:
    return datetime.fromtimestamp(now_ns // NS_PER_S, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _ignore(error: VenueError | None) -> None:
    """The outcome of every call is looked at where it is made."""
