"""A book by REST as a record: evidence that is compared and never applied, or, on a degraded feed, all there is."""

from collections.abc import Sequence

from core.domain.errors import UnknownSchema
from core.domain.units import PREDICTION_PRICE_EXP, PREDICTION_SIZE_EXP
from normalize.ports import FrameContext
from schemas import market, raw

Levels = Sequence[tuple[int, int]]
"""(price, size), best first."""


def stated(
    answer: raw.RestBook, frame: FrameContext, bids: Levels, asks: Levels, *, venue_ts_ns: int = 0, venue_hash: str = ""
) -> market.AuditSnapshot | market.BookSnapshot:
    """Return the record of a REST answer: an `AuditSnapshot` (AUDIT) or a degraded `BookSnapshot` (POLL).

    Raises:
        UnknownSchema: it was asked for a purpose we do not know; guessing could apply what is only evidence.
    """
    if answer.purpose == "AUDIT":
        return market.AuditSnapshot(
            instrument=answer.instrument,
            epoch=frame.epoch,
            frame_no=frame.frame_no,
            index=0,
            price_exp=PREDICTION_PRICE_EXP,
            size_exp=PREDICTION_SIZE_EXP,
            bid_prices=[price for price, _ in bids],
            bid_sizes=[size for _, size in bids],
            ask_prices=[price for price, _ in asks],
            ask_sizes=[size for _, size in asks],
            hash=venue_hash,
            asked_ts_ns=answer.asked_ts_ns,
            venue_ts_ns=venue_ts_ns,
            recv_ts_ns=frame.recv_ts_ns,
            trail=frame.trail,
        )
    if answer.purpose == "POLL":
        return market.BookSnapshot(
            instrument=answer.instrument,
            epoch=frame.epoch,
            frame_no=frame.frame_no,
            index=0,
            price_exp=PREDICTION_PRICE_EXP,
            size_exp=PREDICTION_SIZE_EXP,
            bid_prices=[price for price, _ in bids],
            bid_sizes=[size for _, size in bids],
            ask_prices=[price for price, _ in asks],
            ask_sizes=[size for _, size in asks],
            hash=venue_hash,
            venue_ts_ns=venue_ts_ns,
            recv_ts_ns=frame.recv_ts_ns,
            trail=frame.trail,
            degraded=True,
        )
    raise UnknownSchema(f"{answer.instrument}: expected a REST book for AUDIT or POLL, found {answer.purpose}")
