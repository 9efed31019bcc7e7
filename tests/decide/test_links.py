"""What a link pays, when it has a fault, and what a fault ends."""

import pytest

from decide.edges import floor_of, worst_of
from decide.links import (
    Fault,
    Instruments,
    fault,
    instruments_of,
    is_lasting,
    states_of,
    suspended,
    suspension_key,
    table_fault,
)
from schemas.decision import Edge, Intent, Link, Saga
from schemas.market import Notice, Status

ONE = 1_000_000
EVENT = "kalshi:EV"
NAMES = ["kalshi:EV-A", "kalshi:EV-B", "kalshi:EV-C"]


def event(make, **changes):
    """Three outcomes of which one wins, or all are void."""
    return make.link(
        **{
            "id": "E1",
            "kind": "EVENT",
            "instrument_a": "",
            "instrument_b": "",
            "polarity": "UNKNOWN",
            "instruments": NAMES,
            "states": ["a", "b", "c"],
            "payouts_e6": [ONE, 0, 0, 0, ONE, 0, 0, 0, ONE],
            "payout_a_e6": [],
            "payout_b_e6": [],
            "rules_hashes": ["r", "r", "r"],
            "cutoffs_ns": [7, 7, 7],
            "exhaustive": True,
            "event_group": EVENT,
            **changes,
        }
    )


def known(*instruments):
    found = Instruments()
    for instrument in instruments:
        found[instrument.instrument] = instrument
    return found


def outcomes(make, **changes):
    return known(
        *(make.instrument(name, event_group=EVENT, rules_hash="r", close_ts_ns=7, **changes.get(name[-1], {})) for name in NAMES)
    )  # fmt: skip


def pair(make, a=None, b=None):
    return known(make.instrument(make.KALSHI, **(a or {})), make.instrument(make.POLY, **(b or {})))


# --- the table


def test_rows_and_columns_of_both_kinds_read_alike(make):
    assert instruments_of(make.link()) == (make.KALSHI, make.POLY)
    assert states_of(make.link()) == [("yes", (ONE, ONE)), ("no", (0, 0))]
    assert instruments_of(event(make)) == NAMES
    assert states_of(event(make))[1] == ("b", (0, ONE, 0))


def test_all_outcomes_of_an_exhausted_event_pay_a_dollar_whatever_happens(make):
    link = event(make)
    assert worst_of(link, dict.fromkeys(NAMES, "BUY")) == ONE
    assert worst_of(link, dict.fromkeys(NAMES, "SELL")) == 2 * ONE
    assert worst_of(link, {NAMES[0]: "BUY", NAMES[1]: "BUY"}) == 0


def test_a_tie_is_a_state_like_any_other(make):
    tied = event(
        make, states=["a", "b", "c", "tie"], payouts_e6=[ONE, 0, 0, 0, ONE, 0, 0, 0, ONE, ONE // 2, ONE // 2, 0]
    )
    assert worst_of(tied, dict.fromkeys(NAMES, "BUY")) == ONE
    dead_heat = event(make, states=["a", "b", "c", "all"], payouts_e6=[ONE, 0, 0, 0, ONE, 0, 0, 0, ONE, ONE, ONE, ONE])
    assert worst_of(dead_heat, dict.fromkeys(NAMES, "SELL")) == 0


def test_weak_state_costs_a_haircut_and_is_still_what_can_be_lost(make):
    link = make.link(
        states=["yes", "no", "void"],
        payout_a_e6=[ONE, 0, ONE // 2],
        payout_b_e6=[ONE, 0, ONE],
        weak_states=["void"],
        haircut_e6=20_000,
        cap_e6=50 * ONE,
    )
    sides = {make.KALSHI: "BUY", make.POLY: "SELL"}
    assert not table_fault(link)
    assert floor_of(link, sides) == ONE - 20_000
    assert worst_of(link, sides) == ONE // 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"instruments": NAMES[:1], "payouts_e6": [ONE, 0, 0]}, "two or more"),
        ({"instruments": [NAMES[0], NAMES[0], NAMES[1]]}, "different instruments"),
        ({"payouts_e6": [ONE, 0, 0]}, "expected 3 states of 3 payouts, found 3"),
        ({"states": ["a", "a", "c"]}, "stand once"),
        ({"payouts_e6": [ONE, 0, 0, 0, ONE, 0, 0, 0, ONE + 1]}, "state 'c' pays"),
        ({"rules_hashes": ["r"]}, "expected 3 rules_hashes, found 1"),
        ({"cutoffs_ns": [1, 2]}, "expected 3 cutoffs_ns, found 2"),
        ({"payouts_e6": [ONE, 0, 0, 0, ONE, 0, 0, 0, 0]}, "nothing pays in state 'c'"),
        ({"payouts_e6": [ONE, 0, 0, 0, ONE, 0, 0, ONE, 0]}, f"{NAMES[2]} pays a dollar in no state"),
        ({"weak_states": ["c"]}, "need a haircut and a cap"),
        ({"weak_states": ["c"], "haircut_e6": 1}, "need a haircut and a cap"),
        ({"weak_states": ["d"], "haircut_e6": 1, "cap_e6": 1}, "some, but not all"),
        ({"weak_states": ["a", "b", "c"], "haircut_e6": 1, "cap_e6": 1}, "some, but not all"),
        ({"haircut_e6": -1}, "0 or more"),
    ],
)
def test_table_that_contradicts_its_link_is_a_fault(make, changes, words):
    assert not table_fault(event(make))
    reason = table_fault(event(make, **changes))
    assert words in reason
    assert fault(event(make, **changes), outcomes(make)).startswith(f"{Fault.TABLE}: ")


