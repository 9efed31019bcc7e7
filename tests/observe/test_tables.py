"""Records to rows, without a server."""

import json

import numpy as np
import pytest

from core.domain.errors import Reject
from core.runtime import topics
from observe.stage import sunk_topics
from observe.tables import BY_KIND, HOLDINGS, LEGS, NESTED, Place, belongs, rows
from schemas.decision import Clock, Intent, Leg, Limit, Link
from schemas.derived import Depth, Quote
from schemas.market import BookDelta
from schemas.order import Fill, Holding, VenueReport
from schemas.raw import Frame

T = 1_780_000_000_123_456_789
PLACE = Place("market.event", 2, 41, 1_780_000_000_999_000_000)


def one(record, place=PLACE):
    (row,) = rows("demo", record, place)
    return row


def delta(**changes):
    fields = dict(
        instrument="kalshi:X", epoch=3, frame_no=7, index=1, price_exp=-4, size_exp=-6, side="BUY", kind="SIGNED",
        price=4_712, size=-2_500_000, venue_ts_ns=T - 5_000_000, recv_ts_ns=T, trail=[T + 1_000, T + 250_500],
    )  # fmt: skip
    return BookDelta(**(fields | changes))


def test_prices_and_sizes_become_doubles_by_the_records_own_exponents():
    row = one(delta())
    assert row.table == "market_book_delta"
    assert row.columns["price"] == 0.4712
    assert row.columns["size"] == -2.5
    row = one(delta(price_exp=-2, size_exp=0, price=6_512_345, size=3))
    assert (row.columns["price"], row.columns["size"]) == (65_123.45, 3.0)


def test_designated_timestamp_is_the_receive_time_in_nanoseconds():
    row = one(delta())
    assert row.at.value == T
    assert row.columns["venue_ts"].value == T - 5_000_000
    assert "venue_ts" not in one(delta(venue_ts_ns=0)).columns


def test_origin_is_written_under_names_sql_can_say():
    row = one(delta())
    assert {name: row.columns[name] for name in ("epoch", "frame_no", "place")} == {
        "epoch": 3, "frame_no": 7, "place": 1,
    }  # fmt: skip
    assert row.symbols == {"run": "demo", "instrument": "kalshi:X", "side": "BUY", "kind": "SIGNED"}


def test_trail_becomes_microseconds_since_the_receive_time():
    assert one(delta()).columns["hops_us"].tolist() == [1.0, 250.5]
    assert "hops_us" not in one(delta(trail=[])).columns


def test_two_records_of_one_nanosecond_differ_in_their_key():
    def key(record):
        row = one(record)
        values = row.symbols | row.columns
        return (row.at.value, *(values[name] for name in BY_KIND[BookDelta].keys))

    assert key(delta(index=1)) != key(delta(index=2))
    assert key(delta(frame_no=7)) != key(delta(frame_no=8))
    assert key(delta(trail=[T + 9])) == key(delta())


def test_a_repeated_quote_is_a_row_of_its_own():
    quote = dict(
        instrument="kalshi:X", version_offset=5, version_index=1, depth_offset=5, depth_index=0, state="LIVE",
        price_exp=-4, size_exp=-6, bid_price=1, bid_size=1, ask_price=2, ask_size=2, epoch=1, recv_ts_ns=T,
    )  # fmt: skip
    assert "repeat" in BY_KIND[Quote].keys
    assert one(Quote(**quote)).columns["repeat"] is False
    assert one(Quote(**quote, repeat=True)).columns["repeat"] is True


def test_levels_become_arrays():
    depth = Depth(
        instrument="kalshi:X", version_offset=5, version_index=0, state="LIVE", price_exp=-4, size_exp=-6,
        bid_prices=[4_700, 4_600], bid_sizes=[1_000_000, 2_500_000], ask_prices=[], ask_sizes=[], epoch=1, recv_ts_ns=T,
    )  # fmt: skip
    row = one(depth)
    np.testing.assert_array_equal(row.columns["bid_prices"], [0.47, 0.46])
    np.testing.assert_array_equal(row.columns["bid_sizes"], [1.0, 2.5])
    assert row.columns["ask_prices"].shape == (0,)


