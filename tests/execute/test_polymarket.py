"""The Polymarket gateway against the simulated venue: signed orders, user channel, settlement."""

import msgspec
import pytest

from core.domain.errors import OffGrid
from core.runtime import topics
from execute.polymarket import PolymarketVenue
from schemas.decision import Grant
from schemas.market import Instrument
from schemas.order import Settled, VenueCall, VenueReport
from tests.execute.unreached import polymarket_venue
from tests.records import binary, granted
from venues.environment import Environment
from venues.polymarket import hosts
from venues.polymarket.auth import Credentials, Wallet

E6 = 1_000_000


async def test_order_is_filled_settled_and_the_fee_is_the_venues(new_bench) -> None:
    async with new_bench("polymarket") as bench:
        await bench.start()
        bench.stranger("SELL", 4_400, 4)
        bench.stranger("SELL", 4_500, 7)
        bench.stranger("SELL", 4_500, 20)
        grant = bench.grant()
        ended = await bench.terminal(grant.id)
        assert (ended.status, ended.filled) == ("FILLED", 10 * E6)
        fills = await bench.until(
            lambda: sum(f.size for f in bench.fills(grant.id)) == 10 * E6 and bench.fills(grant.id)
        )
        assert {f.price_e6 for f in fills} == {440_000, 450_000}
        assert all(f.settlement == "MATCHED" and f.outcome == "YES" and f.token_side == "BUY" for f in fills)
        account = bench.exchange.accounts["main"]
        assert sum(f.fee_e6 for f in fills) == account.fees_e6
        assert sum(f.notional_e6 + f.fee_e6 for f in fills) == 100_000 * E6 - account.collateral_e6
        settled = await bench.until(
            lambda: len(bench.events(grant.id, Settled)) == len(fills) and bench.events(grant.id, Settled)
        )
        assert {(s.fill, s.settlement) for s in settled} == {(f.fill, "CONFIRMED") for f in fills}
        assert all(s.reference.startswith("0x") for s in settled)


async def test_order_id_is_known_before_anything_is_sent(new_bench) -> None:
    async with new_bench("polymarket") as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 20)
        grant = bench.grant()
        await bench.terminal(grant.id)
        assert [own.order_id for own in bench.venue_orders] == [bench.submittings(grant.id)[0].venue_order]


async def test_no_token_is_bought_at_the_complement(new_bench) -> None:
    async with new_bench("polymarket") as bench:
        await bench.start()
        bench.stranger("BUY", 4_400, 20)
        grant = bench.grant(side="SELL", outcome="NO", price=4_400)
        ended = await bench.terminal(grant.id)
        assert ended.filled == 10 * E6
        fill = (await bench.until(lambda: bench.fills(grant.id)))[0]
        assert (fill.outcome, fill.token_side, fill.price_e6) == ("NO", "BUY", 560_000)


async def test_partial_match_rests_and_cancel_ends_it_with_what_was_matched(new_bench) -> None:
    async with new_bench("polymarket") as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 6)
        grant = bench.grant()
        first = (await bench.until(lambda: bench.updates(grant.id)))[0]
        assert (first.status, first.filled, first.terminal) == ("ACCEPTED", 6 * E6, False)
        bench.cancel(grant.id)
        ended = await bench.terminal(grant.id)
        assert (ended.status, ended.filled) == ("CANCELLED", 6 * E6)
        await bench.until(lambda: sum(f.size for f in bench.fills(grant.id)) == 6 * E6)
        assert not bench.exchange.accounts["main"].open


async def test_confirmed_holdings_can_be_sold_and_are_reported(new_bench) -> None:
    async with new_bench("polymarket") as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 10)
        bought = bench.grant()
        await bench.until(lambda: bench.events(bought.id, Settled))
        report = await bench.until(
            lambda: next(
                (r for r in bench.log.read(topics.ORDER_EVENT) if isinstance(r, VenueReport) and r.holdings), None
            )
        )
        assert [(h.outcome, h.size) for h in report.holdings] == [("YES", 10 * E6)]
        bench.stranger("BUY", 4_400, 10)
        bench.quote()
        sold = bench.grant(side="SELL", token_side="SELL", price=4_400, purpose="UNWIND")
        ended = await bench.terminal(sold.id)
        assert (ended.status, ended.filled) == ("FILLED", 10 * E6)
        fill = (await bench.until(lambda: bench.fills(sold.id)))[0]
        assert (fill.outcome, fill.token_side) == ("YES", "SELL")


async def test_delayed_taker_is_accepted_first_and_filled_later(new_bench) -> None:
    async with new_bench("polymarket", taker_delay_share=1.0, taker_delay_ms=300) as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 20)
        grant = bench.grant()
        first = (await bench.until(lambda: bench.updates(grant.id)))[0]
        assert (first.status, first.filled, first.reason) == ("ACCEPTED", 0, "delayed")
        ended = await bench.terminal(grant.id)
        assert (ended.status, ended.filled) == ("FILLED", 10 * E6)


