"""Paper venues for tests: instruments as a live run describes them, and both venues without a market until one is heard of."""

from schemas.market import Instrument
from simulate.paper_feed import PaperFeed
from simulate.settings import SimulateSettings
from simulate.world import World

TICKER = "KXREAL-26DEC01-T3.5"
CONDITION = "0x" + "ab" * 32
YES, NO = "1" * 70, "2" * 70
KALSHI, POLYMARKET = f"kalshi:{TICKER}", f"polymarket:{CONDITION}"
E6 = 1_000_000
NS_PER_S = 1_000_000_000


def instrument(name, **fields):
    venue = name.partition(":")[0]
    common = {
        "kind": "BINARY",
        "status": "OPEN",
        "title": "real",
        "event_group": f"{venue}:KXREAL-26DEC01",
        "price_exp": -4,
        "size_exp": -6,
        "tick_from": [0] if venue == "kalshi" else [100],
        "tick_to": [10_000] if venue == "kalshi" else [9_900],
        "tick_step": [100],
        "size_min": 10_000 if venue == "kalshi" else 5 * E6,
        "size_step": 10_000,
        "fee_model": "QUADRATIC" if venue == "kalshi" else "CURVE",
        "taker_fee_e6": 70_000 if venue == "kalshi" else 40_000,
        "maker_fee_e6": 17_500 if venue == "kalshi" else 0,
        "tokens": [] if venue == "kalshi" else [YES, NO],
        "recv_ts_ns": 1,
    }
    return Instrument(instrument=name, venue=venue, **{**common, **fields})


def paper_venues(folder, credentials_file, now_ns, cash_usd, **settings):
    """Return the world, not started, and the feed of its books."""
    world = World(
        SimulateSettings(
            flow=False,
            quote_at_start=False,
            cash_usd=cash_usd,
            credentials_file=credentials_file,
            links_file=folder / "links.json",
            truth_dir=folder / "truth",
            truth_frames="none",
            **settings,
        ),
        universe=[],
    )
    feed = PaperFeed(
        world.kalshi.exchange,
        world.clob.exchange,
        now_ns,
        latency_ns=0,
        tick_age_max_ns=NS_PER_S,
        note=world.truth.note,
    )
    return world, feed
