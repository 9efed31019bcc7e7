"""The Kalshi gateway against the simulated venue: real signatures, real sockets, a log in memory."""

from core.runtime import topics
from schemas.order import VenueReport


async def test_order_is_filled_and_every_fill_is_said_once(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        await bench.start()
        bench.stranger("SELL", 4_400, 4)
        bench.stranger("SELL", 4_500, 20)
        grant = bench.grant()
        ended = await bench.terminal(grant.id)
        assert (ended.status, ended.filled) == ("FILLED", 10_000_000)
        fills = await bench.until(lambda: len(bench.fills(grant.id)) == 2 and bench.fills(grant.id))
        assert [(f.price_e6, f.size, f.token_side, f.outcome) for f in fills] == [
            (440_000, 4_000_000, "BUY", "YES"),
            (450_000, 6_000_000, "BUY", "YES"),
        ]
        assert all(f.settlement == "CONFIRMED" and f.asset == "USD" for f in fills)
        account = bench.exchange.accounts["main"]
        assert sum(f.notional_e6 + f.fee_e6 for f in fills) == 100_000 * 1_000_000 - account.cash_e6
        assert bench.attempts == 1


async def test_report_states_cash_positions_and_open_orders_by_our_id(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 3)
        grant = bench.grant(time_in_force="GTC")
        report = await bench.until(
            lambda: next(
                (r for r in bench.log.read(topics.ORDER_EVENT) if isinstance(r, VenueReport) and r.open_orders), None
            )
        )
        assert report.open_orders == [grant.id]
        assert [(h.instrument, h.outcome, h.size) for h in report.holdings] == [
            (bench.instrument.instrument, "YES", 3_000_000)
        ]
        assert report.as_of_ns > 0
