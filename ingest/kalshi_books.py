"""Kalshi's order books over REST: one by one, or up to a hundred in one answer.

Source: docs.kalshi.com api-reference get-market-orderbook and get-multiple-market-orderbooks; fixture:
`orderbook__*` of the captures. REST has no sequence number and no time: evidence, never a snapshot of the stream.
"""

from collections.abc import Mapping, Sequence

from core.runtime import log
from ingest.rest import RestClient
from venues.kalshi.hosts import ORDERBOOKS_PATH, orderbook_path
from venues.kalshi.rest import ORDERBOOKS_MAX, split_orderbooks


class KalshiBooks:
    """Implements `ingest.venue.Books`; subjects are tickers."""

    def __init__(self) -> None:
        self.batch_max = ORDERBOOKS_MAX

    async def fetch(self, rest: RestClient, subjects: Sequence[str], *, tries: int) -> Mapping[str, bytes]:
        """Return the books by ticker."""
        if len(subjects) == 1:
            body = await rest.get(orderbook_path(subjects[0]), tries=tries)
            return {} if body is None else {subjects[0]: body}
        body = await rest.get(ORDERBOOKS_PATH, {"tickers": list(subjects)}, tries=tries)
        if body is None:
            # Documented, but not seen on the wire by us: without it books are asked for one by one.
            self.batch_max = 1
            log.get().warning("books.one_by_one", venue="kalshi", path=ORDERBOOKS_PATH)
            return {}
        return split_orderbooks(body)
