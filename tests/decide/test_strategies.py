"""The strategies' task over its log: usable books, edges, intents, configuration."""

import json

import pytest

from core.domain.errors import Reject
from core.runtime.flow import Source
from schemas.decision import Edge, Intent
from schemas.derived import Tick
from schemas.market import Status
from tests.decide.quotes import outcome

ONE = 1_000_000
FEES_E6 = 96_000 + 180_000


def open_edge(log, make, version=10):
    """Kalshi bids .50 for 10, Polymarket asks .40 for 10: an edge of a dollar before fees."""
    log.book(make.KALSHI, version, bids=[(5_000, 10 * ONE)], asks=[(5_200, 10 * ONE)])
    return log.book(make.POLY, version, bids=[(3_800, 10 * ONE)], asks=[(4_000, 10 * ONE)])


def test_edge_begins_and_an_intent_names_both_books(make):
    log = make.strategies().start()
    edge, intent = open_edge(log, make)
    assert (edge.phase, edge.buy_instrument, edge.sell_instrument) == ("BEGIN", make.POLY, make.KALSHI)
    assert (edge.size, edge.buy_price_e6, edge.sell_price_e6) == (10 * ONE, 400_000, 500_000)
    # By hand: ten dollars less 4.00 and 5.00; fees at .40: .04 x 10 x .24, ten half units; at .50: .07 x 10 x .25, to the cent.
    assert edge.fees_e6 == 96_050 + 180_000
    assert edge.profit_e6 == 1_000_000 - 96_050 - 180_000
    assert isinstance(intent, Intent)
    assert intent.edge == edge.id != intent.id
    assert [leg.instrument for leg in intent.legs] == [make.POLY, make.KALSHI]
    assert [leg.side for leg in intent.legs] == ["BUY", "SELL"]
    assert [leg.account for leg in intent.legs] == ["polymarket:main", "kalshi:main"]
    assert [(leg.price, leg.size) for leg in intent.legs] == [(4_000, 10 * ONE), (5_000, 10 * ONE)]
    assert {(leg.version_offset, leg.version_index) for leg in intent.legs} == {(10, 0)}
    assert intent.input_offset == len(log.items) - 1
    assert log.outputs[-1].key == "main"


def test_accounts_admit_what_strategies_intend(make):
    strategies, accounts = make.strategies().start(), make.accounts().start()
    _, intent = open_edge(strategies, make)
    follows = accounts.feed(intent)
    assert follows[0].price == 4_000


