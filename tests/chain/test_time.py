"""Between a quote and the bytes time passes: what was true when it was decided is asked again, and what is old does not leave."""

import pytest

from core.runtime import topics
from decide.admission import Refusal
from schemas.decision import Clock
from schemas.derived import Quote

ONE = 1_000_000
KALSHI, POLY = "kalshi:KX-1", "polymarket:0xc2"
WORKERS = ("normalize", "derive", "strategies", "accounts", "kalshi", "polymarket")


def refusals(chain):
    return [saga.reason for saga in chain.sagas() if saga.state == "REFUSED"]


def words_of(chain, grant):
    (update,) = chain.events(grant.id)
    return update.status, update.reason


def take_back(chain):
    """The edge is gone, as if it had never been."""
    chain.calm()


# --- a book that changes its state under way


def test_intent_on_a_quote_that_became_suspect_before_the_grant_sends_nothing(new_chain):
    chain = new_chain()
    chain.frozen.add("accounts")
    chain.cheapen(POLY)
    assert len(chain.intents()) == 1
    chain.reset(POLY, "gap: expected seq 4, found 6")
    chain.frozen.clear()
    chain.settle()
    # Accounts see no books: the gateway does.
    (grant,) = chain.grants()
    assert words_of(chain, grant) == (
        "REJECTED",
        f"gateway: the book of {POLY} is SUSPECT: gap: expected seq 4, found 6",
    )
    assert chain.left() == []


def test_grant_on_a_book_that_became_suspect_before_the_bytes_does_not_leave(new_chain):
    chain = new_chain()
    gateway = chain.gateways["polymarket"]

    def breaks():
        chain.frozen.add("polymarket")
        chain.reset(POLY, "unparseable: not JSON")
        gateway.read_books()

    gateway.door.before_write = breaks
    chain.cheapen(POLY)
    (grant,) = chain.grants()
    assert words_of(chain, grant) == ("EXPIRED_UNSENT", f"the book of {POLY} is SUSPECT: unparseable: not JSON")
    assert chain.left() == []


def test_hedge_on_a_book_that_became_suspect_is_not_sent_and_leaves_when_it_healed(new_chain):
    chain = new_chain()
    polymarket = chain.gateways["polymarket"]

    def matched(_, request):
        return 200, (
            b'{"success":true,"errorMsg":"","orderID":"%s","takingAmount":"50","makingAmount":"19.5","status":"matched"}'
            % request.venue_order.encode()
        )

    polymarket.door.answer = matched
    chain.frozen.add("accounts")
    chain.cheapen(POLY)
    chain.reset(KALSHI, "gap: expected seq 4, found 6")
    chain.frozen.clear()
    chain.settle()
    (entry,) = chain.grants()
    assert chain.left() == [entry.id]
    chain.fill(entry)
    hedge = chain.grants()[-1]
    assert (hedge.purpose, hedge.instrument) == ("HEDGE", KALSHI)
    chain.advance(1_000)
    # It is granted again and again, and refused each time.
    hedges = chain.grants()[1:]
    assert len(hedges) > 2
    assert {words_of(chain, grant)[0] for grant in hedges} == {"REJECTED"}
    assert all("gap: expected seq 4, found 6" in words_of(chain, grant)[1] for grant in hedges)
    assert chain.left() == [entry.id]
    chain.calm(KALSHI)
    chain.advance(500)
    sent = {name for name, _ in chain.gateways["kalshi"].door.left}
    assert sent
    assert sent <= {grant.id for grant in chain.grants() if grant.purpose == "HEDGE"} - {grant.id for grant in hedges}


@pytest.mark.parametrize("name", [KALSHI, POLY])
def test_predecessor_of_derive_that_thaws_makes_no_book_live_again(new_chain, name):
    chain = new_chain()
    chain.level(name, "BUY", 4_700, 40 * ONE)
    chain.reset(name, "gap: expected seq 4, found 6")
    chain.derive.thaw_predecessor(3, 1)
    chain.settle()
    # Its quote was LIVE and stands behind the one that says SUSPECT; its version does not.
    quotes = [item.record for item, _ in chain.wire.read(topics.DERIVED_BOOK) if type(item.record) is Quote]
    assert (quotes[-1].instrument, quotes[-1].state) == (name, "LIVE")
    chain.raise_other(name)
    assert chain.edges() == chain.intents() == []
    assert "gap: expected seq 4, found 6" in chain.hand_over(name, "BUY", 5_000)
    assert chain.left() == []


# --- ticks


def test_ticks_that_age_between_decision_and_bytes_keep_them_here(new_chain):
    chain = new_chain()
    # Derive says nothing for 700 ms: the quote is usable still.
    chain.advance(50)
    chain.frozen.add("derive")
    chain.advance(600)
    chain.gateways["polymarket"].door.before_write = lambda: chain.clock.advance(ms=450)
    assert "last tick of derived.book partition" in chain.hand_over(
        POLY, "BUY", 5_000, send_by_ns=chain.clock.now_ns() + 10**10
    )
    assert chain.left() == []
    chain.frozen.clear()
    chain.gateways["polymarket"].door.before_write = lambda: None
    chain.advance(500)
    assert chain.hand_over(POLY, "BUY", 5_000) == ""


