"""What a human enters stands on the topic, accounts make an entry of it once, and `ledger show` lists it."""

import json

import pytest

from core.runtime import topics
from core.runtime.clock import SystemClock
from core.runtime.flow import Input, Output, TaskContext
from decide.accounts import AccountsTask
from infra.cli.reach import Reach
from infra.cli.tail import Tail, Wish
from infra.mock_cluster import MockCluster
from schemas.decision import Entry, Limit, Posting, Profile
from schemas.order import VenueReport

pytestmark = pytest.mark.mock
RUN = "test-ledger"
ACCOUNT = "kalshi:main"
ONE = 1_000_000
PROFILE = Profile(id=ACCOUNT, venue="kalshi", account_set="main", entity="Test", currency="USD")


@pytest.fixture(scope="module")
def kafka():
    with MockCluster() as cluster:
        cluster.create_run(RUN, 1)
        yield cluster


@pytest.fixture
def type_(kafka, typed_at):
    """Run a command and return (exit code, what it printed)."""
    return typed_at(kafka, RUN)


def obeyed():
    """The outputs of a task whose account opened an hour ago, and then read the topic of limits."""
    task, records = AccountsTask(TaskContext(incarnation=1)), []
    opened_ns = SystemClock().now_ns() - 3_600_000_000_000
    opening = VenueReport(
        account=ACCOUNT, as_of_ns=opened_ns, cash_e6=50 * ONE, holdings=[], open_orders=[], ts_ns=opened_ns
    )
    told = [one for _, _, one in Tail(Reach.load(RUN), Wish(topics.DECISION_LIMIT, "beginning")).records()]
    for offset, record in enumerate([PROFILE, opening, *told]):
        now_ns = SystemClock().now_ns()
        records += task.handle(Input(record, "decision.account", 0, offset, "", now_ns))
    return task, records


def test_what_is_entered_becomes_an_entry_once_and_is_shown(type_):
    deposit = ("ledger", "enter", "deposit", "--account", ACCOUNT, "--amount", "100", "--reference", "ach-7")
    signed = ("--by", "ann", "--why", "more to trade with")
    code, said = type_(*deposit, *signed)
    assert code == 2
    assert "no account of main: it has none" in said
    limit = Limit(
        id="main", state="RUNNING", order_notional_max_e6=ONE, market_notional_max_e6=ONE, open_sagas_max=1,
        unwind_budget_e6=0, set_by="a human", reason="test", two_people=True,
    )  # fmt: skip
    Reach.load(RUN).publish(
        [Output(topics.DECISION_PROFILE, PROFILE.id, PROFILE), Output(topics.DECISION_LIMIT, "main", limit)],
        SystemClock(),
    )
    assert "--approved-by" in type_(*deposit, *signed)[1]
    code, said = type_(*deposit, *signed, "--approved-by", "bob")
    assert code == 0
    assert "DEPOSIT 100.00 $ entered by ann" in " ".join(said.split())
    code, said = type_(*deposit, *signed, "--approved-by", "bob")
    assert code == 2
    assert "was entered by ann already" in said
    assert (
        type_("ledger", "enter", "fee", "--account", ACCOUNT, "--amount", "2", *signed, "--approved-by", "bob")[0] == 0
    )

    task, outputs = obeyed()
    entries = [one for one in outputs if isinstance(one.record, Entry)]
    assert [(one.record.kind, one.record.cash_e6) for one in entries] == [
        ("OPENING", 50 * ONE), ("DEPOSIT", 100 * ONE), ("FEE", -2 * ONE),
    ]  # fmt: skip
    assert "ann and bob as ach-7" in entries[1].record.reason
    assert task._sets["main"].ledgers[ACCOUNT].cash_e6 == 148 * ONE

    Reach.load(RUN).publish(entries, SystemClock())
    told = json.loads(type_("ledger", "show", "--json")[1])
    assert [one["kind"] for one in told["entries"]] == ["OPENING", "DEPOSIT", "FEE"]
    assert {one["kind"]: one["cash_e6"] for one in told["sums"]} == {
        "OPENING": 50 * ONE, "DEPOSIT": 100 * ONE, "FEE": -2 * ONE,
    }  # fmt: skip
    assert "100.00" in type_("ledger", "show", "--kind", "deposit")[1]
    assert json.loads(type_("ledger", "show", "--json", "--account", "kalshi:x")[1])["entries"] == []


def test_what_is_dated_before_the_opening_moves_nothing(type_):
    early = ("ledger", "enter", "deposit", "--account", ACCOUNT, "--amount", "9", "--reference", "old", "--at", "-2d")
    assert type_(*early, "--by", "ann", "--approved-by", "bob", "--why", "late paper")[0] == 0
    stated = [one for _, _, one in Tail(Reach.load(RUN), Wish(topics.DECISION_LIMIT, "beginning")).records()]
    assert any(isinstance(one, Posting) and one.id.endswith("|old") for one in stated)
    task, outputs = obeyed()
    assert task._sets["main"].ledgers[ACCOUNT].cash_e6 == 148 * ONE
    assert not any(isinstance(one.record, Entry) and one.record.cash_e6 == 9 * ONE for one in outputs)
