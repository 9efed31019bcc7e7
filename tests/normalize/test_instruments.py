"""Venues' descriptions to instruments, from recorded bodies."""

import json
from hashlib import sha256

import pytest

from core.domain.errors import MalformedFrame, UnknownSchema
from core.runtime import topics
from core.runtime.flow import Input
from schemas import market, raw

SERIES = b'{"ticker":"KXWTA","title":"WTA","category":"Sports","fee_type":"quadratic","fee_multiplier":1}'
S = 1_000_000_000


def wrapped(event: bytes) -> bytes:
    """Return a catalogue's context with series and event."""
    return b'{"series":' + SERIES + b',"event":' + event + b"}"


def described(task, venue: str, instrument: str, payload: bytes, context: bytes = b"") -> market.Instrument:
    record = raw.Description(
        venue=venue, instrument=instrument, payload=payload, context=context, recv_ts_ns=5, trail=[6]
    )
    (output,) = task.handle(Input(record, f"raw.instrument-{venue}", 0, 0, instrument))
    assert (output.topic, output.key) == (topics.MARKET_INSTRUMENT, instrument)
    return output.record


def kalshi_market(captures, **changes) -> bytes:
    body = json.loads((captures / "kalshi" / "markets__single.json").read_bytes())["market"]
    return json.dumps(body | changes).encode()


KALSHI = "kalshi:KXWTACHALLENGERMATCH-26JUN11JIMLEP-LEP"


def test_recorded_kalshi_market(instruments, captures):
    ours = described(instruments, "kalshi", KALSHI, kalshi_market(captures), SERIES)
    assert (ours.instrument, ours.venue, ours.kind, ours.status) == (KALSHI, "kalshi", "BINARY", "OPEN")
    assert ours.title.startswith("Will Varvara Lepchenko win")
    assert (ours.event_group, ours.category) == ("kalshi:KXWTACHALLENGERMATCH-26JUN11JIMLEP", "Sports")
    assert (ours.price_exp, ours.size_exp) == (-4, -6)
    assert (ours.tick_from, ours.tick_to, ours.tick_step) == ([0], [10_000], [100])
    assert (ours.size_min, ours.size_step, ours.notional_min_e6) == (10_000, 10_000, 0)
    assert (ours.fee_model, ours.taker_fee_e6, ours.maker_fee_e6) == ("QUADRATIC", 70_000, 0)
    assert ours.open_ts_ns == 1_781_156_369 * S  # 2026-06-11T05:39:29Z
    assert ours.close_ts_ns == 1_782_403_200 * S  # 2026-06-25T16:00:00Z
    assert (ours.recv_ts_ns, ours.trail) == (5, [6])


def test_kalshi_rules_are_hashed_as_text(instruments, captures):
    body = json.loads(kalshi_market(captures))
    text = f"{body['rules_primary']}\n{body['rules_secondary']}"
    ours = described(instruments, "kalshi", KALSHI, kalshi_market(captures), SERIES)
    assert ours.rules_hash == sha256(text.encode()).hexdigest()
    other = described(instruments, "kalshi", KALSHI, kalshi_market(captures, rules_secondary="else"), SERIES)
    assert other.rules_hash != ours.rules_hash


def test_kalshi_rules_include_who_decides_and_by_which_contract(instruments, captures):
    def context(url="https://weather.gov", **series):
        source = {"name": "National Weather Service", "url": url}
        stated = {**json.loads(SERIES), "settlement_sources": [source], **series}
        return json.dumps({"series": stated, "event": EVENT_WITHOUT_SOURCES}).encode()

    hashes = [
        described(instruments, "kalshi", KALSHI, kalshi_market(captures), each).rules_hash
        for each in (SERIES, context(), context(url="https://accuweather.com"), context(contract_terms_url="v2.pdf"))
    ]
    assert len(set(hashes)) == 4
    again = described(instruments, "kalshi", KALSHI, kalshi_market(captures), context()).rules_hash
    assert again == hashes[1]


EVENT_WITHOUT_SOURCES = {"event_ticker": "E", "series_ticker": "S", "settlement_sources": None}


