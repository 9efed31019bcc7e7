"""What an auditor's REST book says of the streamed one."""

import msgspec
import pytest

from core.domain import trust
from derive import audits
from derive.checkpoint import TASK_CODEC, TASK_ITEM
from derive.limits import TrustLimits
from schemas import derived
from tests.derive.test_checkpoint import items, taken_up

A = "kalshi:A"
BIDS = [(4_700, 3), (4_600, 5)]
ASKS = [(5_200, 4), (5_300, 6)]


@pytest.fixture
def old(live):
    """A book that has been LIVE for ten seconds: its history reaches back."""
    live.beat(10_000)
    return live


def verdicts(log):
    return [audit.verdict for audit in log.audits()]


def test_answer_that_states_the_streamed_book_is_equal_and_says_so_at_once(old):
    (found,) = old.write(old.audit(ms=10_010, asked_ms=10_005))
    assert isinstance(found, derived.Audit)
    assert (found.verdict, found.levels, found.levels_different, found.detail) == ("EQUAL", 4, 0, "")
    assert (found.instrument, found.epoch, found.trail) == (A, 1, [6])
    assert (found.asked_ts_ns, found.recv_ts_ns) == (1_790_000_000_000_000_000 + 10_005_000_000, found.recv_ts_ns)


def test_answer_from_before_a_change_has_moved(old):
    old.write(old.delta(4_700, 2, ms=10_010))
    old.write(old.delta(4_800, 1, ms=10_020))
    (found,) = old.write(old.audit(BIDS, ASKS, ms=10_030, asked_ms=10_000))
    assert (found.verdict, found.levels_different) == ("MOVED", 0)


def test_answer_from_a_cache_of_two_seconds_has_moved_and_one_of_five_has_not(old):
    old.write(old.delta(4_700, 2, ms=10_010))
    old.beat(12_000, since_ms=10_010)
    old.write(old.audit(BIDS, ASKS, ms=12_010, asked_ms=12_000))
    assert verdicts(old) == ["MOVED"]
    old.beat(15_000, since_ms=12_010)
    old.write(old.audit(BIDS, ASKS, ms=15_010, asked_ms=15_000))
    old.beat(18_000, since_ms=15_010)
    assert verdicts(old) == ["MOVED", "DIFFERENT"]


def test_answer_that_is_ahead_of_the_stream_has_moved_once_the_stream_has_caught_up(old):
    ahead = [(4_700, 9), (4_600, 5)]
    assert old.write(old.audit(ahead, ASKS, ms=10_010, asked_ms=10_000)) == []
    old.write(old.delta(4_700, 6, ms=10_500))
    old.write(old.delta(4_700, 1, ms=10_600))
    old.beat(12_500, since_ms=10_500)
    assert verdicts(old) == ["MOVED"]


def test_level_that_nothing_explains_is_different(old):
    old.write(old.audit([(4_700, 3), (4_600, 7)], ASKS, ms=10_010, asked_ms=10_000))
    assert verdicts(old) == []
    old.beat(12_500, since_ms=10_010)
    (found,) = old.audits()
    assert (found.verdict, found.levels, found.levels_different) == ("DIFFERENT", 4, 1)
    assert found.detail == "expected 5 at bid 4600 as streamed, found 7 by REST"
    # Once may be the venue's cache.
    assert old.said() == ("LIVE", "")


@pytest.mark.parametrize(("bids", "asks"), [([(4_700, 3)], ASKS), (BIDS, [*ASKS, (5_400, 1)]), ([], [])])
def test_level_that_only_one_side_has_is_different(old, bids, asks):
    old.write(old.audit(bids, asks, ms=10_010, asked_ms=10_000))
    old.beat(12_500, since_ms=10_010)
    assert verdicts(old) == ["DIFFERENT"]


def ask_twice(log, first, second, since_ms=10_000):
    for bids in (first, second):
        log.write(log.audit(bids, ASKS, ms=since_ms + 10, asked_ms=since_ms))
        log.beat(since_ms + 3_000, since_ms=since_ms + 10)
        since_ms += 3_000
    return since_ms


def test_same_level_different_twice_in_a_row_makes_the_book_suspect_and_asks(old):
    ask_twice(old, [(4_700, 3), (4_600, 7)], [(4_700, 3), (4_600, 8)])
    quotes = old.quotes()
    suspect = next(quote for quote in quotes if quote.state == "SUSPECT")
    assert suspect.cause == "audit: expected 5 at bid 4600 as streamed, found 8 by REST"
    assert trust.cause_in(old.resyncs()[0].cause) == trust.AUDIT


def test_other_levels_each_time_are_the_cache_of_a_busy_market(old):
    ask_twice(old, [(4_700, 3), (4_600, 7)], [(4_700, 9), (4_600, 5)])
    assert (verdicts(old), old.said()) == (["DIFFERENT", "DIFFERENT"], ("LIVE", ""))


def test_agreement_in_between_begins_the_count_again(old):
    wrong = [(4_700, 3), (4_600, 7)]
    ask_twice(old, wrong, BIDS)
    ask_twice(old, wrong, BIDS, since_ms=16_000)
    assert verdicts(old) == ["DIFFERENT", "EQUAL", "DIFFERENT", "EQUAL"]
    assert old.said() == ("LIVE", "")


def test_answer_that_stays_wrong_after_a_fresh_snapshot_is_believed_less_each_time(old):
    wrong, ms, suspected = [(4_700, 3), (4_600, 7)], 10_000, []
    for n in range(16):
        old.write(old.audit(wrong, ASKS, ms=ms + 10, asked_ms=ms))
        old.beat(ms + 3_000, since_ms=ms + 10)
        ms += 3_000
        if old.said()[0] != "LIVE":
            suspected.append(n)
            old.write(old.snapshot(ms=ms))
            old.beat(ms + 5_000, since_ms=ms)
            ms += 5_000
    # After 2 differences, after 4 more, and 8 more.
    assert suspected == [1, 5, 13]


