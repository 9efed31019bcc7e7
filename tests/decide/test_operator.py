"""The operator's file to configuration records."""

import json

import pytest

from core.domain.errors import Misconfigured
from decide import operator
from decide.strategies.cross_venue import CrossVenue

NOW_NS = 1_795_000_000_000_000_000
LINK = {
    "key": "m1",
    "kalshi": {"ticker": "KX-1", "event_ticker": "KX"},
    "polymarket": {"condition_id": "0xc1", "yes_token_id": "1", "no_token_id": "2"},
    "polarity": "SAME",
}


def records(changes=None, *, approved_by="a human", **desk):
    text = json.dumps({"simulated": True, "links": [{**LINK, **(changes or {})}], **desk})
    return [output.record for output in operator.records(operator.read(text), now_ns=NOW_NS, approved_by=approved_by)]


def test_simulators_links_become_approved_links():
    (link,) = records()
    assert (link.id, link.instrument_a, link.instrument_b) == ("m1", "kalshi:KX-1", "polymarket:0xc1")
    assert (link.status, link.approved_by, link.approved_ts_ns) == ("APPROVED", "a human", NOW_NS)
    assert list(zip(link.states, link.payout_a_e6, link.payout_b_e6, strict=True)) == [
        ("yes", 1_000_000, 1_000_000),
        ("no", 0, 0),
        ("void", 500_000, 500_000),
    ]


def test_opposite_polarity_mirrors_the_table():
    (link,) = records({"polarity": "OPPOSITE"})
    assert link.payout_b_e6 == [0, 1_000_000, 500_000]


def test_every_record_goes_to_its_topic_under_its_id():
    text = json.dumps(
        {
            "approved_by": "a human",
            "simulated": True,
            "links": [LINK],
            "profiles": [{"id": "kalshi:main", "venue": "kalshi", "entity": "E", "currency": "USD"}],
            "limits": [
                {
                    "id": "main",
                    "state": "RUNNING",
                    "order_notional_max_e6": 1,
                    "market_notional_max_e6": 1,
                    "open_sagas_max": 1,
                    "unwind_budget_e6": 1,
                    "reason": "start",
                }
            ],
            "strategies": [{"id": "arb", "kind": "cross_venue", "params": {"size_max": 7_000_000}}],
        }
    )
    outputs = operator.records(operator.read(text), now_ns=NOW_NS)
    assert [(output.topic.noun, output.key) for output in outputs] == [
        ("decision.profile", "kalshi:main"),
        ("decision.limit", "main"),
        ("decision.link", "m1"),
        ("decision.strategy", "arb"),
    ]
    assert outputs[0].record.account_set == "main"
    assert outputs[1].record.set_by == "a human"
    assert CrossVenue.from_config(outputs[3].record).params.size_max == 7_000_000


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"polarity": "MAYBE"}, "polarity"),
        ({"kalshi": None}, "instrument a"),
        ({"a": "nyse:X"}, "nyse:X"),
        ({"a": "polymarket:0xc1"}, "a link joins two"),
        ({"payouts": [{"state": "yes", "a_e6": 1_000_000, "b_e6": 1_000_000}]}, "needs the states"),
        (
            {
                "payouts": [
                    {"state": "yes", "a_e6": 1_000_000, "b_e6": 1_000_000},
                    {"state": "no", "a_e6": 0, "b_e6": 0},
                    {"state": "x", "a_e6": 1_000_000, "b_e6": 0},
                    {"state": "y", "a_e6": 0, "b_e6": 1_000_000},
                ]
            },
            "contradicted",
        ),
        (
            {
                "payouts": [
                    {"state": "yes", "a_e6": 1_000_000, "b_e6": 1_000_000},
                    {"state": "no", "a_e6": 0, "b_e6": -1},
                ]
            },
            "state 'no' pays",
        ),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_link_that_cannot_be_right_is_refused_by_name(changes, words):
    with pytest.raises(Misconfigured, match=words):
        records(changes)


EVENT = {
    "kind": "EVENT",
    "key": "E1",
    "instruments": ["kalshi:EV-A", "kalshi:EV-B", "kalshi:EV-C"],
    "event_group": "kalshi:EV",
    "rules_hashes": ["a", "b", "c"],
    "cutoffs_ns": [1, 2, 3],
}


def event(**changes):
    (link,) = [
        output.record
        for output in operator.records(operator.read(json.dumps({"approved_by": "x", "links": [{**EVENT, **changes}]})), now_ns=NOW_NS)
    ]  # fmt: skip
    return link


