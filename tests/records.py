"""Records that tests of many stages read, as those that write them do."""

from schemas.decision import Grant
from schemas.market import Instrument


def binary(name: str, **changes) -> Instrument:
    """Return a binary market that trades whole cents on its venue's usual terms; `changes` say what is otherwise."""
    is_kalshi = name.startswith("kalshi")
    fields = dict(
        instrument=name,
        venue=name.partition(":")[0],
        kind="BINARY",
        status="OPEN",
        title=name,
        event_group=name,
        price_exp=-4,
        size_exp=-6,
        tick_from=[0],
        tick_to=[10_000],
        tick_step=[100],
        size_min=10_000 if is_kalshi else 5_000_000,
        size_step=10_000,
        notional_min_e6=0 if is_kalshi else 1_000_000,
        fee_model="QUADRATIC" if is_kalshi else "CURVE",
        taker_fee_e6=70_000 if is_kalshi else 40_000,
        tokens=[] if is_kalshi else [f"{name}/yes", f"{name}/no"],
        recv_ts_ns=1,
    )
    return Instrument(**{**fields, **changes})


def granted(instrument: str = "kalshi:T", *, now_ns: int = 1, **changes) -> Grant:
    """Return the entry of an intent, ten YES for .45 at the most; `changes` say what is otherwise."""
    fields = dict(
        id="g",
        intent="i",
        account=f"{instrument.partition(':')[0]}:main",
        account_set="main",
        instrument=instrument,
        leg=0,
        attempt=1,
        purpose="ENTRY",
        side="BUY",
        outcome="YES",
        token_side="BUY",
        price=4_500,
        size=10_000_000,
        price_exp=-4,
        size_exp=-6,
        time_in_force="IOC",
        client_id="c",
        salt=1,
        timestamp_ms=1,
        fee_max_e6=1_000_000,
        version_offset=1,
        version_index=0,
        now_ns=now_ns,
        send_by_ns=now_ns,
        recv_ts_ns=now_ns,
    )
    return Grant(**{**fields, **changes})


def sides(bids, asks) -> dict[str, list[int]]:
    """Return levels, each a price and a size, as the records of books hold them."""
    return dict(
        bid_prices=[price for price, _ in bids],
        bid_sizes=[size for _, size in bids],
        ask_prices=[price for price, _ in asks],
        ask_sizes=[size for _, size in asks],
    )