def test_book_that_is_not_live_is_not_compared(old):
    old.write(old.reset(ms=10_001))
    old.write(old.audit([(1, 1)], [], ms=10_010, asked_ms=10_000))
    assert [(one.verdict, one.detail) for one in old.audits()] == [("NOT_LIVE", "expected seq 4, found 6")]


def test_book_that_nobody_streams_is_not_compared(log):
    log.write(log.audit(instrument="kalshi:Z"))
    assert verdicts(log) == ["NOT_LIVE"]


def test_book_that_became_right_within_the_window_is_not_called_different(live):
    live.write(live.audit([(4_700, 99)], ASKS, ms=1_000, asked_ms=900))
    assert verdicts(live) == ["NOT_LIVE"]


def test_book_that_lost_trust_before_the_verdict_is_not_called_different(old):
    old.write(old.audit([(4_700, 99)], ASKS, ms=10_010, asked_ms=10_000))
    old.write(old.reset(ms=10_100))
    old.write(old.snapshot(ms=10_200))
    old.beat(13_000, since_ms=10_200)
    assert (verdicts(old), old.said()) == (["NOT_LIVE"], ("LIVE", ""))


def test_refresh_that_differs_from_the_book_is_part_of_its_history(old):
    old.write(old.snapshot([(4_700, 8)], ASKS, ms=10_100))
    old.write(old.audit(BIDS, ASKS, ms=10_200, asked_ms=10_050))
    assert verdicts(old) == ["MOVED"]


def test_audit_that_is_in_the_log_twice_counts_once(old):
    wrong = old.audit([(4_700, 99)], ASKS, ms=10_010, asked_ms=10_000)
    old.write(wrong)
    old.write(wrong)
    old.beat(13_000, since_ms=10_010)
    assert verdicts(old) == ["DIFFERENT"]


def test_audit_never_changes_the_book(old):
    before = old.task.book(A).book.bids.levels()
    old.write(old.audit([(1, 1)], [], ms=10_010))
    assert old.task.book(A).book.bids.levels() == before


def test_restored_task_judges_by_what_its_predecessor_saw(old):
    old.write(old.delta(4_700, 2, ms=10_010))
    again = taken_up(old)
    again.write(again.audit(BIDS, ASKS, ms=10_030, asked_ms=10_000))
    assert verdicts(again) == ["MOVED"]


def test_audit_that_waited_when_its_task_died_is_judged_by_the_next_owner(old):
    old.write(old.audit([(4_700, 3), (4_600, 7)], ASKS, ms=10_010, asked_ms=10_000))
    again = taken_up(old)
    for log in (old, again):
        log.beat(12_500, since_ms=10_010)
    assert again.audits() == old.audits()
    assert [(one.verdict, one.levels_different) for one in again.audits()] == [("DIFFERENT", 1)]


def test_state_of_a_program_that_wrote_no_history_is_not_judged_by_it(old):
    old.write(old.delta(4_700, 2, ms=10_010))
    state = items(old)
    state[TASK_ITEM] = TASK_CODEC.encode(msgspec.structs.replace(TASK_CODEC.decode(state[TASK_ITEM]), audits=None))
    again = taken_up(old, state=state)
    again.write(again.audit(BIDS, ASKS, ms=10_030, asked_ms=10_000))
    assert [(one.verdict, one.detail) for one in again.audits()] == [
        ("NOT_LIVE", "the book is younger than the question")
    ]


def test_level_that_moved_just_before_an_old_question_is_explained_though_the_history_was_trimmed_since(old):
    """Or the question is refused: never is a level called different because its change is not remembered any more."""
    # The look that trims comes every five seconds.
    for changed_ms, asked_ms, verdict in ((8_200, 10_100, "MOVED"), (6_500, 8_000, "NOT_LIVE")):
        log = type(old)().live()
        log.beat(changed_ms)
        log.write(log.delta(4_700, 2, ms=changed_ms))
        log.beat(13_900, since_ms=changed_ms)
        # Two levels: one is explained by the past, the other by what comes.
        log.write(log.audit([(4_700, 3), (4_600, 6)], ASKS, ms=14_000, asked_ms=asked_ms))
        log.beat(15_500, since_ms=14_000)
        log.write(log.delta(4_600, 1, ms=15_600))
        log.beat(17_000, since_ms=15_600)
        assert verdicts(log) == [verdict]


@pytest.mark.parametrize("bound", ["PENDING_MAX", "PENDING_LEVELS_MAX"])
def test_oldest_audit_is_given_the_verdict_it_has_when_too_many_wait(old, monkeypatch, bound):
    monkeypatch.setattr(audits, bound, 2)
    for n in range(3):
        old.write(old.audit([(4_700, 3), (4_600, 7 + n)], ASKS, ms=10_010 + n, asked_ms=10_000 + n))
    assert [(one.verdict, one.asked_ts_ns % 10**9) for one in old.audits()] == [("DIFFERENT", 0)]


def test_history_that_was_full_does_not_reach_back_before_its_first_change(old):
    full = audits.Auditor(TrustLimits())
    state = old.task.book(A)
    now_ns = old.task.log_ns
    full.changes.extend([(now_ns - 10, state, True, 4_700, 1)] * audits.CHANGES_MAX)
    audit = old.audit([(4_600, 7)], ASKS, ms=10_010, asked_ms=10_000)
    (found,) = full.begin(state, audit, now_ns)
    assert (found.verdict, found.note) == ("NOT_LIVE", "the book is younger than the question")
