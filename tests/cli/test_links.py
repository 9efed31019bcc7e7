"""`crossbook links` over a real Kafka: from two catalogues to an approved link, and what a changed text does to it."""

import json
import uuid

import pytest

from core.runtime import topics
from core.runtime.clock import SystemClock
from core.runtime.codec import Codec, HttpRegistry
from core.runtime.flow import Output
from core.runtime.producer import Publisher
from decide.links import suspended, suspension_key
from infra.cli.app import run as crossbook
from infra.cli.reach import Reach
from infra.links.standing import read_links
from infra.stack.provision import provision
from normalize import kalshi, polymarket
from schemas.raw import Description

pytestmark = [pytest.mark.broker]

RULES = "as reported by the National Weather Service's Climatological Report (Daily)"
WEATHER = {
    "ticker": "KXHIGH-T85", "event_ticker": "KXHIGH", "status": "active", "strike_type": "greater", "floor_strike": 85,
    "title": "Will the **high temp in NYC** be >85° on Jun 15, 2026?", "yes_sub_title": "86° or above",
    "rules_primary": f"If the highest temperature, {RULES}, is greater than 85°, then the market resolves to Yes.",
    "close_time": "2026-06-16T04:59:00Z",
}  # fmt: skip
COOLER = {
    **WEATHER, "ticker": "KXHIGH-B84", "strike_type": "less", "floor_strike": None, "cap_strike": 86,
    "title": "Will the **high temp in NYC** be <86° on Jun 15, 2026?", "yes_sub_title": "85° or below",
}  # fmt: skip
SAME = {
    "id": "1", "conditionId": "0xc1", "question": "Will the highest temperature in New York City be 86°F or higher on June 15?",
    "description": f"This resolves to Yes if the highest temperature is 86°F or higher {RULES}.", "resolutionSource": "",
    "endDate": "2026-06-16T00:00:00Z", "outcomes": '["Yes", "No"]', "clobTokenIds": '["1", "2"]', "active": True,
    "acceptingOrders": True, "enableOrderBook": True, "feesEnabled": False,
}  # fmt: skip
PAIR = "kalshi:KXHIGH-T85|polymarket:0xc1"
MIRROR = "kalshi:KXHIGH-B84|polymarket:0xc1"
EVENT = "event|kalshi:KXHIGH"
CONTEXT = json.dumps(
    {
        "series": {"ticker": "KXHIGH", "fee_type": "quadratic", "fee_multiplier": 1,
                   "settlement_sources": [{"name": "NWS", "url": "https://www.weather.gov/"}]},
        "event": {"event_ticker": "KXHIGH", "series_ticker": "KXHIGH", "mutually_exclusive": True},
    }
).encode()  # fmt: skip


class Desk:
    """A run of its own with two catalogues, and the command line over it."""

    def __init__(self, stack, monkeypatch, capsys):
        self.run_name = f"test-{uuid.uuid4().hex[:10]}"
        self._capsys = capsys
        provision(stack.settings, self.run_name)
        for name, value in {
            "CROSSBOOK_RUN": self.run_name,
            "CROSSBOOK_BOOTSTRAP": stack.bootstrap,
            "CROSSBOOK_REGISTRY_URL": stack.registry_url,
            "CROSSBOOK_STACK_DATA": str(stack.settings.data),
        }.items():
            monkeypatch.setenv(name, value)
        self.clock = SystemClock()
        self._publishers = {
            stage: Publisher(
                bootstrap=stack.bootstrap,
                codec=Codec(HttpRegistry(stack.registry_url)),
                clock=self.clock,
                run=self.run_name,
                stage=stage,
                partitions=4,
            )
            for stage in ("ingest", "normalize", "decide")
        }
        self.list("kalshi", WEATHER, COOLER)
        self.list("polymarket", SAME)

    def list(self, venue, *markets):
        for market in markets:
            name = f"{venue}:{market.get('ticker') or market['conditionId']}"
            description = Description(
                venue=venue,
                instrument=name,
                payload=json.dumps(market).encode(),
                context=CONTEXT if venue == "kalshi" else b"",
                recv_ts_ns=self.clock.now_ns(),
            )
            instrument = (kalshi if venue == "kalshi" else polymarket).describe(description)
            self.write("ingest", topics.RAW_INSTRUMENT[venue], name, description)
            self.write("normalize", topics.MARKET_INSTRUMENT, name, instrument)

    def write(self, stage, topic, key, record):
        self._publishers[stage].publish(Output(topic, key, record))
        assert self._publishers[stage].wait_acknowledged(20)

    def __call__(self, *arguments, code=0):
        self._capsys.readouterr()
        assert crossbook(["links", *arguments]) == code
        said = self._capsys.readouterr()
        return said.err if code else said.out

    def links(self):
        return read_links(Reach.load(self.run_name)).links

    def rules(self, *names):
        known = read_links(Reach.load(self.run_name)).instruments
        return ",".join(known[name].rules_hash[:12] for name in names)


