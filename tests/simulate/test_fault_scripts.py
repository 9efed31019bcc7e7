"""Scripts of faults: drawn from a seed, read from a file, played at their times; and a long mixture checked by models."""

import asyncio
import hashlib
import json
from collections import Counter

import pytest

from core.domain.errors import Misconfigured
from core.domain.units import to_fixed
from simulate.fault import Fault
from simulate.faults import MARKET_NAMES, NAMES, parse, read_script, script
from simulate.order_faults import ORDER_NAMES
from simulate.universe import make_universe
from venues.polymarket.book_hash import book_hash

UNIVERSE = make_universe(1, 4, inverted_share=0, neg_risk_share=0, delayed_share=0)
TICKERS = [market.kalshi_ticker for market in UNIVERSE]
MARKETS = {market.yes_token: market for market in UNIVERSE}
ITEM_7 = [
    "gap",
    "duplicate",
    "reorder",
    "delta_before_snapshot",
    "duplicate_snapshot",
    "silent_freeze",
    "half_open",
    "close_without_reason",
    "slow_frames",
    "huge_snapshot",
    "huge_frame",
    "malformed_json",
    "unknown_type",
    "tick_change",
    "asset_silent",
    "http_429",
    "http_5xx",
    "maintenance",
    "clock_skew",
    "connection_limit",
    "stale_snapshot",
]


def test_every_fault_has_its_name_and_its_document():
    assert list(MARKET_NAMES) == ITEM_7
    assert list(NAMES) == [*MARKET_NAMES, *ORDER_NAMES]
    for name, fault in NAMES.items():
        assert isinstance(fault, Fault)
        assert ".md" in fault.seen or "general" in fault.seen, name


def test_a_seed_draws_the_same_script_and_another_seed_another():
    assert script(7, 300) == script(7, 300)
    assert script(7, 300) != script(8, 300)
    first = [(entry.at_s, entry.wanted.fault, entry.wanted.venue) for entry in script(1, 60)[:3]]
    # On any machine: a seed that once found a bug must find it again.
    assert first == [
        (5.0, "duplicate_snapshot", "kalshi"),
        (10.499, "duplicate_snapshot", "polymarket"),
        (16.352, "maintenance", "kalshi"),
    ]


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_script_of_five_minutes_has_every_fault_on_every_venue(seed):
    drawn = script(seed, 300)
    assert len(drawn) >= 55
    counts = Counter((entry.wanted.fault, entry.wanted.venue) for entry in drawn)
    assert set(counts) == {(name, venue) for name, fault in MARKET_NAMES.items() for venue in fault.venues}
    assert max(counts.values()) <= 2
    assert all(5 <= entry.at_s <= 290 for entry in drawn)
    assert [entry.at_s for entry in drawn] == sorted(entry.at_s for entry in drawn)
    # What was drawn can be written down and read again.
    for entry in drawn:
        body = json.loads(json.dumps(entry.as_json()))
        assert body.pop("at_s") == entry.at_s
        assert parse(body) == entry.wanted


def test_a_script_may_be_for_one_venue_and_some_faults():
    drawn = script(1, 100, venues=["polymarket"], faults=["gap", "reorder"], every_s=10)
    assert {(entry.wanted.fault, entry.wanted.venue) for entry in drawn} == {
        ("gap", "polymarket"),
        ("reorder", "polymarket"),
    }
    assert 6 <= len(drawn) <= 16


