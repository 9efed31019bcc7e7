"""Oracle (b) on small histories: a planted loss, duplicate or stranger is counted under its name."""

import pytest

from infra.chaos.conservation import count_frames, errors
from infra.chaos.matching import match, match_empty, read_sent
from schemas.raw import Opened

DIGESTS = ("a", "b", "c", "d")


MS = 1_000_000


def opened(epoch, **changes):
    fields = dict(feed=f"kalshi-{epoch}", venue="kalshi", worker="w", slot=epoch, instruments=[], recv_ts_ns=1)
    return Opened(**(fields | changes))


def lines(connection=1, digests=DIGESTS, ts_ms=0):
    return [
        [connection, number, "orderbook_delta", "K", ts_ms, digest, [number], None]
        for number, digest in enumerate(digests, 1)
    ]


def count(feeds, *, sent=None, lived=(), **changes):
    read = read_sent(sent or lines())
    epochs = {epoch: dict(enumerate(digests, 1)) for epoch, digests in feeds.items()}
    return count_frames(read, match(read, epochs), {epoch: opened(epoch, **changes) for epoch in epochs}, lived)


def test_a_whole_feed_has_no_error():
    found = count({0: DIGESTS}, lived=[0])
    assert (found.sent, found.kept, found.lost, found.foreign, found.doubled, found.unread) == (4, 4, 0, 0, 0, 0)


def test_a_frame_missing_in_the_middle_is_lost_whoever_died():
    assert count({0: ("a", "b", "d")}).lost == 1


def test_the_last_frames_of_a_killed_worker_may_be_unread():
    found = count({0: ("a", "b")})
    assert (found.lost, found.unread) == (0, 2)


def test_the_last_frames_of_a_feed_that_lived_to_the_end_are_lost():
    found = count({0: ("a", "b")}, lived=[0])
    assert (found.lost, found.unread) == (2, 0)
    assert "last 2 are missing" in found.examples[0]


def test_a_frame_kept_twice_is_foreign_the_second_time():
    assert count({0: ("a", "b", "b", "c", "d")}).foreign == 1


def test_two_feeds_of_one_connection_are_a_double():
    assert count({0: DIGESTS, 1: ("a", "b")}).doubled == 1


def test_a_connection_nobody_kept_a_frame_of_is_unread():
    found = count({0: DIGESTS}, sent=[*lines(), *lines(2, ("x", "y"))])
    assert (found.sent, found.kept, found.unread, found.lost) == (6, 4, 2, 0)


def empty(*, sent, lived=(1,), **changes):
    """Count beside a whole feed of connection 1 one that was opened at 5 ms and has no frame in Kafka."""
    known = {"instruments": ["kalshi:K"], "recv_ts_ns": 5 * MS, **changes}
    return count({0: DIGESTS, 1: ()}, sent=[*lines(), *sent], lived=lived, **known)


def test_a_feed_that_lived_and_has_no_frame_at_all_lost_what_its_connection_sent():
    found = empty(sent=lines(2, ("x", "y"), ts_ms=7))
    assert (found.lost, found.unread) == (2, 0)
    assert found.examples == ["kalshi-1 epoch 1, connection 2: the last 2 are missing"]


@pytest.mark.parametrize(
    "changes",
    [
        {"lived": ()},
        {"instruments": ["kalshi:other"]},
        {"recv_ts_ns": 8 * MS},
        {"degraded": True},
    ],
    ids=["its worker died", "it reads other books", "opened after the connection spoke", "it was polled"],
)
def test_what_a_feed_without_a_frame_cannot_have_read_is_not_lost(changes):
    found = empty(sent=lines(2, ("x", "y"), ts_ms=7), **changes)
    assert (found.lost, found.unread) == (0, 2)


def test_a_feed_without_a_frame_whose_connection_sent_nothing_lost_nothing():
    assert empty(sent=[]).lost == 0


def test_a_connection_that_another_feed_claims_is_no_answer_however_the_claims_are_told():
    sent = read_sent([*lines(), *lines(2, ("x", "y"), ts_ms=7), *lines(3, ("z",), ts_ms=9)])
    feeds = {1: opened(1, instruments=["kalshi:K"], recv_ts_ns=5 * MS)}
    for claimed in ([1, 2], {1, 2}, iter([1, 2])):
        found = match_empty(sent, claimed, feeds)
        assert {epoch: match.connection for epoch, match in found.items()} == {1: 3}


def report(**changes):
    detail = {
        "lost": {"rows": 0, "fills": 0},
        "duplicated": {"rows": 0, "fills": 0, "orders": 0},
        "account_differences": [],
    }
    orders = {"kalshi": {"open": 0}, "polymarket": {"open": 0}}
    told = {"orders": orders, "reservations_leaked": 0, "budgets_exceeded": 0, "stops": 0, **changes}
    return {**told, "detail": {**detail, **changes.get("detail", {})}}


def test_nothing_wrong_is_no_error():
    assert errors(report(), {"kalshi": count({0: DIGESTS})}, 0, 0) == {}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("rows_lost", {"detail": {"lost": {"rows": 3, "fills": 0}}}),
        ("fills_lost", {"detail": {"lost": {"rows": 0, "fills": 3}}}),
        ("rows_doubled", {"detail": {"duplicated": {"rows": 3, "fills": 0, "orders": 0}}}),
        ("fills_doubled", {"detail": {"duplicated": {"rows": 0, "fills": 3, "orders": 0}}}),
        ("orders_sent_twice", {"detail": {"duplicated": {"rows": 0, "fills": 0, "orders": 3}}}),
        ("accounts_differ", {"detail": {"account_differences": ["a", "b", "c"]}}),
        ("reservations_leaked", {"reservations_leaked": 3}),
        ("budgets_exceeded", {"budgets_exceeded": 3}),
        ("limits_tripped", {"stops": 3}),
        ("orders_without_outcome", {"orders": {"kalshi": {"open": 1}, "polymarket": {"open": 2}}}),
    ],
)
def test_each_thing_wrong_has_its_name(name, changes):
    assert errors(report(**changes), {}, 0, 0) == {name: 3}


def test_holes_and_repeats_of_the_raw_log_are_errors():
    assert errors(report(), {"kalshi": count({0: ("a", "c")})}, 2, 5) == {"frames_lost": 3, "frames_doubled": 5}
