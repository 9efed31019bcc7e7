"""What legs bring that leave together, beside legs that go one by one: the same edges, in made-up time.

Strategy, accounts and matching are the real ones (`leg_world`). Nothing here measures the machine: the same seed gives
the same figures.
"""

from __future__ import annotations

from benchmarks.leg_world import E6, Course, World
from benchmarks.measure import Effort, Figure
from schemas.enums import LegOrder

SECONDS = 300
"""Of made-up time at full effort."""
ORDERS: tuple[LegOrder, LegOrder] = ("ONE_BY_ONE", "TOGETHER")
COURSES = (
    *(Course(way_ms, edge_s) for edge_s in (2.0, 0.1) for way_ms in (5, 30)),
    *(Course(way_ms, edge_s, apart=True) for edge_s in (2.0, 0.1) for way_ms in (5, 30)),
)


def run(effort: Effort) -> list[Figure]:
    """Let both orders meet the same edges in each setting."""
    seconds = SECONDS * min(effort.records, 20_000) / 20_000
    figures = []
    for course in COURSES:
        found = {order: World(course, order, seed=1).run(seconds) for order in ORDERS}
        for order, outcome in found.items():
            ends = ", ".join(f"{count} {name}" for name, count in outcome.ends.most_common())
            back = " that end leg by leg" if course.apart else ""
            name = f"{order}, {course.way_ms} ms each way, edges of {course.edge_s:g} s{back}: won"
            figures.append(Figure(name, outcome.won_e6 / E6, "$", note=f"{outcome.sagas} sagas: {ends}"))
    return figures