def test_a_script_file_is_checked_entry_by_entry(tmp_path):
    path = tmp_path / "script.json"
    path.write_text(
        json.dumps([{"at_s": 2, "venue": "kalshi", "fault": "gap"}, {"at_s": 1, "venue": "kalshi", "fault": "reorder"}])
    )
    assert [entry.wanted.fault for entry in read_script(str(path), 60)] == ["reorder", "gap"]
    drawn = read_script("seed:3", 60)
    assert [entry for entry in drawn if entry.wanted.fault in MARKET_NAMES] == script(3, 60)
    assert [entry for entry in drawn if entry.wanted.fault in ORDER_NAMES] == script(
        3, 60, faults=ORDER_NAMES, every_s=6.0
    )
    for text, word in (
        ("seed:x", "whole number"),
        (str(tmp_path / "none.json"), "no JSON file"),
        (str(_file(tmp_path, {"at_s": 1})), "expected a list"),
        (str(_file(tmp_path, [{"at_s": 1, "venue": "kalshi", "fault": "quake"}])), "entry 1"),
        (str(_file(tmp_path, [{"venue": "kalshi", "fault": "gap"}])), "at_s"),
    ):
        with pytest.raises(Misconfigured, match=word):
            read_script(text, 60)


def _file(folder, value):
    path = folder / f"script{len(list(folder.iterdir()))}.json"
    path.write_text(json.dumps(value))
    return path


def test_a_script_is_played_and_what_finds_nothing_is_noted(run, tmp_path):
    path = _file(
        tmp_path,
        [
            {"at_s": 0.1, "venue": "kalshi", "fault": "gap"},
            {"at_s": 0.2, "venue": "polymarket", "fault": "clock_skew", "seconds": 0.2},
        ],
    )

    async def scenario(venues):
        await asyncio.sleep(0.6)

    run(scenario, faults=str(path))
    lines = [json.loads(line) for line in (tmp_path / "truth" / "faults.jsonl").read_text().splitlines()]
    assert [(line["event"], line.get("fault")) for line in lines] == [
        ("skipped", "gap"),
        ("begin", "clock_skew"),
        ("end", None),
    ]
    begin = lines[1]
    assert begin.keys() == {"id", "event", "fault", "venue", "connection", "market", "detail", "until_ns", "ts_ns"}
    assert begin["until_ns"] - begin["ts_ns"] == pytest.approx(0.2e9, abs=0.05e9)


# ------------------------------------------------------------------ a mixture, and clients who believe everything

FRAME_FAULTS = [
    "gap",
    "duplicate",
    "reorder",
    "duplicate_snapshot",
    "silent_freeze",
    "slow_frames",
    "malformed_json",
    "unknown_type",
    "asset_silent",
    "stale_snapshot",
]


