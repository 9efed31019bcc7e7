"""Injects faults: finds what they act on, begins them, ends them when their time has come."""

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any

from simulate.faults import BadFault, Scheduled, Wanted
from simulate.flow import Flow
from simulate.interference import Broken, Gap, Late, Swap, Trickle, Twice
from simulate.journal import Injected, Journal
from simulate.oddities import Oddities
from simulate.order_faults import ORDER_NAMES
from simulate.sockets import Connection

GOING_AWAY = (1001).to_bytes(2, "big")


class Injector:
    """All faults of both venues; targets that nobody names are drawn, the same for the same seed and history."""

    def __init__(self, venues: list[Oddities], flow: Flow, journal: Journal, seed: int) -> None:
        self._venues = {venue.venue: venue for venue in venues}
        self._flow = flow
        self._journal = journal
        self._rng = random.Random(f"injector/{seed}")
        self._tasks: set[asyncio.Task[None]] = set()

    async def play(self, script: list[Scheduled]) -> None:
        """Inject a script's faults at their times; what finds nothing to act on is noted and skipped."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        for scheduled in script:
            await asyncio.sleep(max(0.0, start + scheduled.at_s - loop.time()))
            try:
                self.inject(scheduled.wanted)
            except BadFault as bad:
                self._journal.skip(scheduled.wanted, str(bad))

    def inject(self, wanted: Wanted) -> dict[str, Any]:
        """Begin one fault and return what it acts on.

        Raises:
            BadFault: it finds nothing to act on.
        """
        venue = self._venues[wanted.venue]
        act = self._befall if wanted.fault in ORDER_NAMES else getattr(self, f"_{wanted.fault}")
        injected: Injected = act(venue, wanted)
        return {
            "id": injected.number,
            "fault": wanted.fault,
            "venue": wanted.venue,
            "connection": injected.connection,
            "market": injected.market,
            "until_ns": injected.until_ns,
        }

    # ------------------------------------------------------------------ targets
    def _connection(self, venue: Oddities, wanted: Wanted) -> Connection:
        open_now = [
            connection
            for connection in venue.market_data()
            if wanted.market is None or wanted.market in venue.markets_of(connection)
        ]
        if wanted.connection is not None:
            open_now = [connection for connection in open_now if connection.number == wanted.connection]
        if not open_now:
            raise BadFault(f"{wanted.fault}: no open market data connection of {wanted.venue} fits", missing=True)
        return self._rng.choice(open_now)

    def _market(self, venue: Oddities, wanted: Wanted, connection: Connection | None = None) -> str:
        markets = venue.markets_of(connection) if connection is not None else venue.markets()
        if wanted.market is not None:
            markets = [market for market in markets if market == wanted.market]
        if not markets:
            raise BadFault(f"{wanted.fault}: no such market on {wanted.venue}: {wanted.market}", missing=True)
        return self._rng.choice(markets)

    def _begin(
        self, wanted: Wanted, connection: Connection | None = None, market: str | None = None, **detail: Any
    ) -> Injected:
        return self._journal.begin(
            wanted, connection=connection.number if connection is not None else None, market=market, detail=detail
        )

    def _after(self, injected: Injected, end: Callable[[], None]) -> None:
        """End a fault when its time has come."""

        def ended() -> None:
            end()
            self._journal.end(injected)

        asyncio.get_running_loop().call_later(injected.wanted.seconds, ended)

    # ------------------------------------------------------------------ frames
    def _gap(self, venue: Oddities, wanted: Wanted) -> Injected:
        connection = self._connection(venue, wanted)
        injected = self._begin(wanted, connection, wanted.market)
        connection.interferences.append(Gap(injected, self._journal, wanted.parameters["count"]))
        return injected

    def _duplicate(self, venue: Oddities, wanted: Wanted) -> Injected:
        connection = self._connection(venue, wanted)
        injected = self._begin(wanted, connection, wanted.market)
        connection.interferences.append(Twice(injected, self._journal, wanted.parameters["count"]))
        return injected

    def _reorder(self, venue: Oddities, wanted: Wanted) -> Injected:
        connection = self._connection(venue, wanted)
        injected = self._begin(wanted, connection, wanted.market)
        connection.interferences.append(Swap(injected, self._journal, wanted.parameters["count"], wanted.seconds))
        return injected

    def _malformed_json(self, venue: Oddities, wanted: Wanted) -> Injected:
        how = wanted.parameters["how"]
        if how not in {"cut", "garbage", "empty", "utf8"}:
            raise BadFault(f"malformed_json: how must be cut, garbage, empty or utf8, was {how!r}")
        connection = self._connection(venue, wanted)
        injected = self._begin(wanted, connection, wanted.market)
        connection.interferences.append(Broken(injected, self._journal, how))
        return injected

    def _stale_snapshot(self, venue: Oddities, wanted: Wanted) -> Injected:
        if wanted.parameters["rest"]:
            market = self._market(venue, wanted)
            injected = self._begin(wanted, None, market)
            venue.stale_rest(market, on=True)
            self._after(injected, lambda: venue.stale_rest(market, on=False))
            return injected
        connection = self._connection(venue, wanted)
        market = self._market(venue, wanted, connection)
        injected = self._begin(wanted, connection, market)
        late = Late(injected, self._journal, wanted.parameters["behind"])
        connection.interferences.append(late)
        venue.book(connection, market)
        self._after(injected, lambda: late.end(connection))
        return injected

    def _duplicate_snapshot(self, venue: Oddities, wanted: Wanted) -> Injected:
        connection = self._connection(venue, wanted)
        market = self._market(venue, wanted, connection)
        injected = self._begin(wanted, connection, market)
        for did in ("added", "duplicated"):
            with connection.marked(injected.mark(did)):
                venue.book(connection, market)
        self._journal.end(injected)
        return injected

    def _huge_frame(self, venue: Oddities, wanted: Wanted) -> Injected:
        connection = self._connection(venue, wanted)
        market = self._market(venue, wanted, connection)
        injected = self._begin(wanted, connection, market)
        with connection.marked(injected.mark("added")):
            venue.book(connection, market, padding=wanted.parameters["bytes"])
        self._journal.end(injected)
        return injected

    def _unknown_type(self, venue: Oddities, wanted: Wanted) -> Injected:
        connection = self._connection(venue, wanted)
        market = self._market(venue, wanted, connection)
        injected = self._begin(wanted, connection, market)
        with connection.marked(injected.mark("added")):
            venue.unknown(connection, market)
        self._journal.end(injected)
        return injected

    # ------------------------------------------------------------------ silence
    def _silent_freeze(self, venue: Oddities, wanted: Wanted) -> Injected:
        connection = self._connection(venue, wanted)
        injected = self._begin(wanted, connection)
        venue.freeze(injected, connection)
        self._after(injected, lambda: venue.thaw(injected, connection))
        return injected

    def _asset_silent(self, venue: Oddities, wanted: Wanted) -> Injected:
        connection = self._connection(venue, wanted)
        market = self._market(venue, wanted, connection)
        injected = self._begin(wanted, connection, market)
        try:
            venue.silence(injected, connection, market)
        except BadFault:
            self._journal.end(injected)
            raise
        if wanted.seconds:
            self._after(injected, lambda: venue.speak(injected, connection, market))
        return injected

    def _half_open(self, venue: Oddities, wanted: Wanted) -> Injected:
        connection = self._connection(venue, wanted)
        injected = self._begin(wanted, connection)
        connection.mute(injected.mark("dropped"))
        self._after(injected, connection.abort)
        return injected

    def _slow_frames(self, venue: Oddities, wanted: Wanted) -> Injected:
        connection = self._connection(venue, wanted)
        asked = wanted.parameters
        if connection.pace is not None:
            raise BadFault(f"slow_frames: connection {connection.number} is slow already", missing=True)
        injected = self._begin(wanted, connection)
        trickle = Trickle(injected, asked["delay_ms"] / 1_000, asked["trickle_bytes"], asked["trickle_ms"] / 1_000)
        connection.pace = trickle
        self._after(injected, lambda: self._start(trickle.finish(connection)))
        return injected

    def _close_without_reason(self, venue: Oddities, wanted: Wanted) -> Injected:
        how = wanted.parameters["how"]
        if how not in {"abort", "close"}:
            raise BadFault(f"close_without_reason: how must be abort or close, was {how!r}")
        connection = self._connection(venue, wanted)
        injected = self._begin(wanted, connection)
        if how == "abort":
            connection.abort()
        else:
            connection.close()
        self._journal.end(injected)
        return injected

    # ------------------------------------------------------------------ books
    def _delta_before_snapshot(self, venue: Oddities, wanted: Wanted) -> Injected:
        cut = self._connection(venue, wanted) if wanted.parameters["force"] else None
        injected = self._begin(wanted, cut=cut.number if cut is not None else None)
        venue.owe(injected, wanted.parameters["deltas"])
        if cut is not None:
            cut.abort()
        loop = asyncio.get_running_loop()
        loop.call_later(wanted.seconds, venue.forgive, injected)
        return injected

    def _tick_change(self, venue: Oddities, wanted: Wanted) -> Injected:
        market = self._market(venue, wanted)
        detail = venue.change_tick(market)
        injected = self._begin(wanted, None, market, **detail)
        self._journal.end(injected)
        return injected

    def _huge_snapshot(self, venue: Oddities, wanted: Wanted) -> Injected:
        market = self._market(venue, wanted)
        detail = venue.flood(market, wanted.parameters["levels"])
        injected = self._begin(wanted, None, market, **detail)
        self._after(injected, lambda: venue.drain(market))
        return injected

    # ------------------------------------------------------------------ orders
    def _befall(self, venue: Oddities, wanted: Wanted) -> Injected:
        if wanted.market is not None:
            self._market(venue, wanted)
        injected = self._begin(wanted, None, wanted.market)
        venue.mishaps.begin(injected)
        post_only_s = wanted.parameters.get("post_only_s", 0.0)
        loop = asyncio.get_running_loop()
        loop.call_later(wanted.seconds + post_only_s, venue.mishaps.end, injected)
        return injected

    # ------------------------------------------------------------------ the venue as a whole
    def _http_429(self, venue: Oddities, wanted: Wanted) -> Injected:
        injected = self._begin(wanted)
        venue.outage.active.append(injected)
        self._after(injected, lambda: venue.outage.active.remove(injected))
        return injected

    def _http_5xx(self, venue: Oddities, wanted: Wanted) -> Injected:
        return self._http_429(venue, wanted)

    def _maintenance(self, venue: Oddities, wanted: Wanted) -> Injected:
        injected = self._begin(wanted)
        venue.outage.active.append(injected)
        venue.stop_trading(injected)
        self._flow.paused.add(venue.place)
        for connection in venue.sockets() if wanted.parameters["orders"] else venue.market_data():
            connection.close(GOING_AWAY)

        def over() -> None:
            venue.outage.active.remove(injected)
            venue.resume_trading(injected)
            if not venue.outage.down():
                self._flow.paused.discard(venue.place)

        self._after(injected, over)
        return injected

    def _clock_skew(self, venue: Oddities, wanted: Wanted) -> Injected:
        offset_ns = wanted.parameters["offset_ms"] * 1_000_000
        injected = self._begin(wanted)
        venue.clock.offset_ns += offset_ns

        def right() -> None:
            venue.clock.offset_ns -= offset_ns

        self._after(injected, right)
        return injected

    def _connection_limit(self, venue: Oddities, wanted: Wanted) -> Injected:
        cut = self._connection(venue, wanted) if wanted.parameters["force"] else None
        limit = wanted.parameters["limit"] or venue.outage.count_open() - (cut is not None)
        injected = self._begin(wanted, limit=limit, cut=cut.number if cut is not None else None)
        venue.outage.limit = (injected, limit)
        if cut is not None:
            cut.abort()

        def lift() -> None:
            if venue.outage.limit is not None and venue.outage.limit[0] is injected:
                venue.outage.limit = None

        self._after(injected, lift)
        return injected

    def _start(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Forget what still runs."""
        for task in list(self._tasks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
