"""What the feed worker must know of a venue, whichever it is."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from ingest.conversation import Conversation
from ingest.rest import RestClient
from schemas.raw import Description

NewConversation = Callable[[dict[str, str], bool, Callable[[int], int]], Conversation]
"""Makes a conversation from instrument by subject, whether it carries what concerns the whole venue, and random bits."""


class Books(Protocol):
    """A venue's order books over REST."""

    batch_max: int
    """Books one request may ask for; less after the venue turned out not to serve so many."""

    async def fetch(self, rest: RestClient, subjects: Sequence[str], *, tries: int) -> Mapping[str, bytes]:
        """Return the books of those `subjects` the venue knows, each as an answer that has it alone.

        Raises:
            Unavailable: the venue does not answer.
            Reject: it answers what it should not.
        """
        ...


class Venue(NamedTuple):
    """One venue's sockets and books.

    Attributes:
        url: of the market-data WebSocket.
        headers: of one upgrade, made anew for each (they may be signed); takes ns since the epoch.
        subject_of: what the venue calls an instrument when it is subscribed (a ticker, a token).
        remedy: what a person should check when the venue refuses us.
        quiet_s_max: without a frame but pongs for so long a feed gets a successor, 0: never.
        rest_url: scheme and host of the order books over REST.
    """

    name: str
    url: str
    headers: Callable[[int], dict[str, str]]
    subject_of: Callable[[Description], str]
    new_conversation: NewConversation
    per_feed_max: int
    remedy: str
    quiet_s_max: float
    rest_url: str
    books: Books
