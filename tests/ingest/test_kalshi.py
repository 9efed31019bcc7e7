"""Kalshi's conversation: what is said first, the sequence, snapshots, errors."""

import json
from collections.abc import Sequence

import pytest

from core.runtime.clock import NS_PER_S
from ingest.conversation import PUBLISH_ONLY, Complete, Gap, Ping, Publish, Reconnect, Send
from ingest.kalshi import AGAIN_MAX, ANSWER_NS_MAX, GAPS_MAX, ROUND_NS, KalshiConversation

T0 = 1_790_000_000 * NS_PER_S


def said(actions: Sequence[object]) -> list[dict]:
    return [json.loads(action.payload) for action in actions if isinstance(action, Send)]


def kinds(actions: Sequence[object]) -> list[type]:
    return [type(action) for action in actions]


def frame(kind: str, *, sid: int = 1, seq: int | None = None, **rest: object) -> bytes:
    body = {"type": kind, "sid": sid, "sending_ts_ms": 1_790_000_000_000, **rest}
    if seq is not None:
        body["seq"] = seq
    return json.dumps(body).encode()


def snapshot(ticker: str, seq: int) -> bytes:
    body = {"market_ticker": ticker, "market_id": "f5ed38e2", "yes_dollars_fp": [["0.4700", "3.00"]]}
    return frame("orderbook_snapshot", seq=seq, msg=body)


def delta(ticker: str, seq: int) -> bytes:
    body = {"market_ticker": ticker, "market_id": "f5ed38e2", "price_dollars": "0.4700", "delta_fp": "-3.00"}
    return frame("orderbook_delta", seq=seq, msg={**body, "side": "yes", "ts_ms": 1_790_000_000_000})


def error(code: int, **rest: object) -> bytes:
    return json.dumps({"type": "error", "msg": {"code": code, "msg": "words of the venue"}, **rest}).encode()


def subscribed(channel: str, sid: int) -> bytes:
    return json.dumps({"type": "subscribed", "id": 1, "msg": {"channel": channel, "sid": sid}}).encode()


@pytest.fixture
def talk() -> KalshiConversation:
    """Two markets, subscribed, both snapshots in: the next seq of sid 1 is 3."""
    conversation = KalshiConversation({"A": "kalshi:A", "B": "kalshi:B"}, venue_wide=False)
    conversation.opened(T0)
    conversation.received(subscribed("orderbook_delta", 1), T0)
    conversation.received(subscribed("trade", 2), T0)
    conversation.received(snapshot("A", 1), T0)
    conversation.received(snapshot("B", 2), T0)
    return conversation


def test_the_first_command_names_every_ticker_and_always_says_which_price_scale() -> None:
    conversation = KalshiConversation({"A": "kalshi:A", "B.5": "kalshi:B.5"}, venue_wide=False)
    assert said(conversation.opened(T0)) == [
        {
            "id": 1,
            "cmd": "subscribe",
            "params": {
                "channels": ["orderbook_delta", "trade"],
                "market_tickers": ["A", "B.5"],
                "use_yes_price": True,
                "skip_ticker_ack": True,
            },
        }
    ]


def test_one_feed_of_the_venue_also_follows_the_life_cycle_of_all_markets() -> None:
    conversation = KalshiConversation({"A": "kalshi:A"}, venue_wide=True)
    commands = said(conversation.opened(T0))
    assert [command["params"]["channels"] for command in commands] == [
        ["orderbook_delta", "trade"],
        ["market_lifecycle_v2"],
    ]
    assert "market_tickers" not in commands[1]["params"]


def test_frames_in_sequence_are_published_and_nothing_else(talk: KalshiConversation) -> None:
    assert talk.received(delta("A", 3), T0) is PUBLISH_ONLY
    assert talk.received(delta("B", 4), T0) is PUBLISH_ONLY


def test_complete_once_every_market_had_its_snapshot() -> None:
    conversation = KalshiConversation({"A": "kalshi:A", "B": "kalshi:B"}, venue_wide=False)
    conversation.opened(T0)
    conversation.received(subscribed("orderbook_delta", 1), T0)
    assert conversation.received(snapshot("A", 1), T0) == PUBLISH_ONLY
    assert conversation.missing == 1
    assert conversation.received(snapshot("B", 2), T0) == (Publish(), Complete())
    assert conversation.received(snapshot("B", 3), T0) == PUBLISH_ONLY


