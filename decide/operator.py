"""What a human approves, from a JSON file to configuration records. Pure; whoever publishes them gives the time.

One file may hold any of these lists; money and sizes are integers at 1e-6:

    {"approved_by": "who", "account_set": "main",
     "profiles":   [{"id": "kalshi:main", "venue": "kalshi", "entity": "…", "currency": "USD", "capital_e6": 0,
                     "fees": [{"instruments": "kalshi:KXNBA", "from_ts_ns": …, "until_ts_ns": 0, "taker_fee_e6": …,
                               "share_e6": 1000000, "source": "…"}]}],
     "limits":     [{"id": "main", "state": "RUNNING", "order_notional_max_e6": …, "market_notional_max_e6": …,
                     "open_sagas_max": …, "unwind_budget_e6": …, "reason": "…"}],
     "budgets":    [{"scope": "STRATEGY", "name": "*", "notional_max_e6": …, "day_loss_max_e6": …, "reason": "…"}],
     "strategies": [{"id": "arb", "kind": "cross_venue", "status": "RUNNING", "params": {…}, "instruments": [watched, …]}],
     "links":      [{"key": "…", "kalshi": {"ticker": "…"}, "polymarket": {"condition_id": "…"}, "polarity": "SAME",
                     "payouts": [{"state": "yes", "a_e6": 1000000, "b_e6": 1000000}, …]},
                    {"kind": "EVENT", "key": "…", "instruments": ["kalshi:…", …], "exhaustive": true,
                     "table": [{"state": "…", "pays_e6": [1000000, 0, …]}, …]}]}

A pair names its instruments as `"a"` and `"b"` (instrument ids), or by venue as above: then a is Kalshi's. Without
`payouts` it gets the table of `links.default_payouts`, an event without `table` that of `links.event_payouts`; who approves the link approves that.
An approved link says which rule texts were approved, as `crossbook links approve` records them; only a file that says
`"simulated": true` may leave them out, they are then not compared.
"""

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from core.domain.errors import Misconfigured
from core.domain.units import MICRO
from core.runtime import topics
from core.runtime.flow import Output
from decide.operator_links import LinkEntry, check_rules, link_record
from decide.strategies.registry import BLIND_TO
from schemas import decision
from venues import VENUES


class _FeeTerm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    source: str
    instruments: str = ""
    category: str = ""
    from_ts_ns: int = 0
    until_ts_ns: int = 0
    taker_fee_e6: int = -1
    share_e6: int = MICRO


class _Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    venue: str
    entity: str
    currency: str
    capital_e6: int = 0
    account_set: str = ""
    fees: list[_FeeTerm] = []


class _Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    state: Literal["RUNNING", "REDUCING", "HALTED"]
    order_notional_max_e6: int
    market_notional_max_e6: int
    open_sagas_max: int
    unwind_budget_e6: int
    reason: str
    set_by: str = ""
    approved_by: str = ""
    day_loss_reduce_e6: int = -1
    day_loss_halt_e6: int = -1
    silence_reduce_ms: int = -1
    silence_halt_ms: int = -1
    heal_max_e6: int = -1
    two_people: bool = False


class _Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    scope: Literal["STRATEGY", "EVENT", "CATEGORY", "VENUE", "SHARD", "INSTRUMENT"]
    name: str
    reason: str
    account_set: str = ""
    set_by: str = ""
    approved_by: str = ""
    notional_max_e6: int = -1
    worst_loss_max_e6: int = -1
    day_loss_max_e6: int = -1
    orders_per_min: int = -1
    orders_burst: int = 0


class _Strategy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    kind: str
    status: Literal["RUNNING", "DRAINING", "STOPPED"] = "RUNNING"
    account_set: str = ""
    params: dict[str, Any] = {}
    instruments: list[str] = []
    blind_to: list[Literal["PAIR", "EVENT"]] | None = None
    """none said: what its kind never looks at"""


class Desk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    approved_by: str = ""
    account_set: str = "main"
    simulated: bool = False
    """its markets are simulated: links need not say which rule texts were approved"""
    profiles: list[_Profile] = []
    limits: list[_Limit] = []
    budgets: list[_Budget] = []
    strategies: list[_Strategy] = []
    links: list[LinkEntry] = []


def read(text: bytes | str, *, where: str = "operator file") -> Desk:
    """Return the parsed file.

    Raises:
        Misconfigured: not JSON, an unknown or missing field, a wrong type; the message names the place in the file.
    """
    try:
        return msgspec.json.decode(text, type=Desk)
    except (msgspec.MsgspecError, UnicodeDecodeError) as e:
        raise Misconfigured(f"{where}: {e}") from e


