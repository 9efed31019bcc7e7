"""The venue's state, the law and the money, without a gateway around them."""

import msgspec
import pytest
from aiohttp import web

from execute.guards import Funds, Jurisdiction, VenueState
from execute.orders import Orders
from execute.views import Mode, Purse, Standing
from schemas.decision import Jurisdiction as SignOff
from schemas.decision import Profile
from schemas.order import Submitting
from tests.execute.test_checks import GRANT, INSTRUMENT, NOW, S
from tests.execute.test_kill import refusing
from venues.kalshi import rest

E6 = 1_000_000
HOUR = 3_600 * S
POST_ONLY = msgspec.structs.replace(GRANT, post_only=True)


def sign(verdict="ALLOWED", category="*", **changes):
    fields = dict(
        id=category, entity="Acme", venue="kalshi", category=category, verdict=verdict,
        signed_by="counsel", reason="memo", signed_ts_ns=1,
    )  # fmt: skip
    return SignOff(**(fields | changes))


def law(*records, required=True, asked=False, region=""):
    found = Jurisdiction(account="kalshi:main", required=required, asked=asked, region=region)
    found.apply(Profile(id="kalshi:main", venue="kalshi", account_set="main", entity="Acme", currency="USD"))
    for record in records:
        found.apply(record)
    return found


# --- the venue's state


def test_post_only_phase_lets_post_only_pass_and_ends_when_the_venue_said():
    state = VenueState()
    state.heard(Mode.POST_ONLY, "restart", NOW, wait_s=79)
    assert "POST_ONLY: restart" in state.why_not(GRANT, INSTRUMENT, NOW + 78 * S)
    assert state.why_not(POST_ONLY, INSTRUMENT, NOW) == ""
    assert state.why_not(GRANT, INSTRUMENT, NOW + 79 * S) == ""


