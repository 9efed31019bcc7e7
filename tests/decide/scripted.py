"""Venues that answer grants by a script, in whatever order and however often we hear of it, and what is right at the end."""

import random

from hypothesis import strategies as st

from schemas import order
from schemas.decision import Grant, Ledger, Saga
from tests.decide.conftest import settled, submitting, update

seeds = st.integers(0, 2**32)
ONE = 1_000_000
OPENING = 1_000 * ONE
STATUSES = ("CANCELLED", "REJECTED", "EXPIRED_UNSENT", "EXPIRED")


class Venues:
    """Answers grants by a script that looks at intent, leg and attempt only, never at ids or time."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.fills: list[order.Fill] = []
        self.failed: set[str] = set()

    def answer(self, grant: Grant, now_ns: int) -> list[list]:
        """Return what the gateway says of a grant: lists of records, each list in its order."""
        dice = random.Random(f"{self._seed}/{grant.intent}/{grant.leg}/{grant.attempt}")
        tenths = dice.choice([0, 0, 3, 5, 10, 10, 10])
        filled = grant.size // 10_000 * tenths // 10 * 10_000
        fills = []
        left = filled
        while left > 0:
            part = left if len(fills) == 2 else dice.randrange(10_000, left + 1, 10_000)
            fills.append(self._fill(grant, dice, part, len(fills), now_ns))
            left -= part
        self.fills += fills
        status = "FILLED" if filled == grant.size else dice.choice(STATUSES[:1] if filled else STATUSES)
        updates = [submitting(grant, now_ns)]
        if dice.random() < 0.3:
            updates.append(update(grant, "OUTCOME_UNKNOWN", 0, now_ns))
        if dice.random() < 0.5 and status not in {"REJECTED", "EXPIRED_UNSENT"}:
            updates.append(update(grant, "ACCEPTED", sum(fill.size for fill in fills[:1]), now_ns))
        updates.append(update(grant, status, filled, now_ns))
        ends = []
        for fill in fills if grant.account.startswith("polymarket") else ():
            word = "FAILED" if dice.random() < 0.15 else "CONFIRMED"
            if word == "FAILED":
                self.failed.add(fill.fill)
            ends.append([settled(grant, fill.fill, word, now_ns)])
        return [updates, *([fill] for fill in fills), *ends]

    def _fill(self, grant: Grant, dice: random.Random, size: int, number: int, now_ns: int) -> order.Fill:
        better = 100 * dice.randrange(0, 4) * (-1 if grant.side == "BUY" else 1)
        yes = min(max(grant.price + better, 100), 9_900)
        token = 10_000 - yes if grant.outcome == "NO" else yes
        name = f"{grant.intent}/{grant.leg}/{grant.attempt}/{number}"
        return order.Fill(
            event_id=f"f/{name}",
            order=grant.id,
            account=grant.account,
            instrument=grant.instrument,
            fill=name,
            # As the gateways say it: Kalshi's fills are of YES, Polymarket's of the token.
            outcome="YES" if grant.outcome == "NONE" else grant.outcome,
            token_side=grant.token_side,
            size=size,
            price_e6=token * 100,
            notional_e6=size * token // 10_000,
            fee_e6=dice.randrange(0, 5_000),
            asset="USD",
            liquidity="TAKER",
            settlement="MATCHED" if grant.account.startswith("polymarket") else "CONFIRMED",
            ts_ns=now_ns,
            recv_ts_ns=now_ns,
        )


def intents(make, now_ns):
    """Both directions, so that positions net; different strategies, so that they run side by side."""
    buy = [make.leg(make.POLY, "BUY", [(4_000, 10 * ONE)]), make.leg(make.KALSHI, "SELL", [(5_000, 10 * ONE)])]
    sell = [make.leg(make.POLY, "SELL", [(6_500, 20 * ONE)]), make.leg(make.KALSHI, "BUY", [(4_200, 20 * ONE)])]
    deeper = [make.leg(make.POLY, "BUY", [(3_900, 15 * ONE)]), make.leg(make.KALSHI, "SELL", [(4_800, 15 * ONE)])]
    return [
        make.intent(id=f"intent-{number}", strategy=f"arb-{number}", now_ns=now_ns, recv_ts_ns=now_ns, legs=legs)
        for number, legs in enumerate((buy, sell, deeper))
    ]


def run(make, seed: int, *, shuffle: int, copies: float, start=None, wanted=intents):
    """Let the venues answer until nothing is open; `shuffle` orders what is heard, `copies` repeats it."""
    log = start(make, cash=OPENING) if start is not None else make.accounts().start(cash=OPENING)
    venues, dice = Venues(seed), random.Random(shuffle)
    heard = []
    for part in wanted(make, log.now_ns):
        answered = len(log.all(Grant))
        # One intent, or what makes some that run side by side, of the time at which they are made.
        pending = [[intent] for intent in part(log.now_ns)] if callable(part) else [[part]]
        for _ in range(400):
            pending = [records for records in pending if records]
            if not pending:
                log.clock(100)
                for account in ("kalshi:main", "polymarket:main"):
                    log.alive(account)
                if len(log.all(Grant)) == answered:
                    if all(saga.state in {"REFUSED", "DONE", "HOLDING"} for saga in newest(log, Saga)):
                        break
                    continue
            else:
                record = dice.choice(pending).pop(0)
                log.feed(record)
                heard.append(record)
                while dice.random() < copies:
                    log.feed(dice.choice(heard))
            for grant in log.all(Grant)[answered:]:
                pending += venues.answer(grant, log.now_ns)
            answered = len(log.all(Grant))
        else:
            raise AssertionError("the sagas do not come to an end")
    return log, venues


def newest(log, kind):
    return list({record.id: record for record in log.all(kind)}.values())


def money(log):
    return {
        record.id: (record.cash_e6, record.reserved_e6, record.fees_e6, record.size) for record in newest(log, Ledger)
    }


def stated(venues) -> dict[str, tuple[int, int, int, int]]:
    """What the venues' own books say: flows summed, each short contract holding back a dollar."""
    cash, fees, held = {"kalshi:main": OPENING, "polymarket:main": OPENING}, {}, {}
    for fill in venues.fills:
        if fill.fill in venues.failed:
            continue
        buys = fill.token_side == "BUY"
        cash[fill.account] += (-fill.notional_e6 if buys else fill.notional_e6) - fill.fee_e6
        fees[fill.account] = fees.get(fill.account, 0) + fill.fee_e6
        key = f"{fill.account}|{fill.instrument}|{fill.outcome}"
        held[key] = held.get(key, 0) + (fill.size if buys else -fill.size)
    for key, size in held.items():
        if key.startswith("kalshi") and size < 0:
            cash["kalshi:main"] += size
    accounts = {name: (amount, 0, fees.get(name, 0), 0) for name, amount in cash.items()}
    return {**accounts, **{key: (0, 0, 0, size) for key, size in held.items() if size}}


