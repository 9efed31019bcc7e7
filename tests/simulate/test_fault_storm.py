"""All faults together, on clients that come back: the simulator holds, and its truth stays true."""

import asyncio
import contextlib
import hashlib
import json
from collections import Counter, defaultdict

import pytest
import websockets

from simulate.faults import MARKET_NAMES, script
from simulate.history import book_of, put
from simulate.matching import Side
from simulate.universe import make_universe

UNIVERSE = make_universe(1, 6, inverted_share=0, neg_risk_share=0, delayed_share=0)
TICKERS = [market.kalshi_ticker for market in UNIVERSE]
TOKENS = [market.yes_token for market in UNIVERSE]
SECONDS = 8.0
EXPECTED = MARKET_NAMES.keys() - {"tick_change"}


def storm(seed):
    """Return a script with every fault twice, close together and short."""
    entries = []
    for number, entry in enumerate(script(seed, 400, every_s=4.0)):
        body = entry.as_json()
        body["at_s"] = 0.2 + number * (SECONDS - 1.0) / 80
        body["seconds"] = min(body["seconds"], 0.5)
        if body["fault"] == "huge_frame":
            body["bytes"] = 2_000_000
        if body["fault"] == "huge_snapshot":
            body["levels"] = 600
        if body["fault"] == "slow_frames":
            body["delay_ms"] = min(body["delay_ms"], 150)
        entries.append(body)
    return [body for body in entries if body["at_s"] < SECONDS]


class Returning:
    """A client that connects again whenever its connection ends or is refused, and keeps what each one brought."""

    def __init__(self, venues, venue, number):
        self.venues = venues
        self.venue = venue
        self.number = number
        self.received = []
        """for each connection the digests of its frames"""
        self.refused = 0

    async def run(self):
        while True:
            try:
                async with self._connect() as stream:
                    digests = []
                    self.received.append(digests)
                    async for text in stream.socket:
                        digests.append(hashlib.sha1(text.encode()).hexdigest())
            except websockets.InvalidStatus:
                self.refused += 1
            except (websockets.ConnectionClosed, OSError, TimeoutError):
                pass
            await asyncio.sleep(0.03)

    @contextlib.asynccontextmanager
    async def _connect(self):
        if self.venue == "kalshi":
            async with self.venues.kalshi.stream() as stream:
                params = {"channels": ["orderbook_delta", "trade"], "market_tickers": TICKERS, "use_yes_price": True}
                await stream.send({"id": 1, "cmd": "subscribe", "params": params})
                yield stream
        else:
            async with self.venues.polymarket.market(TOKENS) as stream:
                yield stream


@pytest.mark.parametrize("seed", [1, 2])
def test_no_mixture_of_faults_breaks_the_simulator_or_its_truth(run, tmp_path, seed):
    path = tmp_path / "storm.json"
    path.write_text(json.dumps(storm(seed)))
    broken, clients, finals, retried = [], [], {}, set()

    async def scenario(venues):
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: broken.append(context))
        clients.extend(Returning(venues, venue, number) for venue in ("kalshi", "polymarket") for number in range(2))
        tasks = [asyncio.create_task(client.run()) for client in clients]
        # Orders go on meanwhile: they are no part of these faults.
        for _ in range(10):
            await asyncio.sleep((SECONDS + 0.8) / 10)
            assert (await venues.kalshi.call("GET", "/portfolio/balance"))[0] == 200
        async with asyncio.timeout(30):
            # What found no connection in all the storm, on a machine that is slow.
            while missing := EXPECTED - venues.world.journal.counts.keys():
                for name in missing:
                    retried.add(name)
                    await venues.sim("/sim/faults", {"venue": "polymarket", "fault": name, "seconds": 0.5})
                await asyncio.sleep(0.1)
        await venues.sim("/sim/flow", {"running": False})
        assert venues.world.journal.unexplained == 0
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        world = venues.world
        finals["kalshi"] = {m.ticker: book_of(m.matcher) for m in world.kalshi.exchange.markets}
        finals["polymarket"] = {m.condition_id: book_of(m.matcher) for m in world.clob.exchange.markets}

    run(
        scenario,
        markets=6,
        flow=True,
        quote_at_start=True,
        messages_per_s=500,
        edges_per_s=2,
        edge_s=0.3,
        faults=str(path),
        kalshi_tier="prestige",
    )
    assert broken == []
    lines = [json.loads(line) for line in (tmp_path / "truth" / "faults.jsonl").read_text().splitlines()]
    begun = Counter(line["fault"] for line in lines if line["event"] == "begin")
    assert set(begun) >= EXPECTED
    assert retried <= {line["fault"] for line in lines if line["event"] == "skipped"}
    assert sum(begun.values()) > 40
    for venue, books in finals.items():
        _check_books(tmp_path, venue, books)
        _check_frames(tmp_path, venue, [client for client in clients if client.venue == venue])


def _check_books(folder, venue, finals):
    found = defaultdict(dict)
    versions = Counter()
    for line in (folder / "truth" / f"books-{venue}.jsonl").read_text().splitlines():
        key, version, side, price, size = json.loads(line)
        versions[key] += 1
        assert version == versions[key]
        put(found[key], Side(side), price, size)
    assert dict(found) == finals


def _check_frames(folder, venue, clients):
    sent = defaultdict(list)
    for text in (folder / "truth" / f"frames-{venue}.jsonl").read_text().splitlines():
        line = json.loads(text)
        if line[1]:
            sent[line[0]].append(line)
    for lines in sent.values():
        assert [line[1] for line in lines] == list(range(1, len(lines) + 1))
    # Each connection a client had brought the beginning of what the truth says was sent on one, and nothing else.
    digests = [[line[5] for line in lines] for lines in sent.values()]
    brought = [digests_of for client in clients for digests_of in client.received if digests_of]
    assert len(brought) > 5
    for got in brought:
        assert any(lines[: len(got)] == got for lines in digests)
    assert sum(client.refused for client in clients) > 0