def test_an_unknown_ticker_counts_as_an_empty_snapshot() -> None:
    conversation = KalshiConversation({"GONE": "kalshi:GONE"}, venue_wide=False)
    conversation.opened(T0)
    empty = {"market_ticker": "GONE", "market_id": ""}
    assert Complete() in conversation.received(frame("orderbook_snapshot", seq=1, msg=empty), T0)


def test_a_gap_is_said_before_the_frame_that_reveals_it_then_all_snapshots_are_asked_for(
    talk: KalshiConversation,
) -> None:
    actions = talk.received(delta("A", 5), T0)
    assert actions[:2] == [Gap("sid 1: expected seq 3, found 5"), Publish()]
    assert [command["params"] for command in said(actions)] == [
        {"sids": [1], "action": "get_snapshot", "market_tickers": ["A", "B"]}
    ]
    assert talk.received(delta("A", 6), T0) is PUBLISH_ONLY


def test_a_repeated_number_is_a_gap_too(talk: KalshiConversation) -> None:
    talk.received(delta("A", 3), T0)
    again = talk.received(delta("A", 3), T0)
    assert again[:2] == [Gap("sid 1: expected seq 4, found 3"), Publish(overtaken=True)]


def test_a_snapshot_that_reveals_a_hole_heals_and_one_that_is_overtaken_does_not(talk: KalshiConversation) -> None:
    late = Gap("sid 1: expected seq 6, found 4")
    assert talk.received(snapshot("A", 5), T0)[:2] == [Gap("sid 1: expected seq 3, found 5"), Publish()]
    overtaken = talk.received(snapshot("B", 4), T0)
    assert overtaken[:2] == [late, Publish(overtaken=True)]
    assert [command["params"]["market_tickers"] for command in said(talk.beat(T0 + ROUND_NS))] == [["A", "B"]]


def test_a_first_snapshot_that_is_overtaken_does_not_make_the_feed_complete() -> None:
    conversation = KalshiConversation({"A": "kalshi:A", "B": "kalshi:B"}, venue_wide=False)
    conversation.opened(T0)
    conversation.received(subscribed("orderbook_delta", 1), T0)
    conversation.received(snapshot("A", 2), T0)
    assert Complete not in kinds(conversation.received(snapshot("B", 1), T0))
    assert conversation.missing == 1
    assert Complete in kinds(conversation.received(snapshot("B", 3), T0))


@pytest.mark.parametrize("kind", ["ok", "unsubscribed", "error"])
def test_control_replies_take_numbers_of_the_sequence(talk: KalshiConversation, kind: str) -> None:
    body = {"code": 11, "msg": "Invalid parameter"} if kind == "error" else {}
    talk.received(frame(kind, seq=3, id=99, msg=body), T0)
    assert talk.received(delta("A", 4), T0) is PUBLISH_ONLY


def test_sequences_of_two_subscriptions_do_not_mix(talk: KalshiConversation) -> None:
    assert talk.received(frame("trade", sid=2, seq=1, msg={"market_ticker": "A"}), T0) is PUBLISH_ONLY
    assert talk.received(delta("A", 3), T0) is PUBLISH_ONLY


def test_a_lost_trade_makes_no_book_suspect(talk: KalshiConversation) -> None:
    talk.received(frame("trade", sid=2, seq=1, msg={"market_ticker": "A"}), T0)
    actions = talk.received(frame("trade", sid=2, seq=3, msg={"market_ticker": "A"}), T0)
    assert list(actions) == [Publish()]


def test_a_skip_at_the_very_first_frame_is_seen() -> None:
    conversation = KalshiConversation({"A": "kalshi:A", "B": "kalshi:B"}, venue_wide=False)
    conversation.opened(T0)
    conversation.received(subscribed("orderbook_delta", 1), T0)
    actions = conversation.received(snapshot("B", 2), T0)
    assert Gap("sid 1: expected seq 1, found 2") in actions
    # The snapshot of A was the lost frame: it is asked for although it was never there. That of B stands after the skip.
    assert said(actions)[0]["params"]["market_tickers"] == ["A"]


def test_too_many_gaps_end_the_connection(talk: KalshiConversation) -> None:
    seq = 4
    for _ in range(GAPS_MAX):
        assert not any(isinstance(a, Reconnect) for a in talk.received(delta("A", seq), T0))
        seq += 2
    assert any(isinstance(a, Reconnect) for a in talk.received(delta("A", seq), T0))


@pytest.mark.parametrize("code", [10, 25])
def test_a_terminal_error_ends_the_connection(talk: KalshiConversation, code: int) -> None:
    actions = talk.received(error(code, sid=1, seq=3), T0)
    assert actions[0] == Publish()
    assert actions[1] == Reconnect(f"error {code}: words of the venue")


