"""Everything the simulated venues can do wrong with orders, answers, private streams and reads of an account, by name.

They come as the faults of market data do (`simulate/faults.py`), and act on the venue as a whole: on every account, or on
the one that `account` names, and on every market, or on the one that `market` names. `count`: how many orders, trades or
requests are struck before the fault is over; it is over after `seconds` in any case.

What the venue's own books say stays true through all of it: `/sim/accounts` is what a client must arrive at.
"""

import random
from typing import Any

from simulate.fault import Fault

ANYBODY: dict[str, Any] = {"account": ""}

ORDER_NAMES: dict[str, Fault] = {
    "accept_then_timeout": Fault(
        "The next `count` requests of one kind (`what`: create or cancel) take effect and their answer is lost: `how` "
        "swallow (the connection stays open without a word), reset (it is cut), 504 (a proxy's page) or 500 (the venue's "
        "own error).",
        "not by the answer: the private stream tells, or a look-up by the order's id.",
        "kalshi.md 4.5 (5xx and timeouts are an unknown outcome), polymarket.md 7.11 (ambiguous submit).",
        seconds=10.0,
        parameters={**ANYBODY, "count": 1, "what": "create", "how": "swallow"},
    ),
    "reject_after_accept": Fault(
        "The next `count` orders are acknowledged as accepted and never reach the book: `delay_ms` later the venue takes "
        "them out (kalshi: canceled, HaltCancel; polymarket: INVALID).",
        "by the private stream, or by a look-up.",
        "polymarket.md 2.8 (INVALID, CANCELED_NOT_ENOUGH_BALANCE after LIVE), kalshi.md 6.13 (resting orders are wiped).",
        seconds=10.0,
        parameters={**ANYBODY, "count": 1, "delay_ms": 200},
    ),
    "partial_fill": Fault(
        "Before each of the next `count` orders that would trade, others are faster: of what it would get, `share` is left.",
        "by the answer.",
        "general: what a book shows is gone when one arrives; kalshi.md 4.5 (IOC), polymarket.md 2.8 (FAK partial).",
        seconds=10.0,
        parameters={**ANYBODY, "count": 1, "share": 0.5},
    ),
    "fill_before_acknowledgement": Fault(
        "For `seconds` answers to orders and cancels leave `delay_ms` late, when the private stream has told all.",
        "by the private stream, which is faster.",
        "polymarket.md 2.8 (UPDATE and trade come in either order), kalshi.md 6.8 (acknowledgements and reads differ).",
        seconds=5.0,
        parameters={**ANYBODY, "delay_ms": 300},
    ),
    "late_fills": Fault(
        "For `seconds` fills and trades are told `delay_ms` late, on the private stream and over REST; the order's own "
        "figure is right at once.",
        "by the order's cumulative figure, which is above the sum of its fills.",
        "kalshi.md 6.8 (the read model lags), polymarket.md 3.2 (trades come seconds after the answer).",
        seconds=5.0,
        parameters={**ANYBODY, "delay_ms": 800},
    ),
    "double_fills": Fault(
        "For `seconds` every private message is sent twice, the same bytes; the second after `delay_ms`.",
        "by the fill's id.",
        "polymarket.md 2.8 (duplicates of one status: nautilus_trader#3450), kalshi.md 6.16 (stale private messages).",
        seconds=5.0,
        parameters={**ANYBODY, "delay_ms": 20},
    ),
    "private_reordered": Fault(
        "For `seconds` private messages are gathered for `window_ms` and sent in the reverse order.",
        "not by a number: there is none. An order's later state stands before an earlier one.",
        "polymarket.md 2.8 (order UPDATE and trade MATCHED in either order: nautilus_trader#3797), kalshi.md 6.16.",
        seconds=5.0,
        parameters={**ANYBODY, "window_ms": 60},
    ),
    "private_silent": Fault(
        "For `seconds` nothing private is sent on any connection; pings are answered. What happened is never sent.",
        "not by the stream, which has no numbers: by REST.",
        "kalshi.md 2.3 and 6.15 (fill and user_order have no seq), polymarket.md 1.4 (PONG answers, no data).",
        seconds=5.0,
        parameters={**ANYBODY},
    ),
    "lagging_reads": Fault(
        "For `seconds` reads of orders, fills, positions and balances say what was true `lag_ms` ago. kalshi: its "
        "user_data_timestamp says so, unless `admits` is false; polymarket has no such time.",
        "kalshi: by user_data_timestamp. polymarket: only by waiting longer than it lags.",
        "kalshi.md 4.5 (resting 360 ms after a cancel) and 4.2 (user_data_timestamp), polymarket.md 3.2 (cached balances).",
        seconds=5.0,
        parameters={**ANYBODY, "lag_ms": 1_000, "admits": True},
    ),
    "order_429": Fault(
        "A `share` of order and cancel requests is answered 429; none of them takes effect.",
        "at once.",
        "kalshi.md 4.8, polymarket.md 3.4 (per-signer buckets).",
        seconds=4.0,
        parameters={**ANYBODY, "share": 1.0},
    ),
    "order_5xx": Fault(
        "A `share` of order and cancel requests is answered with one of `statuses`; with `takes_effect` they were done.",
        "at once, but not whether it was done.",
        "kalshi.md 4.5 (EXCHANGE_UNAVAILABLE and 5xx are unknown outcomes), polymarket.md 3.3 (500, 503) and 7.11.",
        seconds=4.0,
        parameters={**ANYBODY, "share": 1.0, "statuses": [500, 502, 503, 504], "takes_effect": False},
    ),
    "order_425": Fault(
        "The matching engine restarts: new orders are answered 425 for `seconds`, then, for `post_only_s`, 503 "
        "post_only_mode unless they are post-only. Cancels work throughout.",
        "at once.",
        "polymarket.md 6 (425 for about 90 s, then post-only mode with retry_after_seconds).",
        seconds=4.0,
        parameters={**ANYBODY, "post_only_s": 2.0},
        venues=("polymarket",),
    ),
    "settlement_failed": Fault(
        "The next `count` trades do not settle as usual: `how` failed (MATCHED, RETRYING, FAILED: money and tokens go "
        "back), retrying (MINED, RETRYING, MINED, CONFIRMED) or ghost (FAILED without a word on the stream, over REST only).",
        "by the trade's status.",
        "polymarket.md 2.8 (RETRYING, FAILED; ghost fills: py-clob-client-v2#34).",
        seconds=10.0,
        parameters={**ANYBODY, "count": 1, "how": "failed"},
        venues=("polymarket",),
    ),
    "taker_delay": Fault(
        "For `seconds` every order that would trade is held `delay_ms` (status delayed, it cannot be cancelled), then "
        "matches or rests.",
        "by the answer's status.",
        "polymarket.md 5.4 (sports 1 s in play, crypto 150 ms).",
        seconds=5.0,
        parameters={**ANYBODY, "delay_ms": 400},
        venues=("polymarket",),
    ),
    "trading_paused": Fault(
        "For `seconds` orders are answered 409 trading_is_paused; cancels work, what rests stays.",
        "at once.",
        "kalshi.md 4.2 (trading pause) and 4.5 (409).",
        seconds=4.0,
        parameters={**ANYBODY},
        venues=("kalshi",),
    ),
}

CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "accept_then_timeout": {"what": ("create", "cancel"), "how": ("swallow", "reset", "504", "500")},
    "settlement_failed": {"how": ("failed", "retrying", "ghost")},
}
"""Parameters that take one of a few words."""


def draw(name: str, rng: random.Random) -> dict[str, Any]:
    """Return parameters that vary from time to time; the rest keep their defaults."""
    fault = ORDER_NAMES[name]
    drawn: dict[str, Any] = {"seconds": round(fault.seconds * rng.uniform(0.5, 1.25), 2)}
    drawn |= {key: rng.choice(words) for key, words in CHOICES.get(name, {}).items()}
    if drawn.get("how") == "ghost":
        # Nobody hears of it before he asks, long after: the run that was drawn may have ended.
        drawn["how"] = "failed"
    if "count" in fault.parameters:
        drawn["count"] = rng.randint(1, 3)
    for key, low, high in (("delay_ms", 20, 900), ("lag_ms", 300, 2_000), ("window_ms", 20, 200)):
        if key in fault.parameters:
            drawn[key] = rng.randint(low, high)
    if "share" in fault.parameters:
        drawn["share"] = rng.choice([0.0, 0.3, 0.7]) if name == "partial_fill" else rng.choice([0.5, 1.0])
    if name == "order_5xx":
        drawn["takes_effect"] = rng.random() < 0.5
    return drawn
