"""The report and the page of a small story: good is good, and anything wrong is not."""

import json
from collections import Counter

import pytest

from infra.chaos import report, trust, truth
from infra.chaos.conservation import FrameCount
from infra.chaos.hands import Done
from infra.chaos.plan import Act
from infra.chaos.report import Story
from infra.chaos.watch import Look

VERDICT = {
    "detail": {"rows": 10, "fills": 2, "lost": {}, "duplicated": {}, "account_differences": [], "lost_rows": []},
    "orders": {"kalshi": {"open": 0}},
    "topics": {"raw.frame": 5},
    "unknown_outcomes": 1,
    "orders_by_strategy": {"momentum": {"sent": 1}},
    "reservations_leaked": 0,
    "budgets_exceeded": 0,
    "stops": 0,
}


def story(**changes):
    acts = [Act(1.0, "fault", "kalshi", "gap"), Act(2.0, "kill", "derive"), Act(3.0, "freeze", "observe", "", 2.0)]
    done = [Done(act, int((100 + act.at_s) * 1e9), 7) for act in acts]
    done[0].felt_s, done[1].felt_s = 0.5, 3.25
    looks = [Look(100 + n, {"derive": (7,)}, {"derive": n / 2}, {"derive": 5.0 * n}, 4 - n % 2, 4) for n in range(10)]
    fields = dict(
        run="demo-chaos", seeds=(1,), brokers=1, plan=acts, done=done, begin_s=100.0, end_s=110.0, looks=looks,
        recovery_s={
            "gap": {"n": 1, "unnoticed": 0, "p50": 0.5, "p99": 0.5, "max": 0.5},
            "kill derive": {"n": 1, "unnoticed": 0, "p50": 3.25, "p99": 3.25, "max": 3.25},
            "freeze observe": {"n": 0, "unnoticed": 1},
        },
        causes={"gap": 2}, usable_share=0.9, truth=truth.Outcome(checked=100), trust=trust.Outcome(orders=3),
        frames={"kalshi": FrameCount(sent=5, kept=5)}, errors={}, verdict=VERDICT,
    )  # fmt: skip
    return Story(**(fields | changes))


def test_the_plans_of_several_seeds_are_named_together(tmp_path):
    told = report.write(story(seeds=(1, 2, 3)), tmp_path / "chaos.json", tmp_path / "chaos.html")
    assert (told["seed"], told["then"]) == (1, [2, 3])
    assert "<h1>Chaos, seeds 1, 2, 3: " in (tmp_path / "chaos.html").read_text()


def test_the_report_has_the_figures_and_everything_behind_them(tmp_path):
    told = report.write(story(), tmp_path / "out" / "chaos.json", tmp_path / "out" / "chaos.html")
    assert json.loads((tmp_path / "out" / "chaos.json").read_text()) == told
    assert (told["faults"], told["kills"], told["freezes"], told["seed"]) == (1, 1, 1, 1)
    assert (told["truth_checked"], told["truth_differences"], told["conservation_errors"]) == (100, 0, 0)
    assert told["recovery_s"]["kill derive"]["p99"] == 3.25
    assert told["good"] is True
    assert told["detail"]["verdict"]["orders_by_strategy"] == {"momentum": {"sent": 1}}
    assert told["detail"]["lag_max"] == {"derive": {"seconds": 4.5, "records": 45.0}}
    assert [event["at_s"] for event in told["detail"]["events"]] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"truth": truth.Outcome(checked=1, differences=1)},
        {"trust": trust.Outcome(errors=1)},
        {"errors": {"rows_lost": 1}},
        {"problems": ["a worker does not answer"]},
        {"truth": truth.Outcome(checked=1_000_000, unknowable=Counter(gap=1))},
        {"truth": truth.Outcome(checked=1_000, unknowable=Counter(gap=4)), "hash_every": 4},
    ],
)
def test_anything_wrong_is_not_good(wrong, tmp_path):
    told = report.write(story(**wrong), tmp_path / "chaos.json", tmp_path / "chaos.html")
    assert told["good"] is False
    assert "not good" in (tmp_path / "chaos.html").read_text()


def test_what_no_reader_could_know_is_told_by_fault_and_bounded_by_how_often_hashes_are_looked_at(tmp_path):
    outcome = truth.Outcome(checked=1_000, unknowable=Counter(reorder=1, gap=2))
    told = report.write(story(truth=outcome, hash_every=4), tmp_path / "chaos.json", tmp_path / "chaos.html")
    assert told["good"] is True
    assert list(told["truth_unknowable"].items()) == [("gap", 2), ("reorder", 1)]
    assert (told["truth_unknowable_share"], told["truth_unknowable_share_max"], told["hash_every"]) == (0.003, 0.003, 4)
    page = (tmp_path / "chaos.html").read_text()
    assert "3 that no reader could know of (gap 2, reorder 1)" in page
    assert "0.300%, at most 0.300% with one hash in 4 looked at" in page


def test_an_act_that_could_not_be_done_is_not_counted():
    one = story()
    one.done[1].problem = "derive has no process"
    assert report.as_json(one)["kills"] == 0


def test_the_page_draws_each_class_escapes_text_and_fetches_nothing(tmp_path):
    report.write(story(problems=["<b> & more"]), tmp_path / "chaos.json", tmp_path / "chaos.html")
    page = (tmp_path / "chaos.html").read_text()
    for label in ("gap", "kill derive", "freeze observe", "books usable", "lag derive"):
        assert f">{label}<" in page
    assert "&lt;b&gt; &amp; more" in page
    assert not any(word in page for word in ("<script", "http://", "https://", "url("))


def test_a_long_run_is_thinned_for_the_picture():
    looks = [Look(float(n), {}, {}, {}, 0, 0) for n in range(5_000)]
    assert len(report.thinned(looks)) <= report.LOOKS_MAX


def test_three_brokers_tell_when_trading_resumed():
    told = report.as_json(story(brokers=3, resumes_s=[1.0, 3.0, 2.0]))
    assert told["trading_resumes_s"] == {"p50": 2.0, "max": 3.0, "n": 3}
