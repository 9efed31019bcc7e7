"""Whatever a venue sends: market records that fit their schema, or a named rejection. Nothing else leaves a task."""

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.domain.errors import Reject
from core.runtime.flow import Input, TaskContext
from normalize.stage import InstrumentTask
from schemas import raw

TICKER = "KXWTACHALLENGERMATCH-26JUN11JIMLEP-LEP"
CONDITION = "0x2f1ab0ffaf465c4acd76b9a4a1f8980db26bfae7d248a6bb289350586028307e"
YES = "94022367472047775158269173293876979533288470167463650966689320774843018181757"
NO = "3329029450753225654467003002742946394863848082479209219558348197750220015613"

RELAXED = settings(
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

NUMBERS = ["0.4700", "0.5", "1", "0", "-1", "1e3", "NaN", "", "9" * 30, "0.47000001", ".48", "1.0000", "0.475"]
VALUES = st.one_of(
    st.sampled_from(NUMBERS),
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        [TICKER, CONDITION, YES, NO, "yes", "no", "BUY", "SELL", "2026-06-11T06:31:29Z", "9999-12-31T00:00:00Z"]
    ),
    st.lists(st.tuples(st.sampled_from(NUMBERS), st.sampled_from(NUMBERS)), max_size=3),
    st.lists(
        st.fixed_dictionaries(
            {
                "price": st.sampled_from(NUMBERS),
                "size": st.sampled_from(NUMBERS),
                "asset_id": st.sampled_from([YES, NO, "1"]),
                "side": st.sampled_from(["BUY", "SELL", "x"]),
            }
        ),
        max_size=3,
    ),
)

KALSHI_FRAMES = [
    {
        "type": "orderbook_delta",
        "sid": 1,
        "seq": 2,
        "sending_ts_ms": 5,
        "msg": {"market_ticker": TICKER, "price_dollars": "0.4700", "delta_fp": "1.00", "side": "yes", "ts_ms": 5},
    },
    {
        "type": "orderbook_snapshot",
        "sid": 1,
        "seq": 1,
        "sending_ts_ms": 5,
        "msg": {
            "market_ticker": TICKER,
            "market_id": "m",
            "yes_dollars_fp": [["0.4700", "3.00"]],
            "no_dollars_fp": [["0.5200", "1.00"]],
        },
    },
    {
        "type": "trade",
        "sid": 2,
        "seq": 1,
        "msg": {
            "trade_id": "t",
            "market_ticker": TICKER,
            "yes_price_dollars": "0.4400",
            "no_price_dollars": "0.5600",
            "count_fp": "43.98",
            "taker_book_side": "ask",
            "ts": 5,
            "ts_ms": 5,
        },
    },
    {
        "type": "market_lifecycle_v2",
        "sending_ts_ms": 5,
        "msg": {
            "market_ticker": TICKER,
            "event_type": "determined",
            "result": "yes",
            "determination_ts": 5,
            "settlement_value": "0.5",
            "settled_ts": 5,
            "price_ranges": [],
        },
    },
]
LEVELS = [{"price": "0.32", "size": "7"}]
POLYMARKET_FRAMES = [
    {
        "event_type": "book",
        "market": CONDITION,
        "asset_id": YES,
        "timestamp": "1761179883493",
        "hash": "h",
        "bids": LEVELS,
        "asks": [],
        "tick_size": "0.01",
    },
    {
        "event_type": "price_change",
        "market": CONDITION,
        "price_changes": [{"asset_id": YES, "price": "0.33", "size": "5", "side": "BUY", "hash": "h"}],
        "timestamp": "1761179967114",
    },
    {
        "event_type": "last_trade_price",
        "market": CONDITION,
        "asset_id": NO,
        "price": "0.3",
        "size": "2",
        "side": "BUY",
        "timestamp": "1",
    },
    {
        "event_type": "tick_size_change",
        "market": CONDITION,
        "asset_id": YES,
        "old_tick_size": "0.01",
        "new_tick_size": "0.001",
        "timestamp": "1",
    },
    {
        "event_type": "market_resolved",
        "market": CONDITION,
        "assets_ids": [YES, NO],
        "winning_asset_id": YES,
        "winning_outcome": "Yes",
        "timestamp": "1",
    },
]


@st.composite
def bent(draw, frames):
    """Return a frame with some fields replaced, removed or added, or cut short, or repeated in an array."""
    frame = json.loads(json.dumps(draw(st.sampled_from(frames))))
    for _ in range(draw(st.integers(0, 3))):
        where = draw(st.sampled_from([frame, *[v for v in frame.values() if isinstance(v, dict)]]))
        name = draw(st.sampled_from([*where, "extra"]) if where else st.just("extra"))
        if draw(st.booleans()):
            where[name] = draw(VALUES)
        else:
            where.pop(name, None)
    whole = [frame] * draw(st.integers(1, 3)) if draw(st.booleans()) else frame
    data = json.dumps(whole, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    return data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 9)) == 0 else data


def check_fits(record) -> None:
    """Check types and widths by the record class itself."""
    plain = msgspec.structs.asdict(record)
    assert msgspec.convert(plain, type(record)) == record
    for value in plain.values():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int):
                assert -(2**63) <= number < 2**63


def outcome(feed, payload: bytes) -> None:
    try:
        outputs = feed.give(feed.frame(payload))
    except Reject as e:
        outputs = list(e.outputs)
    for output in outputs:
        check_fits(output.record)
        assert output.key


@RELAXED
@given(payload=bent(KALSHI_FRAMES))
def test_bent_kalshi_frames(kalshi, payload):
    outcome(kalshi, payload)


@RELAXED
@given(payload=bent(POLYMARKET_FRAMES))
def test_bent_polymarket_frames(polymarket, payload):
    outcome(polymarket, payload)


@RELAXED
@given(payload=st.binary(max_size=60))
def test_any_bytes(kalshi, polymarket, payload):
    outcome(kalshi, payload)
    outcome(polymarket, payload)


@pytest.mark.parametrize("depth", [10, 100_000])
def test_deep_nesting_is_rejected_not_fatal(kalshi, polymarket, depth):
    for feed in (kalshi, polymarket):
        outcome(feed, b"[" * depth)
        outcome(feed, b'{"type":"trade","event_type":"book","msg":' + b"[" * depth + b"]" * depth + b"}")


def descriptions(folder: Path) -> list[tuple[str, dict]]:
    kalshi = json.loads((folder / "kalshi" / "markets__single.json").read_bytes())["market"]
    gamma = json.loads((folder / "polymarket" / "gamma_market__full.json").read_bytes())
    return [("kalshi", kalshi), ("polymarket", gamma)]


@RELAXED
@given(changes=st.dictionaries(st.integers(0, 200), VALUES, max_size=4), venue=st.integers(0, 1), context=VALUES)
def test_bent_descriptions_leave_an_instrument_each_time(captures, changes, venue, context):
    name, body = descriptions(captures)[venue]
    fields = list(body)
    changed = body | {fields[n % len(fields)]: value for n, value in changes.items()}
    key = f"{name}:{body.get('ticker') or body.get('conditionId')}"
    record = raw.Description(
        venue=name,
        instrument=key,
        payload=json.dumps(changed).encode(),
        context=json.dumps(context).encode(),
        recv_ts_ns=1,
    )
    try:
        outputs = list(InstrumentTask(TaskContext()).handle(Input(record, "raw.instrument", 0, 0, key)))
    except Reject as e:
        outputs = list(e.outputs)
    (output,) = outputs
    assert output.key == output.record.instrument == key
    check_fits(output.record)
