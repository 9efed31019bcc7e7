"""Orders as the venues offer them: time in force, post-only, amendments; where there are none, cancel and grant anew."""

import asyncio
import dataclasses
import json

import msgspec
import pytest

from core.domain.errors import Misconfigured
from core.runtime import topics
from core.runtime.clock import NS_PER_MS, NS_PER_S
from core.runtime.settings import load
from execute import follow
from execute.checks import Market
from execute.ports import Lane
from execute.settings import ExecuteSettings
from execute.views import OrderView, Subject
from schemas.decision import Amend
from schemas.order import VenueCall
from simulate.kalshi.amend import amend as amend_at_venue
from simulate.kalshi.exchange import OrderRefused
from tests.execute.test_checks import GRANT, INSTRUMENT, change
from tests.execute.unreached import kalshi_venue

E6 = 1_000_000
BOTH = pytest.mark.parametrize("venue", ["kalshi", "polymarket"])


def amend(bench, order, *, price, size, life_ms=2_000, **changes):
    now = bench.clock.now_ns()
    fields = dict(
        id=f"amend{now}",
        order=order,
        account=bench.account,
        instrument=bench.instrument.instrument,
        price=price,
        size=size,
        price_exp=-4,
        size_exp=-6,
        reason="the fair value moved",
        now_ns=now,
        send_by_ns=now + life_ms * NS_PER_MS,
        recv_ts_ns=now,
    )
    record = Amend(**(fields | changes))
    bench.log.append(topics.DECISION_ORDER, bench.account, record)
    return record


async def resting(bench, **changes):
    grant = bench.grant(**({"time_in_force": "GTC", "price": 4_300, "size": 10 * E6} | changes))
    await bench.until(lambda: "ACCEPTED" in bench.statuses(grant.id))
    return grant


def engine(bench):
    return bench.venue_orders[0].engine


# --- amend where it is offered


async def test_price_and_total_are_changed_under_the_same_id(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        await bench.start()
        grant = await resting(bench)
        amend(bench, grant.id, price=4_400, size=25 * E6)
        update = await bench.until(lambda: next((u for u in bench.updates(grant.id) if u.size), None))
        assert (update.status, update.price, update.size, update.filled) == ("ACCEPTED", 4_400, 25 * E6, 0)
        assert (engine(bench).price, engine(bench).size, engine(bench).remaining) == (4_400, 25 * E6, 25 * E6)
        assert len(bench.venue_orders) == 1
        # What is cancelled afterwards is counted by what stands.
        bench.cancel(grant.id)
        end = await bench.terminal(grant.id)
        assert (end.status, end.filled) == ("CANCELLED", 0)


async def test_total_of_a_partly_filled_order_counts_what_is_filled(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        await bench.start()
        grant = await resting(bench)
        bench.stranger("SELL", 4_300, 4)
        await bench.until(lambda: bench.fills(grant.id))
        amend(bench, grant.id, price=4_300, size=6 * E6)
        await bench.until(lambda: engine(bench).size == 6 * E6)
        assert engine(bench).remaining == 2 * E6
        bench.stranger("SELL", 4_300, 2)
        end = await bench.terminal(grant.id)
        assert (end.status, end.filled) == ("FILLED", 6 * E6)
        assert sum(fill.size for fill in bench.fills(grant.id)) == 6 * E6


async def test_amend_that_crosses_trades_and_ends_the_order(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        await bench.start()
        grant = await resting(bench)
        bench.stranger("SELL", 4_500, 50)
        amend(bench, grant.id, price=4_500, size=10 * E6)
        end = await bench.terminal(grant.id)
        assert (end.status, end.filled) == ("FILLED", 10 * E6)


async def test_amend_without_an_answer_is_repeated_and_done_once(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        await bench.start()
        grant = await resting(bench)
        bench.faults.order_swallow_answer_rate = 1.0
        amend(bench, grant.id, price=4_200, size=12 * E6)
        await bench.until(lambda: engine(bench).price == 4_200)
        bench.faults.order_swallow_answer_rate = 0.0
        update = await bench.until(lambda: next((u for u in bench.updates(grant.id) if u.size), None), timeout_s=8.0)
        assert (update.price, update.size) == (4_200, 12 * E6)
        assert not [u for u in bench.updates(grant.id) if u.reason.startswith("not amended")]
        assert len(bench.venue_orders) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"price": 4_455, "size": 10 * E6}, "not on the grid"),
        ({"price": 4_300, "size": 2_000 * E6}, "above this gateway's"),
        ({"price": 5_900, "size": 10 * E6}, "above the best ask"),
        ({"price": 4_300, "size": 10 * E6, "price_exp": -2}, "expected exponents"),
        ({"price": 4_300, "size": 0}, "cancel it"),
    ],
)
async def test_amend_passes_the_gateways_own_checks(new_bench, changes, words) -> None:
    async with new_bench("kalshi") as bench:
        await bench.start()
        grant = await resting(bench)
        amend(bench, grant.id, **changes)
        update = await bench.until(lambda: next((u for u in bench.updates(grant.id) if words in u.reason), None))
        assert update.reason.startswith("not amended: ")
        assert not update.terminal
        assert (engine(bench).price, engine(bench).size) == (4_300, 10 * E6)