class Believer:
    """A Polymarket client who applies every frame and checks every hash; `wrong` are the ordinals that contradict him."""

    def __init__(self):
        self.books = {}
        self.ticks = {}
        self.last = {}
        self.wrong = []

    def take(self, ordinal, text):
        try:
            frame = json.loads(text)
        except ValueError:
            return
        for event in frame if isinstance(frame, list) else [frame]:
            kind = event.get("event_type")
            if kind == "book" and event["asset_id"] in MARKETS:
                self._book(event)
                self._check(ordinal, event["asset_id"], event["timestamp"], event["hash"])
            elif kind == "last_trade_price":
                whole, _, fraction = event["price"].partition(".")
                self.last[event["market"]] = f"{whole}.{fraction.ljust(3, '0')}"
            elif kind == "price_change":
                change = event["price_changes"][0]
                side = self.books[change["asset_id"]][0 if change["side"] == "BUY" else 1]
                price, size = to_fixed(change["price"], -4), to_fixed(change["size"], -6)
                side.pop(price, None) if size == 0 else side.update({price: size})
                self._check(ordinal, change["asset_id"], event["timestamp"], change["hash"])

    def _book(self, event):
        self.books[event["asset_id"]] = tuple(
            {to_fixed(level["price"], -4): to_fixed(level["size"], -6) for level in event[side]}
            for side in ("bids", "asks")
        )
        if "tick_size" in event:
            self.ticks[event["asset_id"]] = to_fixed(event["tick_size"], -4)
            self.last[event["market"]] = event["last_trade_price"]

    def _check(self, ordinal, token, timestamp, expected):
        bids, asks = self.books[token]
        market = MARKETS[token].condition_id
        found = book_hash(
            market=market,
            asset_id=token,
            time_ms=int(timestamp),
            bids=list(bids.items()),
            asks=list(asks.items()),
            size_min=5_000_000,
            tick=self.ticks[token],
            neg_risk=False,
            last_trade_price=self.last.get(market, ""),
        )
        if found != expected:
            self.wrong.append((ordinal, market))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_who_believes_every_frame_is_contradicted_exactly_where_the_journal_says(run, tmp_path, seed):
    received = {"kalshi": [], "polymarket": []}
    entries = script(seed, 6, faults=FRAME_FAULTS, first_s=0.1, last_s=1.0, every_s=0.1)
    bodies = []
    for entry in entries:
        body = entry.as_json()
        body["seconds"] = min(body["seconds"], 0.4)
        if body["fault"] == "silent_freeze":
            body["overflow"] = False
        if body["fault"] == "slow_frames":
            body["delay_ms"] = min(body["delay_ms"], 100)
        bodies.append(body)

    async def scenario(venues):
        async with (
            venues.kalshi.stream() as kalshi,
            venues.polymarket.market(list(MARKETS)) as polymarket,
        ):
            params = {"channels": ["orderbook_delta", "trade"], "market_tickers": TICKERS, "use_yes_price": True}
            await kalshi.send({"id": 1, "cmd": "subscribe", "params": params})

            async def read(name, stream):
                async for text in stream.socket:
                    received[name].append(text)

            readers = [asyncio.create_task(read("kalshi", kalshi)), asyncio.create_task(read("polymarket", polymarket))]
            await venues.sim("/sim/flow", {"running": True})
            await asyncio.sleep(6.0)
            await venues.sim("/sim/flow", {"running": False})
            await asyncio.sleep(0.6)
            for reader in readers:
                reader.cancel()

    run(
        scenario,
        quote_at_start=True,
        messages_per_s=600,
        edges_per_s=2,
        edge_s=0.3,
        taker_share=0.02,
        faults=str(_file(tmp_path, bodies)),
    )
    lines = [json.loads(line) for line in (tmp_path / "truth" / "faults.jsonl").read_text().splitlines()]
    counts = Counter(line["event"] for line in lines)
    assert counts["begin"] > 30
    assert counts["unexplained"] == 0
    reveals = [line for line in lines if line["event"] == "reveals"]
    venue_of = {line["id"]: line["venue"] for line in lines if line["event"] == "begin"}
    for venue, texts in received.items():
        truth = [json.loads(line) for line in (tmp_path / "truth" / f"frames-{venue}.jsonl").read_text().splitlines()]
        sent = [line for line in truth if line[1]]
        assert [line[1] for line in sent] == list(range(1, len(sent) + 1))
        assert [line[5] for line in sent] == [hashlib.sha1(text.encode()).hexdigest() for text in texts]
        assert len(texts) > 500
    # Kalshi: the numbers alone.
    last, wrong = {}, []
    for ordinal, text in enumerate(received["kalshi"], 1):
        try:
            frame = json.loads(text)
        except ValueError:
            continue
        if "seq" in frame:
            expected = last.get(frame["sid"], 0) + 1
            if frame["seq"] != expected:
                wrong.append(ordinal)
            last[frame["sid"]] = max(frame["seq"], expected - 1)
    told = {line["ordinal"] for line in reveals if venue_of[line["id"]] == "kalshi" and line["by"] == "seq"}
    assert told <= set(wrong)
    assert len(told) > 3
    # Polymarket: the first contradiction of each market that goes wrong is told, and none that is not there.
    believer = Believer()
    for ordinal, text in enumerate(received["polymarket"], 1):
        believer.take(ordinal, text)
    told = {
        (line["ordinal"], line["market"])
        for line in reveals
        if venue_of[line["id"]] == "polymarket" and line["by"] == "hash"
    }
    assert told <= set(believer.wrong)
    stale = {line["market"] for line in reveals if line["by"] == "timestamp"}
    firsts = {}
    for ordinal, market in believer.wrong:
        firsts.setdefault(market, (ordinal, market))
    assert {first for market, first in firsts.items() if market not in stale} <= told
    assert len(believer.wrong) > 3
