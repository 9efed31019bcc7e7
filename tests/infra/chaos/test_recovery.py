"""What a reader saw, and how long each act was felt."""

import pytest

from infra.chaos.hands import Done
from infra.chaos.plan import Act
from infra.chaos.recovery import by_class, felt_s
from infra.chaos.watch import Books, Look, merged, worker_name

S = 1_000_000_000
A, B = "kalshi:A", "polymarket:B"


def act(kind="fault", target="kalshi", name="gap", seconds=0.0):
    return Act(0, kind, target, name if kind == "fault" else "", seconds)


def done(one, at_s=100.0, until_s=0.0, pid=0):
    return Done(one, int(at_s * S), pid, int(until_s * S))


# Books


def test_a_book_is_dark_while_its_quote_is_not_live():
    books = Books()
    for at_s, state in ((1.0, "SYNCING"), (2.0, "LIVE"), (5.0, "SUSPECT"), (6.0, "SYNCING"), (8.0, "LIVE")):
        books.quote(at_s, 0, A, state, "gap: x" if state != "LIVE" else "")
    books.tick(9.0, 0, 9.0)
    assert books.spans(9.5)[A] == [(5.0, 8.0)]
    assert books.causes == {"gap": 1}


def test_a_book_is_dark_while_no_tick_of_its_partition_is_fresh():
    books = Books()
    books.quote(1.0, 0, A, "LIVE", "")
    books.quote(1.0, 1, B, "LIVE", "")
    books.tick(1.0, 0, 1.0)
    books.tick(1.0, 1, 1.0)
    assert books.usable(1.5) == 2
    assert books.usable(2.5) == 0
    # What comes after an outage is old first: it vouches for nothing.
    books.tick(5.0, 0, 1.5)
    books.tick(5.1, 0, 3.0)
    books.tick(5.2, 0, 5.1)
    for at_s in (1.9, 2.8, 3.7, 4.6):
        books.tick(at_s, 1, at_s)
    assert books.usable(5.3) == 2
    assert books.spans(5.3) == {A: [(2.0, 5.2)], B: []}


def test_what_is_not_over_lasts_until_now():
    books = Books()
    books.quote(1.0, 0, A, "LIVE", "")
    books.tick(9.0, 0, 9.0)
    books.quote(9.0, 0, A, "STALE", "feed silent")
    assert books.spans(9.5)[A] == [(9.0, 9.5)]


def test_spans_that_touch_are_one():
    assert merged([(3, 5), (1, 2), (4, 7), (2, 3)]) == [(1, 7)]


# Acts


def test_an_act_is_felt_until_the_last_book_it_made_dark_is_back():
    spans = {A: [(100.5, 102.0)], "kalshi:C": [(101.0, 104.5)], "kalshi:D": []}
    assert felt_s(done(act()), spans, [], {}) == pytest.approx(4.5)


def test_a_fault_of_one_venue_is_not_blamed_for_another():
    assert felt_s(done(act()), {B: [(100.5, 102.0)]}, [], {}) is None
    assert felt_s(done(act("kill", "derive")), {B: [(100.5, 102.0)]}, [], {}) == pytest.approx(2.0)
    assert felt_s(done(act("kill", "ingest-kalshi")), {B: [(100.5, 102.0)]}, [], {}) is None


def test_what_befalls_orders_is_not_blamed_for_books():
    one = done(act(name="order_429"))
    assert felt_s(one, {"kalshi:A": [(100.5, 103.0)]}, [], {}) is None


def test_a_fault_of_one_connection_is_not_blamed_for_books_of_others():
    one = done(act())
    one.struck = frozenset({A})
    assert felt_s(one, {A: [(100.5, 102.0)], "kalshi:C": [(100.5, 109.0)]}, [], {}) == pytest.approx(2.0)
    assert felt_s(one, {A: [], "kalshi:C": [(100.5, 109.0)]}, [], {}) is None


def test_what_was_dark_before_or_becomes_so_much_later_is_not_the_acts():
    assert felt_s(done(act()), {A: [(99.0, 103.0)]}, [], {}) is None
    assert felt_s(done(act()), {A: [(106.0, 107.0)]}, [], {}) is None


def test_the_time_a_fault_lasts_is_time_to_notice_it():
    assert felt_s(done(act(seconds=8), until_s=108.0), {A: [(112.0, 113.0)]}, [], {}) == pytest.approx(13.0)


def test_a_book_that_was_well_for_a_moment_was_not_well():
    assert felt_s(done(act()), {A: [(100.5, 102.0), (102.5, 109.0)]}, [], {}) == pytest.approx(9.0)


def look(at_s, pids, lag_s=0.0, name="accounts"):
    return Look(at_s, {name: pids} if pids else {}, {name: lag_s}, {}, 0, 0)


def test_a_killed_stage_is_back_when_another_answers_and_is_not_behind():
    looks = [
        look(99, (1,)),
        look(100.2, (1,)),
        look(101, ()),
        look(102, (2,), 3.0),
        look(103, (2,), 0.1),
        look(104, (2,)),
    ]
    assert felt_s(done(act("kill", "accounts"), pid=1), {}, looks, {"accounts": 1}) == pytest.approx(3.0)


def test_of_two_processes_both_must_answer():
    looks = [look(100.5, (2,)), look(101.5, (2,)), look(102.5, (2, 3))]
    assert felt_s(done(act("kill", "accounts"), pid=1), {}, looks, {"accounts": 2}) == pytest.approx(2.5)


def test_the_registry_is_felt_until_it_answers():
    looks = [look(100.5, (), name="registry"), look(109, (), name="registry"), look(110, (0,), name="registry")]
    assert felt_s(done(act("kill", "registry"), pid=9), {}, looks, {}) == pytest.approx(10.0)


def test_questdb_is_felt_by_the_sink():
    looks = [look(101, (1,), 5.0, "observe"), look(102, (1,), 0.0, "observe")]
    assert felt_s(done(act("kill", "questdb"), pid=9), {}, looks, {"observe": 1}) == pytest.approx(2.0)


def test_what_nobody_noticed_is_counted_apart():
    looks = [look(at_s, (1,)) for at_s in range(100, 120)]
    assert felt_s(done(act("freeze", "accounts"), until_s=102, pid=1), {}, looks, {"accounts": 1}) is None
    first, second, third = done(act()), done(act()), done(act())
    first.felt_s, second.felt_s = 1.0, 3.0
    third.problem = "not done"
    assert by_class([first, second, done(act()), third]) == {
        "gap": {"n": 2, "unnoticed": 1, "p50": 1.0, "p99": 3.0, "max": 3.0}
    }


def test_a_stage_that_never_came_back_is_felt_to_the_end():
    looks = [look(101, ()), look(140, ())]
    assert felt_s(done(act("kill", "accounts"), pid=1), {}, looks, {"accounts": 1}) == pytest.approx(40.0)


@pytest.mark.parametrize(
    ("stage", "log", "name"),
    [
        ("ingest", "feed-kalshi", "ingest-kalshi"),
        ("ingest", "catalogue-kalshi", "catalogue-kalshi"),
        ("normalize", "frame", "normalize"),
        ("normalize", "instrument-polymarket", "instrument-polymarket"),
        ("derive", "book", "derive"),
        ("decide", "accounts", "accounts"),
        ("execute", "polymarket:main", "execute-polymarket"),
        ("observe", "questdb", "observe"),
    ],
)
def test_a_note_tells_the_watchers_name(stage, log, name):
    assert worker_name(stage, log) == name
