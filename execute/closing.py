"""What flatten asks each venue: everything held, and the book of one market, with keys alone."""

from __future__ import annotations

from core.domain.errors import Unavailable
from execute.flatten import Lot, Place
from execute.kalshi import KalshiVenue
from execute.polymarket import PolymarketVenue
from execute.ports import Caller, Lane, Reply, Request, Venue
from execute.views import Held
from schemas.market import Instrument
from venues.kalshi import hosts as kalshi_hosts
from venues.kalshi import rest as kalshi_rest
from venues.kalshi.rules import SIZE_STEP
from venues.polymarket import hosts as polymarket_hosts
from venues.polymarket import rest as polymarket_rest
from venues.polymarket.rules import SHARE_STEP


class KalshiClosing:
    """Kalshi: one signed position a market, so nothing but the market's price grid and book is needed."""

    def __init__(self, venue: KalshiVenue) -> None:
        self._venue = venue

    async def lots(self, caller: Caller) -> tuple[int, list[Lot]]:
        """Return the positions."""
        report = await self._venue.report(caller, ())
        return report.as_of_ns, [Lot(one.instrument, one.outcome, "", one.size) for one in report.holdings]

    async def place(self, caller: Caller, lot: Lot) -> Place:
        """Return the market with its grid, and its best prices."""
        ticker = lot.instrument.removeprefix("kalshi:")
        path = f"{kalshi_hosts.API_ROOT}/markets/{ticker}"
        market = kalshi_rest.decode_market(kalshi_rest.split_market(await _get(caller, self._venue, path, "read", 10)))
        path = kalshi_hosts.orderbook_path(ticker)
        book = kalshi_rest.decode_rest_book(await _get(caller, self._venue, path, "read", 10), ticker)
        instrument = _instrument(
            lot.instrument,
            bands=[(band.start, band.end, band.step) for band in market.price_ranges],
            size_step=SIZE_STEP,
            exchange_index=market.exchange_index,
        )
        return Place(instrument, book.yes[0][0] if book.yes else 0, book.no[0][0] if book.no else 0)


class PolymarketClosing:
    """Polymarket's exchange lists no holdings: every token the account ever traded is asked for its balance."""

    def __init__(self, venue: PolymarketVenue, instruments: dict[str, Instrument]) -> None:
        """`instruments` is the venue's own view of them; what is learnt here is put into it."""
        self._venue = venue
        self._instruments = instruments

    async def lots(self, caller: Caller) -> tuple[int, list[Lot]]:
        """Return the tokens of every market that was ever traded, with their confirmed balance."""
        held: list[Held] = []
        for market in await self._venue.traded(caller):
            tokens = (await self._learn(caller, market)).tokens
            held += [Held(market, "YES", tokens[0]), Held(market, "NO", tokens[1])]
        as_of_ns, sizes = await self._venue.balances(caller, held)
        return as_of_ns, [
            Lot(one.instrument, one.outcome, one.token, sizes[one.token]) for one in held if sizes[one.token]
        ]

    async def place(self, caller: Caller, lot: Lot) -> Place:
        """Return the market, and the best prices of its YES token."""
        instrument = await self._learn(caller, lot.instrument)
        path = f"{polymarket_hosts.BOOK_PATH}?token_id={instrument.tokens[0]}"
        (book,) = polymarket_rest.decode_books(await _get(caller, self._venue, path, "read", 1))
        return Place(instrument, book.bids[0][0] if book.bids else 0, book.asks[0][0] if book.asks else 0)

    async def _learn(self, caller: Caller, name: str) -> Instrument:
        known = self._instruments.get(name)
        if known is not None:
            return known
        path = f"/clob-markets/{name.removeprefix('polymarket:')}"
        found = polymarket_rest.decode_clob_rules(await _get(caller, self._venue, path, "read", 1))
        if len(found.token_ids) != 2:
            raise Unavailable(f"{name}: expected two tokens, found {len(found.token_ids)}")
        self._instruments[name] = _instrument(
            name,
            bands=[(found.tick, 10_000 - found.tick, found.tick)],
            size_step=SHARE_STEP,
            tokens=found.token_ids,
            neg_risk=found.neg_risk,
        )
        return self._instruments[name]


async def _get(caller: Caller, venue: Venue, path: str, bucket: str, cost: int) -> bytes:
    request = Request("GET", path, b"", "", bucket, cost, is_public=True)
    reply: Reply = await caller.call(request, lane=Lane.HEDGE)
    if reply.status != 200:
        error = venue.refusal(reply)
        raise Unavailable(f"{venue.name} {path} answered {error.status} {error.code}: {error.message}")
    return reply.body


def _instrument(
    name: str,
    *,
    bands: list[tuple[int, int, int]],
    size_step: int,
    exchange_index: int = 0,
    tokens: list[str] | None = None,
    neg_risk: bool = False,
) -> Instrument:
    return Instrument(
        instrument=name,
        venue=name.partition(":")[0],
        kind="BINARY",
        status="OPEN",
        title="",
        event_group="",
        price_exp=-4,
        size_exp=-6,
        tick_from=[band[0] for band in bands],
        tick_to=[band[1] for band in bands],
        tick_step=[band[2] for band in bands],
        size_min=0,
        size_step=size_step,
        # A taker's fee is not needed to sell, and not stated where this is read.
        fee_model="UNKNOWN",
        taker_fee_e6=0,
        tokens=tokens or [],
        neg_risk=neg_risk,
        exchange_index=exchange_index,
        recv_ts_ns=0,
    )
