"""Numbers and times as Kalshi writes them."""

import time

from simulate.grid import Grid


def price_text(price_e4: int) -> str:
    """Return dollars with four decimals."""
    return f"{price_e4 // 10_000}.{price_e4 % 10_000:04d}"


def count_text(size_e6: int) -> str:
    """Return contracts with two decimals, signed."""
    sign = "-" if size_e6 < 0 else ""
    size = abs(size_e6) // 10_000
    return f"{sign}{size // 100}.{size % 100:02d}"


def money_text(money_e6: int) -> str:
    """Return dollars with six decimals, signed."""
    sign = "-" if money_e6 < 0 else ""
    money = abs(money_e6)
    return f"{sign}{money // 1_000_000}.{money % 1_000_000:06d}"


def average_text(total_e6: int, size_e6: int) -> str:
    """Return dollars for each contract: four decimals when they are exact, else six (rounded down)."""
    micro = total_e6 * 1_000_000 // size_e6
    text = money_text(micro)
    return text[:-2] if micro % 100 == 0 and micro * size_e6 == total_e6 * 1_000_000 else text


def price_ranges(grid: Grid) -> list[dict[str, str]]:
    """Return a grid as markets and the life-cycle channel state it."""
    return [
        {"start": price_text(band.start), "end": price_text(band.end), "step": price_text(band.step)}
        for band in grid.bands
    ]


class Stamp:
    """RFC 3339 text of nanosecond times; the seconds part is formatted once a second."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def text(self, now_ns: int) -> str:
        """Return `2026-06-11T06:29:30.164956Z`; trailing zeros are dropped, as recorded."""
        second, rest = divmod(now_ns, 1_000_000_000)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        fraction = f"{rest // 1_000:06d}".rstrip("0")
        return f"{self._text}.{fraction}Z" if fraction else f"{self._text}Z"
