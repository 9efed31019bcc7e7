"""Records of limits, budgets and commands, from what a human types. Pure; who and why are said with each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast, get_args

import msgspec

from core.domain.errors import Misconfigured, NotExact, Reject
from core.domain.units import CENT_E4, MONEY_EXP, from_fixed, to_fixed
from decide.risk import allows_more, is_signed
from schemas.decision import Budget, Command, Limit
from schemas.enums import Scope, TradingState

NONE = "none"
UNLIMITED = -1
MONEY = "_e6"
SCOPES: Mapping[str, Scope] = {
    "strategy": "STRATEGY",
    "event": "EVENT",
    "category": "CATEGORY",
    "venue": "VENUE",
    "shard": "SHARD",
    "instrument": "INSTRUMENT",
}
LIMIT_FIGURES = (
    "order_notional_max_e6",
    "market_notional_max_e6",
    "open_sagas_max",
    "unwind_budget_e6",
    "day_loss_reduce_e6",
    "day_loss_halt_e6",
    "silence_reduce_ms",
    "silence_halt_ms",
    "heal_max_e6",
)
ALWAYS = frozenset(LIMIT_FIGURES[:4])
"""These are never without limit."""
BUDGET_FIGURES: Mapping[str, frozenset[Scope]] = {
    "notional_max_e6": frozenset(SCOPES.values()),
    "worst_loss_max_e6": frozenset({"EVENT"}),
    "day_loss_max_e6": frozenset({"STRATEGY"}),
    "orders_per_min": frozenset({"VENUE"}),
    "orders_burst": frozenset({"VENUE"}),
}


@dataclass(frozen=True)
class Signed:
    """Who says something, who agrees, and why."""

    by: str
    approved_by: str
    why: str


@dataclass(frozen=True)
class Part:
    """What a budget is for."""

    account_set: str
    scope: Scope
    name: str


def changed_limit(before: Limit | None, account_set: str, texts: Sequence[str], signed: Signed) -> Limit:
    """Return a limit record with figures changed.

    Raises:
        Misconfigured: an unknown name, a value that is none, no reason; a first record that leaves something out; a
            raised limit without a second person where the record before asks for one.
    """
    _check_signed(signed)
    values: dict[str, object] = {} if before is None else msgspec.structs.asdict(before)
    given = _pairs(texts)
    for name, text in given.items():
        if name == "state":
            values[name] = _state(text)
        elif name == "two_people":
            values[name] = _yes(text)
        else:
            known = _figure_named(name, LIMIT_FIGURES)
            values[known] = _value(known, text)
            if known in ALWAYS and values[known] == UNLIMITED:
                raise Misconfigured(f"{known}: {NONE} is not possible; name an amount")
    values |= {"id": account_set, "set_by": signed.by, "approved_by": signed.approved_by, "reason": signed.why}
    missing = sorted(name for name in {*ALWAYS, "state"} if name not in values)
    if missing:
        raise Misconfigured(f"{account_set} has no limit record yet: name {', '.join(missing)} as well")
    after = msgspec.convert(values, Limit, strict=True)
    require_second(before, after, needs_two=before is not None and before.two_people)
    return after


def changed_budget(before: Budget | None, part: Part, texts: Sequence[str], signed: Signed) -> Budget:
    """Return a budget record with figures changed.

    Raises:
        Misconfigured: a figure that its scope does not have, a value that is none, no reason.
    """
    _check_signed(signed)
    values: dict[str, object] = {} if before is None else msgspec.structs.asdict(before)
    for name, text in _pairs(texts).items():
        known = _figure_named(name, tuple(BUDGET_FIGURES))
        if part.scope not in BUDGET_FIGURES[known]:
            fits = ", ".join(sorted(BUDGET_FIGURES[known])).lower()
            raise Misconfigured(f"{known} is a figure of {fits}, not of {part.scope.lower()}")
        values[known] = 0 if known == "orders_burst" and text == NONE else _value(known, text)
    values |= {
        "id": f"{part.account_set}|{part.scope}|{part.name}",
        "account_set": part.account_set,
        "scope": part.scope,
        "name": part.name,
        "set_by": signed.by,
        "approved_by": signed.approved_by,
        "reason": signed.why,
    }
    return msgspec.convert(values, Budget, strict=True)


def command_of(
    state: TradingState, account_set: str, part: str, signed: Signed, now_ns: int, flatten_cents: int | None = None
) -> Command:
    """Return a command on a whole set (`part` empty) or on `strategy:<id>`, `venue:<name>`, `instrument:<id>`.

    With `flatten_cents` what is held there is sold, at most so far from the best price.

    Raises:
        Misconfigured: another part, or no reason.
    """
    _check_signed(signed)
    scope: Scope = "SET"
    name = ""
    if part:
        word, _, name = part.partition(":")
        scope = scope_named(word)
        if scope not in {"STRATEGY", "VENUE", "INSTRUMENT"} or not name:
            raise Misconfigured(f"part {part!r}: expected strategy:<id>, venue:<name> or instrument:<id>")
    return Command(
        id=f"command|{account_set}|{scope}|{name}",
        account_set=account_set,
        scope=scope,
        name=name,
        state=state,
        flatten_slip_e4=-1 if flatten_cents is None else flatten_cents * CENT_E4,
        set_by=signed.by,
        reason=signed.why,
        ts_ns=now_ns,
    )


def require_second(before: Limit | Budget | None, after: Limit | Budget, *, needs_two: bool) -> None:
    """Refuse to raise what two people must raise.

    Raises:
        Misconfigured: one person would do it.
    """
    raised = allows_more(before, after) if before is not None else []
    if needs_two and raised and not is_signed(after):
        raise Misconfigured(
            f"{', '.join(raised)} would allow more than before: name a second person with --approved-by, "
            f"another than {after.set_by}"
        )


def scope_named(word: str) -> Scope:
    """Return a scope by its word.

    Raises:
        Misconfigured: there is none.
    """
    scope = SCOPES.get(word.lower())
    if scope is None:
        raise Misconfigured(f"{word!r} is no part of an account set: use {', '.join(SCOPES)}")
    return scope


def _check_signed(signed: Signed) -> None:
    if not signed.by.strip() or not signed.why.strip():
        raise Misconfigured("who and why must be said: --by, --why")


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    bad = [name for name, sign, value in pairs if not (name and sign and value)]
    if bad:
        raise Misconfigured(f"{bad[0]!r}: expected name=value, such as day_loss_halt=250")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _figure_named(name: str, known: Sequence[str]) -> str:
    for suffix in ("", MONEY, "_ms"):
        if f"{name}{suffix}" in known:
            return f"{name}{suffix}"
    raise Misconfigured(f"no figure {name!r}: use {', '.join(one.removesuffix(MONEY) for one in known)}")


def _value(name: str, text: str) -> int:
    if text.lower() == NONE:
        return UNLIMITED
    try:
        return to_fixed(text, MONEY_EXP if name.endswith(MONEY) else 0)
    except (NotExact, Reject) as e:
        raise Misconfigured(f"{name}={text}: {e}") from e


def _state(text: str) -> TradingState:
    word = text.upper()
    if word not in set(get_args(TradingState)) - {"UNKNOWN"}:
        raise Misconfigured(f"state={text}: use RUNNING, REDUCING or HALTED")
    return cast("TradingState", word)


def _yes(text: str) -> bool:
    answers: Mapping[str, bool] = {"yes": True, "true": True, "no": False, "false": False}
    if text.lower() not in answers:
        raise Misconfigured(f"two_people={text}: use yes or no")
    return answers[text.lower()]


def amount(name: str, value: int) -> str:
    """Return a figure as people read it."""
    if value == UNLIMITED:
        return NONE
    return f"{from_fixed(value, MONEY_EXP, places_min=2)} $" if name.endswith(MONEY) else str(value)


def figures_of(record: Limit | Budget) -> list[str]:
    """Return all figures of a record as people read them."""
    names = LIMIT_FIGURES if isinstance(record, Limit) else tuple(BUDGET_FIGURES)
    return [f"{name.removesuffix(MONEY)} {amount(name, getattr(record, name))}" for name in names]