def test_the_market_limit_asks_for_fewer_markets() -> None:
    conversation = KalshiConversation({"A": "kalshi:A"}, venue_wide=False)
    conversation.opened(T0)
    assert conversation.received(error(26, id=1), T0)[1] == Reconnect("error 26: words of the venue", fewer=True)


def test_a_command_the_venue_was_too_busy_for_is_said_again_a_second_later(talk: KalshiConversation) -> None:
    asked = talk.resync({"kalshi:A": T0}, T0)
    number = said(asked)[0]["id"]
    assert list(talk.received(error(27, id=number), T0)) == [Publish()]
    assert said(talk.beat(T0 + NS_PER_S // 2)) == []
    assert said(talk.beat(T0 + NS_PER_S)) == said(asked)


def test_a_refused_life_cycle_does_not_cost_the_books() -> None:
    conversation = KalshiConversation({"A": "kalshi:A"}, venue_wide=True)
    conversation.opened(T0)
    assert list(conversation.received(error(8, id=2), T0)) == [Publish()]


def test_a_refused_first_subscription_is_no_reason_to_try_again_soon() -> None:
    conversation = KalshiConversation({"A": "kalshi:A"}, venue_wide=False)
    conversation.opened(T0)
    assert conversation.received(error(9, id=1), T0)[1] == Reconnect("error 9: words of the venue", refused=True)


def test_a_resync_asks_once_until_the_snapshot_came(talk: KalshiConversation) -> None:
    assert said(talk.resync({"kalshi:A": T0}, T0 + 1))[0]["params"]["market_tickers"] == ["A"]
    assert talk.resync({"kalshi:A": T0 + 1}, T0 + 2) == ()
    talk.received(snapshot("A", 3), T0 + 3)
    assert said(talk.resync({"kalshi:A": T0 + 4}, T0 + 4))


def test_a_resync_request_older_than_the_last_snapshot_is_void(talk: KalshiConversation) -> None:
    talk.received(snapshot("A", 3), T0 + 10)
    assert talk.resync({"kalshi:A": T0 + 9}, T0 + 11) == ()


def test_a_resync_of_a_market_somebody_else_feeds_is_not_ours(talk: KalshiConversation) -> None:
    assert talk.resync({"kalshi:Z": T0}, T0) == ()


def test_a_snapshot_that_never_comes_ends_the_connection(talk: KalshiConversation) -> None:
    talk.resync({"kalshi:A": T0}, T0)
    assert not any(isinstance(a, Reconnect) for a in talk.beat(T0 + ANSWER_NS_MAX))
    assert any(isinstance(a, Reconnect) for a in talk.beat(T0 + ANSWER_NS_MAX + 1))


def test_the_venue_is_pinged_every_five_seconds(talk: KalshiConversation) -> None:
    assert list(talk.beat(T0 + 4 * NS_PER_S)) == []
    assert list(talk.beat(T0 + 5 * NS_PER_S)) == [Ping()]
    assert list(talk.beat(T0 + 6 * NS_PER_S)) == []


@pytest.mark.parametrize("junk", [b"", b"not json", b"[]", b'{"sid":1}', b'{"type":5}', b"\xff\xfe"])
def test_what_cannot_be_read_is_published_and_counted(talk: KalshiConversation, junk: bytes) -> None:
    assert talk.received(junk, T0) is PUBLISH_ONLY
    assert talk.odd == 1


def test_unknown_types_are_published_and_counted(talk: KalshiConversation) -> None:
    assert talk.received(frame("brand_new_thing", sid=7, seq=1, msg={}), T0) is PUBLISH_ONLY
    assert talk.odd == 1


def test_a_frame_that_comes_late_takes_no_number_back(talk: KalshiConversation) -> None:
    assert Gap in kinds(talk.received(delta("A", 4), T0))
    assert Gap in kinds(talk.received(delta("A", 3), T0))
    assert talk.received(delta("A", 5), T0) is PUBLISH_ONLY


def test_first_snapshots_that_stop_coming_are_asked_for_by_name_and_then_given_up() -> None:
    conversation = KalshiConversation({"A": "kalshi:A", "B": "kalshi:B"}, venue_wide=False)
    conversation.opened(T0)
    conversation.received(subscribed("orderbook_delta", 1), T0)
    conversation.received(snapshot("A", 1), T0 + ANSWER_NS_MAX)
    assert said(conversation.beat(T0 + ANSWER_NS_MAX + 1)) == []
    late = T0 + 2 * ANSWER_NS_MAX + 1
    (asked,) = said(conversation.beat(late))
    assert asked["params"] == {"sids": [1], "action": "get_snapshot", "market_tickers": ["B"]}
    assert Reconnect in kinds(conversation.beat(late + ANSWER_NS_MAX + 1))


def test_a_command_is_repeated_with_growing_pauses_and_then_given_up(talk: KalshiConversation) -> None:
    now_ns = T0
    talk.resync({"kalshi:A": T0 + 1}, T0 + 2)
    pauses = []
    for _ in range(AGAIN_MAX):
        assert Reconnect not in kinds(talk.received(error(27, id=2), now_ns))
        waited = 0
        while not said(talk.beat(now_ns + waited)):
            waited += NS_PER_S // 4
        pauses.append(waited // NS_PER_S)
        now_ns += waited
    assert pauses == [1, 2, 4, 8]
    assert Reconnect in kinds(talk.received(error(27, id=2), now_ns))


def tickers_of(commands: list[dict]) -> list[str]:
    return [t for one in commands if one["cmd"] == "update_subscription" for t in one["params"]["market_tickers"]]


def test_five_skips_in_half_a_second_ask_twice_and_not_five_times() -> None:
    names = [f"T{number}" for number in range(500)]
    talk = KalshiConversation({name: f"kalshi:{name}" for name in names}, venue_wide=False)
    talk.opened(T0)
    talk.received(subscribed("orderbook_delta", 1), T0)
    for seq, name in enumerate(names, start=1):
        talk.received(snapshot(name, seq), T0)
    asked, seq, now_ns = [], 502, T0
    for _ in range(GAPS_MAX):
        asked += tickers_of(said(talk.received(delta("T0", seq), now_ns)))
        # A part is answered between two skips: that is void again with the next one.
        talk.received(snapshot(f"T{seq % 7}", seq + 1), now_ns)
        seq, now_ns = seq + 3, now_ns + NS_PER_S // 10
    assert sorted(asked) == sorted(names)
    while now_ns < T0 + ANSWER_NS_MAX // 2:
        asked += tickers_of(said(talk.beat(now_ns)))
        now_ns += NS_PER_S // 4
    # Whatever has no answer from after the last skip was asked for once more; the one that has, was not.
    assert len(asked) == 2 * len(names) - 1


def test_a_snapshot_from_before_the_second_skip_counts_for_nothing_after_it(talk: KalshiConversation) -> None:
    assert tickers_of(said(talk.received(delta("A", 5), T0))) == ["A", "B"]
    talk.received(snapshot("A", 6), T0 + 1)
    assert Gap in kinds(talk.received(delta("B", 8), T0 + 2))
    talk.received(snapshot("B", 9), T0 + 3)
    assert tickers_of(said(talk.beat(T0 + ROUND_NS - 1))) == []
    assert tickers_of(said(talk.beat(T0 + ROUND_NS))) == ["A"]


def test_what_is_on_its_way_at_a_skip_is_asked_for_again_only_when_nothing_comes(talk: KalshiConversation) -> None:
    talk.resync({"kalshi:A": T0}, T0)
    assert tickers_of(said(talk.received(delta("A", 5), T0 + 1))) == ["B"]
    talk.received(snapshot("B", 6), T0 + NS_PER_S)
    assert tickers_of(said(talk.beat(T0 + ROUND_NS + 1))) == []
    assert tickers_of(said(talk.beat(T0 + 2 * NS_PER_S))) == ["A"]
    assert tickers_of(said(talk.beat(T0 + 5 * NS_PER_S))) == []
    talk.received(snapshot("A", 7), T0 + 5 * NS_PER_S)
    assert not any(isinstance(action, Reconnect) for action in talk.beat(T0 + 3 * ANSWER_NS_MAX))


def test_the_pauses_before_a_busy_venue_is_asked_again_differ_between_feeds() -> None:
    due = set()
    for bits in (0, 1 << 31, (1 << 32) - 1):
        talk = KalshiConversation({"A": "kalshi:A"}, venue_wide=False, random_bits=lambda _, drawn=bits: drawn)
        talk.opened(T0)
        talk.received(subscribed("orderbook_delta", 1), T0)
        talk.received(error(27, id=1), T0)
        waited_ns = next(ms * 1_000_000 for ms in range(1_001) if said(talk.beat(T0 + ms * 1_000_000)))
        due.add(waited_ns)
    assert len(due) == 3
    assert NS_PER_S // 2 <= min(due) < max(due) <= NS_PER_S
