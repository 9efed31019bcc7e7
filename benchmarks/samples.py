"""Frames and records as they occur, made here in the venues' documented shape."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec

from core.runtime.flow import Input, TaskContext
from core.runtime.tables import MemoryTables
from core.runtime.topics import MARKET_EVENT, RAW_FRAME
from schemas import market, raw
from venues import VENUES

RECV_NS = 1_790_000_000_000_000_000
EPOCH = 7
MARKETS = 100
"""Instruments a feed carries here."""
LEVELS = 60
NEAR = 0.12
SIZE = 10_000 * 10**6
"""Of each level at first: large, so that changes that are repeated take none below zero."""


def ticker(number: int) -> str:
    """Return a Kalshi ticker of usual length."""
    return f"KXSIMCHALLENGERMATCH-26JUN11P{number:03d}Q{number:03d}-P{number:03d}"


def condition(number: int) -> str:
    """Return a Polymarket condition id."""
    return f"0x{number + 1:064x}"


def tokens(number: int) -> tuple[str, str]:
    """Return the YES and NO token of a condition."""
    return str(10**76 + 2 * number), str(10**76 + 2 * number + 1)


def instrument_name(venue: str, number: int) -> str:
    """Return our id of a venue's market."""
    return f"{venue}:{ticker(number) if venue == 'kalshi' else condition(number)}"


def kalshi_frames(count: int, *, first_seq: int = 1) -> list[bytes]:
    """Return changes of a book's level, one a frame, numbered from `first_seq` within one `sid`."""
    rng = random.Random(1)
    variants = [
        json.dumps(
            {
                "type": "orderbook_delta",
                "sid": 1,
                "seq": 0,
                "sending_ts_ms": 1_790_000_000_000 + number,
                "msg": {
                    "market_ticker": ticker(rng.randrange(MARKETS)),
                    "market_id": f"{rng.getrandbits(128):032x}",
                    "price_dollars": f"0.{rng.randint(1, 99):02d}00",
                    "delta_fp": f"{rng.choice((-1, 1)) * rng.randint(1, 500)}.00",
                    "side": rng.choice(("yes", "no")),
                    "ts": "2026-06-11T06:31:29.957081Z",
                    "ts_ms": 1_790_000_000_000 + number,
                },
            },
            separators=(",", ":"),
        ).split('"seq":0', 1)
        for number in range(1_000)
    ]
    frames = []
    for number in range(count):
        head, rest = variants[number % len(variants)]
        frames.append(f'{head}"seq":{first_seq + number}{rest}'.encode())
    return frames


def polymarket_frames(count: int) -> list[bytes]:
    """Return `price_change` messages: one change of each of a market's two mirrored tokens."""
    rng = random.Random(2)
    frames = []
    for number in range(count):
        one = rng.randrange(MARKETS)
        yes, no = tokens(one)
        price, size = rng.randint(1, 99), f"{rng.randint(100, 99_999) / 100:.2f}"
        change = {"size": size, "hash": f"{rng.getrandbits(160):040x}", "best_bid": "0.33", "best_ask": "0.34"}
        frames.append(
            json.dumps(
                {
                    "market": condition(one),
                    "price_changes": [
                        {"asset_id": yes, "price": f"0.{price:02d}", "side": "BUY", **change},
                        {"asset_id": no, "price": f"0.{100 - price:02d}", "side": "SELL", **change},
                    ],
                    "timestamp": str(1_790_000_000_000 + number),
                    "event_type": "price_change",
                },
                separators=(",", ":"),
            ).encode()
        )
    return frames


def context() -> TaskContext:
    """Return what a normaliser is told: one feed of each venue, each with `MARKETS` instruments."""
    tables = MemoryTables()
    for epoch, venue in enumerate(VENUES, start=EPOCH):
        names = [instrument_name(venue, number) for number in range(MARKETS)]
        opened = raw.Opened(
            feed=f"{venue}-0", venue=venue, worker="bench", slot=0, instruments=names, recv_ts_ns=RECV_NS
        )
        tables.learn_feed(epoch, opened)
        for number, name in enumerate(names):
            held = list(tokens(number)) if venue == "polymarket" else []
            tables.learn_instrument(instrument(name, tokens=held))
    return TaskContext(partitions=4, tables=tables)