async def test_delayed_taker_that_is_not_listed_yet_is_neither_given_up_nor_sent_again(new_bench) -> None:
    async with new_bench("polymarket", taker_delay_share=1.0, taker_delay_ms=2_500) as bench:
        running = await bench.start()
        send = running.gateway._http.call
        looked = []

        async def unlisted(request, **named):
            reply = await send(request, **named)
            delayed = [own for own in bench.venue_orders if own.status == "DELAYED"]
            if delayed and request.path.startswith(("/data/order/", "/data/orders")):
                looked.append(request.path)
                body = b'{"data": [], "next_cursor": "LTE="}' if "orders" in request.path else b""
                return reply._replace(status=200 if "orders" in request.path else 404, body=body)
            return reply

        running.gateway._http.call = unlisted
        bench.stranger("SELL", 4_500, 20)
        grant = bench.grant()
        await bench.until(lambda: "ACCEPTED" in bench.statuses(grant.id))
        # Without the stream only asking tells, and asking says nothing while the order is held back.
        await bench.cut_streams()
        ended = await bench.terminal(grant.id, timeout_s=10)
        assert any(path.startswith("/data/order/") for path in looked)
        assert (ended.status, ended.filled) == ("FILLED", 10 * E6)
        assert "CANCELLED" not in bench.statuses(grant.id)
        assert bench.attempts == 1


async def test_refusal_keeps_the_venues_text(new_bench) -> None:
    async with new_bench("polymarket") as bench:
        await bench.start()
        bench.stranger("BUY", 4_400, 20)
        grant = bench.grant(side="SELL", token_side="SELL", price=4_400, purpose="UNWIND")
        ended = await bench.terminal(grant.id)
        assert ended.status == "REJECTED"
        assert "not enough balance" in ended.reason


async def test_no_record_holds_a_secret(new_bench) -> None:
    async with new_bench("polymarket") as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 20)
        grant = bench.grant()
        await bench.until(lambda: bench.events(grant.id, Settled))
        wallet = bench.world.credentials.polymarket[0]
        everything = b"".join(data for log in bench.log.records.values() for _, data in log)
        for secret in (wallet.secret, wallet.passphrase, wallet.private_key.removeprefix("0x")):
            assert secret.encode() not in everything


# --- the published vectors through `build`


def test_build_equals_the_official_clients_bodies_and_headers(vectors: dict) -> None:
    meta = vectors["meta"]
    creds = meta["api_creds"]
    built = []
    for vector in vectors["orders"]:
        inputs, order = vector["inputs"], vector["order"]
        # What a Grant cannot ask for: V1 and V3, builder codes, post-only, deposit wallets, market orders by budget.
        if vector["exchange_version"] != 2 or inputs["kind"] != "limit" or inputs["signature_type"] == 3:
            continue
        if inputs["builder_code"] or inputs["post_only"]:
            continue
        instrument = vector_instrument(inputs, vector["neg_risk"])
        venue = PolymarketVenue(
            wallet=Wallet(meta["private_key"]),
            credentials=Credentials(
                api_key=creds["api_key"], secret=creds["api_secret"], passphrase=creds["api_passphrase"]
            ),
            funder=order["maker"],
            signature_type=inputs["signature_type"],
            chain_id=vector["chain_id"],
            endpoints=hosts.endpoints(Environment.SIMULATED, simulated="127.0.0.1:1"),
            instruments={instrument.instrument: instrument},
        )
        request = venue.build(vector_grant(vector, instrument), instrument)
        assert request.body == vector["post_order_body"].encode(), vector["name"]
        assert request.venue_order == vector["digest_orderID"], vector["name"]
        stated = vector["l2_headers_for_post"]
        assert venue.headers(request, int(stated["POLY_TIMESTAMP"]) * 10**9) == stated, vector["name"]
        built.append(vector["name"])
    assert len(built) >= 10


def vector_instrument(inputs: dict, neg_risk: bool) -> Instrument:
    tick = round(float(inputs["tick_size"]) * 10_000)
    return binary(
        "polymarket:0xvector",
        tick_from=[tick],
        tick_to=[10_000 - tick],
        tick_step=[tick],
        taker_fee_e6=0,
        tokens=[inputs["token_id"], "1"],
        neg_risk=neg_risk,
    )


def vector_grant(vector: dict, instrument: Instrument) -> Grant:
    inputs, order = vector["inputs"], vector["order"]
    return granted(
        instrument.instrument,
        side=inputs["side"],
        token_side=inputs["side"],
        token=inputs["token_id"],
        price=round(inputs["price"] * 10_000),
        size=round(inputs["size"] * E6),
        time_in_force=inputs["order_type"],
        salt=int(order["salt"]),
        timestamp_ms=int(order["timestamp"]),
        expires_s=int(order["expiration"]),
        neg_risk=vector["neg_risk"],
        fee_max_e6=0,
        send_by_ns=2,
    )


def test_a_token_of_another_outcome_is_not_signed(vectors: dict) -> None:
    vector = vectors["orders"][0]
    instrument = vector_instrument(vector["inputs"], False)
    venue = polymarket_venue(private_key=vectors["meta"]["private_key"])
    grant = vector_grant(vector, instrument)
    with pytest.raises(OffGrid, match="not the NO"):
        venue.build(msgspec.structs.replace(grant, outcome="NO"), instrument)
    with pytest.raises(OffGrid, match="no token"):
        venue.build(msgspec.structs.replace(grant, token="12345"), instrument)


async def test_venue_is_told_to_look_at_the_chain_again_when_a_fill_is_settled(new_bench) -> None:
    async with new_bench("polymarket") as bench:
        await bench.start()
        bench.stranger("SELL", 4_500, 10)
        grant = bench.grant()
        await bench.terminal(grant.id)
        token = bench.instrument.tokens[0]

        def told() -> list[VenueCall]:
            calls = [record for record in bench.log.read(topics.ORDER_FRAME) if isinstance(record, VenueCall)]
            return [call for call in calls if "/balance-allowance/update" in call.path and token in call.path]

        call = (await bench.until(told))[0]
        assert call.status == 200
        assert [settled.settlement for settled in bench.events(grant.id, Settled)] == ["CONFIRMED"]
