"""Levels of pressure: up at once, down after a while, said once per change. Queues: named, bounded, seen."""

import gc

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest

from core.domain.errors import Misconfigured
from core.runtime import metrics, queues
from core.runtime.pressure import LEVELS, Pressure, PressureLimits, Progress, worst
from core.runtime.settings import WorkerSettings, load

LIMITS = PressureLimits()


def pressure(*, conflates=True, partition="0"):
    return Pressure(
        stage="decide",
        reader="strategies",
        partition=partition,
        limits=LIMITS,
        name="demo.decide.strategies",
        advice="add replicas with `crossbook scale strategies N`",
        conflates=conflates,
    )


def gauge(partition="0"):
    return metrics.REGISTRY.get_sample_value(
        "worker_pressure", {"stage": "decide", "reader": "strategies", "partition": partition}
    )


@pytest.mark.parametrize(
    ("lag_s", "level"),
    [(0.0, "calm"), (0.09, "calm"), (0.1, "busy"), (0.25, "conflating"), (1.0, "behind"), (9.0, "behind")],
)
def test_a_level_rises_at_once(lag_s, level):
    told = pressure()
    assert told.observe(lag_s, 0.0) == level
    assert gauge() == LEVELS.index(level)


def test_what_cannot_conflate_is_busy_until_it_is_behind():
    told = pressure(conflates=False)
    assert told.observe(0.9, 0.0) == "busy"
    assert told.observe(1.0, 0.1) == "behind"
    assert not told.sheds


def test_a_level_falls_only_after_the_lag_was_small_for_a_while():
    told = pressure()
    told.observe(0.3, 0.0)
    assert told.observe(0.0, 1.0) == "conflating"
    assert told.observe(0.06, 1.5) == "conflating"
    assert told.observe(0.0, 1.6) == "conflating"
    assert told.observe(0.0, 2.5) == "conflating"
    assert told.observe(0.0, 2.6) == "calm"
    assert gauge() == 0


def test_behind_falls_to_conflating_while_the_lag_is_not_small():
    told = pressure()
    told.observe(2.0, 0.0)
    told.observe(0.2, 1.0)
    assert told.observe(0.2, 2.0) == "conflating"


def test_a_lag_that_is_small_because_much_is_left_out_takes_longer_to_be_trusted():
    told = pressure()
    told.observe(0.3, 0.0)
    for tenth in range(10, 59):
        assert told.observe(0.0, tenth / 10, strained=True) == "conflating"
    assert told.observe(0.0, 6.0, strained=True) == "calm"


@settings(max_examples=200)
@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0.001, 0.4)), max_size=60), st.booleans())
def test_no_level_is_left_downwards_sooner_than_its_dwell_or_held_below_the_lag(steps, conflates):
    told, now_s, changed_s = pressure(conflates=conflates), 0.0, 0.0
    small_since_s = None
    for lag_s, pause_s in steps:
        now_s += pause_s
        before = told.level
        level = told.observe(lag_s, now_s)
        if lag_s >= LIMITS.behind_s:
            assert level == "behind"
        elif conflates and lag_s >= LIMITS.conflate_s:
            assert level in {"conflating", "behind"}
        if LEVELS.index(level) < LEVELS.index(before):
            assert now_s - changed_s >= LIMITS.calm_after_s
        if level != before:
            changed_s = now_s
        if lag_s < LIMITS.calm_s:
            small_since_s = now_s if small_since_s is None else small_since_s
            if now_s - small_since_s > 2 * LIMITS.calm_after_s + 0.5:
                assert level == "calm"
        else:
            small_since_s = None


def test_a_change_is_said_once_with_what_to_do():
    with structlog.testing.capture_logs() as said:
        told = pressure(partition="2")
        for tenth in range(5):
            told.observe(1.2, tenth / 10)
        for tenth in range(5, 30):
            told.observe(0.0, tenth / 10)
    assert [entry["reason"] for entry in said] == [
        "lag 1.2 s on demo.decide.strategies [2]: behind; add replicas with `crossbook scale strategies N`",
        "demo.decide.strategies [2] keeps up again",
    ]


def test_a_gauge_goes_with_the_partition():
    told = pressure(partition="7")
    told.observe(2.0, 0.0)
    assert gauge("7") == 3
    told.close()
    assert gauge("7") is None
    told.close()


def test_the_worst_of_no_levels_is_calm():
    assert worst([]) == "calm"
    assert worst(["busy", "behind", "calm"]) == "behind"


def test_lag_is_the_age_of_what_is_in_hand():
    assert Progress().lag_s(5_000_000_000) == 0.0
    assert Progress(since_ns=3_000_000_000).lag_s(5_000_000_000) == 2.0
    assert Progress(since_ns=6_000_000_000).lag_s(5_000_000_000) == 0.0


def test_limits_come_from_settings_in_seconds_and_must_rise(monkeypatch):
    monkeypatch.setenv("CROSSBOOK_PRESSURE_BEHIND_MS", "3000")
    limits = PressureLimits.of(load(WorkerSettings))
    assert (limits.conflate_s, limits.behind_s) == (0.25, 3.0)
    assert limits.patient(0.5).behind_s == 3.5
    monkeypatch.setenv("CROSSBOOK_PRESSURE_BEHIND_MS", "200")
    with pytest.raises(Misconfigured, match="must rise"):
        load(WorkerSettings)


def test_a_bounded_dict_forgets_what_was_written_longest_ago_and_counts_it():
    memory = queues.NewestDict("test memory", 2)
    memory["a"], memory["b"] = 1, 2
    memory["a"] = 3
    memory["c"] = 4
    assert list(memory) == ["a", "c"]
    assert (memory["a"], memory.get("b"), "c" in memory, len(memory)) == (3, None, True, 2)
    assert memory.pop("a") == 3
    assert memory.pop("a") is None
    labels = {"queue": "test memory", "did": "forgot the oldest"}
    assert metrics.REGISTRY.get_sample_value("queue_at_bound_total", labels) == 1


def test_queues_of_one_name_are_added_up_and_go_with_their_owners():
    here, there = queues.NewestDict("test pair", 10), queues.NewestDict("test pair", 10)
    here["a"], there["b"], there["c"] = 1, 2, 3
    assert queues.depths()["test pair"] == (3, 20)
    shown = generate_latest(metrics.REGISTRY).decode()
    assert 'queue_depth{queue="test pair"} 3.0' in shown
    assert 'queue_bound{queue="test pair"} 20.0' in shown
    del there
    gc.collect()
    assert queues.depths()["test pair"] == (1, 10)