def instrument(name: str, **fields: Any) -> market.Instrument:
    """Return a binary market that trades whole cents and costs no fee, but for what `fields` say."""
    common: dict[str, Any] = {
        "venue": name.partition(":")[0],
        "kind": "BINARY",
        "status": "OPEN",
        "title": "",
        "event_group": "",
        "price_exp": -4,
        "size_exp": -6,
        "tick_from": [0],
        "tick_to": [10_000],
        "tick_step": [100],
        "size_min": 10_000,
        "size_step": 10_000,
        "fee_model": "NONE",
        "taker_fee_e6": 0,
        "recv_ts_ns": RECV_NS,
    }
    return market.Instrument(instrument=name, **{**common, **fields})


def raw_records(venue: str, payloads: list[bytes]) -> list[raw.Frame]:
    """Return frames as they stand on `raw.frame`."""
    epoch = EPOCH + VENUES.index(venue)
    return [
        raw.Frame(
            feed=f"{venue}-0",
            venue=venue,
            epoch=epoch,
            frame_no=number,
            recv_ts_ns=RECV_NS + number * 10_000,
            payload=payload,
            trail=[RECV_NS + number * 10_000 + 5_000],
        )
        for number, payload in enumerate(payloads, start=1)
    ]


def raw_inputs(records: list[raw.Frame]) -> list[Input]:
    """Return them as a task is handed them."""
    return [Input(record, RAW_FRAME.noun, 0, offset, record.feed) for offset, record in enumerate(records)]


def opening(count: int = MARKETS) -> list[Input]:
    """Return what makes books LIVE: a snapshot of each instrument and a tick of their feed."""
    steps = range(1, LEVELS + 1)
    records: list[market.BookSnapshot | market.Tick] = [
        market.BookSnapshot(
            instrument=instrument_name("kalshi", number),
            epoch=EPOCH,
            frame_no=number + 1,
            index=0,
            price_exp=-4,
            size_exp=-6,
            bid_prices=[5_000 - 10 * step for step in steps],
            bid_sizes=[SIZE] * LEVELS,
            ask_prices=[5_000 + 10 * step for step in steps],
            ask_sizes=[SIZE] * LEVELS,
            recv_ts_ns=RECV_NS,
        )
        for number in range(count)
    ]
    records.append(market.Tick(feed="kalshi-0", venue="kalshi", epoch=EPOCH, frame_no=count + 1, recv_ts_ns=RECV_NS))
    return [Input(record, MARKET_EVENT.noun, 0, offset) for offset, record in enumerate(records)]


def delta_inputs(count: int, *, first_frame: int = MARKETS + 2) -> list[Input]:
    """Return signed changes near the best of books that `opening` made; none takes a level below zero."""
    rng = random.Random(3)
    inputs = []
    sizes: dict[tuple[int, bool, int], int] = {}
    for number in range(count):
        one, buy, step = rng.randrange(MARKETS), rng.random() < 0.5, min(1 + int(rng.expovariate(NEAR)), LEVELS)
        held = sizes.get((one, buy, step), SIZE)
        change = rng.randint(1, 100) * 10**6 * (-1 if held > SIZE else 1)
        sizes[one, buy, step] = held + change
        record = market.BookDelta(
            instrument=instrument_name("kalshi", one),
            epoch=EPOCH,
            frame_no=first_frame + number,
            index=0,
            price_exp=-4,
            size_exp=-6,
            side="BUY" if buy else "SELL",
            kind="SIGNED",
            price=5_000 - 10 * step if buy else 5_000 + 10 * step,
            size=change,
            venue_ts_ns=RECV_NS + number,
            recv_ts_ns=RECV_NS + number,
            trail=[RECV_NS + number, RECV_NS + number],
        )
        inputs.append(Input(record, MARKET_EVENT.noun, 0, first_frame - 1 + number, record.instrument))
    return inputs


def shifted(inputs: list[Input], by: int) -> list[Input]:
    """Return changes as later ones of the same feed, so that a task that has seen the first set takes them too."""
    found = []
    for item in inputs:
        record = item.record
        assert isinstance(record, market.BookDelta)
        found.append(item._replace(record=msgspec.structs.replace(record, frame_no=record.frame_no + by)))
    return found
