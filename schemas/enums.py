"""Generated from the schemas by `make schemas`; do not edit. Closed sets of words in records."""

from typing import Literal

BookState = Literal["UNKNOWN", "SYNCING", "LIVE", "SUSPECT", "STALE"]
DeltaKind = Literal["UNKNOWN", "ABSOLUTE", "SIGNED"]
EdgePhase = Literal["UNKNOWN", "BEGIN", "REFRESH", "END"]
ErrorClass = Literal["UNKNOWN", "RETRY", "REJECT", "RESYNC", "HALT"]
FeeModel = Literal["UNKNOWN", "NONE", "QUADRATIC", "CURVE"]
InstrumentKind = Literal["UNKNOWN", "BINARY", "SPOT", "PERPETUAL"]
InstrumentStatus = Literal["UNKNOWN", "PENDING", "OPEN", "PAUSED", "CLOSED", "DETERMINED", "SETTLED"]
LinkStatus = Literal["UNKNOWN", "PROPOSED", "APPROVED", "SUSPENDED", "EXPIRED"]
Liquidity = Literal["UNKNOWN", "TAKER", "MAKER"]
OrderStatus = Literal["UNKNOWN", "ACCEPTED", "REJECTED", "CANCELLED", "EXPIRED", "EXPIRED_UNSENT", "OUTCOME_UNKNOWN", "FILLED"]
Outcome = Literal["UNKNOWN", "YES", "NO", "NONE"]
Polarity = Literal["UNKNOWN", "SAME", "OPPOSITE"]
Purpose = Literal["UNKNOWN", "ENTRY", "HEDGE", "UNWIND"]
SagaState = Literal["UNKNOWN", "REFUSED", "FIRST_LEG", "SECOND_LEG", "UNWINDING", "HOLDING", "DONE"]
Settlement = Literal["UNKNOWN", "MATCHED", "CONFIRMED", "FAILED"]
Side = Literal["UNKNOWN", "BUY", "SELL"]
StrategyStatus = Literal["UNKNOWN", "RUNNING", "DRAINING", "STOPPED"]
TimeInForce = Literal["UNKNOWN", "GTC", "GTD", "IOC", "FOK"]
TradingState = Literal["UNKNOWN", "RUNNING", "REDUCING", "HALTED"]
