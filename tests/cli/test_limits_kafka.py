"""What a human types stands on the topic, and an accounts' task that reads it obeys."""

import json

import pytest

from core.runtime import topics
from core.runtime.clock import SystemClock
from core.runtime.flow import Input, Output, TaskContext
from decide.accounts import AccountsTask
from infra.cli.reach import Reach
from infra.cli.tail import Tail, Wish
from infra.mock_cluster import MockCluster
from schemas.decision import Command
from tests.decide.conftest import instrument, link

pytestmark = pytest.mark.mock
RUN = "test-limits"


@pytest.fixture(scope="module")
def kafka():
    with MockCluster() as cluster:
        cluster.create_run(RUN, 1)
        yield cluster


@pytest.fixture
def type_(kafka, typed_at):
    """Run a command as `ann` and return (exit code, what it printed)."""
    type_ = typed_at(kafka, RUN)

    def typed(*arguments: str) -> tuple[int, str]:
        by = [] if arguments[:2] == ("limits", "show") else ["--by", "ann", "--why", "a test"]
        return type_(*arguments, *by)

    return typed


def obeyed() -> AccountsTask:
    """A task that has read the topic of limits."""
    task = AccountsTask(TaskContext(incarnation=1))
    told = Tail(Reach.load(RUN), Wish(topics.DECISION_LIMIT, "beginning")).records()
    for offset, (_, _, record) in enumerate(told):
        list(task.handle(Input(record, "decision.account", 0, offset, "", offset + 1)))
    return task


def test_commands_become_records_that_accounts_obey(type_):
    first = [
        "state=RUNNING",
        "order_notional_max=100",
        "market_notional_max=1000",
        "open_sagas_max=5",
        "unwind_budget=2",
    ]
    assert type_("limits", "set", *first, "day_loss_halt=50", "two_people=yes")[0] == 0
    assert type_("limits", "budget", "event", "*", "worst_loss_max=20")[0] == 0
    accounts = obeyed()._sets["main"]
    assert accounts.limit.day_loss_halt_e6 == 50_000_000
    assert accounts.risk.budgets["EVENT", "*"].worst_loss_max_e6 == 20_000_000
    assert not accounts.is_halted()

    code, said = type_("limits", "set", "day_loss_halt=60")
    assert code == 2
    assert "--approved-by" in said
    assert type_("limits", "set", "day_loss_halt=60", "--approved-by", "bob")[0] == 0
    assert obeyed()._sets["main"].limit.day_loss_halt_e6 == 60_000_000

    assert type_("halt")[0] == 0
    assert type_("reduce", "--part", "strategy:arb")[0] == 0
    accounts = obeyed()._sets["main"]
    assert accounts.is_halted()
    assert accounts.risk.standing(("STRATEGY", "arb")).state == "REDUCING"
    assert accounts.risk.whole(accounts.limit).cause == "COMMAND of ann: a test"

    told = json.loads(type_("limits", "show", "--json")[1])
    assert told["limit"]["approved_by"] == "bob"
    assert [(one["scope"], one["state"]) for one in told["commands"]] == [("SET", "HALTED"), ("STRATEGY", "REDUCING")]
    assert "worst_loss_max 20.00 $" in type_("limits", "show")[1]

    assert type_("resume")[0] == 0
    assert not obeyed()._sets["main"].is_halted()
    assert all(isinstance(one, Command) for one in obeyed()._sets["main"].risk.commands.values())


def test_resuming_says_when_the_limit_itself_stands_in_the_way(type_):
    assert type_("limits", "set", "state=REDUCING")[0] == 0
    code, said = type_("resume")
    assert code == 0
    assert "limits set state=RUNNING" in " ".join(said.split())


def test_a_budget_of_its_own_begins_as_that_of_each_and_is_not_raised_by_one_person(type_):
    assert type_("limits", "budget", "strategy", "*", "notional_max=100", "day_loss_max=10")[0] == 0
    code, said = type_("limits", "budget", "strategy", "arb", "notional_max=200")
    assert code == 2
    assert "notional_max_e6 would allow more" in " ".join(said.split())
    assert type_("limits", "budget", "strategy", "arb", "notional_max=50")[0] == 0
    own = obeyed()._sets["main"].risk.budgets["STRATEGY", "arb"]
    assert (own.notional_max_e6, own.day_loss_max_e6) == (50_000_000, 10_000_000)


def test_a_budget_of_an_event_is_held_against_that_of_the_event_it_is_joined_to(type_):
    records = [instrument("kalshi:A", event_group="E1"), instrument("polymarket:B", event_group="E2")]
    told = [Output(topics.MARKET_INSTRUMENT, one.instrument, one) for one in records]
    joins = link(instrument_a="kalshi:A", instrument_b="polymarket:B")
    Reach.load(RUN).publish([*told, Output(topics.DECISION_LINK, joins.id, joins)], SystemClock())
    assert type_("limits", "budget", "event", "E2", "worst_loss_max=5")[0] == 0
    code, said = type_("limits", "budget", "event", "E1", "worst_loss_max=15")
    assert code == 2
    assert "worst_loss_max_e6 would allow more" in " ".join(said.split())
    assert type_("limits", "budget", "event", "E1", "worst_loss_max=4")[0] == 0
    assert type_("limits", "budget", "event", "E3", "worst_loss_max=15")[0] == 0