def test_answers_that_repeat_are_believed_longer_and_an_accepted_order_ends_it():
    state = VenueState()
    waits = []
    now = NOW
    for _ in range(8):
        state.heard(Mode.CANCEL_ONLY, "425", now)
        wait = 0
        while state.why_not(GRANT, INSTRUMENT, now + wait):
            wait += S // 2
        waits.append(wait // S)
        now += wait
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    state.heard(Mode.CANCEL_ONLY, "425", now)
    state.heard(Mode.OPEN, "", now)
    assert state.why_not(GRANT, INSTRUMENT, now) == ""


def test_shard_that_is_paused_refuses_its_own_orders_only():
    state = VenueState()
    state.polled(Mode.OPEN, "", NOW, shards_paused=frozenset({2}))
    assert state.why_not(GRANT, INSTRUMENT, NOW) == ""
    crypto = msgspec.structs.replace(INSTRUMENT, exchange_index=2)
    assert "shard 2" in state.why_not(GRANT, crypto, NOW)
    # Nobody asked for a minute: what was said is not believed any more.
    assert state.why_not(GRANT, crypto, NOW + 61 * S) == ""


def test_status_page_of_kalshi_names_its_shards():
    body = (
        b'{"exchange_active":true,"trading_active":true,"exchange_index_statuses":'
        b'[{"exchange_index":0,"exchange_active":true,"trading_active":true},'
        b'{"exchange_index":2,"exchange_active":true,"trading_active":false}]}'
    )
    assert rest.decode_exchange_status(body).shards_paused == (2,)


# --- the law


def test_category_of_its_own_wins_over_every_other():
    found = law(sign(), sign("FORBIDDEN", "sports"))
    assert found.why_not(GRANT, INSTRUMENT, NOW) == ""
    sports = msgspec.structs.replace(INSTRUMENT, category="Sports")
    assert "FORBIDDEN" in found.why_not(GRANT, sports, NOW)


def test_sign_off_ends_at_its_time():
    found = law(sign(expires_ts_ns=NOW))
    assert found.why_not(GRANT, INSTRUMENT, NOW - 1) == ""
    assert "nobody signed off" in found.why_not(GRANT, INSTRUMENT, NOW)
    assert "nobody signed off" in found.start_reason(NOW)


def test_what_is_held_may_be_closed_where_nobody_signed_off_any_more():
    unwind = msgspec.structs.replace(GRANT, purpose="UNWIND")
    sell = msgspec.structs.replace(GRANT, token="7", token_side="SELL")
    assert law().why_not(unwind, INSTRUMENT, NOW) == ""
    assert law().why_not(sell, INSTRUMENT, NOW) == ""
    # On a venue without tokens selling YES is buying NO.
    assert law().why_not(msgspec.structs.replace(GRANT, side="SELL", token_side="SELL"), INSTRUMENT, NOW)


def test_profile_of_another_account_names_nobody_here():
    found = Jurisdiction(account="kalshi:main", required=True)
    found.apply(Profile(id="kalshi:other", venue="kalshi", account_set="main", entity="Acme", currency="USD"))
    found.apply(sign())
    assert "no profile names" in found.start_reason(NOW)


def test_venue_that_is_asked_must_have_answered_and_lately():
    found = law(sign(), asked=True)
    assert "not said yet" in found.why_not(GRANT, INSTRUMENT, NOW)
    found.hear(Standing("ALLOWED"), NOW)
    assert found.why_not(GRANT, INSTRUMENT, NOW) == found.start_reason(NOW) == ""
    later = NOW + 3 * HOUR + 1
    assert "three hours" in found.why_not(GRANT, INSTRUMENT, later)
    assert "three hours" in found.start_reason(later)
    assert found.why_not(msgspec.structs.replace(GRANT, purpose="HEDGE"), INSTRUMENT, later) == ""


@pytest.mark.parametrize(("verdict", "closes"), [("CLOSE_ONLY", True), ("FORBIDDEN", False)])
def test_venues_own_word_is_obeyed_whatever_was_signed(verdict, closes):
    found = law(sign(), asked=True)
    found.hear(Standing(verdict, "the address is in US NY"), NOW)
    assert f"venue says {verdict}: the address is in US NY" in found.why_not(GRANT, INSTRUMENT, NOW)
    unwind = msgspec.structs.replace(GRANT, purpose="UNWIND")
    assert (found.why_not(unwind, INSTRUMENT, NOW) == "") is closes
    assert verdict in found.start_reason(NOW)


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize(("region", "words"), [("eu", "this host is in eu"), ("", "nobody said where this host is")])
def test_gateway_that_stands_elsewhere_may_not_even_close(required, region, words):
    found = law(sign(regions=["us", "ca"]), required=required, region=region)
    unwind = msgspec.structs.replace(GRANT, purpose="UNWIND")
    for said in (found.misplaced(), found.start_reason(NOW), found.why_not(unwind, INSTRUMENT, NOW)):
        assert f"orders leave from ca or us alone, {words}" in said


@pytest.mark.parametrize(
    ("records", "region"),
    [
        ([sign(regions=["us"])], "US"),
        ([sign(regions=["us", "eu"])], "eu"),
        ([sign()], ""),
        ([], "eu"),
        # One category may be traded from here, so the gateway has something to do.
        ([sign(regions=["us"]), sign(category="sports")], "eu"),
        # Nothing is let from anywhere: what is held is another question, the verdict answers it.
        ([sign("FORBIDDEN", regions=["us"])], "eu"),
        ([sign(regions=["us"], entity="Other")], "eu"),
        ([sign(regions=["us"], venue="polymarket")], "eu"),
    ],
)
def test_gateway_may_stand_where_one_sign_off_lets_it(records, region):
    assert law(*records, required=False, region=region).misplaced() == ""


def test_sign_off_that_ended_still_says_where_its_gateways_stand():
    ended = sign(regions=["us"], expires_ts_ns=NOW)
    unwind = msgspec.structs.replace(GRANT, purpose="UNWIND")
    elsewhere = law(ended, required=True, region="eu")
    assert "orders leave from us alone" in elsewhere.misplaced()
    assert "orders leave from us alone" in elsewhere.why_not(unwind, INSTRUMENT, NOW)
    there = law(ended, required=True, region="us")
    assert there.misplaced() == there.why_not(unwind, INSTRUMENT, NOW) == ""
    assert there.why_not(GRANT, INSTRUMENT, NOW)
    # A word on every other category does not let this one leave from elsewhere.
    both = law(sign(category="sports", regions=["us"], expires_ts_ns=NOW), sign(), required=True, region="eu")
    sports = msgspec.structs.replace(INSTRUMENT, category="Sports")
    assert "orders leave from us alone" in both.why_not(GRANT, sports, NOW)
    assert both.why_not(GRANT, INSTRUMENT, NOW) == ""


def test_sign_off_of_a_category_holds_for_its_own_regions():
    found = law(sign(regions=["us"]), sign(category="sports", regions=["eu"]), region="eu")
    sports = msgspec.structs.replace(INSTRUMENT, category="Sports")
    assert found.why_not(GRANT, sports, NOW) == ""
    assert "orders leave from us alone" in found.why_not(GRANT, INSTRUMENT, NOW)


class says(refusing):  # noqa: N801
    """The simulated venue with a geoblock and a closed-only answer in front."""

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.answers = {}
        self.asked = []

    async def handle(self, request):
        if request.path in self.answers:
            self.asked.append(dict(request.headers))
            return web.json_response(self.answers[request.path])
        return await super().handle(request)


@pytest.mark.parametrize(
    ("blocked", "closed_only", "words"),
    [
        (False, False, ""),
        (True, False, "CLOSE_ONLY: the address is in US NY"),
        (False, True, "CLOSE_ONLY: the account is in closed only mode"),
    ],
)
async def test_gateway_asks_polymarket_where_it_may_trade(new_bench, blocked, closed_only, words) -> None:
    async with new_bench("polymarket") as bench:
        door = says(bench, set())
        door.answers = {
            "/api/geoblock": {"blocked": blocked, "ip": "1.2.3.4", "country": "US", "region": "NY"},
            "/auth/ban-status/closed-only": {"closed_only": closed_only},
        }
        async with door as base:
            bench.front = base
            running = await bench.start(ready=not words)
            bench.quote()
            if words:
                await bench.until(lambda: words in running.gateway.health.not_ready_reason())
                entry = bench.grant(send_by_ns=bench.clock.now_ns() + 2 * S)
                assert words in (await bench.terminal(entry.id)).reason
                assert bench.attempts == 0
            else:
                entry = bench.grant(send_by_ns=bench.clock.now_ns() + 2 * S)
                await bench.until(lambda: bench.attempts == 1)
            # Whoever answers by the address gets no proof of the account.
            assert not [name for name in door.asked[0] if name.upper().startswith("POLY")]


async def test_order_refused_for_closed_only_mode_closes_the_account_at_once(new_bench) -> None:
    async with new_bench("polymarket") as bench:
        door = says(bench, {"/order"}, status=400)
        door.body = {"error": "'0xabc' address in closed only mode"}
        async with door as base:
            bench.front = base
            await bench.start()
            first = bench.grant(send_by_ns=bench.clock.now_ns() + 2 * S)
            assert "closed only" in (await bench.terminal(first.id)).reason
            second = bench.grant(send_by_ns=bench.clock.now_ns() + 2 * S)
            assert "the venue says CLOSE_ONLY" in (await bench.terminal(second.id)).reason
            assert bench.submittings(second.id) == []


# --- the money


def purse(cash=10 * E6, **changes):
    fields = dict(as_of_ns=NOW, cash_e6={0: cash}, tokens=None, resting_is_out=True)
    return Purse(**(fields | changes))


def test_figures_that_know_of_an_order_free_what_was_counted_for_it():
    funds = Funds()
    orders = Orders("kalshi:main")
    funds.report(purse())
    funds.sent(GRANT, INSTRUMENT, NOW)
    other = msgspec.structs.replace(GRANT, id="h")
    assert "5500000e-6 of it bound" in funds.why_not(other, INSTRUMENT, orders)
    funds.report(purse(as_of_ns=NOW + S))  # too young to know of it for sure
    assert funds.why_not(other, INSTRUMENT, orders)
    funds.report(purse(as_of_ns=NOW + 3 * S))
    assert funds.why_not(other, INSTRUMENT, orders) == ""


def test_older_figures_never_replace_newer_ones():
    funds = Funds()
    funds.report(purse(cash=E6, as_of_ns=NOW + S))
    funds.report(purse(cash=100 * E6))
    assert "cash is 1000000e-6" in funds.why_not(GRANT, INSTRUMENT, Orders("kalshi:main"))


def test_what_rests_stays_bound_where_the_venue_does_not_take_it_out():
    orders = Orders("kalshi:main")
    orders.grant(GRANT)
    orders.apply(
        Submitting(
            event_id="s", order="g", account="kalshi:main", instrument="kalshi:T", writer="w", method="POST", path="/",
            body=b"", send_by_ns=NOW, ts_ns=NOW, recv_ts_ns=NOW,
        )
    )  # fmt: skip
    other = msgspec.structs.replace(GRANT, id="h")
    funds = Funds()
    funds.report(purse(as_of_ns=NOW + HOUR, resting_is_out=False))
    assert "bound" in funds.why_not(other, INSTRUMENT, orders)
    funds.report(purse(as_of_ns=NOW + HOUR, resting_is_out=True))
    assert funds.why_not(other, INSTRUMENT, orders) == ""


def test_cash_that_was_never_read_covers_nothing():
    assert "not read yet" in Funds().why_not(GRANT, INSTRUMENT, Orders("kalshi:main"))
    assert Funds().why_not(msgspec.structs.replace(GRANT, purpose="HEDGE"), INSTRUMENT, Orders("kalshi:main")) == ""


@pytest.mark.parametrize(
    ("status", "body", "words", "takes_post_only"),
    [
        (425, {"error": "Too Early"}, "CANCEL_ONLY: Too Early", False),
        (503, {"error": "Trading is currently cancel-only."}, "CANCEL_ONLY: Trading is currently", False),
        (
            503,
            {"error": "post-only mode: only post-only orders", "code": "post_only_mode", "retry_after_seconds": 79},
            "POST_ONLY: post-only mode",
            True,
        ),
    ],
)
async def test_restart_of_the_matching_engine_holds_entries_back(
    new_bench, status, body, words, takes_post_only
) -> None:
    async with new_bench("polymarket") as bench:
        door = says(bench, {"/order"}, status=status)
        door.body = body
        async with door as base:
            bench.front = base
            await bench.start()
            bench.running[0].gateway.guards.venue_state._probe_s = 30.0
            first = bench.grant(send_by_ns=bench.clock.now_ns() + 2 * S)
            assert "venue: " in (await bench.terminal(first.id)).reason
            second = bench.grant(send_by_ns=bench.clock.now_ns() + 2 * S)
            assert f"gateway: the venue is {words}" in (await bench.terminal(second.id)).reason
            third = bench.grant(post_only=True, price=4_300, send_by_ns=bench.clock.now_ns() + 2 * S)
            await bench.terminal(third.id)
            assert bool(bench.submittings(third.id)) is takes_post_only
            # The engine takes orders again: a hedge is not held back by what was believed.
            door.paths = set()
            hedge = bench.grant(purpose="HEDGE", price=4_300, send_by_ns=bench.clock.now_ns() + 2 * S)
            await bench.until(lambda: "ACCEPTED" in bench.statuses(hedge.id))
