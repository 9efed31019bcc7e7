"""Both simulated venues in a process of their own, which note when the first byte of each order reached them.

`python -m benchmarks.doorstep FOLDER` prints where they are as one line of JSON, answers each line on its input with a
line (`[[our id of the order, ns since the epoch], …]` and how many connections were accepted), and ends with its input.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web_protocol

from simulate.matching import Order, Side
from simulate.settings import SimulateSettings, TruthFrames
from simulate.world import World

ASK_E4 = 4_500
STRANGER_SIZE = 10_000_000 * 1_000_000
TIER = "prime"
"""Of the Kalshi account: its rate budget is not what is measured."""
_ID = re.compile(rb'"client_order_id":"([^"]+)"|"salt":(\d+)')


class Doorstep:
    """What came in, and when. Orders are read from the bytes afterwards, when nobody waits."""

    def __init__(self) -> None:
        self.accepted = 0
        self._came: list[tuple[int, bytearray]] = []
        self._last: dict[int, bytearray] = {}

    def watch(self) -> None:
        """Note what every server of this process gets from here on."""
        handler: Any = web_protocol.RequestHandler
        made, received = handler.connection_made, handler.data_received

        def connection_made(connection: Any, transport: Any) -> None:
            self.accepted += 1
            made(connection, transport)

        def data_received(connection: Any, data: bytes) -> None:
            now_ns = time.time_ns()
            if data.startswith(b"POST "):
                self._last[id(connection)] = bytearray(data)
                self._came.append((now_ns, self._last[id(connection)]))
            elif data.startswith((b"GET ", b"DELETE ", b"PUT ")):
                self._last.pop(id(connection), None)
            elif id(connection) in self._last:
                self._last[id(connection)] += data
            received(connection, data)

        handler.connection_made, handler.data_received = connection_made, data_received

    def orders(self) -> list[tuple[str, int]]:
        """Return our ids of the orders that came, with the time of their first byte, in the order they came."""
        found = []
        for ts_ns, data in self._came:
            named = _ID.search(data)
            if named:
                found.append(((named[1] or named[2]).decode(), ts_ns))
        return found


def instruments(world: World) -> dict[str, dict[str, Any]]:
    """Return what a catalogue would say of the one market of each venue that is traded."""
    kalshi, clob = world.kalshi.exchange.markets[0], world.clob.exchange.markets[0]
    bands = kalshi.grid.bands
    return {
        "kalshi": {
            "instrument": f"kalshi:{kalshi.ticker}",
            "tick_from": [band[0] for band in bands],
            "tick_to": [band[1] for band in bands],
            "tick_step": [band[2] for band in bands],
            "size_min": 10_000,
            "size_step": 10_000,
            "fee_model": "QUADRATIC",
            "taker_fee_e6": 70_000,
        },
        "polymarket": {
            "instrument": f"polymarket:{clob.condition_id}",
            "tick_from": [clob.tick_e4],
            "tick_to": [10_000 - clob.tick_e4],
            "tick_step": [clob.tick_e4],
            "size_min": 5_000_000,
            "size_step": 10_000,
            "notional_min_e6": 1_000_000,
            "fee_model": "CURVE",
            "taker_fee_e6": int(clob.fee_rate * 1_000_000),
            "tokens": list(clob.tokens),
            "neg_risk": clob.neg_risk,
        },
    }


async def serve(folder: Path) -> None:
    """Run both venues until the input ends."""
    doorstep = Doorstep()
    doorstep.watch()
    world = World(
        SimulateSettings(
            markets=2,
            flow=False,
            quote_at_start=False,
            neg_risk_share=0.0,
            kalshi_tier=TIER,
            truth_frames=TruthFrames.NONE,
            credentials_file=folder / "credentials.json",
            links_file=folder / "links.json",
            truth_dir=folder / "truth",
        )
    )
    ready = await world.start()
    for exchange in (world.kalshi.exchange, world.clob.exchange):
        market: Any = exchange.markets[0]
        ask = Order("stranger", Side.ASK, ASK_E4, STRANGER_SIZE)
        exchange.apply(market, market.matcher.submit(ask))
    # Only orders count from here on, not who made the keys known.
    _say(
        {
            "kalshi": ready["kalshi"]["rest_url"].removeprefix("http://").partition("/")[0],
            "polymarket": ready["polymarket"]["clob_url"].removeprefix("http://"),
            "credentials_file": ready["credentials_file"],
            "instruments": instruments(world),
        }
    )
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        _say({"accepted": doorstep.accepted, "orders": doorstep.orders()})
    await world.stop()


def _say(found: dict[str, Any]) -> None:
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
