"""What one record of the accounts' log leads to, collected: orders first, then what became of sagas, then the ledger."""

from collections.abc import Iterable

from core.domain.ids import record_id
from core.runtime import topics
from core.runtime.flow import Input, Output
from decide.ledger import Account, HoldingKey
from schemas import decision
from schemas.decision import Amend, Beat, Cancel, Entry, Grant, Ledger, Standing


class Turn:
    """What one record leads to: orders first, then what became of sagas, then the ledger."""

    def __init__(self, item: Input, incarnation: int) -> None:
        self.item = item
        self.now_ns = item.log_ns
        self.trail: list[int] = getattr(item.record, "trail", [])
        self.recv_ts_ns: int = getattr(item.record, "recv_ts_ns", 0) or item.log_ns
        self._incarnation = incarnation
        self._index = 0
        self._orders: list[Output] = []
        self._sagas: dict[str, Output] = {}
        self._ledger: dict[str, Output] = {}

    def new_id(self, leg: int = 0, attempt: int = 0) -> str:
        """Return the next id of this record's decisions."""
        self._index += 1
        return record_id(self._incarnation, self.item.partition, self.item.offset, self._index, leg, attempt)

    def order(self, account: str, record: Grant | Cancel | Amend | Beat) -> None:
        """Add what a gateway is to do."""
        self._orders.append(Output(topics.DECISION_ORDER, account, record))

    def saga(self, record: decision.Saga) -> None:
        """Add where a saga is; the last word of it counts."""
        self._sagas[record.id] = Output(topics.DECISION_SAGA, record.id, record)

    def ledger(self, record: Ledger | Entry | Standing) -> None:
        """Add an entry, or how something stands; the last word of it counts."""
        self._ledger[record.id] = Output(topics.DECISION_LEDGER, record.id, record)

    def outputs(self) -> list[Output]:
        """Return all of it."""
        return [*self._orders, *self._sagas.values(), *self._ledger.values()]


def write_ledger(ledger: Account, keys: Iterable[HoldingKey], turn: Turn) -> None:
    """Write the account's cash if it changed, and the named holdings, as they are now."""
    figures = (ledger.known, ledger.cash_e6, ledger.reserved_e6, ledger.fees_e6, ledger.provisional_e6)
    if figures != ledger.said:
        ledger.said = figures
        turn.ledger(
            Ledger(
                id=ledger.name,
                account=ledger.name,
                outcome="NONE",
                cash_e6=ledger.cash_e6,
                reserved_e6=ledger.reserved_e6,
                fees_e6=ledger.fees_e6,
                provisional_e6=ledger.provisional_e6,
                known=ledger.known,
                now_ns=turn.now_ns,
                log_partition=turn.item.partition,
                log_offset=turn.item.offset,
                trail=turn.trail,
            )
        )
    for instrument, outcome in keys:
        holding = ledger.holding(instrument, outcome)
        provisional = ledger.provisional.get((instrument, outcome))
        turn.ledger(
            Ledger(
                id=f"{ledger.name}|{instrument}|{outcome}",
                account=ledger.name,
                instrument=instrument,
                outcome=outcome,
                size=holding.size,
                cost_e6=holding.cost_e6,
                provisional_e6=provisional.expected_e6 if provisional is not None else 0,
                known=ledger.known,
                now_ns=turn.now_ns,
                log_partition=turn.item.partition,
                log_offset=turn.item.offset,
                trail=turn.trail,
            )
        )
