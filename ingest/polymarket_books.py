"""Polymarket's order books over the CLOB's REST: one by one, or many in one answer.

Source: docs.polymarket.com api-spec/clob-openapi.yaml `/book`, `/books`; fixtures: `clob_book__*` of the captures. `/book`
has served a stale book while the stream was right: evidence, never a snapshot of the stream.
"""

from collections.abc import Mapping, Sequence

from ingest.rest import RestClient
from venues.polymarket.hosts import BOOK_PATH, BOOKS_PATH
from venues.polymarket.rest import BOOKS_MAX, books_body, split_books


class PolymarketBooks:
    """Implements `ingest.venue.Books`; subjects are YES tokens."""

    def __init__(self) -> None:
        self.batch_max = BOOKS_MAX

    async def fetch(self, rest: RestClient, subjects: Sequence[str], *, tries: int) -> Mapping[str, bytes]:
        """Return the books by token."""
        if len(subjects) == 1:
            body = await rest.get(BOOK_PATH, {"token_id": subjects[0]}, tries=tries)
        else:
            body = await rest.post(BOOKS_PATH, books_body(subjects), tries=tries)
        return {} if body is None else split_books(body)