def records(desk: Desk, *, now_ns: int, approved_by: str = "") -> list[Output]:
    """Return the configuration records, each with its topic and key; `approved_by` stands in where the file has none.

    Raises:
        Misconfigured: a link without an approver, with one instrument twice, a payout table that does not fit its
            polarity; a profile of no venue; a limit below 0; an id given twice.
    """
    approver = desk.approved_by or approved_by
    profiles = [_profile(profile, desk) for profile in desk.profiles]
    limits = [_limit(limit, approver) for limit in desk.limits]
    budgets = [_budget(budget, approver, desk) for budget in desk.budgets]
    strategies = [_strategy(strategy, desk) for strategy in desk.strategies]
    links = [link_record(link, approver, now_ns) for link in desk.links]
    if not desk.simulated:
        check_rules(links)
    _check_ids("profile", [record.id for record in profiles])
    _check_ids("limit", [record.id for record in limits])
    _check_ids("budget", [record.id for record in budgets])
    _check_ids("strategy", [record.id for record in strategies])
    _check_ids("link", [record.id for record in links])
    return [
        *(Output(topics.DECISION_PROFILE, record.id, record) for record in profiles),
        *(Output(topics.DECISION_LIMIT, record.id, record) for record in limits),
        *(Output(topics.DECISION_LIMIT, record.id, record) for record in budgets),
        *(Output(topics.DECISION_LINK, record.id, record) for record in links),
        *(Output(topics.DECISION_STRATEGY, record.id, record) for record in strategies),
    ]


def _profile(profile: _Profile, desk: Desk) -> decision.Profile:
    if profile.venue not in VENUES or not profile.id.startswith(f"{profile.venue}:"):
        raise Misconfigured(f"profile {profile.id!r}: expected <venue>:<name> of a venue of {', '.join(VENUES)}")
    if profile.capital_e6 < 0:
        raise Misconfigured(f"profile {profile.id}: capital_e6 is {profile.capital_e6}; expected 0 (all) or more")
    return decision.Profile(
        id=profile.id,
        venue=profile.venue,
        account_set=profile.account_set or desk.account_set,
        entity=profile.entity,
        currency=profile.currency,
        capital_e6=profile.capital_e6,
        fees=[_fee_term(profile.id, term) for term in profile.fees],
    )


def _fee_term(profile: str, term: _FeeTerm) -> decision.FeeTerm:
    where = f"profile {profile}: fees of {term.instruments or term.category or 'all'}"
    if not term.source.strip():
        raise Misconfigured(f"{where}: source is empty; say where these fees are written")
    if term.taker_fee_e6 < -1 or term.share_e6 < 0:
        raise Misconfigured(
            f"{where}: expected a coefficient and a share of 0 or more, or -1 for the stated coefficient"
        )
    if 0 < term.until_ts_ns <= term.from_ts_ns:
        raise Misconfigured(f"{where}: it ends at {term.until_ts_ns}, which is not after {term.from_ts_ns}")
    return decision.FeeTerm(**msgspec.structs.asdict(term))


def _limit(limit: _Limit, approver: str) -> decision.Limit:
    set_by = limit.set_by or approver
    if not set_by.strip():
        raise Misconfigured(f"limit {limit.id}: set_by is empty; name who set it")
    figures = {
        "order_notional_max_e6": limit.order_notional_max_e6,
        "market_notional_max_e6": limit.market_notional_max_e6,
        "open_sagas_max": limit.open_sagas_max,
        "unwind_budget_e6": limit.unwind_budget_e6,
    }
    for name, value in figures.items():
        if value < 0:
            raise Misconfigured(f"limit {limit.id}: {name} is {value}; expected 0 or more")
    return decision.Limit(
        id=limit.id,
        state=limit.state,
        order_notional_max_e6=limit.order_notional_max_e6,
        market_notional_max_e6=limit.market_notional_max_e6,
        open_sagas_max=limit.open_sagas_max,
        unwind_budget_e6=limit.unwind_budget_e6,
        set_by=set_by,
        reason=limit.reason,
        approved_by=limit.approved_by,
        day_loss_reduce_e6=limit.day_loss_reduce_e6,
        day_loss_halt_e6=limit.day_loss_halt_e6,
        silence_reduce_ms=limit.silence_reduce_ms,
        silence_halt_ms=limit.silence_halt_ms,
        heal_max_e6=limit.heal_max_e6,
        two_people=limit.two_people,
    )


def _budget(budget: _Budget, approver: str, desk: Desk) -> decision.Budget:
    account_set = budget.account_set or desk.account_set
    name = f"{account_set}|{budget.scope}|{budget.name}"
    set_by = budget.set_by or approver
    if not set_by.strip():
        raise Misconfigured(f"budget {name}: set_by is empty; name who set it")
    if not budget.name.strip():
        raise Misconfigured(f"budget {name}: name is empty; * is each that has none of its own")
    values = msgspec.structs.asdict(budget) | {"id": name, "account_set": account_set, "set_by": set_by}
    return decision.Budget(**values)


def _strategy(strategy: _Strategy, desk: Desk) -> decision.Strategy:
    return decision.Strategy(
        id=strategy.id,
        kind=strategy.kind,
        status=strategy.status,
        account_set=strategy.account_set or desk.account_set,
        params=msgspec.json.encode(strategy.params).decode(),
        instruments=strategy.instruments,
        blind_to=list(BLIND_TO.get(strategy.kind, ()) if strategy.blind_to is None else strategy.blind_to),
    )


def _check_ids(kind: str, ids: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in ids:
        if not name.strip() or name in seen:
            raise Misconfigured(f"{kind} {name!r}: an id must be there, and stand once")
        seen.add(name)
