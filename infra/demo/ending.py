"""One market of the run that ends in the middle of it: determined at both venues, then paid, while everything else trades."""

from collections.abc import Collection
from typing import Any

from infra.demo.cast import ACCOUNT
from infra.demo.setup import QUOTED, WATCHED
from infra.demo.world import World

SHARE = 0.4
"""Of the measured time: what follows is long enough for the venue's statement to be read and booked."""
PAYS_AFTER_S = 2.0
RUN_S_MIN = 30.0
"""In a shorter run no market ends: its statement might come after the last look."""


class Ending:
    """The end of one market, step by step: of the linked ones the one of which most is held at Kalshi."""

    def __init__(self, world: World, seconds: float) -> None:
        """Prepare; without a measured end of the run, or with one too near, nothing will happen."""
        self._world = world
        first_s = seconds * SHARE
        self._due_s = [first_s, first_s + PAYS_AFTER_S] if seconds >= RUN_S_MIN else []
        self._pair: dict[str, Any] = {}
        self._is_held = False

    @property
    def instrument(self) -> str:
        """The market that ended, empty while none has."""
        return f"kalshi:{self._pair['kalshi']['ticker']}" if self._pair else ""

    def missing(self, settled: Collection[str]) -> list[str]:
        """Return in words that what was held of it was never booked as paid; nothing where it was.

        Args:
            settled: instruments of which the ledger says so.
        """
        if self._due_s or not self._is_held or self.instrument in settled:
            return []
        return [f"{self.instrument} was held and paid, and no entry of the ledger says so"]

    def turn(self, now_s: float) -> str:
        """Do the next step if its time has come; return what was done, else nothing.

        Raises:
            Unavailable: the simulated venues do not answer.
        """
        if not self._due_s or now_s < self._due_s[0]:
            return ""
        self._due_s.pop(0)
        if self._due_s:
            return self._determine()
        self._world.call("resolve", {"ticker": self._pair["kalshi"]["ticker"], "do": "settle"})
        return f"{self.instrument} is paid"

    def _determine(self) -> str:
        pairs = self._pairs()
        if not pairs:
            self._due_s.clear()
            return ""
        (account,) = [one for one in self._world.accounts()["kalshi"] if one["account"] == ACCOUNT]
        held = {ticker: abs(one["size_e6"]) for ticker, one in account["positions"].items()}
        self._pair = max(pairs, key=lambda pair: held.get(pair["kalshi"]["ticker"], 0))
        ticker = self._pair["kalshi"]["ticker"]
        self._is_held = held.get(ticker, 0) > 0
        self._world.call("resolve", {"ticker": ticker, "do": "determine", "result": "yes"})
        value = "1" if self._pair["polarity"] == "SAME" else "0"
        condition = self._pair["polymarket"]["condition_id"]
        self._world.call("resolve", {"condition_id": condition, "do": "resolve", "value": value})
        return f"{self.instrument} is determined: yes"

    def _pairs(self) -> list[dict[str, Any]]:
        """Return the linked markets that no other strategy looks at: what those need stays as it was asked for."""
        links = self._world.links()
        ours = {ticker for event in self._world.events() for ticker in event["tickers"]}
        return [pair for pair in links[QUOTED:-WATCHED] if pair["kalshi"]["ticker"] not in ours]
