"""Which tokens a report of Polymarket reads, and when what was read makes a report.

The exchange is asked for one token at a time and allows only so many requests, so that an account of many outcomes takes
several turns. What it holds is stated only of a whole round: each token that matters was read since the statement before,
and the statement is as old as the oldest of its reads, so that nothing that moved meanwhile is held against it.
"""

from __future__ import annotations

from collections.abc import Sequence

from execute.views import Held
from schemas.order import Holding

READS_MAX = 60
"""Balance reads of tokens in one turn."""
READS_MOVED_MAX = 30
"""Of them for tokens that moved since they were read, before any other: where more move all the time, the rest goes on."""
READS_IDLE_MIN = 5
"""Of them for tokens nothing is expected of, where the others take all: one from outside is found late, but found."""


class Holdings:
    """What was read of the tokens of one wallet."""

    def __init__(self) -> None:
        self._balances: dict[str, int] = {}
        self._read_ns: dict[str, int] = {}
        """token -> the venue's time before the request; not later than its movement where the venue may lag that"""
        self._turns: dict[str, int] = {}
        """token -> the turn it was last read in; 0: of none, as that read may be of before a settlement"""
        self._turn = 0
        self._stated = 0
        """the turn of the last statement"""

    def choose(self, held: Sequence[Held]) -> list[Held]:
        """Return what to read in the next turn: what moved since it was read first, then what is longest unread."""
        self._turn += 1
        matter = sorted((one for one in held if self._matters(one)), key=self._last_turn)
        idle = sorted((one for one in held if not self._matters(one)), key=self._last_turn)
        moved = [one for one in matter if not self._is_known(one)][:READS_MOVED_MAX]
        chosen = list(dict.fromkeys([*moved, *matter]))[: READS_MAX - min(READS_IDLE_MIN, len(idle))]
        return chosen + idle[: READS_MAX - len(chosen)]

    def take(self, one: Held, balance: int, as_of_ns: int) -> None:
        """Note what was read of a token, asked for after `as_of_ns`."""
        self._balances[one.token] = balance
        self._read_ns[one.token] = min(as_of_ns, one.moved_ns) if one.waits else as_of_ns
        self._turns[one.token] = 0 if one.waits else self._turn

    def state(self, held: Sequence[Held], as_of_ns: int) -> tuple[int, tuple[Holding, ...]] | None:
        """Return the holdings of a round that is whole, with the time of its oldest read; None while it is not.

        Cash is told at a fill, tokens at its settlement: a balance of between the two is no time's, and is not stated.
        """
        matter = [one for one in held if self._matters(one)]
        if any(self._turns.get(one.token, 0) <= self._stated for one in matter):
            return None
        self._stated = self._turn
        oldest_ns = min((self._read_ns[one.token] for one in matter), default=as_of_ns)
        holdings = tuple(
            Holding(instrument=one.instrument, outcome=one.outcome, size=self._balances[one.token]) for one in matter
        )
        return min(as_of_ns, oldest_ns), tuple(holding for holding in holdings if holding.size)

    def sellable(self, held: Sequence[Held]) -> dict[str, int]:
        """Return the balances by token; of what moved since it was read, what our fills leave of it at most."""
        return {
            one.token: balance if self._is_known(one) else max(min(balance, one.size), 0)
            for one in held
            if (balance := self._balances.get(one.token)) is not None
        }

    def unread(self, held: Sequence[Held]) -> int:
        """Return how many tokens the next statement waits for."""
        return sum(self._matters(one) and self._turns.get(one.token, 0) <= self._stated for one in held)

    def _is_known(self, one: Held) -> bool:
        return one.token in self._read_ns and self._read_ns[one.token] > one.moved_ns

    def _matters(self, one: Held) -> bool:
        """Say whether a token may be held; not one that was read empty, or never, where our fills leave nothing of it."""
        if one.token not in self._read_ns:
            return one.size != 0
        if self._balances[one.token] or not self._is_known(one):
            return True
        # What is gone of a market that is over was paid for, and does not come back.
        return one.size > 0 and not one.is_over

    def _last_turn(self, one: Held) -> int:
        return self._turns.get(one.token, 0)
