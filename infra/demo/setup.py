"""Configuration of the demo's run: what a human would say once, as records on `decision.*`."""

from typing import Any

import msgspec

from core.domain.units import MICRO
from core.runtime import topics
from core.runtime.clock import Clock
from core.runtime.flow import Output
from core.runtime.producer import Publisher
from core.runtime.topics import Topic
from infra.cli.reach import Reach
from infra.demo.cast import ACCOUNT
from schemas.decision import Limit, Link, Profile, Strategy
from schemas.record import Record
from venues import VENUES

ACCOUNT_SET = "main"
APPROVED_BY = "demo"
ACK_TIMEOUT_S = 20.0
CURRENCIES = {"kalshi": "USD", "polymarket": "USDC"}


def outputs(links: list[dict[str, Any]], now_ns: int) -> list[Output]:
    """Return the records: an account of each venue, the limits, a strategy, and every linked pair as approved."""
    profiles = [
        Profile(
            id=f"{venue}:{ACCOUNT}",
            venue=venue,
            account_set=ACCOUNT_SET,
            entity="demo",
            currency=CURRENCIES[venue],
        )
        for venue in VENUES
    ]
    limit = Limit(
        id=ACCOUNT_SET,
        state="RUNNING",
        order_notional_max_e6=500 * MICRO,
        market_notional_max_e6=5_000 * MICRO,
        open_sagas_max=20,
        unwind_budget_e6=20 * MICRO,
        set_by=APPROVED_BY,
        reason="demo",
    )
    strategy = Strategy(
        id="two-venue",
        kind="cross_venue",
        status="RUNNING",
        account_set=ACCOUNT_SET,
        params=msgspec.json.encode({"size_max": 20 * MICRO, "min_profit_e6": MICRO // 10}).decode(),
    )
    found: list[tuple[Topic, Record, str]] = [(topics.DECISION_PROFILE, profile, profile.id) for profile in profiles]
    found.append((topics.DECISION_LIMIT, limit, limit.id))
    found += [(topics.DECISION_LINK, link, link.id) for link in (link_of(pair, now_ns) for pair in links)]
    found.append((topics.DECISION_STRATEGY, strategy, strategy.id))
    return [Output(topic, key, record) for topic, record, key in found]


def link_of(pair: dict[str, Any], now_ns: int) -> Link:
    """Return one pair of the simulators' list as an approved link with its payout table."""
    same = pair["polarity"] == "SAME"
    return Link(
        id=pair["key"],
        version=1,
        status="APPROVED",
        instrument_a=f"kalshi:{pair['kalshi']['ticker']}",
        instrument_b=f"polymarket:{pair['polymarket']['condition_id']}",
        polarity="SAME" if same else "OPPOSITE",
        states=["a YES", "a NO"],
        payout_a_e6=[MICRO, 0],
        payout_b_e6=[MICRO, 0] if same else [0, MICRO],
        approved_by=APPROVED_BY,
        approved_ts_ns=now_ns,
    )


def write(reach: Reach, clock: Clock, links: list[dict[str, Any]]) -> None:
    """Write the configuration and wait until Kafka has it.

    Raises:
        Unavailable: Kafka does not acknowledge.
    """
    from core.domain.errors import Unavailable

    publisher = Publisher(
        bootstrap=reach.bootstrap,
        codec=reach.codec,
        clock=clock,
        run=reach.run,
        stage="decide",
        partitions=reach.partitions,
        client_id=f"{reach.run}.operator",
    )
    for output in outputs(links, clock.now_ns()):
        publisher.publish(output)
    if not publisher.wait_acknowledged(ACK_TIMEOUT_S):
        raise Unavailable(f"Kafka at {reach.bootstrap} does not acknowledge the configuration")
