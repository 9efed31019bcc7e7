"""Lists that venues give page by page: read to their end, or said not to have been."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from core.domain.errors import Unavailable
from core.runtime import log, metrics

ListT = TypeVar("ListT")
PAGES_MAX = 20
"""Of any list that is read to its end."""
HALVINGS_MAX = 12
"""Of the time a list is asked for: of thirty days ten minutes are left."""


class CutOff(Unavailable):
    """A list has more pages than are read: what was read of it says nothing of what it holds.

    Attributes:
        begins: the list was asked for since a time; a later one makes it shorter.
    """

    def __init__(self, venue: str, what: str, *, begins: bool = True) -> None:
        self.begins = begins
        super().__init__(f"{venue} lists more than {PAGES_MAX} pages of {what}: not all of them were read")


async def as_far_back_as_read(ask: Callable[[int], Awaitable[ListT]], since_ns: int, now_ns: int, what: str) -> ListT:
    """Return a list since a time, or of the newer half of it for as often as it is too long: for lists of facts only.

    Raises:
        CutOff: its last minutes are too long, or a list it takes is that no time makes shorter.
    """
    for _ in range(HALVINGS_MAX):
        try:
            return await ask(since_ns)
        except CutOff as e:
            if not e.begins:
                raise
            metrics.EVENTS.labels("execute", "list_cut_off").inc()
            log.get().error("gateway.list_cut_off", what=what, unread_from_ns=since_ns, reason=str(e))
            since_ns = (since_ns + now_ns) // 2
    return await ask(since_ns)
