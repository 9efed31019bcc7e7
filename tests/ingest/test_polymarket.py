"""Polymarket's conversation: one opening message, text keep-alive, books counted."""

import json
from collections.abc import Sequence

import pytest

from core.runtime.clock import NS_PER_S
from ingest.conversation import NOTHING, PUBLISH_ONLY, Complete, Publish, Reconnect, Renew, Send
from ingest.polymarket import BOOKS_NS_MAX, PolymarketConversation

T0 = 1_790_000_000 * NS_PER_S
SUBJECTS = {"111": "polymarket:0xa", "222": "polymarket:0xb"}


def book(token: str) -> dict:
    return {
        "market": "0xa",
        "asset_id": token,
        "timestamp": "1786728432337",
        "hash": "924ec9bc",
        "bids": [{"price": "0.001", "size": "2200.8"}],
        "asks": [{"price": "0.999", "size": "50"}],
        "event_type": "book",
    }


def frame(body: object) -> bytes:
    return json.dumps(body).encode()


@pytest.fixture
def talk() -> PolymarketConversation:
    conversation = PolymarketConversation(dict(SUBJECTS), venue_wide=False)
    conversation.opened(T0)
    return conversation


def kinds(actions: Sequence[object]) -> list[type]:
    return [type(action) for action in actions]


def test_the_opening_message_names_the_yes_tokens_and_wants_resolutions() -> None:
    (opening,) = PolymarketConversation(dict(SUBJECTS), venue_wide=False).opened(T0)
    assert isinstance(opening, Send)
    assert json.loads(opening.payload) == {
        "assets_ids": ["111", "222"],
        "type": "market",
        "custom_feature_enabled": True,
    }


def test_the_first_array_with_all_books_completes_the_feed(talk: PolymarketConversation) -> None:
    assert talk.received(frame([book("111"), book("222")]), T0) == (Publish(), Complete())
    assert talk.missing == 0


def test_books_may_come_one_by_one(talk: PolymarketConversation) -> None:
    assert talk.received(frame(book("111")), T0) == PUBLISH_ONLY
    assert talk.missing == 1
    assert talk.received(frame(book("222")), T0) == (Publish(), Complete())


def test_the_book_of_a_token_nobody_asked_for_does_not_count(talk: PolymarketConversation) -> None:
    talk.received(frame([book("111"), book("999")]), T0)
    assert talk.missing == 1


def test_once_complete_frames_are_not_looked_into(talk: PolymarketConversation) -> None:
    talk.received(frame([book("111"), book("222")]), T0)
    assert talk.received(b'{"bids": not even json', T0) is PUBLISH_ONLY
    assert talk.odd == 0


def test_the_answer_to_an_unknown_token_is_a_frame_like_any_other(talk: PolymarketConversation) -> None:
    assert talk.received(b"[]", T0) is PUBLISH_ONLY


@pytest.mark.parametrize("text", [b"PONG", b"PONG\n", b" PONG "])
def test_a_pong_is_recognised_before_json_and_is_no_market_data(talk: PolymarketConversation, text: bytes) -> None:
    assert talk.received(text, T0) is NOTHING


def test_a_text_ping_is_answered(talk: PolymarketConversation) -> None:
    assert talk.received(b"PING", T0) == (Send(b"PONG"),)


def test_the_keep_alive_is_the_text_ping_every_ten_seconds(talk: PolymarketConversation) -> None:
    assert list(talk.beat(T0 + 9 * NS_PER_S)) == []
    assert list(talk.beat(T0 + 10 * NS_PER_S)) == [Send(b"PING")]
    assert list(talk.beat(T0 + 11 * NS_PER_S)) == []


def test_books_that_stay_away_ask_for_fewer_tokens_a_connection(talk: PolymarketConversation) -> None:
    actions = talk.beat(T0 + BOOKS_NS_MAX + 1)
    assert [(type(a), a.fewer) for a in actions if isinstance(a, Reconnect)] == [(Reconnect, True)]


def test_a_few_missing_books_do_not_cost_the_others(talk: PolymarketConversation) -> None:
    talk.received(frame(book("111")), T0)
    assert not any(isinstance(a, Reconnect) for a in talk.beat(T0 + BOOKS_NS_MAX + 1))


def test_a_suspect_book_gets_a_new_feed(talk: PolymarketConversation) -> None:
    talk.received(frame([book("111"), book("222")]), T0 + 5)
    (renew,) = talk.resync({"polymarket:0xa": T0 + 6}, T0 + 7)
    assert type(renew) is Renew
    # Few of many can come on a small feed.
    assert renew.instruments == ("polymarket:0xa",)


def test_a_request_from_before_the_first_books_is_void(talk: PolymarketConversation) -> None:
    talk.received(frame([book("111"), book("222")]), T0 + 5)
    assert talk.resync({"polymarket:0xa": T0 + 4}, T0 + 7) is NOTHING


def test_a_book_that_is_still_to_come_is_no_reason_for_a_new_feed(talk: PolymarketConversation) -> None:
    talk.received(frame(book("111")), T0 + 5)
    assert talk.resync({"polymarket:0xb": T0 + 6}, T0 + 7) is NOTHING


def test_a_book_that_did_not_come_in_time_is_asked_for_on_another_feed(talk: PolymarketConversation) -> None:
    talk.received(frame(book("111")), T0 + 5)
    late = T0 + BOOKS_NS_MAX + 1
    talk.beat(late)
    (renew,) = talk.resync({"polymarket:0xb": late}, late)
    assert renew.instruments == ("polymarket:0xb",)