def test_pair_whose_columns_have_other_lengths_than_its_states_is_a_fault(make):
    assert table_fault(make.link(payout_a_e6=[ONE]))


# --- against the instruments


def test_sound_links_have_no_fault(make):
    assert fault(make.link(), pair(make)) == ""
    assert fault(event(make), outcomes(make)) == ""


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"rules_hash": "other"}, Fault.RULES),
        ({"rules_hash": ""}, Fault.RULES),
        ({"close_ts_ns": 8}, Fault.CUTOFF),
        ({"close_ts_ns": 0}, Fault.CUTOFF),
        ({"status": "DETERMINED"}, Fault.DECIDED),
        ({"status": "SETTLED"}, Fault.DECIDED),
        ({"status": "PAUSED"}, Fault.STATUS),
        ({"status": "CLOSED"}, Fault.STATUS),
        ({"status": "UNKNOWN"}, Fault.STATUS),
        ({"status": "UNKNOWN", "rules_hash": "", "close_ts_ns": 0}, Fault.UNKNOWN_INSTRUMENT),
        ({"grows": True}, Fault.NOT_EXHAUSTIVE),
        ({"event_group": "kalshi:OTHER"}, Fault.NOT_EXHAUSTIVE),
    ],
)
def test_what_is_not_as_it_was_approved_is_a_fault_with_its_word(make, change, word):
    found = outcomes(make)
    found[NAMES[1]] = make.replace(found[NAMES[1]], **change)
    reason = fault(event(make), found)
    assert reason.partition(":")[0] == word
    assert NAMES[1] in reason


def test_only_what_a_human_must_look_at_lasts():
    assert {word for word in Fault if is_lasting(f"{word}: x")} == {"DECIDED", "RULES", "CUTOFF", "NOT_EXHAUSTIVE"}


def test_new_outcome_of_the_event_ends_its_exhaustion(make):
    found = outcomes(make)
    found["kalshi:EV-D"] = make.instrument("kalshi:EV-D", event_group=EVENT)
    assert fault(event(make), found).startswith("NOT_EXHAUSTIVE: kalshi:EV-D is an outcome")
    assert fault(event(make, exhaustive=False), found) == ""


def test_event_that_grows_may_be_linked_when_nobody_claims_that_it_is_exhausted(make):
    assert fault(event(make, exhaustive=False), outcomes(make, B={"grows": True})) == ""


def test_rules_that_were_not_recorded_are_not_compared(make):
    assert fault(make.link(), pair(make, a={"rules_hash": "whatever", "close_ts_ns": 99})) == ""
    assert fault(make.link(rules_hash_b="x"), pair(make)).startswith(f"RULES: {make.POLY}")


def test_instruments_know_their_events_also_after_one_moved(make):
    found = outcomes(make)
    assert found.of_event(EVENT) == set(NAMES)
    found[NAMES[0]] = make.instrument(NAMES[0], event_group="kalshi:OTHER")
    assert found.of_event(EVENT) == set(NAMES[1:])
    assert found.of_event("kalshi:OTHER") == {NAMES[0]}
    assert found.of_event("nothing") == frozenset()


# --- in the strategies' log

BIDS, ASKS = [(5_500, 10 * ONE)], [(4_000, 10 * ONE)]


def trading(make, **approved):
    """A running strategy with an edge on a link whose rules and cut-offs are recorded."""
    sides = [make.instrument(name, rules_hash="r", close_ts_ns=2 * make.START_NS) for name in (make.KALSHI, make.POLY)]
    link = make.link(rules_hash_a="r", rules_hash_b="r", cutoffs_ns=[2 * make.START_NS] * 2, **approved)
    log = make.strategies().start(instruments=sides, links=(link,))
    log.book(make.KALSHI, 1, bids=BIDS)
    log.book(make.POLY, 2, asks=ASKS)
    assert [edge.phase for edge in log.all(Edge)] == ["BEGIN"]
    return log, sides[0]


