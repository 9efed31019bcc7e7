"""Where no reader could know that its book was wrong, from what the venue notes of its own faults.

A fault whose frames were dropped, held or changed makes a reader's book wrong from the first of them. It ends with the
first frame that contradicts the reader (`reveals`; the hash is looked at in one of `every` records only, so that many
more of the market's book records may pass), with the frame that makes the book right again (`healed`), or, where only
silence or another connection tells, with the connection.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from infra.chaos.matching import Sent
from infra.chaos.truth import Blind


def blind_spans(
    venue: str, sent: Mapping[int, Sequence[Sent]], faults: Iterable[Mapping[str, Any]], every: int = 1
) -> list[Blind]:
    """Return the spans of one venue.

    Args:
        faults: lines of `faults.jsonl`.
        every: in one of so many of a market's book records its hash is compared.
    """
    names: dict[int, str] = {}
    ends: dict[tuple[int, int, str], tuple[int, bool]] = {}
    for fact in faults:
        if fact["event"] == "begin" and fact["venue"] == venue:
            names[fact["id"]] = fact["fault"]
        elif fact["event"] in {"reveals", "healed"} and fact["id"] in names:
            key = (fact["id"], fact["connection"], fact["market"])
            ends.setdefault(key, (fact["ordinal"], fact["event"] == "reveals"))
    found = []
    for connection, frames in sent.items():
        for (fault, market), first in _begins(frames, names).items():
            end = ends.get((fault, connection, market))
            last = len(frames) - 1 if end is None else _last(frames, market, *end, every=every)
            if last >= first:
                found.append(Blind(connection, market, first, last, names[fault]))
    return found


def _begins(frames: Sequence[Sent], names: Mapping[int, str]) -> dict[tuple[int, str], int]:
    """Return for each fault and market the place of its first frame."""
    found: dict[tuple[int, str], int] = {}
    for place, frame in enumerate(frames):
        if frame.fault is not None and frame.fault[0] in names:
            for market, _ in frame.versions:
                found.setdefault((frame.fault[0], market), place)
    return found


def _last(frames: Sequence[Sent], market: str, ordinal: int, reveals: bool, *, every: int) -> int:
    """Return the last place of a span that the frame with this ordinal ends."""
    place = next((number for number, frame in enumerate(frames) if frame.ordinal == ordinal), len(frames))
    left = every - 1 if reveals else 0
    while left and place < len(frames):
        place += 1
        if place < len(frames) and any(said == market for said, _ in frames[place].versions):
            left -= 1
    return place - 1