def test_tick_of_another_partition_does_not_vouch_for_a_book(new_chain):
    chain = new_chain()
    dead = chain.quote(POLY)
    # One of the two book tasks hangs: its partition has no ticks, the other's go on.
    chain.derive.hung.add(0)
    chain.advance(1_200)
    chain.provoke(POLY)
    assert (dead.state, chain.intents(), chain.edges()) == ("LIVE", [], [])
    assert "last tick of derived.book partition 0" in chain.hand_over(POLY, "BUY", 5_000)
    assert chain.left() == []
    assert chain.hand_over(KALSHI, "SELL", 5_400) == ""


@pytest.mark.parametrize("venue", ["kalshi", "polymarket"])
def test_gateway_that_reads_books_late_sends_nothing_on_what_it_read(new_chain, venue):
    chain = new_chain()
    name = KALSHI if venue == "kalshi" else POLY
    chain.gateways[venue].books_held = True
    chain.reset(name, "gap: expected seq 4, found 6")
    chain.advance(1_100)
    assert chain.gateways[venue].market.quotes[name][1].state == "LIVE"
    assert "ms old" in chain.hand_over(name, "BUY", 5_000)
    chain.gateways[venue].books_held = False
    chain.settle()
    assert "gap: expected seq 4, found 6" in chain.hand_over(name, "BUY", 5_000)
    assert chain.left() == []


# --- conflation


def test_quote_that_was_conflated_away_makes_no_order(new_chain):
    chain = new_chain()
    chain.strategies.conflates = True
    chain.frozen.add("strategies")
    chain.cheapen(POLY)
    take_back(chain)
    chain.frozen.clear()
    chain.settle()
    assert chain.edges() == chain.intents() == []


def test_suspect_quote_is_not_conflated_away_by_an_older_one(new_chain):
    chain = new_chain()
    chain.strategies.conflates = True
    chain.frozen.add("strategies")
    chain.cheapen(POLY)
    chain.reset(POLY, "gap: expected seq 4, found 6")
    # A predecessor that thawed says again what it had said before the gap.
    chain.derive.thaw_predecessor(5, 3)
    chain.frozen.clear()
    chain.settle()
    chain.level(KALSHI, "BUY", 4_700, 45 * ONE)
    assert chain.edges() == chain.intents() == []


def test_newest_quote_under_conflation_trades_on_the_depth_it_names(new_chain):
    chain = new_chain()
    chain.strategies.conflates = True
    chain.frozen.add("strategies")
    chain.cheapen(POLY, 3_900)
    chain.level(POLY, "SELL", 3_900, 0)
    chain.level(POLY, "SELL", 4_000, 7 * ONE)
    chain.frozen.clear()
    chain.settle()
    (intent,) = chain.intents()
    leg = next(leg for leg in intent.legs if leg.instrument == POLY)
    assert (leg.level_prices, leg.level_sizes) == ([4_000], [7 * ONE])


# --- old input


def test_thawed_strategies_worker_that_acts_on_old_input_gets_no_grant(new_chain):
    chain = new_chain()
    # What it had sequenced stands in its log with the time of then; the task had not come to it.
    chain.frozen.add("strategies")
    chain.cheapen(POLY)
    chain.strategies.sequence()
    take_back(chain)
    chain.advance(3_000)
    chain.frozen.clear()
    chain.settle()
    assert len(chain.intents()) == 1
    assert refusals(chain) == [Refusal.OFF_TIME]
    assert chain.grants() == []
    # It is well again.
    chain.advance(500)
    chain.cheapen(KALSHI)
    assert len(chain.left()) == 1


def test_thawed_host_of_strategies_and_accounts_grants_what_no_gateway_sends(new_chain):
    chain = new_chain()
    chain.frozen |= {"strategies", "accounts"}
    chain.cheapen(POLY)
    chain.strategies.sequence()
    take_back(chain)
    chain.advance(3_000)
    chain.frozen.clear()
    chain.strategies.step()
    # Its log's time stood still, so accounts cannot know: send_by is what keeps the order here.
    _step_task_only(chain.accounts)
    chain.settle()
    (grant,) = chain.grants()
    status, reason = words_of(chain, grant)
    assert (status, reason.startswith("send_by passed")) == ("EXPIRED_UNSENT", True)
    assert chain.left() == []


def _step_task_only(worker):
    sequence, worker.sequence = worker.sequence, lambda: None
    worker.step()
    worker.sequence = sequence


@pytest.mark.parametrize("late_ms", [501, 1_001])
def test_accounts_that_were_frozen_refuse_what_waited(new_chain, late_ms):
    chain = new_chain()
    chain.frozen.add("accounts")
    chain.cheapen(POLY)
    chain.clock.advance(ms=late_ms)
    chain.accounts.tell_time()
    chain.frozen.clear()
    chain.settle()
    # The intent stands before that time record, so it is admitted as of its own time, and its order is late.
    (grant,) = chain.grants()
    assert words_of(chain, grant)[0] == "EXPIRED_UNSENT"
    assert chain.left() == []


