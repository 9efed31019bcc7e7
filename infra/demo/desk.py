"""PostgreSQL at the end of a run: everything written, and every account equal to what its venue has in its own books."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.domain.errors import CrossbookError
from infra.cli.reach import Reach
from infra.demo import scan, trades
from infra.demo.cast import ACCOUNT
from infra.demo.verdict import tokens_of
from infra.demo.world import World
from observe.accounts import AccountLine, account_lines
from observe.postgres import Postgres
from observe.postgres_rows import READ

EXAMPLES_MAX = 20


def left(reach: Reach, incarnation: int) -> int:
    """Return how many records of the desk's logs are not in its tables yet.

    Raises:
        Unavailable: Kafka does not answer.
    """
    database = Postgres(reach.postgres_url, name="crossbook demo")
    try:
        written = {
            (topic, partition): offset
            for topic, partition, offset in database.rows(
                "SELECT topic, partition, next_offset FROM sink_offset WHERE incarnation = %(i)s", {"i": incarnation}
            )
        }
    except CrossbookError:
        return 1  # it is being started again, or its tables are not made yet
    finally:
        database.close()
    names = {topic.noun: topic.name(reach.run) for topic in READ}
    return sum(
        max(end - written.get((names[noun], number), 0), 0)
        for noun, places in scan.ends(reach, READ).items()
        for number, end in places.items()
    )


def verdict(reach: Reach, incarnation: int, world: World) -> dict[str, Any]:
    """Return whether what PostgreSQL says of each account is what the venues' own books say, and how many rows it has.

    Raises:
        Unavailable: PostgreSQL or a simulated venue does not answer.
    """
    database = Postgres(reach.postgres_url, name="crossbook demo")
    try:
        lines = {line.account: line for line in account_lines(database, incarnation)}
        counts = {
            name: int(database.rows(f"SELECT count(*) FROM {name} WHERE incarnation = %(i)s", {"i": incarnation})[0][0])  # noqa: S608 - names of ours
            for name in ("ticket", "venue_order", "fill", "mark_out", "audit", "rejected", "sink_gap")
        }
    finally:
        database.close()
    found = differences(lines, world.accounts(), ACCOUNT, tokens_of(world))
    return {
        "pnl_matches": not found and not counts["rejected"] and not counts["sink_gap"],
        "desk": {"rows": counts, "differences": found[:EXAMPLES_MAX]},
    }


def differences(
    lines: Mapping[str, AccountLine], venues: Mapping[str, Any], account: str, tokens: Mapping[str, tuple[str, str]]
) -> list[str]:
    """Return what differs between PostgreSQL's accounts and the venues' own, to the unit.

    Args:
        lines: what PostgreSQL says, by account.
        venues: the answer of `/sim/accounts`.
        account: name of the account at the venues.
        tokens: Polymarket token -> (instrument, outcome).
    """
    found: list[str] = []
    for venue, states in venues.items():
        state = next(state for state in states if state["account"] == account)
        name = f"{venue}:{account}"
        line = lines.get(name)
        if line is None:
            found.append(f"{name}: PostgreSQL has no report of it")
            continue
        pairs = [
            ("cash", line.our_cash_e6, state["cash_e6"]),
            ("fees", line.fees_e6, state["fees_e6"]),
            ("opening cash", line.opening_cash_e6, state["cash_start_e6"]),
        ]
        theirs = {key: size for key, size in trades.holdings(venue, state, tokens).items() if size}
        pairs += [
            (" ".join(key), line.holdings.get(key, 0), theirs.get(key, 0))
            for key in sorted(theirs.keys() | line.holdings.keys())
        ]
        found += [f"{name} {what}: PostgreSQL {ours}, the venue's {own}" for what, ours, own in pairs if ours != own]
    return found
