"""`crossbook sagas`: the record that follows from a human's word."""

import pytest

from core.domain.errors import Misconfigured
from infra.cli.app import run
from infra.cli.sagas import ruling_of
from schemas.decision import Saga

NOW_NS = 1_795_000_000 * 10**9


def saga(**changes):
    fields = dict(id="s1", strategy="arb", link="L", account_set="main", state="HOLDING", reason="OVER_BUDGET",
                  now_ns=1, log_partition=0, log_offset=0, recv_ts_ns=1)  # fmt: skip
    return Saga(**{**fields, **changes})


def word(found, action="UNWIND", *, by="ann", why="thin book", budget="2.50", slip="7.5"):
    return ruling_of(found, "s1", action, by, why, budget, slip, NOW_NS)


def test_dollars_and_cents_become_exact_figures():
    record = word(saga())
    assert (record.id, record.saga, record.account_set, record.action) == ("ruling|s1", "s1", "main", "UNWIND")
    assert (record.budget_e6, record.slip_e4) == (2_500_000, 750)
    assert (record.set_by, record.reason, record.ts_ns) == ("ann", "thin book", NOW_NS)


@pytest.mark.parametrize(
    ("found", "changes", "words"),
    [
        (None, {}, "there is none"),
        (saga(state="DONE", reason="FILLED"), {}, "it is DONE FILLED"),
        (saga(state="UNWINDING", reason=""), {}, "it is UNWINDING"),
        (saga(), dict(why=" "), "who decides and why"),
        (saga(), dict(budget="-1"), "plain decimal|0 or more"),
        (saga(), dict(budget="0.0000001"), "plain decimal"),
        (saga(), dict(slip="100"), "less than a dollar"),
        (saga(), dict(slip="x"), "plain decimal"),
    ],
)
def test_word_that_cannot_be_is_refused_by_name(found, changes, words):
    with pytest.raises(Misconfigured, match=words):
        word(found, **changes)


def test_commands_are_there(capsys):
    assert run(["sagas", "--help"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("show", "hold", "unwind"))
