"""Generated from the schemas by `make schemas`; do not edit. Closed sets of words in records."""

from typing import Literal

AuditVerdict = Literal["UNKNOWN", "EQUAL", "MOVED", "DIFFERENT", "NOT_LIVE"]
BookState = Literal["UNKNOWN", "SYNCING", "LIVE", "SUSPECT", "STALE", "DEGRADED"]
DeltaKind = Literal["UNKNOWN", "ABSOLUTE", "SIGNED"]
EdgePhase = Literal["UNKNOWN", "BEGIN", "REFRESH", "END"]
EntryKind = Literal[
    "UNKNOWN",
    "OPENING",
    "SETTLEMENT",
    "DEPOSIT",
    "WITHDRAWAL",
    "TRANSFER",
    "REBATE",
    "REWARD",
    "INTEREST",
    "FEE",
    "ROUNDING",
    "GAS",
    "CONVERSION",
    "EXTERNAL",
]
ErrorClass = Literal["UNKNOWN", "RETRY", "REJECT", "RESYNC", "HALT"]
FeeModel = Literal["UNKNOWN", "NONE", "QUADRATIC", "CURVE"]
InstrumentKind = Literal["UNKNOWN", "BINARY", "SPOT", "PERPETUAL"]
InstrumentStatus = Literal["UNKNOWN", "PENDING", "OPEN", "PAUSED", "CLOSED", "DETERMINED", "SETTLED"]
LetterState = Literal["UNKNOWN", "RESENT", "THROUGH", "AGAIN", "DROPPED"]
LinkKind = Literal["UNKNOWN", "PAIR", "EVENT"]
LinkStatus = Literal["UNKNOWN", "PROPOSED", "APPROVED", "SUSPENDED", "EXPIRED", "REJECTED"]
Liquidity = Literal["UNKNOWN", "TAKER", "MAKER"]
OrderStatus = Literal[
    "UNKNOWN", "ACCEPTED", "REJECTED", "CANCELLED", "EXPIRED", "EXPIRED_UNSENT", "OUTCOME_UNKNOWN", "FILLED"
]
Outcome = Literal["UNKNOWN", "YES", "NO", "NONE"]
Polarity = Literal["UNKNOWN", "SAME", "OPPOSITE"]
Purpose = Literal["UNKNOWN", "ENTRY", "HEDGE", "UNWIND"]
RequoteAction = Literal["UNKNOWN", "KEEP", "CANCEL", "REPLACE"]
RestPurpose = Literal["UNKNOWN", "AUDIT", "POLL"]
RulingAction = Literal["UNKNOWN", "HOLD", "UNWIND"]
SagaState = Literal["UNKNOWN", "REFUSED", "FIRST_LEG", "SECOND_LEG", "UNWINDING", "HOLDING", "DONE", "RESTING"]
Scope = Literal["UNKNOWN", "SET", "STRATEGY", "EVENT", "CATEGORY", "VENUE", "SHARD", "INSTRUMENT"]
Settlement = Literal["UNKNOWN", "MATCHED", "CONFIRMED", "FAILED"]
SettlementPhase = Literal["UNKNOWN", "PROVISIONAL", "FINAL"]
Side = Literal["UNKNOWN", "BUY", "SELL"]
StrategyStatus = Literal["UNKNOWN", "RUNNING", "DRAINING", "STOPPED"]
TimeInForce = Literal["UNKNOWN", "GTC", "GTD", "IOC", "FOK"]
TradingState = Literal["UNKNOWN", "RUNNING", "REDUCING", "HALTED"]
Verdict = Literal["UNKNOWN", "ALLOWED", "CLOSE_ONLY", "FORBIDDEN"]
