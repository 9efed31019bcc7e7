"""Which links are ready is kept step by step; it is always what looking at everything anew would say."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from decide.links import Instruments, fault, instruments_of, is_lasting
from decide.strategies_state import State
from schemas.market import Notice

ONE = 1_000_000
NAMES = [f"kalshi:EV-{name}" for name in "ABC"] + ["polymarket:0x1", "polymarket:0x2"]
GROUPS = ["kalshi:EV", "kalshi:EW", ""]


def random_instrument(make, dice):
    return make.instrument(
        dice.choice(NAMES),
        event_group=dice.choice(GROUPS),
        rules_hash=dice.choice(["r", "r", "s", ""]),
        close_ts_ns=dice.choice([7, 7, 8]),
        status=dice.choice(["OPEN", "OPEN", "OPEN", "PAUSED", "UNKNOWN", "SETTLED"]),
        grows=dice.random() < 0.1,
        recv_ts_ns=dice.choice([1, 2, 3]),
    )


def random_notice(dice):
    about = {"instrument": dice.choice(NAMES)} if dice.random() < 0.5 else {"event_group": dice.choice(GROUPS[:2])}
    return Notice(
        venue="kalshi", reason="word", feed="f", epoch=1, frame_no=1, index=0, recv_ts_ns=dice.choice([1, 2, 3]),
        **about,
    )  # fmt: skip


def random_link(make, dice):
    common = {
        "version": dice.randrange(1, 5),
        "status": dice.choice(["APPROVED", "APPROVED", "APPROVED", "SUSPENDED", "PROPOSED"]),
    }
    if dice.random() < 0.5:
        a, b = dice.sample(NAMES, 2)
        rules = {"rules_hash_a": dice.choice(["", "r"]), "rules_hash_b": dice.choice(["", "r"])}
        return make.link(id=dice.choice("PQ"), instrument_a=a, instrument_b=b, **rules, **common)
    names = dice.sample(NAMES[:4], dice.choice([2, 3]))
    width = len(names)
    return make.link(
        id=dice.choice("EF"),
        kind="EVENT",
        instrument_a="",
        instrument_b="",
        polarity="UNKNOWN",
        instruments=names,
        states=names,
        payouts_e6=[ONE * (row == column) for row in range(width) for column in range(width)],
        payout_a_e6=[],
        payout_b_e6=[],
        cutoffs_ns=dice.choice([[], [7] * width]),
        exhaustive=dice.random() < 0.7,
        event_group=dice.choice(GROUPS),
        **common,
    )


def anew(state):
    """The ready links, found by looking at everything."""
    instruments = Instruments()
    for name, instrument in state.instruments.items():
        instruments[name] = instrument
    instruments.noticed_ns.update(state.instruments.noticed_ns)
    links = [link for _, link in sorted(state.links.items())]
    return [link for link in links if link.status == "APPROVED" and not fault(link, instruments)]


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 60))
def test_ready_links_are_those_that_looking_anew_finds(make, seed, cut):
    dice, state = random.Random(seed), State()
    for number in range(60):
        before = {link.id for link in state.ready()}
        chosen = dice.random()
        if chosen < 0.5:
            struck = state.learn_instrument(random_instrument(make, dice))
        elif chosen < 0.65:
            struck = state.learn_notice(random_notice(dice))
        else:
            link = random_link(make, dice)
            struck = {link.id: "gone"} if state.learn_link(link) else {}
        found = anew(state)
        assert state.ready() == found
        assert before - {link.id for link in found} == set(struck) & before
        # One that rested is struck again by what lasts, once.
        assert all(is_lasting(reason) for name, reason in struck.items() if name not in before)
        for name in NAMES:
            assert list(state.ready_of(name)) == [link for link in found if name in instruments_of(link)]
        assert [state.ready_link(name) for name in "PQEF"] == [
            next((link for link in found if link.id == name), None) for name in "PQEF"
        ]
        if number == cut:
            items = {name: data for name, data in state.changed() if data is not None}
            taken = State()
            taken.restore(sorted(items.items(), key=lambda _: dice.random()), make=lambda config: None)
            assert taken.ready() == found
            state = taken


def test_random_links_are_struck_in_every_lasting_way(make):
    words, ready = set(), 0
    for seed in range(400):
        dice, state = random.Random(seed), State()
        for _ in range(60):
            if dice.random() < 0.6:
                struck = state.learn_instrument(random_instrument(make, dice))
                words |= {reason.partition(":")[0] for reason in struck.values()}
            else:
                state.learn_link(random_link(make, dice))
            ready += len(state.ready())
    assert {word for word in words if is_lasting(word)} == {"RULES", "CUTOFF", "DECIDED", "NOT_EXHAUSTIVE"}
    assert ready > 300