def test_money_and_filled_sizes_stay_exact():
    fill = Fill(
        event_id="e", order="o", account="kalshi:main", instrument="kalshi:X", fill="f", outcome="YES", token_side="BUY",
        size=9_007_199_254_740_993, price_e6=333_333, notional_e6=9_007_199_254_740_993, fee_e6=17, asset="USD",
        liquidity="TAKER", settlement="CONFIRMED", ts_ns=T + 9, recv_ts_ns=T,
    )  # fmt: skip
    row = one(fill)
    assert row.columns["size_e6"] == row.columns["notional_e6"] == 9_007_199_254_740_993
    assert (row.columns["order_id"], row.columns["fill_id"]) == ("o", "f")
    assert row.at.value == T
    assert row.columns["learnt"].value == T + 9


def test_an_intent_gives_a_row_and_one_for_each_leg():
    leg = Leg(
        instrument="kalshi:X", account="kalshi:main", side="BUY", price=4_700, size=5_000_000, price_exp=-4, size_exp=-6,
        fee_max_e6=10, version_offset=1, version_index=0, recv_ts_ns=T, level_prices=[4_700], level_sizes=[5_000_000],
    )  # fmt: skip
    intent = Intent(
        id="i", strategy="s", link="l", account_set="main", now_ns=T + 1, legs=[leg, leg], profit_e6=3,
        input_partition=0, input_offset=9, recv_ts_ns=T,
    )  # fmt: skip
    first, second, third = rows("demo", intent, PLACE)
    assert first.table == "decision_intent"
    assert [(row.table, row.columns["id"], row.columns["place"]) for row in (second, third)] == [
        ("decision_leg", "i", 0),
        ("decision_leg", "i", 1),
    ]
    assert second.at.value == first.at.value == T + 1
    assert second.columns["level_sizes"].tolist() == [5.0]


def test_a_report_gives_a_row_for_each_holding():
    report = VenueReport(
        account="kalshi:main", as_of_ns=T, cash_e6=5, open_orders=["a", "b"], ts_ns=T + 2,
        holdings=[Holding(instrument="kalshi:X", outcome="NO", size=1_500_000)],
    )  # fmt: skip
    first, second = rows("demo", report, PLACE)
    assert json.loads(first.columns["open_orders"]) == ["a", "b"]
    assert (second.table, second.symbols["account"], second.columns["size"]) == ("order_holding", "kalshi:main", 1.5)


def test_configuration_without_a_time_takes_kafkas():
    limit = Limit(
        id="main", state="RUNNING", order_notional_max_e6=1, market_notional_max_e6=2, open_sagas_max=3,
        unwind_budget_e6=4, set_by="me", reason="",
    )  # fmt: skip
    row = one(limit)
    assert row.at.value == PLACE.ts_ns
    assert (row.symbols["log"], row.columns["log_offset"]) == ("market.event", 41)


@pytest.mark.parametrize("recv_ts_ns", [-1, 2**63 - 1])
def test_a_time_questdb_cannot_hold_is_rejected_by_name(recv_ts_ns):
    with pytest.raises(Reject, match="recv_ts_ns"):
        one(delta(recv_ts_ns=recv_ts_ns, trail=[]))


def test_sequenced_copies_of_other_layers_have_no_second_row():
    assert belongs("crossbook.derived.Quote", "derived.book")
    assert not belongs("crossbook.derived.Quote", "decision.input")
    assert not belongs("crossbook.market.Trade", "derived.book")
    assert belongs("crossbook.decision.Intent", "decision.account")
    assert not belongs("crossbook.order.Fill", "decision.account")


def test_every_record_of_the_sunk_layers_has_a_table():
    layers = ("market", "derived", "decision", "order")
    for topic in sunk_topics(layers):
        for kind in topic.records:
            if kind.schema_name.split(".")[1] == topic.layer:
                assert kind in BY_KIND, f"{kind.schema_name} on {topic.noun} has no table"


@pytest.mark.parametrize("raw_frames", [True, False])
def test_every_topic_of_the_sunk_layers_is_read_but_descriptions_checkpoints_and_if_so_told_raw_frames(raw_frames):
    layers = ("raw", "market", "derived", "decision", "order")
    read = {topic.noun for topic in sunk_topics(layers, raw_frames=raw_frames)}
    left = {topic.noun for topic in topics.TOPICS if topic.layer in layers} - read
    kept_out = set() if raw_frames else {"raw.frame"}
    checkpoints = {"derived.checkpoint", "decision.checkpoint"}
    assert left == {*kept_out, *checkpoints, *(topic.noun for topic in topics.RAW_INSTRUMENT.values())}


