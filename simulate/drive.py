"""A recorded top-of-book path that takes the place of the latent probability.

Format: CSV, plain or gzip, with `timestamp,market_ticker,best_yes_bid,best_no_bid,...` in whole cents; the recorded
markets are dealt out over the simulated ones, each starting at another place of the recording, and wrap around.
"""

import csv
import datetime as dt
import gzip
from bisect import bisect_right
from pathlib import Path
from typing import IO

from core.domain.errors import Misconfigured

CENT_E4 = 100
ROWS_MAX = 5_000_000
COLUMNS = ("timestamp", "market_ticker", "best_yes_bid", "best_no_bid")


class Drive:
    """Recorded paths, replayed `speed` times as fast."""

    def __init__(self, path: Path, speed: float, now: float) -> None:
        self._speed = speed
        self._start = now
        self._paths = _read(path)
        if not self._paths:
            raise Misconfigured(f"no usable rows in {path}; expected the columns {', '.join(COLUMNS)}")

    def top(self, index: int, now: float) -> tuple[int, int]:
        """Return best bid and ask of the recorded market that drives market `index`."""
        times, tops = self._paths[index % len(self._paths)]
        turn = index // len(self._paths)
        span = times[-1] or 1.0
        # A golden-ratio offset spreads the markets that share a recording over its whole length.
        at = ((now - self._start) * self._speed + turn * 0.618034 * span) % span
        return tops[max(bisect_right(times, at) - 1, 0)]


def _read(path: Path) -> list[tuple[list[float], list[tuple[int, int]]]]:
    paths: dict[str, tuple[list[float], list[tuple[int, int]]]] = {}
    with _open(path) as file:
        for number, row in enumerate(csv.DictReader(file)):
            if number >= ROWS_MAX:
                raise Misconfigured(f"{path} has more than {ROWS_MAX} rows")
            if any(not row.get(name) for name in COLUMNS):
                continue
            top = _top(int(row["best_yes_bid"]), int(row["best_no_bid"]))
            if top is None:
                continue
            seconds = dt.datetime.fromisoformat(row["timestamp"]).timestamp()
            times, tops = paths.setdefault(row["market_ticker"], ([], []))
            times.append(seconds)
            tops.append(top)
    for times, _ in paths.values():
        first = times[0]
        times[:] = [seconds - first for seconds in times]
    return [path for _, path in sorted(paths.items()) if len(path[0]) > 1]


def _top(yes_bid: int, no_bid: int) -> tuple[int, int] | None:
    """Return bid and ask; None for a row that quotes nothing or stands crossed."""
    bid, ask = yes_bid * CENT_E4, (100 - no_bid) * CENT_E4
    if not 0 < yes_bid < 100 or not 0 < no_bid < 100 or bid >= ask:
        return None
    return bid, ask


def _open(path: Path) -> IO[str]:
    if not path.exists():
        raise Misconfigured(f"the recording {path} does not exist")
    return gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="")
