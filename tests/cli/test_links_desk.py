"""What a human may approve, and what is refused."""

import dataclasses

import msgspec
import pytest

from core.domain.errors import Misconfigured
from decide.links import Instruments, fault, states_of, suspended
from infra.links import desk
from infra.links.desk import Approval
from infra.links.match import Outcomes, Pair
from infra.links.terms import Terms
from tests.records import binary

ONE = 1_000_000
NOW_NS = 1_795_000_000_000_000_000
A, B = "kalshi:K-1", "polymarket:0xc1"
RULES = {A: "a" * 64, B: "b" * 64}
TITLE = "Will it happen?"
TABLE = (("yes", ONE, ONE), ("no", 0, 0), ("void", ONE // 2, ONE // 2))


def instrument(name, **changes):
    said = dict(title=TITLE, event_group="kalshi:EV", close_ts_ns=7, rules_hash=RULES.get(name, "c" * 64))
    return binary(name, **{**said, **changes})


def known(*names, **changes):
    found = Instruments()
    for name in names or (A, B):
        found[name] = instrument(name, **changes)
    return found


def terms(name):
    return Terms(name, name.partition(":")[0], "kalshi:EV", TITLE, "rules", sources=frozenset({"bls"}))


def pair(**changes):
    found = Pair(terms(A), terms(B), "SAME", 80, ("+ titles are 100 % alike",), TABLE)
    return desk.propose(changed(found, changes), known(), by="scout", now_ns=5)


def changed(found, changes):
    return dataclasses.replace(found, **changes)


NAMES = [f"kalshi:EV-{name}" for name in "ABC"]


def event(**changes):
    found = Outcomes("kalshi:EV", tuple(terms(name) for name in NAMES), 70, ("+ x",), may_exhaust=True)
    return msgspec.structs.replace(desk.propose(found, known(*NAMES), by="scout", now_ns=5), **changes)


def approval(*names, **changes):
    rules = tuple(RULES.get(name, "c" * 64)[:12] for name in names or (A, B))
    return Approval(**{"by": "ann", "why": "both texts read", "now_ns": NOW_NS, "rules": rules, **changes})


def test_proposal_records_what_it_was_made_of_and_trades_nothing():
    link = pair()
    assert (link.id, link.status, link.version, link.kind) == (f"{A}|{B}", "PROPOSED", 1, "PAIR")
    assert (link.rules_hash_a, link.rules_hash_b, link.cutoffs_ns) == (RULES[A], RULES[B], [7, 7])
    assert link.sources == ["bls", "bls"]
    assert link.evidence == ["score 80 of 100", "+ titles are 100 % alike"]
    assert (link.set_by, link.approved_by) == ("scout", "")
    assert fault(link, known()) == ""


def test_approval_records_who_what_and_the_texts_of_now():
    link = desk.approve(pair(), known(), approval())
    assert (link.status, link.version, link.approved_by, link.approved_ts_ns) == ("APPROVED", 2, "ann", NOW_NS)
    assert (link.reason, link.set_by) == ("both texts read", "ann")
    assert states_of(link) == [(name, (a, b)) for name, a, b in TABLE]
    assert link.evidence == pair().evidence
    assert link.sources == ["bls", "bls"]
    assert desk.approve(pair(), known(), approval(sources=("ap", "reuters"))).sources == ["ap", "reuters"]


@pytest.mark.parametrize(
    ("instruments", "changes", "words"),
    [
        (known(), {"by": " "}, "--by"),
        (known(), {"rules": ()}, "name the rule texts you read: --rules aaaaaaaaaaaa,bbbbbbbbbbbb"),
        (known(), {"rules": ("a" * 12, "b" * 7)}, "read them again"),
        (known(rules_hash="d" * 64), {}, "its rules are now dddddddddddd"),
        (known(rules_hash=""), {}, "is not described in this run"),
        (known(A), {}, f"{B} is not described"),
        (known(status="DETERMINED"), {}, "suspended at once: DECIDED"),
        (known(), {"expires_ts_ns": NOW_NS}, "it has expired"),
        (known(), {"exhaustive": True}, "only an event"),
        (known(), {"states": ("tie=1",)}, "expected name=dollars,dollars"),
        (known(), {"states": ("tie=1,x",)}, "--state tie"),
        (known(), {"states": ("tie=1,2",)}, "state 'tie' pays"),
        (known(), {"drop": ("tie",)}, "no such state"),
        (known(), {"weak": ("void",)}, "need a haircut and a cap"),
    ],
)
def test_approval_that_cannot_stand_is_refused_by_name(instruments, changes, words):
    with pytest.raises(Misconfigured, match=words):
        desk.approve(pair(), instruments, approval(**changes))


def test_paused_market_may_be_approved_as_it_may_come_back():
    assert desk.approve(pair(), known(status="PAUSED"), approval()).status == "APPROVED"


def test_state_that_loses_either_way_has_to_be_named_and_priced():
    states = ("odd=0.4,0.6", "even=0.6,0.4")
    with pytest.raises(Misconfigured, match="name such states with --weak"):
        desk.approve(pair(), known(), approval(states=states))
    link = desk.approve(
        pair(), known(), approval(states=states, weak=("odd", "even"), haircut_e6=30_000, cap_e6=100 * ONE)
    )
    assert [(words, floor, worst) for words, _, floor, worst in desk.directions(link)] == [
        ("buy a, sell b", 970_000, 800_000),
        ("sell a, buy b", 970_000, 800_000),
    ]


def test_state_that_loses_one_way_leaves_the_other_way_alone():
    link = desk.approve(pair(), known(), approval(states=("exactly 5=0,1",)))
    assert [floor for _, _, floor, _ in desk.directions(link)] == [0, ONE]


def test_polarity_that_was_proposed_wrong_is_turned_with_its_table():
    link = desk.approve(pair(), known(), approval(polarity="OPPOSITE"))
    assert (link.polarity, link.payout_b_e6) == ("OPPOSITE", [0, ONE, ONE // 2])
    assert [words for words, *_ in desk.directions(link)] == ["buy both", "sell both"]


def test_event_is_exhaustive_only_if_somebody_says_so():
    link = desk.approve(event(), known(*NAMES), approval(*NAMES))
    assert (link.exhaustive, "none" in link.states) == (False, True)
    assert desk.directions(link)[0][2] == 0
    link = desk.approve(link, known(*NAMES), approval(*NAMES, exhaustive=True))
    assert (link.version, link.exhaustive, "none" in link.states) == (3, True, False)
    assert [(words, floor) for words, _, floor, _ in desk.directions(link)] == [
        ("buy all", ONE - 1),
        ("sell all", 2 * ONE),
    ]
    back = desk.approve(link, known(*NAMES), approval(*NAMES, exhaustive=False))
    assert back.states == ["EV-A", "EV-B", "EV-C", "void", "none"]


def test_event_that_may_grow_is_never_approved_as_exhaustive():
    growing = known(*NAMES, grows=True)
    with pytest.raises(Misconfigured, match="NOT_EXHAUSTIVE"):
        desk.approve(event(), growing, approval(*NAMES, exhaustive=True))
    assert desk.approve(event(), growing, approval(*NAMES)).status == "APPROVED"


def test_event_whose_outcomes_may_all_lose_cannot_be_exhaustive():
    with pytest.raises(Misconfigured, match="nothing pays in state 'zero'"):
        desk.approve(event(), known(*NAMES), approval(*NAMES, exhaustive=True, states=("zero=0,0,0",)))
    with pytest.raises(Misconfigured, match="an event has no polarity"):
        desk.approve(event(), known(*NAMES), approval(*NAMES, polarity="SAME"))


def test_suspended_link_is_approved_again_on_the_new_text_only():
    approved = desk.approve(pair(), known(), approval())
    now = known()
    now[A] = instrument(A, rules_hash="e" * 64)
    struck = suspended(approved, fault(approved, now), 9)
    with pytest.raises(Misconfigured, match="its rules are now eeee"):
        desk.approve(struck, now, approval())
    again = desk.approve(struck, now, approval(rules=("e" * 12, "b" * 12)))
    assert (again.status, again.version, again.rules_hash_a) == ("APPROVED", 3, "e" * 64)
    assert fault(again, now) == ""


def test_rejection_and_end_name_who_and_why_and_raise_the_version():
    rejected = desk.close(pair(), "REJECTED", by="ann", why="other source", now_ns=NOW_NS)
    assert (rejected.status, rejected.version, rejected.reason, rejected.set_by) == (
        "REJECTED",
        2,
        "other source",
        "ann",
    )
    approved = desk.approve(pair(), known(), approval())
    assert desk.close(approved, "EXPIRED", by="ann", why="done", now_ns=NOW_NS).status == "EXPIRED"
    with pytest.raises(Misconfigured, match="links expire"):
        desk.close(approved, "REJECTED", by="ann", why="x", now_ns=NOW_NS)
    with pytest.raises(Misconfigured, match="--why"):
        desk.close(pair(), "REJECTED", by="ann", why=" ", now_ns=NOW_NS)


def test_link_can_end_by_itself_and_be_given_another_end():
    approved = desk.approve(pair(), known(), approval())
    later = desk.expire_later(approved, NOW_NS + 1, by="ann", why="event is over", now_ns=NOW_NS)
    assert (later.status, later.version, later.expires_ts_ns) == ("APPROVED", 3, NOW_NS + 1)
    assert later.approved_by == "ann"
    for link, when in ((pair(), NOW_NS + 1), (approved, NOW_NS)):
        with pytest.raises(Misconfigured):
            desk.expire_later(link, when, by="ann", why="x", now_ns=NOW_NS)
    late = NOW_NS + 2
    with pytest.raises(Misconfigured, match="it has expired"):
        desk.approve(later, known(), approval(now_ns=late))
    assert desk.approve(later, known(), approval(now_ns=late, expires_ts_ns=0)).expires_ts_ns == 0
