"""One market of the run that ends in the middle of it: determined at both venues, then paid, while everything else trades."""

from collections.abc import Collection
from typing import Any

from infra.demo.cast import ACCOUNT
from infra.demo.setup import QUOTED, WATCHED
from infra.demo.world import World

SHARE = 0.4
"""Of the measured time: from then on the market ends as soon as one is held."""
PAYS_AFTER_S = 2.0
RUN_S_MIN = 30.0
"""In a shorter run no market ends: its statement might come after the last look."""
AFTER_S = RUN_S_MIN * (1 - SHARE)
"""What is left of the measured time at the last try: long enough for the venue's statement to be read and booked."""
NONE_HELD = "none is held at Kalshi that only two-venue looks at"


class Ending:
    """The end of one market, step by step: of the linked ones the one of which most is held at Kalshi."""

    def __init__(self, world: World, seconds: float) -> None:
        """Prepare; without a measured end of the run, or with one too near, nothing will happen."""
        self._world = world
        self._is_asked = seconds >= RUN_S_MIN
        self._first_s, self._last_s = seconds * SHARE, seconds - AFTER_S
        self._gave_up = False
        self._pair: dict[str, Any] = {}
        self._pays_s = 0.0
        self._is_paid = False

    @property
    def instrument(self) -> str:
        """The market that ended, empty while none has."""
        return f"kalshi:{self._pair['kalshi']['ticker']}" if self._pair else ""

    def missing(self, settled: Collection[str]) -> list[str]:
        """Return in words what the run did not show: that a market that is held ends, is paid, and is booked as paid.

        Args:
            settled: instruments of which the ledger says so.
        """
        if not self._is_asked or (self._is_paid and self.instrument in settled):
            return []
        if not self._pair:
            return [f"no market ended: {NONE_HELD}; a longer run or more --markets may hold one"]
        if not self._is_paid:
            return [f"{self.instrument} is determined and was never paid"]
        return [f"{self.instrument} was held and paid, and no entry of the ledger says so"]

    def turn(self, now_s: float) -> str:
        """Do the next step if its time has come; return what was done, else nothing.

        Raises:
            Unavailable: the simulated venues do not answer.
        """
        if not self._is_asked or self._gave_up or self._is_paid:
            return ""
        if self._pair:
            return self._pay() if now_s >= self._pays_s else ""
        said = self._determine(now_s) if now_s >= self._first_s else ""
        if not said and now_s > self._last_s:
            self._gave_up = True
            said = f"no market ends: {NONE_HELD}"
        return said

    def _determine(self, now_s: float) -> str:
        (account,) = [one for one in self._world.accounts()["kalshi"] if one["account"] == ACCOUNT]
        held = {ticker: abs(one["size_e6"]) for ticker, one in account["positions"].items()}
        pairs = [pair for pair in self._pairs() if held.get(pair["kalshi"]["ticker"], 0) > 0]
        if not pairs:
            return ""
        self._pair = max(pairs, key=lambda pair: held[pair["kalshi"]["ticker"]])
        self._pays_s = now_s + PAYS_AFTER_S
        ticker = self._pair["kalshi"]["ticker"]
        self._world.call("resolve", {"ticker": ticker, "do": "determine", "result": "yes"})
        value = "1" if self._pair["polarity"] == "SAME" else "0"
        condition = self._pair["polymarket"]["condition_id"]
        self._world.call("resolve", {"condition_id": condition, "do": "resolve", "value": value})
        return f"{self.instrument} is determined: yes"

    def _pay(self) -> str:
        self._world.call("resolve", {"ticker": self._pair["kalshi"]["ticker"], "do": "settle"})
        self._is_paid = True
        return f"{self.instrument} is paid"

    def _pairs(self) -> list[dict[str, Any]]:
        """Return the linked markets that no other strategy looks at: what those need stays as it was asked for."""
        links = self._world.links()
        ours = {ticker for event in self._world.events() for ticker in event["tickers"]}
        return [pair for pair in links[QUOTED:-WATCHED] if pair["kalshi"]["ticker"] not in ours]