def test_a_raw_frame_is_a_row_with_its_place_size_and_digest_and_without_its_bytes():
    frame = Frame(feed="kalshi-0", venue="kalshi", epoch=4, frame_no=9, chunk=1, chunks=2, recv_ts_ns=T, payload=b"abc")
    row = one(frame, Place("raw.frame", 0, 3, T))
    assert row.table == "raw_frame"
    assert row.columns == {
        "epoch": 4, "frame_no": 9, "chunk": 1, "chunks": 2, "bytes": 3, "overtaken": False,
        "digest": "a9993e364706816aba3e25717850c26c9cd0d89d",
    }  # fmt: skip
    assert row.symbols == {"run": "demo", "feed": "kalshi-0", "venue": "kalshi"}


def test_of_the_raw_log_only_frames_have_rows():
    assert belongs("crossbook.raw.Frame", "raw.frame")
    assert belongs("crossbook.raw.Closed", "raw.feed")
    assert not belongs("crossbook.raw.Closed", "raw.frame")
    assert not belongs("crossbook.raw.FeedTick", "raw.frame")


def test_no_column_is_named_twice_and_every_key_is_a_column():
    for table in (*BY_KIND.values(), LEGS, HOLDINGS):
        assert not {"ts", "run"} & set(table.columns), table.name
        assert set(table.keys) <= set(table.columns), table.name


def test_nested_records_name_the_field_that_lists_them():
    for parent, (field, child) in NESTED.items():
        assert field in parent.__struct_fields__
        assert child.kind in (Leg, Holding)


def test_a_clock_is_told_from_the_clock_of_another_log():
    row = one(Clock(now_ns=T), Place("decision.input", 3, 8, T))
    assert (row.symbols["log"], row.columns["log_partition"]) == ("decision.input", 3)


def test_every_record_type_becomes_a_row_with_all_its_lists_filled():
    # A list of whole numbers that is neither price nor size once asked a link for its size exponent.
    link = Link(
        id="l", version=1, status="APPROVED", instrument_a="a", instrument_b="b", polarity="SAME", states=["yes"],
        payout_a_e6=[1_000_000], payout_b_e6=[0], approved_by="who", approved_ts_ns=T, cutoffs_ns=[T, 0],
        payouts_e6=[500_000], instruments=["a"], sources=["s"],
    )  # fmt: skip
    row = one(link)
    assert row.columns["cutoffs_ns"] == f"[{T},0]"
    assert row.columns["payouts"].tolist() == [0.5]


@pytest.mark.parametrize("kind", list(BY_KIND), ids=lambda kind: kind.schema_name)
def test_lists_of_numbers_are_converted_whatever_their_record(kind):
    from typing import Literal, get_args, get_origin, get_type_hints

    def value(hint):
        if get_origin(hint) is Literal:
            return get_args(hint)[-1]
        if get_origin(hint) is list:
            return [value(get_args(hint)[0])] if get_args(hint)[0] in (int, str) else []
        return {int: 3, str: "x", bool: True, bytes: b"x", float: 0.5}[hint]

    record = kind(
        **{name: value(hint) for name, hint in get_type_hints(kind).items() if name in kind.__struct_fields__}
    )
    row = BY_KIND[kind].row("demo", record, PLACE)
    assert set(row.columns) | set(row.symbols) <= set(BY_KIND[kind].columns) | {"run"}


def test_the_cause_of_a_depth_has_a_column():
    depth = Depth(
        instrument="kalshi:A", version_offset=9, version_index=0, state="DEGRADED", cause="polled", price_exp=-4,
        size_exp=-6, bid_prices=[], bid_sizes=[], ask_prices=[], ask_sizes=[], epoch=1, recv_ts_ns=T,
    )  # fmt: skip
    assert one(depth).symbols["cause"] == "polled"


def test_a_report_says_in_its_row_on_which_shard_the_cash_lies():
    report = VenueReport(
        account="kalshi:main", as_of_ns=T, cash_e6=5_000_000, open_orders=[], ts_ns=T + 2, holdings=[],
        cash_shards=[0, 3], shard_cash_e6=[1_500_000, 3_500_000],
    )  # fmt: skip
    row = one(report)
    assert json.loads(row.columns["cash_shards"]) == [0, 3]
    assert row.columns["shard_cash"].tolist() == [1.5, 3.5]
