"""Plans of the sequencers: what a log partition is to see."""

from importlib.metadata import EntryPoint

import pytest

from core.domain.errors import Misconfigured
from core.domain.partition import partition_of
from core.runtime import topics
from decide.sources import ACCOUNT_SOURCES, STRATEGY_SOURCES, AccountPlan, StrategyPlan
from decide.strategies import registry
from tests.decide.conftest import holding


def test_shard_is_active_once_it_has_a_strategy_and_wants_the_books_of_links(make):
    own = partition_of("arb-1", 4)
    plans = {number: StrategyPlan(number, 4) for number in range(4)}
    for plan in plans.values():
        assert not plan.active()
        plan.learn(make.strategy())
        plan.learn(make.link())
        plan.learn(make.link(id="L2", status="PROPOSED", instrument_a="kalshi:KX-2"))
    assert [number for number, plan in plans.items() if plan.active()] == [own]
    assert plans[own].wants("derived.book", make.KALSHI.encode())
    assert not plans[own].wants("derived.book", b"kalshi:KX-2")


@pytest.mark.parametrize("strategy_first", [True, False])
@pytest.mark.parametrize(
    ("blind_to", "seen"), [([], {"P", "E"}), (["EVENT"], {"P"}), (["PAIR"], {"E"}), (["PAIR", "EVENT"], set())]
)
def test_shard_brings_the_books_of_links_its_strategies_look_at_whichever_comes_first(
    make, strategy_first, blind_to, seen
):
    plan = StrategyPlan(0, 1)
    strategy = make.strategy(blind_to=blind_to, instruments=["kalshi:named"])
    links = [
        make.link(instrument_a="kalshi:P", instrument_b="polymarket:P"),
        make.link(id="E1", kind="EVENT", instrument_a="", instrument_b="", instruments=["kalshi:E"]),
    ]
    for record in [strategy, *links] if strategy_first else [*links, strategy]:
        plan.learn(record)
    assert {name for name in ("P", "E") if plan.wants("derived.book", f"kalshi:{name}".encode())} == seen
    assert plan.wants("derived.book", b"kalshi:named")
    # Another strategy of the shard that looks at all brings all.
    plan.learn(make.strategy(id="arb-2"))
    assert plan.wants("derived.book", b"kalshi:P")
    assert plan.wants("derived.book", b"kalshi:E")


def test_ticks_without_a_key_reach_every_shard(make):
    assert StrategyPlan(0, 1).wants("derived.book", b"")


def test_account_set_takes_the_events_of_its_own_accounts(make):
    own = partition_of("main", 4)
    mine, other = AccountPlan(own, 4), AccountPlan((own + 1) % 4, 4)
    for plan in (mine, other):
        plan.learn(make.profile("kalshi"))
        plan.learn(make.limit())
    assert mine.active()
    assert mine.wants("order.event", b"kalshi:main")
    assert not mine.wants("order.event", b"kalshi:other")
    assert not other.active()
    assert not other.wants("order.event", b"kalshi:main")


@pytest.mark.parametrize(
    ("log", "sources"),
    [(topics.DECISION_INPUT, STRATEGY_SOURCES), (topics.DECISION_ACCOUNT, ACCOUNT_SOURCES)],
    ids=["strategies", "accounts"],
)
def test_every_source_record_may_stand_on_its_log(log, sources):
    for source in sources:
        if source.forwards:
            assert set(source.kinds or source.topic.records) <= set(log.records)


def test_only_books_may_start_at_the_end():
    assert {s.topic.noun for s in (*STRATEGY_SOURCES, *ACCOUNT_SOURCES) if s.may_skip} == {"derived.book"}


def test_accounts_see_the_quotes_of_what_they_hold_only_where_a_loss_is_limited(make):
    plan = AccountPlan(0, 1)
    for record in (make.profile("kalshi"), make.limit(), holding("kalshi:main", make.KALSHI)):
        plan.learn(record)
    plan.learn(holding("kalshi:other", "kalshi:KX-2"))
    assert not plan.wants("derived.book", make.KALSHI.encode())
    assert not plan.wants("derived.book", b"")
    plan.learn(make.budget("STRATEGY", day_loss_max_e6=5))
    assert plan.wants("derived.book", make.KALSHI.encode())
    assert plan.wants("derived.book", b"")
    assert not plan.wants("derived.book", b"kalshi:KX-2")
    plan.learn(make.budget("STRATEGY"))
    assert not plan.wants("derived.book", make.KALSHI.encode())
    plan.learn(make.limit(day_loss_halt_e6=0))
    assert plan.wants("derived.book", make.KALSHI.encode())


def test_a_limit_of_another_partition_asks_for_no_marks_here(make):
    own = partition_of("main", 4)
    plan = AccountPlan((own + 1) % 4, 4)
    for record in (make.profile("kalshi"), make.limit(day_loss_halt_e6=0), holding("kalshi:main", make.KALSHI)):
        plan.learn(record)
    assert not plan.wants("derived.book", make.KALSHI.encode())


def test_installed_package_adds_a_kind_of_strategy(monkeypatch, make):
    point = EntryPoint("third_party", "decide.strategies.cross_venue:CrossVenue.from_config", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == registry.GROUP else [])
    kinds = registry.load_kinds()
    assert sorted(kinds) == ["cross_venue", "exhaustive_event", "momentum", "passive_quoting", "third_party"]
    assert kinds["third_party"](make.strategy()).params.size_max > 0


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("cross_venue", "decide.strategies.cross_venue:CrossVenue", "already taken"),
        ("x", "no.such:thing", "does not load"),
    ],
)
def test_kind_that_cannot_be_had_stops_the_start(monkeypatch, name, value, words):
    monkeypatch.setattr(registry, "entry_points", lambda group: [EntryPoint(name, value, registry.GROUP)])
    with pytest.raises(Misconfigured, match=words):
        registry.load_kinds()


def test_two_sets_that_hold_one_market_both_keep_their_marks(make):
    """The ledger of every set stands on one topic: what another holds is learnt beside, not instead."""
    sets = ["main", next(name for name in "abcdefgh" if partition_of(name, 2) != partition_of("main", 2))]
    plans = [AccountPlan(partition_of(name, 2), 2) for name in sets]
    told = [
        *(make.profile("kalshi", id=f"kalshi:{name}", account_set=name) for name in sets),
        *(make.limit(id=name, day_loss_halt_e6=0) for name in sets),
        *(holding(f"kalshi:{name}", make.KALSHI) for name in sets),
        holding("kalshi:main", make.KALSHI),
        holding(f"kalshi:{sets[1]}", "kalshi:KX-2"),
    ]
    for plan in plans:
        for record in told:
            plan.learn(record)
        assert plan.wants("derived.book", make.KALSHI.encode())
    assert [plan.wants("derived.book", b"kalshi:KX-2") for plan in plans] == [False, True]


def test_two_sets_of_one_partition_both_keep_their_marks_whichever_holds_last(make):
    plan = AccountPlan(0, 1)
    # What is held may be learnt before whose it is.
    plan.learn(holding("kalshi:main", make.KALSHI))
    for name in ("main", "other"):
        plan.learn(make.profile("kalshi", id=f"kalshi:{name}", account_set=name))
    plan.learn(make.limit(id="other", day_loss_halt_e6=0))
    plan.learn(holding("kalshi:stranger", make.KALSHI))
    assert plan.wants("derived.book", make.KALSHI.encode())
    plan.learn(holding("kalshi:other", make.KALSHI))
    assert plan.wants("derived.book", make.KALSHI.encode())
