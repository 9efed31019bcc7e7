"""PostgreSQL's accounts against the venues' own books at the end of a demo."""

import pytest

from infra.chaos.watch import worker_name
from infra.demo import cast
from infra.demo.desk import differences
from observe.accounts import AccountLine

TOKENS = {"t1": ("polymarket:M", "YES"), "t2": ("polymarket:M", "NO")}


def venues():
    return {
        "kalshi": [
            {"account": "main", "cash_e6": 90, "fees_e6": 3, "cash_start_e6": 100, "positions": {"K": {"size_e6": -5}}}
        ],
        "polymarket": [
            {"account": "main", "cash_e6": 50, "fees_e6": 0, "cash_start_e6": 60, "tokens": {"t1": 7, "t2": 0}}
        ],
    }


def lines():
    kalshi = AccountLine("kalshi:main", None, 90, 90, 100, fees_e6=3, holdings={("kalshi:K", "YES"): -5})
    polymarket = AccountLine("polymarket:main", None, 50, 50, 60, holdings={("polymarket:M", "YES"): 7})
    return {line.account: line for line in (kalshi, polymarket)}


def test_equal_accounts_differ_in_nothing():
    assert differences(lines(), venues(), "main", TOKENS) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda ours: setattr(ours["kalshi:main"], "our_cash_e6", 91),
            "kalshi:main cash: PostgreSQL 91, the venue's 90",
        ),
        (lambda ours: setattr(ours["kalshi:main"], "fees_e6", 4), "kalshi:main fees: PostgreSQL 4, the venue's 3"),
        (
            lambda ours: ours["polymarket:main"].holdings.update({("polymarket:M", "NO"): 1}),
            "polymarket:main polymarket:M NO: PostgreSQL 1, the venue's 0",
        ),
        (
            lambda ours: ours["kalshi:main"].holdings.clear(),
            "kalshi:main kalshi:K YES: PostgreSQL 0, the venue's -5",
        ),
        (lambda ours: ours.pop("kalshi:main"), "kalshi:main: PostgreSQL has no report of it"),
    ],
    ids=["cash", "fees", "a token too many", "a position missing", "no account"],
)
def test_each_unit_that_differs_is_told(change, told):
    ours = lines()
    change(ours)
    assert differences(ours, venues(), "main", TOKENS) == [told]


def test_chaos_tells_the_desk_from_the_other_sink():
    assert worker_name("observe", "postgres") == cast.DESK.name
    assert worker_name("observe", "questdb") == "observe"