def test_opposite_polarity_buys_both_sides_and_mirrors_the_edge_price(make):
    log = make.strategies().start(
        links=[
            make.link(
                polarity="OPPOSITE",
                states=["a", "b", "void"],
                payout_a_e6=[ONE, 0, ONE // 2],
                payout_b_e6=[0, ONE, ONE // 2],
            )
        ]
    )
    log.book(make.KALSHI, 10, bids=[(3_000, 10 * ONE)], asks=[(4_000, 10 * ONE)])
    edge, intent = log.book(make.POLY, 10, bids=[(4_000, 10 * ONE)], asks=[(5_000, 10 * ONE)])
    assert [(leg.instrument, leg.side) for leg in intent.legs] == [(make.POLY, "BUY"), (make.KALSHI, "BUY")]
    assert (edge.buy_instrument, edge.sell_instrument) == (make.KALSHI, make.POLY)
    assert (edge.buy_price_e6, edge.sell_price_e6) == (400_000, 500_000)


def test_worst_state_of_the_payout_table_decides(make):
    # In a void, YES of a pays .40 and of b .60: selling a and buying b would gain, the other way loses.
    table = dict(states=["yes", "no", "void"], payout_a_e6=[ONE, 0, 600_000], payout_b_e6=[ONE, 0, 400_000])
    log = make.strategies().start(links=[make.link(**table)])
    assert open_edge(log, make) == []


def test_book_that_is_not_live_yields_nothing(make):
    log = make.strategies().start()
    log.book(make.KALSHI, 10, bids=[(5_000, 10 * ONE)])
    assert log.book(make.POLY, 10, asks=[(4_000, 10 * ONE)], state="STALE") == []


def test_quote_is_not_usable_once_the_ticks_of_its_partition_are_a_second_old(make):
    log = make.strategies().start()
    log.clock(999)
    assert len(open_edge(log, make)) == 2
    late = make.strategies().start()
    late.clock(1_000)
    assert open_edge(late, make) == []
    # A tick of another partition vouches for nothing.
    late.tick(partition=3)
    assert open_edge(late, make, version=11) == []


def test_depth_that_the_quote_does_not_name_is_not_walked(make):
    log = make.strategies().start()
    log.book(make.KALSHI, 10, bids=[(5_000, 10 * ONE)])
    depth = make.depth(make.POLY, 10, asks=[(4_000, 10 * ONE)])
    log.feed(depth, source=Source("derived.book", 0, 1))
    assert log.feed(make.quote(depth, depth_offset=9), source=Source("derived.book", 0, 2)) == []


def test_edge_ends_when_the_price_is_gone(make):
    log = make.strategies().start()
    edge, _ = open_edge(log, make)
    (end,) = log.book(make.POLY, 11, asks=[(4_900, 10 * ONE)])
    assert (end.phase, end.id) == ("END", edge.id)


def test_edge_ends_in_silence_when_ticks_stop(make):
    log = make.strategies().start()
    edge, _ = open_edge(log, make)
    assert log.clock(999) == []
    (end,) = log.clock(1)
    assert (end.phase, end.id, end.now_ns) == ("END", edge.id, log.now_ns)


def test_changed_edge_is_refreshed_at_most_every_interval(make):
    log = make.strategies().start()
    edge, _ = open_edge(log, make)
    assert log.book(make.POLY, 11, asks=[(4_100, 10 * ONE)]) == []
    log.clock(250)
    (refresh,) = log.book(make.POLY, 12, asks=[(4_100, 10 * ONE)])
    assert (refresh.phase, refresh.id, refresh.begin_ns) == ("REFRESH", edge.id, edge.begin_ns)
    assert refresh.profit_e6 < edge.profit_e6


def test_link_is_busy_until_its_saga_ends_and_then_rests(make):
    log = make.strategies().start()
    _, intent = open_edge(log, make)
    log.clock(100)
    open_edge(log, make, version=11)
    outcome(log, intent, "FIRST_LEG")
    open_edge(log, make, version=12)
    outcome(log, intent, "DONE")
    log.clock(500)
    log.tick()
    log.clock(499)
    open_edge(log, make, version=13)
    assert len(log.all(Intent)) == 1
    log.clock(1)
    open_edge(log, make, version=14)
    assert len(log.all(Intent)) == 2


def test_reopened_saga_makes_its_link_busy_again(make):
    log = make.strategies().start()
    _, intent = open_edge(log, make)
    outcome(log, intent, "DONE")
    outcome(log, intent, "UNWINDING")
    log.clock(900)
    log.tick()
    log.clock(900)
    open_edge(log, make, version=11)
    assert len(log.all(Intent)) == 1


def test_repeat_of_a_known_version_triggers_nothing(make):
    log = make.strategies().start()
    open_edge(log, make)
    count = len(log.outputs)
    open_edge(log, make)
    assert len(log.outputs) == count


@pytest.mark.parametrize("status", ["DRAINING", "STOPPED"])
def test_strategy_that_does_not_run_intends_nothing(make, status):
    log = make.strategies().start()
    log.feed(make.strategy(status=status))
    assert not [one for one in open_edge(log, make) if isinstance(one, Intent)]


def test_stopping_ends_its_edges_and_running_again_begins_new_ones(make):
    log = make.strategies().start()
    open_edge(log, make)
    (end,) = log.feed(make.strategy(status="STOPPED"))
    assert end.phase == "END"
    log.feed(make.strategy())
    open_edge(log, make, version=11)
    assert [edge.phase for edge in log.all(Edge)][:3] == ["BEGIN", "END", "BEGIN"]


def test_changed_parameters_take_effect_and_keep_what_is_under_way(make):
    log = make.strategies().start()
    open_edge(log, make)
    ended = log.feed(make.strategy(params=json.dumps({"size_max": 5 * ONE})))
    assert [edge.phase for edge in ended] == ["END"]
    open_edge(log, make, version=11)
    assert (log.last(Edge).phase, log.last(Edge).size) == ("BEGIN", 5 * ONE)
    assert len(log.all(Intent)) == 1


@pytest.mark.parametrize("change", [dict(params='{"size": 1}'), dict(params="{"), dict(kind="unheard_of")])
def test_configuration_that_does_not_parse_is_rejected_and_leaves_the_running_one(make, change):
    log = make.strategies().start()
    with pytest.raises(Reject):
        log.feed(make.strategy(**change))
    assert len(open_edge(log, make)) == 2


def test_tick_change_in_band_is_obeyed(make):
    log = make.strategies().start()
    change = Status(
        instrument=make.POLY,
        epoch=0,
        frame_no=1,
        index=0,
        status="UNKNOWN",
        price_exp=-4,
        tick_from=[300],
        tick_to=[9_700],
        tick_step=[300],
        recv_ts_ns=log.now_ns,
    )
    log.feed(change)
    assert open_edge(log, make) == []


def word(make, log, seconds, **said):
    fields = dict(epoch=0, frame_no=1, index=0, status="UNKNOWN", price_exp=-4)
    at_ns = log.now_ns + seconds * 10**9
    return Status(instrument=make.KALSHI, recv_ts_ns=at_ns, venue_ts_ns=at_ns, **(fields | said))


FINE_GRID = {"tick_from": [0], "tick_to": [10_000], "tick_step": [10]}


def test_word_older_than_the_description_changes_nothing_it_says(make):
    log = make.strategies().start()
    paused = make.replace(make.instrument(make.KALSHI), status="PAUSED", recv_ts_ns=log.now_ns + 2 * 10**9)
    log.feed(paused)
    log.feed(word(make, log, 1, status="OPEN"))
    log.feed(word(make, log, 3, **FINE_GRID))
    stands = log.task._state.instruments[make.KALSHI]
    assert (stands.status, stands.tick_step) == ("PAUSED", [10])
    assert open_edge(log, make) == []


def test_description_older_than_a_word_changes_nothing_the_word_said(make):
    log = make.strategies().start()
    log.feed(word(make, log, 3, status="PAUSED"))
    log.feed(word(make, log, 4, **FINE_GRID))
    log.feed(make.replace(make.instrument(make.KALSHI), recv_ts_ns=log.now_ns + 2 * 10**9))
    stands = log.task._state.instruments[make.KALSHI]
    assert (stands.status, stands.tick_step) == ("PAUSED", [10])


def test_tick_change_does_not_outdate_a_pause_that_comes_late(make):
    log = make.strategies().start()
    log.feed(word(make, log, 4, **FINE_GRID))
    log.feed(word(make, log, 3, status="PAUSED"))
    assert log.task._state.instruments[make.KALSHI].status == "PAUSED"
    assert open_edge(log, make) == []


def test_suspended_link_is_left_alone(make):
    log = make.strategies().start()
    log.feed(make.link(version=2, status="SUSPENDED"))
    assert open_edge(log, make) == []
    # A late copy of the approval changes nothing.
    log.feed(make.link(version=1))
    assert open_edge(log, make, version=11) == []


def test_strategy_of_another_shard_is_not_run(make):
    shards = [make.strategies(partition=number, partitions=4).start() for number in range(4)]
    for log in shards:
        open_edge(log, make)
    assert sorted(len(log.all(Intent)) for log in shards) == [0, 0, 0, 1]


def test_ticks_do_not_go_back(make):
    log = make.strategies().start()
    log.clock(500)
    log.tick()
    log.feed(Tick(partition=0, ts_ns=log.now_ns - 400_000_000))
    log.clock(900)
    assert len(open_edge(log, make)) == 2


def test_feeding_the_log_again_gives_the_same_records(make):
    log = make.strategies().start()
    _, intent = open_edge(log, make)
    outcome(log, intent, "DONE")
    log.clock(1_000)
    log.tick()
    open_edge(log, make, version=12)
    assert len(log.all(Intent)) == 2
    assert log.again() == log.outputs
