"""Oracle (b): what came from the venues and what we did there is in QuestDB exactly once.

Frames: each feed is laid beside the connection it read. What the connection sent before the last frame that Kafka has is
there exactly once; what came after it counts only on connections that lived until the flow had stopped (a killed worker's
socket held what nobody acknowledged). From Kafka on it is asked literally, by the tables' own keys, for every frame
(`raw_frame`) and every record; market rows are those the pure normaliser makes of the frames once more. Fills and orders
are compared with the venues' own books, cash, fees and positions with the venues' accounts.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.chaos.matching import Match, Sent, match_empty
from schemas.raw import Opened


@dataclass
class FrameCount:
    """Outcome for one venue's frames."""

    sent: int = 0
    kept: int = 0
    lost: int = 0
    foreign: int = 0
    doubled: int = 0
    """connections that two feeds claim"""
    unread: int = 0
    """sent to sockets whose reader was gone or cut off, after the last frame it had acknowledged"""
    examples: list[str] = field(default_factory=list)


def count_frames(
    sent: Mapping[int, list[Sent]],
    matches: Mapping[int, Match],
    opened: Mapping[int, Opened],
    lived: Iterable[int],
) -> FrameCount:
    """Count one venue's frames.

    Args:
        lived: epochs whose feeds lived until the flow had stopped: nothing may be unread there, and one of them that has
            no frame at all has lost whatever its connection sent.
    """
    result = FrameCount()
    whole = set(lived)
    claimed: dict[int, int] = {}
    empty = {epoch: opened[epoch] for epoch in whole - matches.keys() if epoch in opened}
    silent = match_empty(sent, {match.connection for match in matches.values() if match.connection is not None}, empty)
    for epoch, match in sorted([*matches.items(), *silent.items()]):
        result.kept += len(match.places)
        result.foreign += len(match.foreign)
        result.lost += len(match.lost)
        name = f"{opened[epoch].feed if epoch in opened else '?'} epoch {epoch}"
        if match.foreign:
            result.examples.append(f"{name}: frames {match.foreign[:5]} were never sent")
        if match.lost:
            result.examples.append(f"{name}, connection {match.connection}: lines {match.lost[:5]} are missing")
        if match.connection is None:
            continue
        if match.connection in claimed:
            result.doubled += 1
            result.examples.append(f"{name}: connection {match.connection} is epoch {claimed[match.connection]}'s")
        claimed[match.connection] = epoch
        if epoch in whole and match.unread:
            result.lost += match.unread
            result.examples.append(f"{name}, connection {match.connection}: the last {match.unread} are missing")
        else:
            result.unread += match.unread
    for connection, frames in sent.items():
        count = sum(1 for frame in frames if frame.is_sent)
        result.sent += count
        if connection not in claimed:
            result.unread += count
    return result


def errors(report: Mapping[str, Any], frames: Mapping[str, FrameCount], holes: int, repeated: int) -> dict[str, int]:
    """Return the errors of conservation by name, those that are none left out.

    Args:
        report: what the demo's verdict says.
        holes: frame numbers missing on `raw.frame`.
        repeated: frames that stand there twice.
    """
    detail = report["detail"]
    found = {
        "frames_lost": sum(count.lost for count in frames.values()) + holes,
        "frames_doubled": sum(count.doubled for count in frames.values()) + repeated,
        "frames_foreign": sum(count.foreign for count in frames.values()),
        "rows_lost": detail["lost"]["rows"],
        "rows_doubled": detail["duplicated"]["rows"],
        "fills_lost": detail["lost"]["fills"],
        "fills_doubled": detail["duplicated"]["fills"],
        "orders_sent_twice": detail["duplicated"]["orders"],
        "orders_without_outcome": sum(counts["open"] for counts in report["orders"].values()),
        "accounts_differ": len(detail["account_differences"]),
        "reservations_leaked": report["reservations_leaked"],
        "budgets_exceeded": report["budgets_exceeded"],
        "limits_tripped": report["stops"],
    }
    return {name: count for name, count in found.items() if count}
