"""Several books in one REST answer, split into what the venue would answer for each alone."""

import json

import pytest

from core.domain.errors import MalformedFrame
from venues.kalshi import rest as kalshi
from venues.polymarket import rest as polymarket

BOOK = {"yes_dollars": [["0.4700", "3.00"]], "no_dollars": [["0.4800", "2.50"]]}


def polymarket_book(token: str) -> dict[str, object]:
    return {
        "market": "0x" + "ab" * 32,
        "asset_id": token,
        "timestamp": "1786728432337",
        "hash": "924ec9bc1c6dd89f5db9b7b2b68cdab458cc2dc6",
        "bids": [{"price": "0.4", "size": "100"}],
        "asks": [{"price": "0.5", "size": "25"}],
    }


def test_kalshi_orderbooks_split_into_books_that_read_as_if_asked_for_alone() -> None:
    body = json.dumps({"orderbooks": [{"ticker": "A", "orderbook_fp": BOOK}, {"ticker": "B", "orderbook_fp": {}}]})
    split = kalshi.split_orderbooks(body.encode())
    assert set(split) == {"A", "B"}
    alone = kalshi.decode_rest_book(json.dumps({"orderbook_fp": BOOK}).encode(), "A")
    assert kalshi.decode_rest_book(split["A"], "A") == alone
    assert [list(level) for level in alone.yes] == [[4_700, 3_000_000]]
    assert [list(level) for level in alone.no] == [[5_200, 2_500_000]]
    assert kalshi.decode_rest_book(split["B"], "B").yes == []


def test_polymarket_books_split_by_token_from_one_or_many() -> None:
    one, two = polymarket_book("11"), polymarket_book("22")
    many = polymarket.split_books(json.dumps([one, two]).encode())
    assert set(many) == {"11", "22"}
    assert [book.asset_id for book in polymarket.decode_books(many["22"])] == ["22"]
    single = polymarket.split_books(json.dumps(one).encode())
    assert polymarket.decode_books(single["11"]) == polymarket.decode_books(many["11"])


def test_the_question_for_several_polymarket_books_names_each_token() -> None:
    assert json.loads(polymarket.books_body(["11", "22"])) == [{"token_id": "11"}, {"token_id": "22"}]


@pytest.mark.parametrize("body", [b"<html>busy</html>", b"[1]", b'{"asset_id": 7}'])
def test_what_is_no_book_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedFrame):
        polymarket.split_books(body)
    with pytest.raises(MalformedFrame):
        kalshi.split_orderbooks(body)