@pytest.mark.parametrize(
    ("context", "fees"),
    [
        (SERIES, ("QUADRATIC", 70_000, 0)),
        (b'{"series":' + SERIES + b"}", ("QUADRATIC", 70_000, 0)),
        (SERIES.replace(b'"fee_multiplier":1', b'"fee_multiplier":0.5'), ("QUADRATIC", 35_000, 0)),
        (SERIES.replace(b"quadratic", b"quadratic_with_maker_fees"), ("QUADRATIC", 70_000, 17_500)),
        (SERIES.replace(b"quadratic", b"flat"), ("UNKNOWN", 0, 0)),
        (b"", ("UNKNOWN", 0, 0)),
        (wrapped(b'{"event_ticker":"E","series_ticker":"KXWTA"}'), ("QUADRATIC", 70_000, 0)),
        (
            wrapped(
                b'{"event_ticker":"E","series_ticker":"KXWTA","fee_type_override":"quadratic_with_maker_fees",'
                b'"fee_multiplier_override":0.5}'
            ),
            ("QUADRATIC", 35_000, 8_750),
        ),
        (
            wrapped(b'{"event_ticker":"E","series_ticker":"KXWTA","fee_multiplier_override":0}'),
            ("QUADRATIC", 0, 0),
        ),
    ],
)
def test_kalshi_fees_come_from_the_series_unless_the_event_overrides_them(instruments, captures, context, fees):
    ours = described(instruments, "kalshi", KALSHI, kalshi_market(captures), context)
    assert (ours.fee_model, ours.taker_fee_e6, ours.maker_fee_e6) == fees


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("initialized", "PENDING"),
        ("active", "OPEN"),
        ("inactive", "PAUSED"),
        ("closed", "CLOSED"),
        ("determined", "DETERMINED"),
        ("disputed", "DETERMINED"),
        ("finalized", "SETTLED"),
        ("dreaming", "UNKNOWN"),
    ],
)
def test_kalshi_status_words(instruments, captures, word, status):
    assert described(instruments, "kalshi", KALSHI, kalshi_market(captures, status=word), SERIES).status == status


def test_every_recorded_kalshi_market_is_described(instruments, captures):
    seen = 0
    for name in ("markets__status_open", "markets__status_settled", "markets__status_closed", "markets__high_temp"):
        for body in json.loads((captures / "kalshi" / f"{name}.json").read_bytes())["markets"]:
            ours = described(instruments, "kalshi", f"kalshi:{body['ticker']}", json.dumps(body).encode(), SERIES)
            assert ours.event_group == f"kalshi:{body['event_ticker']}"
            assert len(ours.tick_step) == len(body["price_ranges"])
            assert ours.close_ts_ns > ours.open_ts_ns > 0
            seen += 1
    assert seen > 100


def gamma(captures, name="gamma_market__full.json", **changes) -> tuple[str, bytes]:
    body = json.loads((captures / "polymarket" / name).read_bytes()) | changes
    return f"polymarket:{body['conditionId']}", json.dumps(body).encode()


def test_recorded_polymarket_market(instruments, captures):
    instrument, payload = gamma(captures)
    ours = described(instruments, "polymarket", instrument, payload)
    assert ours.instrument == "polymarket:0x78443f961b9a65869dcb39359de9960165c7e5cbad0904eac7f29cd77872a63b"
    assert (ours.kind, ours.status) == ("BINARY", "OPEN")
    assert ours.title == "Bitcoin Up or Down - March 12, 5:20AM-5:25AM ET"
    assert ours.event_group == "polymarket:260654"
    assert (ours.tick_from, ours.tick_to, ours.tick_step) == ([100], [9_900], [100])
    assert (ours.size_min, ours.size_step, ours.notional_min_e6) == (5_000_000, 10_000, 1_000_000)
    assert ours.tokens == [
        "104239898038807136052399800151408521467737075933964991162589336683346093173875",
        "71183960810705820955071415844881728181970340514894896943812046065452395013351",
    ]
    # Fees are enabled but not stated: nothing may be traded on a guess.
    assert (ours.fee_model, ours.taker_fee_e6) == ("UNKNOWN", 0)
    assert ours.neg_risk is False
    assert ours.close_ts_ns == 1_773_307_500 * S  # 2026-03-12T09:25:00Z


@pytest.mark.parametrize(
    ("changes", "fees"),
    [
        ({"feesEnabled": False}, ("NONE", 0, 1)),
        ({"feeSchedule": {"exponent": 1, "rate": 0.07, "takerOnly": True}}, ("CURVE", 70_000, 1)),
        ({"feeSchedule": {"exponent": 2, "rate": 0.25, "takerOnly": True}}, ("CURVE", 250_000, 2)),
        ({"feeSchedule": {"exponent": 1, "rate": 0, "takerOnly": True}}, ("NONE", 0, 1)),
    ],
)
def test_polymarket_fees_come_from_the_schedule(instruments, captures, changes, fees):
    ours = described(instruments, "polymarket", *gamma(captures, **changes))
    assert (ours.fee_model, ours.taker_fee_e6, ours.fee_exponent) == fees


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"closed": True}, "CLOSED"),
        ({"archived": True}, "CLOSED"),
        ({"active": False}, "PENDING"),
        ({"acceptingOrders": False}, "PAUSED"),
    ],
)
def test_polymarket_status_words(instruments, captures, changes, status):
    assert described(instruments, "polymarket", *gamma(captures, **changes)).status == status


