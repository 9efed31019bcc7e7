"""Rates of a signer, by tier of its volume."""

import time

from simulate.buckets import TokenBucket

TIERS = {
    # orders a second, burst, cancels a second, burst
    "standard": (40, 60, 80, 120),
    "copper": (60, 90, 120, 180),
    "bronze": (80, 120, 160, 240),
    "silver": (200, 300, 400, 600),
    "gold": (400, 600, 800, 1_200),
    "platinum": (450, 675, 900, 1_350),
    "diamond": (525, 787, 1_050, 1_575),
    "elite": (600, 900, 1_200, 1_800),
}


class Limited(Exception):
    """A signer that is above its rate."""

    def __init__(self, tier: str, bucket: TokenBucket, cost: float) -> None:
        super().__init__("too many requests")
        wait_s = bucket.wait_s(cost)
        self.headers = {
            "Retry-After": str(int(wait_s) + 1),
            "Poly-RateLimit-Remaining": str(bucket.remaining()),
            "Poly-RateLimit-Reset": str(int(time.time() + wait_s) + 1),
            "Poly-RateLimit-Tier": tier,
        }
