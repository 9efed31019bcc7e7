"""Paper venues for tests: instruments as a live run describes them, and both venues without a market until one is heard of."""

from simulate.paper_feed import PaperFeed
from simulate.settings import SimulateSettings
from simulate.world import World
from tests.records import binary

TICKER = "KXREAL-26DEC01-T3.5"
CONDITION = "0x" + "ab" * 32
YES, NO = "1" * 70, "2" * 70
KALSHI, POLYMARKET = f"kalshi:{TICKER}", f"polymarket:{CONDITION}"
E6 = 1_000_000
NS_PER_S = 1_000_000_000


def instrument(name, **fields):
    """Return one as a live run describes it."""
    if name.startswith("kalshi"):
        terms = {"maker_fee_e6": 17_500}
    else:
        terms = {"tick_from": [100], "tick_to": [9_900], "tokens": [YES, NO]}
    return binary(
        name, **{"title": "real", "event_group": f"{name.partition(':')[0]}:KXREAL-26DEC01", **terms, **fields}
    )


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
