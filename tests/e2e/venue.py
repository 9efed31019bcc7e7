"""One simulated venue of a host: `python -m tests.e2e.venue <venue> <port>`, serving until its input ends.

Its folder gets `keys.json` with the keys of this venue alone: what a gateway of this host is given. A line on the
input is answered with what the venue knows of the traded account.
"""

import asyncio
import json
import sys
from pathlib import Path

import uvloop

from benchmarks.doorstep import Doorstep
from simulate.matching import Order, Side
from simulate.settings import SimulateSettings, TruthFrames
from simulate.world import World

SEED = 7
MARKETS = 4
ASK_E4 = 4_500
DEAR_E4 = 6_000
STRANGERS = {
    "kalshi": ((Side.ASK, ASK_E4), (Side.BID, DEAR_E4)),
    "polymarket": ((Side.ASK, ASK_E4), (Side.ASK, ASK_E4)),
}
"""What a stranger offers in the first two markets of each venue: the second may be bought in one and sold dearer in the other."""
STRANGER_SIZE = 100_000 * 1_000_000


def new_world(folder: Path, **changes) -> World:
    """Return both venues, not serving yet: the same markets wherever it is made."""
    return World(
        SimulateSettings(
            seed=SEED,
            markets=MARKETS,
            flow=False,
            quote_at_start=False,
            neg_risk_share=0.0,
            truth_frames=TruthFrames.NONE,
            mined_after_ms=50,
            confirmed_after_ms=100,
            credentials_file=folder / "all-keys.json",
            links_file=folder / "links.json",
            truth_dir=folder / "truth",
            **changes,
        )
    )


async def serve(venue: str, port: int) -> None:
    """Serve one venue; the other of the two gets a port nobody is told."""
    folder = Path.cwd()
    doorstep = Doorstep()
    doorstep.watch()
    world = new_world(folder, **{"kalshi_port" if venue == "kalshi" else "clob_port": port})
    await world.start()
    exchange = world.kalshi.exchange if venue == "kalshi" else world.clob.exchange
    for number, (side, price) in enumerate(STRANGERS[venue]):
        place = exchange.markets[number]
        exchange.apply(place, place.matcher.submit(Order("stranger", side, price, STRANGER_SIZE)))
    keys = json.loads((folder / "all-keys.json").read_text())
    (folder / "all-keys.json").unlink()
    (folder / "keys.json").write_text(json.dumps({venue: keys[venue]}))
    print(json.dumps({"serving": True}), flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        print(json.dumps(_facts(world, venue, doorstep)), flush=True)
    await world.stop()


def _facts(world: World, venue: str, doorstep: Doorstep) -> dict:
    (other,) = {"kalshi", "polymarket"} - {venue}
    ids, states = world.control.order_ids(), world.control.account_states()
    (own,) = (state for state in states[venue] if state["account"] == "main")
    return {
        "attempts": {name: fact["attempts"] for name, fact in ids[venue]["main"].items()},
        "filled": sum(fact["filled_e6"] for fact in ids[venue]["main"].values()),
        "arrived": doorstep.orders(),
        "open": own["open_orders"],
        "elsewhere": sum(fact["attempts"] for fact in ids[other]["main"].values()),
    }


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2])))