def test_event_gets_a_state_for_each_winner_for_none_and_for_void():
    link = event()
    assert link.states == ["EV-A", "EV-B", "EV-C", "none", "void"]
    assert link.payouts_e6 == [10**6, 0, 0, 0, 10**6, 0, 0, 0, 10**6, 0, 0, 0, 333_333, 333_333, 333_333]
    assert (link.kind, link.exhaustive, link.instrument_a, link.event_group) == ("EVENT", False, "", "kalshi:EV")
    assert "none" not in event(exhaustive=True).states


def test_event_may_state_its_own_table():
    rows = [{"state": name, "pays_e6": [10**6 * (name == other) for other in "abc"]} for name in "abc"]
    link = event(
        exhaustive=True, table=[*rows, {"state": "tie", "pays_e6": [500_000, 500_000, 0]}], weak_states=["tie"],
        haircut_e6=1, cap_e6=9,
    )  # fmt: skip
    assert (link.states[-1], link.payouts_e6[-3:]) == ("tie", [500_000, 500_000, 0])
    assert (link.weak_states, link.haircut_e6, link.cap_e6) == (["tie"], 1, 9)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"instruments": ["kalshi:EV-A"]}, "two or more"),
        ({"instruments": ["kalshi:EV-A", "nyse:X"]}, "nyse:X"),
        ({"rules_hashes": ["a"]}, "expected 3 rules_hashes"),
        ({"weak_states": ["void"]}, "need a haircut and a cap"),
        ({"table": [{"state": "a", "pays_e6": [1, 2]}]}, "expected 1 states of 3"),
        ({"kind": "TRIPLE"}, "kind"),
    ],
)
def test_event_that_cannot_be_right_is_refused_by_name(changes, words):
    with pytest.raises(Misconfigured, match=words):
        event(**changes)


def test_pair_without_polarity_is_refused():
    with pytest.raises(Misconfigured, match="polarity is missing"):
        records({"polarity": "UNKNOWN"})


def test_approval_without_rule_texts_is_for_simulated_markets_only():
    with pytest.raises(Misconfigured, match="approved rule texts are not recorded"):
        records(simulated=False)
    with pytest.raises(Misconfigured, match="approved rule texts are not recorded"):
        records({"rules_hash_a": "x"}, simulated=False)
    with pytest.raises(Misconfigured, match="link E1: the approved rule texts"):
        event(rules_hashes=[])
    (link,) = records({"rules_hash_a": "x", "rules_hash_b": "y"}, simulated=False)
    assert (link.rules_hash_a, link.rules_hash_b) == ("x", "y")
    (proposed,) = records({"status": "PROPOSED"}, simulated=False)
    assert proposed.status == "PROPOSED"


def test_link_nobody_approved_is_refused():
    with pytest.raises(Misconfigured, match="approved_by is empty"):
        records(approved_by=" ")


def test_id_given_twice_is_refused():
    text = json.dumps({"approved_by": "x", "simulated": True, "links": [LINK, LINK]})
    with pytest.raises(Misconfigured, match="stand once"):
        operator.records(operator.read(text), now_ns=NOW_NS)


def test_file_that_is_not_json_is_refused_by_name():
    with pytest.raises(Misconfigured, match=r"links\.json"):
        operator.read(b"{", where="links.json")


def test_limits_and_budgets_may_name_more_than_they_must():
    limit = {
        "id": "main", "state": "RUNNING", "order_notional_max_e6": 1, "market_notional_max_e6": 1, "open_sagas_max": 1,
        "unwind_budget_e6": 1, "reason": "start", "day_loss_halt_e6": 5, "two_people": True,
    }  # fmt: skip
    budgets = [{"scope": "EVENT", "name": "*", "worst_loss_max_e6": 7, "reason": "start"}]
    text = json.dumps({"approved_by": "a human", "limits": [limit], "budgets": budgets})
    made = operator.records(operator.read(text), now_ns=NOW_NS)
    assert [(output.topic.noun, output.key) for output in made] == [
        ("decision.limit", "main"),
        ("decision.limit", "main|EVENT|*"),
    ]
    assert (made[0].record.day_loss_halt_e6, made[0].record.day_loss_reduce_e6, made[0].record.two_people) == (
        5,
        -1,
        True,
    )
    assert (made[1].record.worst_loss_max_e6, made[1].record.notional_max_e6) == (7, -1)
    assert made[1].record.set_by == "a human"


@pytest.mark.parametrize(
    ("budgets", "words"),
    [
        ([{"scope": "EVENT", "name": " ", "reason": "x"}], "name is empty"),
        ([{"scope": "PLANET", "name": "*", "reason": "x"}], "PLANET"),
        ([{"scope": "EVENT", "name": "*", "reason": "x"}] * 2, "stand once"),
    ],
)
def test_budget_that_cannot_be_right_is_refused_by_name(budgets, words):
    with pytest.raises(Misconfigured, match=words):
        operator.records(operator.read(json.dumps({"approved_by": "x", "budgets": budgets})), now_ns=NOW_NS)
