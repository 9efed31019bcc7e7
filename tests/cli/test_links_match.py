"""What descriptions say of themselves, and which markets are proposed as links."""

import json
import re
import time

import pytest

from infra.links import match, terms
from infra.links.prose import Day, days_in, is_negated, names_in, plain, sources_in, strikes_in, times_in
from normalize import kalshi, polymarket
from schemas.raw import Description
from simulate.kalshi.catalogue import market_row as kalshi_row
from simulate.polymarket.gamma import market_row as gamma_row
from simulate.settings import SimulateSettings
from simulate.world import World

ONE = 1_000_000
JUN16 = "2026-06-16T05:00:00Z"
NWS = "as reported by the National Weather Service's Climatological Report (Daily)"


def read(venue, market):
    name = market["ticker"] if venue == "kalshi" else market["conditionId"]
    description = Description(
        venue=venue, instrument=f"{venue}:{name}", payload=json.dumps(market).encode(), context=b"", recv_ts_ns=1
    )
    return terms.read(description, (kalshi if venue == "kalshi" else polymarket).describe(description))


def on_kalshi(title, *, ticker="K-1", rules="", close=JUN16, outcome="Yes", event="K", **strike):
    return read(
        "kalshi",
        {
            "ticker": ticker, "event_ticker": event, "status": "active", "title": title, "yes_sub_title": outcome,
            "rules_primary": rules, "close_time": close, **strike,
        },
    )  # fmt: skip


def on_polymarket(question, *, condition="0xc1", rules="", end=JUN16, source=""):
    return read(
        "polymarket",
        {
            "id": "1", "conditionId": condition, "question": question, "description": rules, "resolutionSource": source,
            "endDate": end, "outcomes": '["Yes", "No"]', "clobTokenIds": '["1", "2"]', "feesEnabled": False,
        },
    )  # fmt: skip


# --- prose


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("be >85° on jun 15, 2026?", {Day(2026, 6, 15)}),
        ("by december 31?", {Day(0, 12, 31)}),
        ("on 3rd of may 2026", {Day(2026, 5, 3)}),
        ("in june 2026", {Day(2026, 6, 0)}),
        ("before 2027-01-01", {Day(2027, 1, 1)}),
        ("before the 2028 election", {Day(2028, 0, 0)}),
        ("will martin odegaard score 12 goals, maybe 3?", set()),
    ],
)
def test_dates_are_read_as_far_as_they_are_stated(text, days):
    assert set(days_in(text)) == days


def test_dates_fit_when_nothing_both_state_differs():
    assert Day(2026, 6, 15).fits(Day(0, 6, 15))
    assert Day(2026, 0, 0).fits(Day(2026, 12, 1))
    assert not Day(2026, 6, 15).fits(Day(2026, 6, 14))
    assert str(Day(0, 6, 15)) == "??-06-15"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Will Bitcoin be above $100k on Dec 31?", [("UP", "100000", False)]),
        ("at least 1,500 seats", [("UP", "1500", True)]),
        ("86° or above", [("UP", "86", True)]),
        ("77° or below", [("DOWN", "77", True)]),
        ("less than 2.5%", [("DOWN", "2.5", False)]),
        ("84° to 85°", [("IN", "84", True), ("IN", "85", True)]),
        ("between $1.5 million and $2 million", [("IN", "1500000", True), ("IN", "2000000", True)]),
        ("Round Of 16", [("?", "16", None)]),
        ("March 12, 5:20AM-5:25AM ET", []),
    ],
)
def test_numbers_are_read_with_their_side_and_scale(text, found):
    strikes = [(strike.direction, f"{strike.value.normalize():f}", strike.inclusive) for strike in strikes_in(text)]
    assert strikes == found


def test_times_names_negations_and_sources_are_found():
    assert list(times_in("5:20am-5:25pm, 12 p.m.")) == ["05:20", "17:25", "12:00"]
    assert list(names_in("Will José Estévez's team beat NYC on June 3?")) == ["jose", "estevez", "new", "york"]
    assert is_negated("will it fail to happen?")
    assert not is_negated("will it not fail to happen?")
    assert set(sources_in(f"{NWS}, see https://www.weather.gov/okx.")) == {"national weather service", "weather.gov"}
    assert plain("Will the GOP win the Presidency?") == "will the republican win the president?"


# --- pairs that are one question

