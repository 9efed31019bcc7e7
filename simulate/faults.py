"""What the simulated venues do wrong on purpose: one object, asked where frames are sent and orders answered.

Only what tests need today is settable; the hooks are where later faults go.
"""

import asyncio
import random
from dataclasses import dataclass, field


@dataclass
class Faults:
    """Faults of one venue; all off unless set."""

    order_answer_delay_ms: int = 0
    order_swallow_answer_rate: float = 0.0
    rng: random.Random = field(default_factory=random.Random)

    def frame(self, payload: bytes) -> bytes | None:
        """Return what is sent in place of a data frame; None drops it."""
        return payload

    async def answer(self) -> None:
        """Hold an order's answer back; a swallowed one waits until the client gives up or the server stops."""
        if self.order_swallow_answer_rate and self.rng.random() < self.order_swallow_answer_rate:
            await asyncio.Event().wait()
        if self.order_answer_delay_ms:
            await asyncio.sleep(self.order_answer_delay_ms / 1_000)
