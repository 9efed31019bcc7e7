"""A venue's clock: the machine's, moved by the `clock_skew` fault."""

import time


class VenueClock:
    """What a venue's public messages give as the time; signatures, orders and private messages keep the right one."""

    __slots__ = ("offset_ns",)

    def __init__(self) -> None:
        self.offset_ns = 0

    def ns(self) -> int:
        """Return the time as the venue sees it."""
        return time.time_ns() + self.offset_ns

    def ms(self) -> int:
        """Return the time as the venue sees it, in milliseconds."""
        return self.ns() // 1_000_000