@pytest.mark.parametrize(("ahead_ms", "refused"), [(900, []), (1_001, [Refusal.OFF_TIME])])
def test_intent_more_than_a_second_after_the_last_time_record_of_accounts_is_refused(new_chain, ahead_ms, refused):
    chain = new_chain()
    # Accounts' sequencer stands still while its task reads: their log's time is what it was told last.
    chain.accounts.sequence = lambda: None
    chain.accounts.tell_time = lambda: None
    before = chain.accounts.inbox.log_ns
    chain.clock.advance(ms=ahead_ms - (chain.clock.now_ns() - before) // 1_000_000)
    chain.tick("kalshi")
    chain.tick("polymarket")
    chain.cheapen(POLY)
    (intent,) = chain.intents()
    assert intent.now_ns - before == ahead_ms * 1_000_000
    assert refusals(chain) == refused
    assert len(chain.grants()) == 1 - len(refused)


@pytest.mark.parametrize(("late_ms", "refused"), [(900, [Refusal.LATE]), (1_001, [Refusal.OFF_TIME])])
def test_intent_from_before_the_last_time_record_of_accounts_is_refused(new_chain, late_ms, refused):
    chain = new_chain()
    now = chain.clock.now_ns()
    chain.wire.append(chain.accounts.log, "clock", Clock(now_ns=now + late_ms * 1_000_000), 0)
    chain.settle()
    chain.cheapen(POLY)
    assert len(chain.intents()) == 1
    assert refusals(chain) == refused
    assert chain.grants() == []


# --- workers that freeze or die while an edge comes and goes


@pytest.mark.parametrize("name", [KALSHI, POLY])
@pytest.mark.parametrize("worker", WORKERS)
def test_frozen_worker_sends_nothing_on_an_edge_that_came_and_went(new_chain, worker, name):
    chain = new_chain()
    chain.frozen.add(worker)
    chain.cheapen(name)
    left = chain.left()
    take_back(chain)
    chain.advance(3_000)
    chain.frozen.clear()
    chain.advance(1_000)
    # Only while nobody on the way of the first leg was frozen did an order leave, at once.
    assert bool(left) == (worker == "kalshi")
    assert chain.left() == left
    assert {grant.id for grant in chain.grants()} - set(left) <= _ended_unsent(chain)
    chain.stir()
    chain.cheapen(name)
    assert len(chain.left()) == len(left) + 1


@pytest.mark.parametrize("name", [KALSHI, POLY])
@pytest.mark.parametrize("uncommitted", [0, 1, 30, "checkpoint"])
@pytest.mark.parametrize("worker", WORKERS)
def test_killed_worker_sends_nothing_twice_and_nothing_on_an_edge_that_went(new_chain, worker, name, uncommitted):
    chain = new_chain()
    chain.cheapen(name)
    left = chain.left()
    assert len(left) == 1
    if uncommitted == "checkpoint" and worker not in chain.gateways:
        chain.workers[worker].checkpoint()
    chain.advance(300)
    chain.frozen.add(worker)
    chain.raise_other(name)
    during = chain.left()
    take_back(chain)
    chain.advance(2_000)
    chain.frozen.clear()
    if worker in chain.gateways:
        chain.workers[worker].restart()
    elif uncommitted == "checkpoint":
        chain.workers[worker].restore()
    else:
        chain.workers[worker].restart(uncommitted)
    chain.advance(1_000)
    assert chain.left() == during
    assert len(set(chain.left())) == len(chain.left())
    chain.advance(10_000)
    chain.cheapen(name)
    assert len(chain.left()) == len(during) + 1
    assert {grant.id for grant in chain.grants()} - set(chain.left()) <= _ended_unsent(chain)


def _ended_unsent(chain):
    return {
        grant.id
        for grant in chain.grants()
        if chain.events(grant.id) and chain.events(grant.id)[-1].status in {"EXPIRED_UNSENT", "REJECTED"}
    }


@pytest.mark.parametrize("name", [KALSHI, POLY])
def test_ingest_worker_that_froze_leaves_books_nobody_trades_on(new_chain, name):
    """One venue's feed stops: derive says so within a second of its log, by the ticks of the other."""
    chain = new_chain()
    venue = name.partition(":")[0]
    chain.silent.add(venue)
    chain.advance(1_500)
    assert (chain.quote(name).state, chain.quote(name).cause) == ("STALE", "feed silent")
    chain.raise_other(name)
    assert chain.left() == chain.intents() == []
    # Every feed stops: nobody is there to say so, the ticks of derive end.
    chain.silent |= {"kalshi", "polymarket"}
    chain.advance(1_500)
    for market in (KALSHI, POLY):
        assert "gateway: " in chain.hand_over(market, "BUY", 5_000)
    chain.cheapen(name)
    assert chain.left() == chain.intents() == []
