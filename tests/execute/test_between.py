"""Between a Grant's check and its bytes: the book may change, ticks may age, other Grants may use up what is allowed."""

import asyncio
import dataclasses

import pytest

from core.runtime.clock import NS_PER_S

E6 = 1_000_000
BOTH = pytest.mark.parametrize("venue", ["kalshi", "polymarket"])

# --- the book


@BOTH
async def test_book_that_becomes_suspect_after_submitting_keeps_the_bytes_here(new_bench, venue) -> None:
    async with new_bench(venue) as bench:
        running = await bench.start()
        bench.stranger("SELL", 4_500, 20)
        running.readers[0].frozen.clear()
        grant = bench.grant(send_by_ns=bench.clock.now_ns() + 5 * NS_PER_S)
        await bench.until(lambda: bench.submittings(grant.id))
        bench.quote(state="SUSPECT", cause="gap: expected seq 4, found 6", bid=0, ask=0, bid_size=0, ask_size=0)
        await bench.until(lambda: running.gateway.market.quotes[grant.instrument][1].state == "SUSPECT")
        running.readers[0].frozen.set()
        ended = await bench.terminal(grant.id)
        assert (ended.status, ended.writer) == ("EXPIRED_UNSENT", bench.submittings(grant.id)[0].writer)
        assert ended.reason == f"the book of {grant.instrument} is SUSPECT: gap: expected seq 4, found 6"
        assert bench.attempts == 0


async def test_book_that_becomes_suspect_while_a_connection_is_made_keeps_the_bytes_here(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        running = await bench.start()
        bench.stranger("SELL", 4_500, 20)
        session = running.gateway._http.session
        connect = session.connector.connect
        connecting = asyncio.Event()

        async def slow(*arguments: object, **named: object) -> object:
            connecting.set()
            await bench.until(lambda: running.gateway.market.quotes[grant.instrument][1].state != "LIVE")
            return await connect(*arguments, **named)

        session.connector.connect = slow
        grant = bench.grant(send_by_ns=bench.clock.now_ns() + 5 * NS_PER_S)
        await asyncio.wait_for(connecting.wait(), 5)
        bench.quote(state="STALE", cause="feed silent", bid=0, ask=0, bid_size=0, ask_size=0)
        ended = await bench.terminal(grant.id)
        assert (ended.status, ended.reason) == (
            "EXPIRED_UNSENT",
            f"the book of {grant.instrument} is STALE: feed silent",
        )
        assert bench.attempts == 0


async def test_ticks_that_age_between_decision_and_bytes_keep_them_here(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        running = await bench.start()
        bench.stranger("SELL", 4_500, 20)
        running.readers[0].frozen.clear()
        grant = bench.grant(send_by_ns=bench.clock.now_ns() + 10 * NS_PER_S)
        await bench.until(lambda: bench.submittings(grant.id))
        bench.ticks = False
        await asyncio.sleep(1.2)
        running.readers[0].frozen.set()
        ended = await bench.terminal(grant.id)
        assert ended.status == "EXPIRED_UNSENT"
        assert "last tick of derived.book partition 0" in ended.reason
        assert bench.attempts == 0


@pytest.mark.parametrize("state", ["DEGRADED", "STALE", "SUSPECT", "SYNCING"])
async def test_gateway_whose_own_reader_of_books_lags_sends_nothing_on_what_it_saw_before(new_bench, state) -> None:
    async with new_bench("kalshi") as bench:
        running = await bench.start()
        bench.stranger("SELL", 4_500, 40)
        books = running.readers[2]
        books.frozen.clear()
        # The log goes on and says what the book is now; this gateway has not read it, only its ticks grow old.
        bench.quote(state=state, cause="as it is", bid=0, ask=0, bid_size=0, ask_size=0)
        await asyncio.sleep(1.2)
        assert running.gateway.market.quotes[bench.instrument.instrument][1].state == "LIVE"
        for purpose in ("ENTRY", "HEDGE", "UNWIND"):
            ended = await bench.terminal(bench.grant(purpose=purpose).id)
            assert (ended.status, "ms old" in ended.reason) == ("REJECTED", True), purpose
        books.frozen.set()
        await bench.until(lambda: running.gateway.market.quotes[bench.instrument.instrument][1].state == state)
        ended = await bench.terminal(bench.grant().id)
        assert (ended.status, f"is {state}: as it is" in ended.reason) == ("REJECTED", True)
        assert bench.attempts == 0
        bench.quote()
        await bench.until(lambda: running.gateway.market.quotes[bench.instrument.instrument][1].state == "LIVE")
        assert (await bench.terminal(bench.grant().id)).status == "FILLED"


# --- limits


async def test_grants_of_one_batch_do_not_pass_the_limit_of_open_orders_together(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        bench.limits = dataclasses.replace(bench.limits, open_orders_max=2)
        await bench.start()
        grants = [bench.grant(time_in_force="GTC", price=4_400) for _ in range(6)]
        for grant in grants[2:]:
            assert (await bench.terminal(grant.id)).reason == "gateway: 2 orders are out already"
        await bench.until(lambda: all("ACCEPTED" in bench.statuses(grant.id) for grant in grants[:2]))
        assert bench.attempts == 2


async def test_grants_of_one_batch_do_not_pass_the_money_of_the_day_together(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        bench.limits = dataclasses.replace(bench.limits, day_notional_max_e6=10 * E6)
        await bench.start()
        bench.stranger("SELL", 4_500, 100)
        grants = [bench.grant() for _ in range(6)]
        ended = [await bench.terminal(grant.id) for grant in grants]
        # 4.50 each: the third would make 13.50.
        assert [update.status for update in ended] == ["FILLED"] * 2 + ["REJECTED"] * 4
        assert all("the day's notional" in update.reason for update in ended[2:])
        assert bench.attempts == 2
