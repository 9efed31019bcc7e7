"""The plan: drawn from the seed alone, with everything in it that five minutes promise."""

import itertools

import pytest

from infra.chaos.plan import FULL_S, STAGES, Act, draw, draw_all, is_heavy, stage_of
from simulate.faults import NAMES

THREE = ("kafka-1", "kafka-2", "kafka-3")


def test_the_same_seed_draws_the_same_plan_and_another_another():
    assert draw(1, 300, ("kafka",)) == draw(1, 300, ("kafka",))
    assert draw(1, 300, ("kafka",)) != draw(2, 300, ("kafka",))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("brokers", [("kafka",), THREE])
def test_five_minutes_hold_every_fault_at_every_venue_and_every_stage_and_server(seed, brokers):
    plan = draw(seed, FULL_S, brokers)
    faults = [(act.name, act.target) for act in plan if act.kind == "fault"]
    killed = [act.target for act in plan if act.kind == "kill"]
    frozen = [act.target for act in plan if act.kind == "freeze"]
    assert len(faults) >= 40
    assert len(killed) >= 15
    assert set(faults) == {(name, venue) for name, fault in NAMES.items() for venue in fault.venues}
    assert set(killed) >= {*STAGES, *brokers, "registry", "questdb"}
    assert {stage_of(target) for target in frozen} >= {
        "ingest", "normalize", "derive", "strategies", "accounts", "execute", "observe", "kafka", "questdb",
    }  # fmt: skip


@pytest.mark.parametrize("seconds", [20, 60, 300, 900])
def test_acts_lie_within_the_time_in_order_and_leave_a_quiet_end(seconds):
    plan = draw(3, seconds, ("kafka",))
    times = [act.at_s for act in plan]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= seconds - min(8.0, seconds / 5)
    assert all(2 <= act.seconds <= 10 for act in plan if act.kind == "freeze")


def test_what_everything_feels_is_followed_by_a_pause():
    plan = draw(4, FULL_S, ("kafka",))
    pauses = [(after.at_s - act.at_s, is_heavy(act)) for act, after in itertools.pairwise(plan)]
    heavy = [pause for pause, is_it in pauses if is_it]
    light = [pause for pause, is_it in pauses if not is_it]
    assert min(heavy) > max(light)


def test_a_short_plan_has_a_part_of_everything_and_pace_makes_it_denser():
    short = draw(1, 25, ("kafka",), pace=2.5)
    assert {act.kind for act in short} == {"fault", "kill", "freeze"}
    assert len(short) > 2 * len(draw(1, 25, ("kafka",)))


def test_plans_of_several_seeds_follow_each_other_unchanged():
    plan = draw_all((1, 2), 25, THREE, 2.0)
    first, second = draw(1, 25, THREE, 2.0), draw(2, 25, THREE, 2.0)
    assert plan[: len(first)] == first
    assert [act._replace(at_s=round(act.at_s - 25, 2)) for act in plan[len(first) :]] == second


def test_like_targets_are_one_class():
    assert Act(0, "kill", "execute-kalshi").label == "kill execute"
    assert Act(0, "freeze", "kafka-2").label == "freeze kafka"
    assert Act(0, "fault", "kalshi", "gap").label == "gap"
