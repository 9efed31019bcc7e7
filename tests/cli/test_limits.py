"""`crossbook limits` and the commands: the records that follow from what a human types."""

import pytest

from core.domain.errors import Misconfigured
from infra.cli.app import run
from infra.cli.limits_desk import Part, Signed, amount, changed_budget, changed_limit, command_of, require_second
from schemas.decision import Budget, Limit

ONE = 1_000_000
FIRST = ["state=RUNNING", "order_notional_max=100", "market_notional_max=1000", "open_sagas_max=5", "unwind_budget=2.5"]
ANN = Signed("ann", "", "first week")


def limit(**changes):
    made = changed_limit(None, "main", FIRST, ANN)
    return Limit(**{**{name: getattr(made, name) for name in made.__struct_fields__}, **changes})


def test_a_first_record_needs_what_every_set_needs_and_limits_nothing_else():
    made = limit()
    assert (made.id, made.state, made.unwind_budget_e6, made.open_sagas_max) == ("main", "RUNNING", 2_500_000, 5)
    assert (made.day_loss_halt_e6, made.silence_halt_ms, made.heal_max_e6, made.two_people) == (-1, -1, -1, False)
    assert (made.set_by, made.reason) == ("ann", "first week")
    with pytest.raises(Misconfigured, match="unwind_budget_e6 as well"):
        changed_limit(None, "main", FIRST[:-1], ANN)


def test_what_is_not_named_stays():
    after = changed_limit(
        limit(), "main", ["day_loss_halt=250.00", "silence_halt=5000"], Signed("bob", "", "second week")
    )
    assert (after.day_loss_halt_e6, after.silence_halt_ms) == (250 * ONE, 5_000)
    assert after.order_notional_max_e6 == 100 * ONE
    assert (after.set_by, after.reason) == ("bob", "second week")
    assert changed_limit(after, "main", ["day_loss_halt=none"], ANN).day_loss_halt_e6 == -1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("day_loss_halt", "name=value"),
        ("day_los_halt=5", "no figure"),
        ("day_loss_halt=1e3", "plain decimal"),
        ("day_loss_halt=-5", "plain decimal"),
        ("day_loss_halt=0.00000001", "finer"),
        ("order_notional_max=none", "not possible"),
        ("state=OFF", "RUNNING, REDUCING or HALTED"),
        ("two_people=2", "yes or no"),
    ],
)
def test_a_figure_that_cannot_be_is_refused_by_name(text, words):
    with pytest.raises(Misconfigured, match=words):
        changed_limit(limit(), "main", [text], ANN)


def test_a_raised_limit_needs_a_second_person_where_the_record_says_so():
    both = limit(two_people=True)
    with pytest.raises(Misconfigured, match="open_sagas_max would allow more"):
        changed_limit(both, "main", ["open_sagas_max=6"], ANN)
    with pytest.raises(Misconfigured, match="another than ann"):
        changed_limit(both, "main", ["open_sagas_max=6"], Signed("ann", "ann", "why"))
    assert changed_limit(both, "main", ["open_sagas_max=6"], Signed("ann", "bob", "why")).approved_by == "bob"
    assert changed_limit(both, "main", ["open_sagas_max=4"], ANN).open_sagas_max == 4
    with pytest.raises(Misconfigured, match="two_people"):
        changed_limit(both, "main", ["two_people=no"], ANN)


def test_a_budget_has_the_figures_of_its_scope():
    part = Part("main", "EVENT", "*")
    made = changed_budget(None, part, ["worst_loss_max=100", "notional_max=none"], ANN)
    assert (made.id, made.worst_loss_max_e6, made.notional_max_e6) == ("main|EVENT|*", 100 * ONE, -1)
    with pytest.raises(Misconfigured, match="orders_per_min is a figure of venue"):
        changed_budget(None, part, ["orders_per_min=5"], ANN)
    with pytest.raises(Misconfigured, match="notional_max_e6 would allow more"):
        require_second(
            Budget(id="b", account_set="main", scope="EVENT", name="*", set_by="a", reason="r", notional_max_e6=5),
            made,
            needs_two=True,
        )


@pytest.mark.parametrize(
    ("part", "expected"),
    [("", ("SET", "")), ("strategy:arb", ("STRATEGY", "arb")), ("instrument:kalshi:KX-1", ("INSTRUMENT", "kalshi:KX-1"))],
)  # fmt: skip
def test_a_command_names_its_part(part, expected):
    made = command_of("HALTED", "main", part, ANN, 7)
    assert (made.scope, made.name) == expected
    assert (made.id, made.ts_ns) == (f"command|main|{expected[0]}|{expected[1]}", 7)
    assert made.flatten_slip_e4 == -1
    assert command_of("REDUCING", "main", part, ANN, 7, 3).flatten_slip_e4 == 300


def test_a_command_and_a_budget_of_one_part_do_not_displace_each_other():
    # Both stand on a compacted topic under their ids.
    budget = changed_budget(None, Part("main", "STRATEGY", "arb"), ["notional_max=5"], ANN)
    assert budget.id != command_of("HALTED", "main", "strategy:arb", ANN, 7).id


@pytest.mark.parametrize("part", ["arb", "event:x", "strategy:"])
def test_a_command_on_what_cannot_be_stopped_is_refused(part):
    with pytest.raises(Misconfigured):
        command_of("HALTED", "main", part, ANN, 7)


def test_who_and_why_must_be_said():
    with pytest.raises(Misconfigured, match="--why"):
        command_of("HALTED", "main", "", Signed("ann", "", " "), 7)


def test_amounts_read_as_money_counts_and_none():
    assert amount("day_loss_halt_e6", -1) == "none"
    assert amount("day_loss_halt_e6", 2_500_000) == "2.50 $"
    assert amount("silence_halt_ms", 5_000) == "5000"


@pytest.mark.parametrize(
    "arguments",
    [
        ["limits", "show"],
        ["limits", "set", "day_loss_halt=5", "--why", "x"],
        ["limits", "budget", "venue", "*", "notional_max=5", "--why", "x"],
        ["halt", "--why", "x"],
        ["reduce", "--why", "x"],
        ["resume", "--why", "x"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_without_kafka_each_says_what_to_do_in_one_line(arguments, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("CROSSBOOK_STACK_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("CROSSBOOK_BOOTSTRAP", "127.0.0.1:1")
    assert run(arguments) == 2
    assert "crossbook up" in capsys.readouterr().err