def test_negative_risk_market_is_grouped_by_its_event_of_exclusive_outcomes(instruments, captures):
    ours = described(instruments, "polymarket", *gamma(captures, negRisk=True, negRiskMarketID="0xgroup"))
    assert (ours.neg_risk, ours.event_group) == (True, "polymarket:0xgroup")


def test_seconds_of_taker_delay_become_milliseconds(instruments, captures):
    assert described(instruments, "polymarket", *gamma(captures, secondsDelay=3)).taker_delay_ms == 3_000


def refused(task, venue, instrument, payload, context=b"") -> tuple[Exception, market.Instrument]:
    with pytest.raises((MalformedFrame, UnknownSchema)) as caught:
        described(task, venue, instrument, payload, context)
    (output,) = caught.value.outputs
    return caught.value, output.record


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b"not json"])
@pytest.mark.parametrize("venue", ["kalshi", "polymarket"])
def test_what_cannot_be_described_is_rejected_yet_known_as_unusable(instruments, venue, payload):
    _, ours = refused(instruments, venue, f"{venue}:X", payload)
    assert (ours.instrument, ours.status, ours.fee_model, ours.tick_step) == (f"{venue}:X", "UNKNOWN", "UNKNOWN", [])


def test_description_of_another_market_is_rejected(instruments, captures):
    error, ours = refused(instruments, "kalshi", "kalshi:OTHER", kalshi_market(captures), SERIES)
    assert "kalshi:OTHER" in str(error)
    assert ours.instrument == "kalshi:OTHER"


def test_market_with_three_tokens_is_rejected(instruments, captures):
    instrument, payload = gamma(captures, outcomes='["A","B","C"]', clobTokenIds='["1","2","3"]')
    error, _ = refused(instruments, "polymarket", instrument, payload)
    assert "two tokens" in str(error)


def test_broken_series_is_rejected(instruments, captures):
    refused(instruments, "kalshi", KALSHI, kalshi_market(captures), b"{")
    refused(instruments, "kalshi", KALSHI, kalshi_market(captures), b"[]")


@pytest.mark.parametrize(
    ("changes", "payout_e6"),
    [
        ({"status": "determined", "result": "yes", "settlement_value_dollars": "1.0000"}, 1_000_000),
        ({"status": "amended", "result": "no", "settlement_value_dollars": "0.0000"}, 0),
        ({"status": "finalized", "result": "scalar", "settlement_value_dollars": "0.4100"}, 410_000),
        ({"status": "disputed", "result": "yes", "settlement_value_dollars": "1.0000"}, -1),
        ({"status": "determined", "result": "scalar"}, -1),
        ({"status": "closed", "result": ""}, -1),
        ({"status": "active", "result": "yes", "settlement_value_dollars": "1.0000"}, -1),
    ],
)
def test_kalshi_says_what_a_market_pays_while_that_is_not_disputed(instruments, captures, changes, payout_e6):
    ours = described(instruments, "kalshi", KALSHI, kalshi_market(captures, **changes), SERIES)
    assert ours.payout_e6 == payout_e6


def test_recorded_kalshi_payouts(instruments, captures):
    found = {}
    for name in ("markets__status_settled", "markets__high_temp", "markets__status_open"):
        for body in json.loads((captures / "kalshi" / f"{name}.json").read_bytes())["markets"]:
            ours = described(instruments, "kalshi", f"kalshi:{body['ticker']}", json.dumps(body).encode(), SERIES)
            key = (ours.status, body["result"], ours.payout_e6)
            found[key] = found.get(key, 0) + 1
    decided = {key for key in found if key[0] in {"DETERMINED", "SETTLED"}}
    assert {(result, payout) for _, result, payout in decided} == {("yes", 1_000_000), ("no", 0)}
    assert {payout for word, _, payout in found if word == "OPEN"} == {-1}


@pytest.mark.parametrize(
    ("name", "status", "payout_e6"),
    [
        ("gamma_market__closed_binary_accepting_false.json", "SETTLED", 0),
        # Closed at 1 and 0, but not said to be resolved: those may be its last quotes.
        ("gamma_market__closed_binary_accepting_true.json", "CLOSED", -1),
        ("gamma_market__closed_nonbinary_legacy.json", "CLOSED", -1),
        ("gamma_market__closed_zero_zero_legacy.json", "CLOSED", -1),
        ("gamma_market__full.json", "OPEN", -1),
    ],
)
def test_recorded_polymarket_payouts(instruments, captures, name, status, payout_e6):
    ours = described(instruments, "polymarket", *gamma(captures, name))
    assert (ours.status, ours.payout_e6) == (status, payout_e6)