@pytest.mark.parametrize(
    ("change", "word"), [({"rules_hash": "new"}, "RULES"), ({"close_ts_ns": 1_900_000_000_000_000_000}, "CUTOFF")]
)
def test_change_suspends_the_link_and_ends_its_edge_with_the_record_that_says_it(make, change, word):
    log, kalshi = trading(make)
    ended, written = log.feed(make.replace(kalshi, **change))
    assert (ended.phase, ended.link) == ("END", "L1")
    assert isinstance(written, Link)
    assert (written.id, written.version, written.status) == ("L1", 1, "SUSPENDED")
    assert written.reason.startswith(f"{word}: {make.KALSHI}")
    assert (written.set_by, written.set_ts_ns) == ("decide", log.now_ns)
    assert log.outputs[-1].topic.noun == "decision.link"
    assert log.outputs[-1].key == suspension_key("L1") != "L1"
    log.book(make.POLY, 3, asks=[(3_000, 10 * ONE)])
    assert len(log.all(Intent)) == 1


def test_status_suspends_while_it_lasts_and_writes_nothing(make):
    log, kalshi = trading(make)
    word = dict(instrument=make.KALSHI, price_exp=-4, epoch=1, frame_no=1, index=0)
    (ended,) = log.feed(Status(status="PAUSED", recv_ts_ns=log.now_ns, **word))
    assert ended.phase == "END"
    assert not log.all(Link)
    log.feed(make.replace(kalshi, status="OPEN", recv_ts_ns=log.now_ns + 1))
    log.tick()
    heard = log.book(make.POLY, 3, asks=ASKS)
    assert [record.phase for record in heard if isinstance(record, Edge)] == ["BEGIN"]


def test_suspension_stays_when_the_text_comes_back_until_somebody_approves_again(make):
    log, kalshi = trading(make)
    changed = make.replace(kalshi, rules_hash="new")
    written = log.feed(changed)[-1]
    log.feed(written)
    log.feed(kalshi)
    assert not log.book(make.POLY, 3, asks=ASKS)
    log.feed(make.link(version=2, rules_hash_a="r", rules_hash_b="r"))
    assert [record.phase for record in log.book(make.POLY, 4, asks=ASKS) if isinstance(record, Edge)] == ["BEGIN"]


def test_late_suspension_of_an_older_version_does_not_touch_a_newer_approval(make):
    log, kalshi = trading(make)
    written = log.feed(make.replace(kalshi, rules_hash="new"))[-1]
    log.feed(make.link(version=2, rules_hash_a="new", rules_hash_b="r"))
    log.feed(written)
    assert [record.phase for record in log.book(make.POLY, 3, asks=ASKS) if isinstance(record, Edge)] == ["BEGIN"]


def test_approval_that_comes_before_the_text_it_approves_waits_for_it(make):
    log, kalshi = trading(make)
    log.feed(make.link(version=2, rules_hash_a="new", rules_hash_b="r"))
    assert [edge.phase for edge in log.all(Edge)] == ["BEGIN", "END"]
    assert not log.all(Link), "the approved text is on its way: nobody has to look at it again"
    log.feed(make.replace(kalshi, rules_hash="new"))
    assert [record.phase for record in log.book(make.POLY, 3, asks=ASKS) if isinstance(record, Edge)] == ["BEGIN"]


def test_link_that_is_rejected_or_expired_ends_its_edge_at_once(make):
    for status in ("REJECTED", "EXPIRED", "SUSPENDED"):
        log, _ = trading(make)
        (ended,) = log.feed(make.link(version=2, status=status))
        assert ended.phase == "END"


def test_new_outcome_suspends_an_exhausted_event(make):
    log = make.strategies().start(instruments=list(outcomes(make).values()), links=(event(make),))
    (written,) = log.feed(make.instrument("kalshi:EV-D", event_group=EVENT))
    assert (written.id, written.status) == ("E1", "SUSPENDED")
    assert written.reason.startswith("NOT_EXHAUSTIVE: kalshi:EV-D")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"instrument": "kalshi:EV-D", "rules_hash": "", "close_ts_ns": 0}, "NOT_EXHAUSTIVE"),
        ({"grows": True}, "NOT_EXHAUSTIVE"),
        ({"rules_hash": "new"}, "RULES"),
        ({"status": "SETTLED"}, "DECIDED"),
    ],
)
def test_edge_over_an_event_ends_with_the_record_that_ends_its_approval(make, change, word):
    closing = 2 * make.START_NS
    sides = [make.instrument(name, event_group=EVENT, rules_hash="r", close_ts_ns=closing) for name in NAMES]
    log = make.strategies().start(instruments=sides, links=(event(make, cutoffs_ns=[closing] * 3),))
    log.feed(make.strategy(id="ex-1", kind="exhaustive_event"))
    for version, name in enumerate(NAMES):
        log.book(name, version + 1, bids=[(2_800, 10 * ONE)], asks=[(2_900, 10 * ONE)])
    assert [edge.phase for edge in log.all(Edge)] == ["BEGIN"]
    ended, written = log.feed(make.replace(sides[1], **change))
    assert (ended.phase, ended.link) == ("END", "E1")
    assert (written.status, written.reason.partition(":")[0]) == ("SUSPENDED", word)
    assert not [record for record in log.book(NAMES[0], 9, asks=[(2_000, 10 * ONE)]) if isinstance(record, Edge)]