SAME = {
    "weather": (
        on_kalshi(
            "Will the **high temp in NYC** be >85° on Jun 15, 2026?", outcome="86° or above", strike_type="greater",
            floor_strike=85, rules=f"If the highest temperature in Central Park, New York, {NWS}, is greater than 85°",
        ),
        on_polymarket(
            "Will the highest temperature in New York City be 86°F or higher on June 15?",
            rules=f"This market resolves to Yes if the highest temperature is 86°F or higher {NWS}.",
        ),
    ),
    "crypto": (
        on_kalshi("Bitcoin price on Dec 31, 2026?", outcome="$100,000 or above", strike_type="greater_or_equal",
                  floor_strike=100000, close="2026-12-31T22:00:00Z"),
        on_polymarket("Will Bitcoin be at least $100k on December 31, 2026?", end="2027-01-01T00:00:00Z"),
    ),
    "tennis": (
        on_kalshi("Will Juan Estevez win the Cigarran vs Estevez: Round Of 16 match?", outcome="Juan Estevez",
                  close="2026-06-12T00:00:00Z"),
        on_polymarket("Will Juan Estevez win Cigarran vs Estevez, Round of 16?", end="2026-06-11T18:00:00Z"),
    ),
    "election": (
        on_kalshi("Will the Democrats win the Senate in 2026?", close="2026-11-04T00:00:00Z"),
        on_polymarket("Will the Democratic Party win the Senate in 2026?", end="2026-11-03T12:00:00Z"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_same_question_in_other_words_is_a_candidate_with_its_reasons(name):
    a, b = SAME[name]
    (pair,) = match.pairs([a], [b])
    assert pair.polarity == "SAME"
    assert pair.score >= match.SCORE_MIN
    assert pair.evidence[0].startswith("+ titles are")
    assert sum(reason.startswith("+") for reason in pair.evidence) >= 3
    assert pair.table[:3] == (("yes", ONE, ONE), ("no", 0, 0), ("void", ONE // 2, ONE // 2))


@pytest.mark.parametrize(
    ("b", "words"),
    [
        (on_polymarket("Will the highest temperature in New York City be 86°F or higher on June 14?"), "dates differ"),
        (on_polymarket("Will the highest temperature in New York City be 85°F or lower on June 15?"), "one pays above"),
        (on_polymarket("Will the highest temperature in New York City be 90°F or higher on June 15?"), "numbers differ"),
        (on_polymarket("Will the highest temperature in Chicago be 86°F or higher on June 15?"), "the other chicago"),
    ],
)  # fmt: skip
def test_nearly_the_same_title_of_another_question_is_told_apart(b, words):
    a = SAME["weather"][0]
    found = match.compare(a, b)
    assert any(words in reason for reason in found.evidence)
    assert found.ruled_out or found.polarity == "OPPOSITE"


def test_other_outcome_of_the_same_match_is_ruled_out():
    a = SAME["tennis"][0]
    b = on_polymarket("Will Thiago Cigarran win Cigarran vs Estevez, Round of 16?", end="2026-06-11T18:00:00Z")
    assert not match.pairs([a], [b])
    assert "one names juan, the other thiago" in match.compare(a, b).ruled_out


def test_other_five_minutes_of_the_same_day_are_ruled_out():
    a = on_kalshi("Bitcoin up or down, March 12, 5:20AM-5:25AM ET")
    b = on_polymarket("Bitcoin Up or Down - March 12, 5:30AM-5:35AM ET")
    assert "times of day differ" in match.compare(a, b).ruled_out


def test_equal_titles_alone_are_never_a_candidate():
    a = on_kalshi("will it rain", close="2026-06-16T00:00:00Z")
    b = on_polymarket("will it rain", end="2027-06-16T00:00:00Z")
    found = match.compare(a, b)
    assert found.evidence[0] == "+ titles are 100 % alike"
    assert "- nothing but the title speaks for it" in found.evidence
    assert not match.pairs([a], [b], score_min=0)


def test_question_that_asks_for_the_opposite_is_proposed_as_such():
    a = on_kalshi("Will Acme release Model 5 by June 15, 2026?")
    b = on_polymarket("Will Acme fail to release Model 5 by June 15, 2026?")
    (pair,) = match.pairs([a], [b])
    assert pair.polarity == "OPPOSITE"
    assert pair.table[:2] == (("yes", ONE, 0), ("no", 0, ONE))


def test_number_itself_becomes_a_state_where_the_venues_treat_it_differently():
    a = on_kalshi("Will Bitcoin be above $100k on June 15, 2026?", strike_type="greater", floor_strike=100_000)
    b = on_polymarket("Will Bitcoin be at least $100,000 on June 15?")
    (pair,) = match.pairs([a], [b])
    assert pair.table[-1] == ("exactly 100000", 0, ONE)
    assert "- at exactly 100000 they pay 0 and 1" in pair.evidence
    c = on_polymarket("Will Bitcoin be below $100,000 on June 15?")
    (pair,) = match.pairs([a], [c])
    assert (pair.polarity, pair.table[-1]) == ("OPPOSITE", ("exactly 100000", 0, 0))


def test_markets_that_close_far_apart_need_other_reasons():
    near, far = (
        match.compare(
            on_kalshi("Will Acme release Model 5?"), on_polymarket("Will Acme release Model 5?", end=end)
        )
        for end in (JUN16, "2027-06-16T00:00:00Z")
    )  # fmt: skip
    assert near.score >= far.score + 25
    assert "- they close 364 days apart" in far.evidence


# --- events


def test_ranges_that_cover_all_numbers_are_seen_in_recorded_markets(captures):
    markets = json.loads((captures / "kalshi" / "markets__high_temp.json").read_text())["markets"]
    found = [read("kalshi", market) for market in markets]
    exclusive = {one.instrument: True for one in found}
    listed = match.events(found, exclusive=exclusive, grows={})
    assert len(listed) == 3
    for event in listed:
        assert event.may_exhaust
        assert any("cover all numbers without a hole" in reason for reason in event.evidence)
        assert event.link == f"event|{event.event_group}"
        holed = [one for one in event.outcomes if one is not event.outcomes[2]]
        (rest,) = match.events(holed, exclusive=exclusive, grows={})
        assert not any("cover all" in reason for reason in rest.evidence)
        assert rest.score < event.score


def test_event_that_may_grow_or_whose_outcomes_do_not_exclude_each_other_cannot_be_exhausted():
    group = [on_kalshi("Who wins?", ticker=f"K-{name}", outcome=name) for name in ("Ann", "Bob")]
    everywhere = {one.instrument: True for one in group}
    (event,) = match.events(group, exclusive=everywhere, grows={"kalshi:K-Ann": True})
    assert not event.may_exhaust
    assert any("may add outcomes" in reason for reason in event.evidence)
    (event,) = match.events(group, exclusive={}, grows={})
    assert not event.may_exhaust
    assert not match.events(group[:1], exclusive=everywhere, grows={})


def test_outcome_for_the_rest_speaks_for_an_event():
    group = [on_kalshi("Who wins?", ticker=f"K-{name}", outcome=name) for name in ("Ann", "Bob", "Another person")]
    (event,) = match.events(group, exclusive={one.instrument: True for one in group}, grows={})
    assert any("stands for the rest" in reason for reason in event.evidence)


# --- whole catalogues


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("links")
    return World(
        SimulateSettings(
            markets=200, inverted_share=0.3, credentials_file=folder / "c.json", links_file=folder / "l.json",
            truth_dir=folder / "truth",
        )
    )  # fmt: skip


def test_every_pair_of_the_simulated_venues_is_found_with_its_polarity_and_no_other(world):
    left = [read("kalshi", kalshi_row(market)) for market in world.kalshi.exchange.markets]
    right = [read("polymarket", json.loads(_json(gamma_row(market)))) for market in world.clob.exchange.markets]
    began = time.perf_counter()
    found = match.pairs(left, right)
    took_s = time.perf_counter() - began
    truth = {
        (f"kalshi:{linked.kalshi_ticker}", f"polymarket:{linked.condition_id}", linked.polarity)
        for linked in world.universe
    }
    assert {(pair.a.instrument, pair.b.instrument, pair.polarity) for pair in found} == truth
    assert took_s < 20


def reworded(title):
    """The same question as another venue might ask it."""
    title = title.replace("Will the **high temp in NYC** be", "Highest temperature in New York City").replace(
        " match?", "?"
    )
    found = re.fullmatch(r"Will (.*) win the (.*)\?", title)
    return f"{found[2]}: {found[1]} to win?" if found else title


def test_recorded_markets_find_their_reworded_twins_and_no_others(captures):
    names = ("status_open", "high_temp", "page1", "page2", "page3")
    files = [json.loads((captures / "kalshi" / f"markets__{name}.json").read_text())["markets"] for name in names]
    markets = {
        market["ticker"]: market for listed in files for market in listed if not market.get("mve_collection_ticker")
    }
    left = [read("kalshi", market) for market in markets.values()]
    right = [
        on_polymarket(reworded(market["title"]), condition=name, end=market["close_time"])
        for name, market in markets.items()
    ]
    found = match.pairs(left, right)
    wrong = [pair for pair in found if pair.a.instrument.partition(":")[2] != pair.b.instrument.partition(":")[2]]
    # Players' hits, home runs, strikeouts at each number; ranges of a day; both players of a match.
    assert len(left) > 200
    assert len(found) - len(wrong) == len(left)
    assert not wrong, [(pair.a.title, pair.b.title, pair.evidence) for pair in wrong[:3]]


def test_better_partner_is_named_and_counts():
    hits = [on_kalshi(f"Ann Lee: {number}+ hits?", ticker=f"H{number}") for number in (1, 2)]
    other = [
        on_polymarket("Ann Lee: 1+ hits?", condition="0x1"),
        on_polymarket("Ann Lee: 1+ total hits?", condition="0x2"),
    ]
    found = {pair.link: pair for pair in match.pairs(hits, other, score_min=0)}
    assert set(found) == {"kalshi:H1|polymarket:0x1", "kalshi:H1|polymarket:0x2"}
    assert found["kalshi:H1|polymarket:0x2"].evidence[-1].startswith("- polymarket:0x1 fits better")
    assert found["kalshi:H1|polymarket:0x1"].score > found["kalshi:H1|polymarket:0x2"].score + match.RIVAL


def _json(row):
    import orjson

    return orjson.dumps(row)


def test_capped_common_words_bound_what_is_compared():
    many = [on_polymarket(f"Will Acme do thing x{number}y?", condition=f"0x{number}") for number in range(500)]
    finder = match._Finder(many)
    near = list(finder.near(on_kalshi("Will Acme do thing x7y?")))
    assert near[0].instrument == "polymarket:0x7"
    assert len(near) == 1, "words that all of them share find nobody"