@pytest.mark.parametrize(
    ("prices", "payout_e6"),
    [
        ('["1", "0"]', 1_000_000),
        ('["0.5", "0.5"]', 500_000),
        (["0", "1"], 0),
        ('["0.3333333", "0.6666667"]', -1),
        ('["0", "0"]', -1),
        ('["0.4", "0.5"]', -1),
        ("[]", -1),
        (None, -1),
    ],
)
def test_polymarket_prices_are_payouts_once_a_market_is_resolved(instruments, captures, prices, payout_e6):
    changes = {"closed": True, "outcomePrices": prices}
    for word in ("proposed", "disputed", None):
        ours = described(instruments, "polymarket", *gamma(captures, **changes, umaResolutionStatus=word))
        assert (ours.status, ours.payout_e6) == ("CLOSED", -1)
    ours = described(instruments, "polymarket", *gamma(captures, **changes, umaResolutionStatus="resolved"))
    assert (ours.status, ours.payout_e6) == ("SETTLED" if payout_e6 >= 0 else "CLOSED", payout_e6)
    not_closed = gamma(captures, **changes | {"closed": False}, umaResolutionStatus="resolved")
    assert described(instruments, "polymarket", *not_closed).payout_e6 == -1


def scheduled(*changes: dict[str, object], event: bytes = b'{"event_ticker":"E","series_ticker":"KXWTA"}') -> bytes:
    """Return a context with changes of fees that are to come."""
    return wrapped(event)[:-1] + b',"fee_changes":' + json.dumps(changes).encode() + b"}"


def of_series(at: str, fee_type: str = "quadratic", multiplier: float = 2) -> dict[str, object]:
    return {
        "id": "c1", "series_ticker": "KXWTA", "fee_type": fee_type, "fee_multiplier": multiplier, "scheduled_ts": at,
    }  # fmt: skip


def of_event(at: str, fee_type: str | None = None, multiplier: float | None = None) -> dict[str, object]:
    return {
        "id": "c2", "event_ticker": "E", "fee_type_override": fee_type, "fee_multiplier_override": multiplier,
        "scheduled_ts": at,
    }  # fmt: skip


FIRST, THEN = "2026-07-01T00:00:00Z", "2026-08-01T00:00:00Z"
FIRST_NS, THEN_NS = 1_782_864_000 * S, 1_785_542_400 * S


@pytest.mark.parametrize(
    ("context", "terms"),
    [
        (scheduled(), []),
        (scheduled(of_series(FIRST)), [(FIRST_NS, 140_000)]),
        # Soonest first, whatever the order of the list.
        (scheduled(of_series(THEN, multiplier=3), of_series(FIRST)), [(FIRST_NS, 140_000), (THEN_NS, 210_000)]),
        # An override stands against the series' change, and gives its fee back when it goes.
        (
            scheduled(
                of_series(FIRST),
                of_event(THEN),
                event=b'{"event_ticker":"E","series_ticker":"KXWTA","fee_multiplier_override":0.5}',
            ),
            [(FIRST_NS, 35_000), (THEN_NS, 140_000)],
        ),
        (scheduled(of_event(FIRST, "quadratic", 4)), [(FIRST_NS, 280_000)]),
    ],
)
def test_kalshi_fees_that_are_scheduled_are_terms_from_their_time_on(instruments, captures, context, terms):
    ours = described(instruments, "kalshi", KALSHI, kalshi_market(captures), context)
    assert [(term.from_ts_ns, term.taker_fee_e6) for term in ours.fees] == terms
    assert all((term.until_ts_ns, term.share_e6, term.source != "") == (0, 1_000_000, True) for term in ours.fees)
    assert ours.fee_model == "QUADRATIC"


def test_kalshi_market_whose_coming_fee_has_no_bound_is_not_traded(instruments, captures):
    context = scheduled(of_series(FIRST, "flat"))
    ours = described(instruments, "kalshi", KALSHI, kalshi_market(captures), context)
    assert (ours.fee_model, ours.fees) == ("UNKNOWN", [])


@pytest.mark.parametrize(
    "change", [{"scheduled_ts": FIRST}, of_series(""), of_series(FIRST) | {"fee_multiplier": None}]
)
def test_kalshi_change_of_fees_that_says_too_little_is_rejected_not_passed_over(instruments, captures, change):
    with pytest.raises(MalformedFrame, match="fee change"):
        described(instruments, "kalshi", KALSHI, kalshi_market(captures), scheduled(change))