@pytest.fixture
def desk(stack, monkeypatch, capsys):
    return Desk(stack, monkeypatch, capsys)


def test_pair_goes_from_catalogues_to_an_approval_that_a_changed_text_ends(desk):
    found = {one["link"]: one for one in map(json.loads, desk("suggest", "--json").splitlines())}
    assert {name: one["polarity"] for name, one in found.items()} == {PAIR: "SAME", MIRROR: "OPPOSITE"}
    assert any("both are decided by national weather service" in reason for reason in found[PAIR]["evidence"])
    assert not desk.links(), "a suggestion alone writes nothing"

    assert "proposed: " in desk("suggest", "--propose", "--by", "scout")
    assert desk.links()[PAIR].status == "PROPOSED"
    assert PAIR not in desk("suggest", "--json"), "what was proposed is not suggested again"
    shown = desk("show", PAIR)
    assert "buy a, sell b: $1.00 a contract" in shown
    assert "greater than 85°" in " ".join(shown.split())

    assert "--yes needs --rules" in desk("approve", PAIR, "--why", "read", "--yes", code=2)
    assert "read them again" in desk("approve", PAIR, "--why", "read", "--yes", "--rules", "12345678,12345678", code=2)
    rules = desk.rules("kalshi:KXHIGH-T85", "polymarket:0xc1")
    assert "approved, version 2" in desk(
        "approve", PAIR, "--why", "read both", "--by", "ann", "--yes", "--rules", rules
    )
    link = desk.links()[PAIR]
    assert (link.status, link.approved_by, link.reason) == ("APPROVED", "ann", "read both")
    assert desk.links()[PAIR].sources[0] == "national weather service, weather.gov"

    desk.list("kalshi", {**WEATHER, "rules_primary": "If it is hot, the market resolves to Yes."})
    facts = json.loads(desk("show", PAIR, "--json"))
    assert facts["fault"].startswith("RULES: kalshi:KXHIGH-T85: approved ")

    # What decide writes down then; the version stays, so the next approval wins.
    desk.write("decide", topics.DECISION_LINK, suspension_key(PAIR), suspended(link, facts["fault"], 1))
    assert desk.links()[PAIR].status == "SUSPENDED"
    assert "1 links" in desk("show", "--status", "suspended")
    assert "read them again" in desk("approve", PAIR, "--why", "again", "--yes", "--rules", rules, code=2)
    now = desk.rules("kalshi:KXHIGH-T85", "polymarket:0xc1")
    desk("approve", PAIR, "--why", "read the new text", "--yes", "--rules", now)
    assert (desk.links()[PAIR].status, desk.links()[PAIR].version) == ("APPROVED", 3)

    assert "has ended" in desk("expire", PAIR, "--why", "the day is over")
    assert desk.links()[PAIR].status == "EXPIRED"


def test_event_is_proposed_approved_as_exhaustive_and_another_is_rejected(desk):
    found = [json.loads(line) for line in desk("suggest", "--events", "--json").splitlines()]
    assert [one["link"] for one in found] == [EVENT]
    assert found[0]["may_exhaust"]
    assert any("cover all numbers" in reason for reason in found[0]["evidence"])
    desk("suggest", "--events", "--propose")
    link = desk.links()[EVENT]
    assert (link.kind, link.exhaustive, link.event_group) == ("EVENT", False, "kalshi:KXHIGH")
    rules = desk.rules(*link.instruments)
    desk("approve", EVENT, "--why", "all ranges", "--exhaustive", "--yes", "--rules", rules, "--drop", "void",
         "--expires", "2100-01-01T00:00:00")  # fmt: skip
    link = desk.links()[EVENT]
    assert (link.status, link.exhaustive, link.states) == ("APPROVED", True, ["KXHIGH-B84", "KXHIGH-T85"])
    assert link.expires_ts_ns == 4_102_444_800 * 10**9
    assert "buy all: $1.00" in desk("show", EVENT)

    desk("suggest", "--propose")
    assert "is rejected" in desk("reject", PAIR, "--why", "another source", "--by", "ann")
    assert PAIR not in desk("suggest", "--json")
    assert PAIR in desk("suggest", "--json", "--again")
    assert "did you mean" in desk("show", f"{PAIR}x", code=2)
    assert "is approved" in desk("reject", EVENT, "--why", "x", code=2)