def exposure(log, grants, leg):
    failed = {
        item.record.fill
        for item in log.items
        if isinstance(item.record, order.Settled) and item.record.settlement == "FAILED"
    }
    fills = {item.record.fill: item.record for item in log.items if isinstance(item.record, order.Fill)}
    total = 0
    for fill in fills.values():
        grant = grants.get(fill.order)
        if grant is not None and grant.leg == leg and fill.fill not in failed:
            total += -fill.size if grant.purpose == "UNWIND" else fill.size
    return total


def check_money(log, venues):
    """Check that accounts hold what the venues state, that nothing stays reserved and no order was granted twice."""
    counted = {name: figures for name, figures in money(log).items() if figures != (0, 0, 0, 0)}
    assert counted == stated(venues)
    assert log.task.reserved_e6() == 0
    granted = [(grant.intent, grant.leg, grant.attempt) for grant in log.all(Grant)]
    assert len(set(granted)) == len(granted)


def check_standing(log, *, apart=()):
    """Check that what is done stands equally on all legs and that what does not is held and said.

    Args:
        apart: sagas of which this is not asked: they reduce what others hold.
    """
    for saga in newest(log, Saga):
        grants = {grant.id: grant for grant in log.all(Grant) if grant.intent == saga.id}
        if saga.state == "REFUSED":
            assert not grants
            continue
        if saga.id in apart:
            continue
        stands = [exposure(log, grants, leg) for leg in range(len(saga.standing_e6))]
        assert saga.standing_e6 == stands
        if saga.state == "DONE":
            assert len(set(stands)) == 1
        else:
            assert saga.state == "HOLDING"
            assert saga.reason in {"ATTEMPTS", "OVER_BUDGET", "BELOW_MINIMUM", "OVERSOLD"}