async def test_late_amend_changes_nothing(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        await bench.start()
        grant = await resting(bench)
        amend(bench, grant.id, price=4_400, size=5 * E6, send_by_ns=bench.clock.now_ns() - NS_PER_S)
        amend(bench, grant.id, price=4_200, size=7 * E6)
        await bench.until(lambda: engine(bench).price == 4_200)
        assert engine(bench).size == 7 * E6


async def test_restarted_gateway_knows_what_stands(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        first = await bench.start()
        grant = await resting(bench)
        amend(bench, grant.id, price=4_400, size=25 * E6)
        await bench.until(lambda: any(u.size for u in bench.updates(grant.id)))
        await first.kill()
        second = await bench.start()
        await bench.until(lambda: second.gateway.orders[grant.id].grant)
        stands = second.gateway.orders[grant.id].grant
        assert (stands.price, stands.size) == (4_400, 25 * E6)
        bench.stranger("SELL", 4_400, 25)
        end = await bench.terminal(grant.id)
        assert (end.status, end.filled) == ("FILLED", 25 * E6)


async def test_expiry_is_renewed_by_amendment(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        await bench.start()
        soon = bench.clock.now_ns() // NS_PER_S + 4
        grant = await resting(bench, time_in_force="GTD", expires_s=soon)
        assert engine(bench).expires_ns == soon * NS_PER_S
        amend(bench, grant.id, price=4_300, size=10 * E6, expires_s=soon + 60)
        await bench.until(lambda: engine(bench).expires_ns == (soon + 60) * NS_PER_S)
        assert not any(u.terminal for u in bench.updates(grant.id))


# --- beside what is more urgent


def silence(bench, running):
    """Let nothing come of the private stream from now on: what stands has to be asked for."""
    running.gateway._venue.parse = lambda payload: ()


def watch_lanes(running, monkeypatch):
    """Return what every request of one order asks from now on, and in which lane."""
    seen = []
    http = running.gateway._http
    call = http.call

    async def watched(request, *, lane, order="", **rest):
        if order:
            seen.append((request.method, lane))
        return await call(request, lane=lane, order=order, **rest)

    monkeypatch.setattr(http, "call", watched)
    return seen


async def test_cancel_does_not_wait_for_the_look_up_that_follows_an_amend(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        running = await bench.start()
        grant = await resting(bench)
        silence(bench, running)
        venue, looked = running.gateway._venue, asyncio.Event()
        look_up = venue.look_up

        async def stuck(*arguments):
            looked.set()
            await asyncio.Event().wait()

        venue.look_up = stuck
        amend(bench, grant.id, price=4_400, size=25 * E6)
        await bench.until(looked.is_set)
        venue.look_up = look_up
        bench.cancel(grant.id)
        await bench.until(lambda: not bench.venue_orders[0].resting, timeout_s=1.5)
        end = await bench.terminal(grant.id)
        assert (end.status, end.filled) == ("CANCELLED", 0)
        assert engine(bench).price == 4_400


async def test_cancel_does_not_wait_for_an_amend_that_has_no_tokens_yet(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        running = await bench.start()
        grant = await resting(bench)
        bucket = running.gateway._limiter._buckets["write"]
        bucket.tokens = bucket.budget.capacity * 0.3
        bucket.filled_at_s = bench.clock.monotonic_s() + 10
        amend(bench, grant.id, price=4_400, size=25 * E6)
        await bench.until(lambda: bucket.waiting)
        bench.cancel(grant.id)
        await bench.until(lambda: not bench.venue_orders[0].resting, timeout_s=1.5)
        assert (await bench.terminal(grant.id)).status == "CANCELLED"
        assert (engine(bench).price, engine(bench).size) == (4_300, 10 * E6)


async def test_cancel_does_not_wait_for_the_answer_to_an_amend(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        bench.timing = dataclasses.replace(bench.timing, answer_timeout_s=5.0)
        running = await bench.start()
        grant = await resting(bench)
        silence(bench, running)
        bench.faults.order_swallow_answer_rate = 1.0
        amend(bench, grant.id, price=4_400, size=25 * E6)
        await bench.until(lambda: engine(bench).price == 4_400)
        bench.faults.order_swallow_answer_rate = 0.0
        bench.cancel(grant.id)
        end = await bench.terminal(grant.id, timeout_s=3.0)
        assert (end.status, end.filled) == ("CANCELLED", 0)
        assert not [u for u in bench.updates(grant.id) if u.reason.startswith("not amended")]
        # That it was asked for stands on the record, whatever became of it.
        calls = [one for one in bench.log.read(topics.ORDER_FRAME) if getattr(one, "path", "").endswith("/amend")]
        assert [(one.status, one.response) for one in calls] == [(0, b"given up")]


@pytest.mark.parametrize("what", ["amend", "cancel"])
async def test_what_is_asked_before_the_answer_to_the_order_is_done_with_it(new_bench, what) -> None:
    async with new_bench("kalshi") as bench:
        bench.timing = dataclasses.replace(bench.timing, open_poll_s=60.0, answer_timeout_s=5.0)
        running = await bench.start()
        bench.faults.order_answer_delay_ms = 500
        grant = await resting(bench)
        assert not running.gateway.orders[grant.id].left
        if what == "amend":
            amend(bench, grant.id, price=4_400, size=25 * E6)
            await bench.until(lambda: engine(bench).price == 4_400, timeout_s=3.0)
        else:
            bench.cancel(grant.id)
            await bench.until(lambda: not bench.venue_orders[0].resting, timeout_s=3.0)


@pytest.mark.parametrize(
    ("purpose", "changes", "lanes"),
    [
        ("ENTRY", {"price": 4_400, "size": 10 * E6}, (Lane.NEW, Lane.REPORT)),
        ("ENTRY", {"price": 4_300, "size": 12 * E6}, (Lane.NEW, Lane.REPORT)),
        ("ENTRY", {"price": 4_300, "size": 8 * E6}, (Lane.HEDGE, Lane.REPORT)),
        ("HEDGE", {"price": 4_400, "size": 10 * E6}, (Lane.HEDGE, Lane.HEDGE)),
    ],
)
async def test_amend_of_an_entry_goes_with_the_entries_unless_it_only_shrinks(
    new_bench, monkeypatch, purpose, changes, lanes
) -> None:
    async with new_bench("kalshi") as bench:
        bench.timing = dataclasses.replace(bench.timing, open_poll_s=60.0)
        running = await bench.start()
        grant = await resting(bench, purpose=purpose)
        silence(bench, running)
        seen = watch_lanes(running, monkeypatch)
        amend(bench, grant.id, **changes)
        await bench.until(lambda: len(seen) == 3)
        sent, checked = lanes
        assert seen == [("POST", sent), ("GET", checked), ("GET", checked)]


async def test_amend_the_private_stream_has_told_of_is_not_looked_up(new_bench, monkeypatch) -> None:
    async with new_bench("kalshi") as bench:
        bench.timing = dataclasses.replace(bench.timing, open_poll_s=60.0, answer_timeout_s=5.0)
        running = await bench.start()
        grant = await resting(bench)
        seen = watch_lanes(running, monkeypatch)
        bench.faults.order_answer_delay_ms = 500
        amend(bench, grant.id, price=4_400, size=25 * E6)
        tracked = running.gateway.orders[grant.id]
        await bench.until(lambda: tracked.stands == (4_400, 25 * E6) and tracked.amend is None)
        await asyncio.sleep(0.1)
        assert seen == [("POST", Lane.NEW)]


# --- and where it is not: cancel, final fill, new


async def test_venue_without_amendment_cancels_and_says_what_was_filled(new_bench) -> None:
    async with new_bench("polymarket") as bench:
        await bench.start()
        grant = await resting(bench)
        bench.stranger("SELL", 4_300, 4)
        await bench.until(lambda: bench.fills(grant.id))
        amend(bench, grant.id, price=4_400, size=10 * E6)
        end = await bench.terminal(grant.id, timeout_s=15.0)
        assert (end.status, end.filled) == ("CANCELLED", 4 * E6)
        # The final fill sizes what replaces it.
        new = bench.grant(time_in_force="GTC", price=4_400, size=10 * E6 - end.filled)
        await bench.until(lambda: "ACCEPTED" in bench.statuses(new.id))


# --- time in force


@BOTH
async def test_immediate_or_cancel_takes_what_is_there_and_leaves_nothing(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 6)
        grant = bench.grant(time_in_force="IOC", price=4_500)
        end = await bench.terminal(grant.id, timeout_s=15.0)
        assert (end.status, end.filled) == ("CANCELLED", 6 * E6)


@BOTH
async def test_fill_or_kill_takes_all_or_nothing(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 6)
        killed = bench.grant(time_in_force="FOK", price=4_500)
        end = await bench.terminal(killed.id, timeout_s=15.0)
        assert (end.status in {"CANCELLED", "REJECTED"}, end.filled) == (True, 0)
        bench.stranger("SELL", 4_500, 4)
        filled = bench.grant(time_in_force="FOK", price=4_500)
        end = await bench.terminal(filled.id, timeout_s=15.0)
        assert (end.status, end.filled) == ("FILLED", 10 * E6)


@BOTH
async def test_post_only_rests_and_the_venue_refuses_what_came_to_cross(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        await bench.start()
        rests = await resting(bench, post_only=True)
        assert not bench.fills(rests.id)
        # The book moved after the gateway looked: the venue's own check is the last.
        bench.stranger("SELL", 4_200, 1)
        bench.stranger("SELL", 4_350, 50)
        crossing = bench.grant(time_in_force="GTC", post_only=True, price=4_400)
        end = await bench.terminal(crossing.id)
        assert (end.status, end.filled) == ("REJECTED", 0)
        assert "cross" in end.reason


def test_kalshi_is_told_post_only_and_the_total() -> None:
    kalshi = kalshi_venue()
    grant = change(GRANT, post_only=True, time_in_force="GTC", price=4_400)
    assert b'"post_only":true' in kalshi.build(grant, INSTRUMENT).body
    assert b"post_only" not in kalshi.build(GRANT, INSTRUMENT).body
    subject = Subject(
        order="g", instrument="kalshi:T", client_id="c", venue_order="v", side="BUY", price=4_400, size=E6,
        submitted_ns=0, answered=True,
    )  # fmt: skip
    record = Amend(
        id="a", order="g", account="kalshi:main", instrument="kalshi:T", price=4_300, size=3 * E6, price_exp=-4,
        size_exp=-6, reason="r", now_ns=0, send_by_ns=0, recv_ts_ns=0,
    )  # fmt: skip
    request = kalshi.amend(subject, record)
    assert request.path.endswith("/portfolio/events/orders/v/amend")
    assert request.body == b'{"ticker":"T","side":"bid","price":"0.4300","count":"3.00"}'


# --- expirations renewed: the dead-man switch of a venue that has none


async def test_resting_order_is_renewed_while_the_gateway_lives_and_ends_when_it_dies(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        bench.timing = dataclasses.replace(bench.timing, open_poll_s=0.5)
        venue = bench.venue(Market("kalshi"))
        venue._expiry_s = 4
        running = await bench.start(venue=venue)
        grant = await resting(bench)
        first = engine(bench).expires_ns
        assert first < bench.clock.now_ns() + 5 * NS_PER_S
        await bench.until(lambda: bench.clock.now_ns() > first + NS_PER_S, timeout_s=10.0)
        bench.exchange.expire()
        assert bench.venue_orders[0].resting
        assert (engine(bench).price, engine(bench).size) == (4_300, 10 * E6)
        assert not any(u.terminal for u in bench.updates(grant.id))
        await running.kill()
        last = engine(bench).expires_ns
        await bench.until(lambda: bench.clock.now_ns() > last, timeout_s=10.0)
        bench.exchange.expire()
        assert not bench.venue_orders[0].resting


async def test_renewal_never_undoes_an_amendment(new_bench, monkeypatch) -> None:
    monkeypatch.setattr(follow, "RENEW_QUIET_NS", NS_PER_S)
    async with new_bench("kalshi") as bench:
        bench.timing = dataclasses.replace(bench.timing, open_poll_s=0.5)
        venue = bench.venue(Market("kalshi"))
        venue._expiry_s = 30
        await bench.start(venue=venue)
        grant = await resting(bench)
        for price in (4_400, 4_200):
            amend(bench, grant.id, price=price, size=10 * E6, life_ms=1_000)
            await bench.until(lambda price=price: engine(bench).price == price, timeout_s=10.0)
            before = engine(bench).expires_ns
            await bench.until(lambda before=before: engine(bench).expires_ns > before, timeout_s=10.0)
            assert engine(bench).price == price


async def test_order_that_comes_back_to_a_price_is_known_to_stand_there(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        running = await bench.start()
        grant = await resting(bench)
        for price in (4_400, 4_300, 4_400, 4_300):
            amend(bench, grant.id, price=price, size=10 * E6)
            await bench.until(
                lambda price=price: running.gateway.orders[grant.id].grant.price == price == engine(bench).price,
                timeout_s=10.0,
            )
        assert [u.price for u in bench.updates(grant.id) if u.size] == [4_400, 4_300, 4_400, 4_300]


async def test_list_that_lags_does_not_take_an_amendment_back(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        running = await bench.start()
        grant = await resting(bench)
        tracked = running.gateway.orders[grant.id]
        amend(bench, grant.id, price=4_400, size=10 * E6)
        await bench.until(lambda: tracked.grant.price == 4_400)
        old = OrderView(
            venue_order=tracked.venue_order, status="ACCEPTED", filled=0, price=4_300, size=10 * E6,
            venue_ts_ns=tracked.stands_ns - NS_PER_S,
        )  # fmt: skip
        running.gateway.journal.views([old], bench.clock.now_ns())
        await bench.until(bench.alive)
        assert tracked.grant.price == 4_400
        assert [u.price for u in bench.updates(grant.id) if u.size] == [4_400]


def test_expiry_that_is_shorter_than_three_polls_does_not_start() -> None:
    with pytest.raises(Misconfigured, match="at least three times"):
        load(ExecuteSettings, kalshi_expiry_s=20, open_poll_s=10)
    assert load(ExecuteSettings, kalshi_expiry_s=30, open_poll_s=10).kalshi_expiry_s == 30


# --- shards


async def test_amendment_renewal_and_cancel_name_the_shard_of_their_market(new_bench, monkeypatch) -> None:
    monkeypatch.setattr(follow, "RENEW_QUIET_NS", 0)
    async with new_bench("kalshi") as bench:
        bench.place.exchange_index = bench.exchange.accounts["main"].exchange_index = 2
        bench.instrument = msgspec.structs.replace(bench.instrument, exchange_index=2)
        bench.log.append(topics.MARKET_INSTRUMENT, bench.instrument.instrument, bench.instrument)
        bench.timing = dataclasses.replace(bench.timing, open_poll_s=0.1)
        market = Market("kalshi")
        venue = bench.venue(market)
        venue._expiry_s = 30
        await bench.start(venue=venue, market=market)
        grant = await resting(bench)
        amend(bench, grant.id, price=4_400, size=25 * E6)
        await bench.until(lambda: (engine(bench).price, engine(bench).size) == (4_400, 25 * E6))

        def bodies():
            frames = [one for one in bench.log.read(topics.ORDER_FRAME) if isinstance(one, VenueCall)]
            return [json.loads(one.request) for one in frames if one.path.endswith("/amend")]

        # The first of them changes the price, the others put off the expiry.
        found = await bench.until(lambda: len(bodies()) > 1 and bodies(), timeout_s=15.0)
        assert {body["exchange_index"] for body in found} == {2}
        assert {body["price"] for body in found[1:]} == {"0.4400"}
        bench.cancel(grant.id)
        assert (await bench.terminal(grant.id)).status == "CANCELLED"
        cancels = [one for one in bench.log.read(topics.ORDER_FRAME) if getattr(one, "method", "") == "DELETE"]
        assert [one.path.partition("?")[2] for one in cancels] == [
            f"market_ticker={bench.place.ticker}&exchange_index=2"
        ]


async def test_amendment_for_another_shard_finds_no_order(new_bench) -> None:
    """What the test above rests on: the venue does look at the shard that is stated."""
    async with new_bench("kalshi") as bench:
        await bench.start()
        await resting(bench)
        own = bench.venue_orders[0]
        body = {"ticker": bench.place.ticker, "side": "bid", "price": "0.4400", "count": "10.00"}
        for shard, is_found in ((1, False), (-1, True), (0, True)):
            raw = json.dumps(body | {"exchange_index": shard}).encode()
            if is_found:
                amend_at_venue(bench.exchange, bench.exchange.accounts["main"], own, raw)
            else:
                with pytest.raises(OrderRefused, match="not_found"):
                    amend_at_venue(bench.exchange, bench.exchange.accounts["main"], own, raw)
