"""What the feed worker must know of a venue, whichever it is."""

from collections.abc import Callable
from typing import NamedTuple

from ingest.conversation import Conversation
from schemas.raw import Description

NewConversation = Callable[[dict[str, str], bool], Conversation]
"""Makes a conversation from instrument by subject, and whether it carries what concerns the whole venue."""


class Venue(NamedTuple):
    """One venue's sockets.

    Attributes:
        url: of the market-data WebSocket.
        headers: of one upgrade, made anew for each (they may be signed); takes ns since the epoch.
        subject_of: what the venue calls an instrument when it is subscribed (a ticker, a token).
        remedy: what a person should check when the venue refuses us.
    """

    name: str
    url: str
    headers: Callable[[int], dict[str, str]]
    subject_of: Callable[[Description], str]
    new_conversation: NewConversation
    per_feed_max: int
    remedy: str