def test_suspended_keeps_what_was_approved(make):
    link = suspended(event(make), "RULES: x", 9)
    assert (link.approved_by, link.version, link.instruments, link.set_ts_ns) == ("a human", 1, NAMES, 9)


# --- in the accounts' log


def test_accounts_refuse_what_a_link_with_a_fault_would_start(make):
    log = make.accounts().start()
    log.feed(make.link(version=2, rules_hash_a="r", rules_hash_b="r"))
    (refused,) = log.feed(make.intent())
    assert (refused.state, refused.reason) == ("REFUSED", "LINK_SUSPENDED")
    for name in (make.KALSHI, make.POLY):
        log.feed(make.instrument(name, rules_hash="r"))
    heard = log.feed(make.intent(id="intent-2"))
    assert [record.state for record in heard if isinstance(record, Saga)] == ["FIRST_LEG"]


def test_accounts_refuse_a_suspended_link(make):
    log = make.accounts().start()
    log.feed(suspended(make.link(), "RULES: x", 1))
    (refused,) = log.feed(make.intent())
    assert refused.reason == "LINK_SUSPENDED"


# --- what a venue says of its catalogue


def notice(log, **about):
    """The venue's word, as of a moment after all descriptions."""
    log.now_ns += 1
    return Notice(
        venue="kalshi",
        reason="event_fee_update",
        feed="f",
        epoch=1,
        frame_no=1,
        index=0,
        recv_ts_ns=log.now_ns,
        **about,
    )


def test_instruments_are_stale_from_a_word_on_until_they_were_read_after_it(make):
    found = pair(make)
    word = Notice(
        venue="kalshi", event_group=found[make.KALSHI].event_group, reason="word", feed="f", epoch=1, frame_no=1, index=0,
        recv_ts_ns=make.START_NS + 50,
    )  # fmt: skip
    assert make.KALSHI in found.notice(word)
    assert fault(make.link(), found).startswith(f"STALE: {make.KALSHI}")
    # An older word that comes later takes nothing back.
    found.notice(make.replace(word, recv_ts_ns=make.START_NS + 40))
    found[make.KALSHI] = make.replace(found[make.KALSHI], recv_ts_ns=make.START_NS + 49)
    assert fault(make.link(), found).startswith("STALE")
    found[make.KALSHI] = make.replace(found[make.KALSHI], recv_ts_ns=make.START_NS + 50)
    assert fault(make.link(), found) == ""
    assert found.notice(make.replace(word, event_group="", instrument="kalshi:UNHEARD-OF")) == frozenset()


def test_a_word_ends_edges_and_writes_nothing_down(make):
    log, kalshi = trading(make)
    (ended,) = log.feed(notice(log, instrument=make.KALSHI))
    assert (ended.phase, ended.link) == ("END", "L1")
    assert log.feed(notice(log, event_group=kalshi.event_group)) == []
    log.feed(make.replace(kalshi, recv_ts_ns=log.now_ns))
    log.tick()
    log.book(make.POLY, 3, asks=[(3_000, 10 * ONE)])
    assert [edge.phase for edge in log.all(Edge)] == ["BEGIN", "END", "BEGIN"]
    assert not log.all(Link)


@pytest.mark.parametrize("pause", ["notice", "status"])
def test_what_lasts_is_written_down_also_of_a_link_that_rested_when_it_came(make, pause):
    log, kalshi = trading(make)
    if pause == "notice":
        log.feed(notice(log, instrument=make.KALSHI))
    else:
        log.feed(make.replace(kalshi, status="PAUSED"))
    assert not log.all(Link)
    (written,) = log.feed(make.replace(kalshi, rules_hash="new", recv_ts_ns=log.now_ns))
    assert (written.status, written.reason.partition(":")[0]) == ("SUSPENDED", "RULES")
    assert log.feed(make.replace(kalshi, rules_hash="newer", recv_ts_ns=log.now_ns)) == []
    log.feed(written)
    log.feed(make.replace(kalshi, recv_ts_ns=log.now_ns))
    log.tick()
    log.book(make.POLY, 3, asks=[(3_000, 10 * ONE)])
    assert len(log.all(Intent)) == 1
