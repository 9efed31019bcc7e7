"""Events, series and scheduled fees of Kalshi that cannot be read, or are not stated any more: what else that costs."""

from collections import Counter

import orjson
import pytest

from core.domain.errors import Unavailable
from core.runtime import metrics
from core.runtime.topics import RAW_INSTRUMENT
from ingest.catalogue import MISSES_MAX, Catalogue
from ingest.kalshi_context import FAILURES_MAX, IDLE_POLLS
from tests.ingest.kalshi_of_many import Many, beside_listing
from tests.ingest.normalized import instruments

POLL_S = 30
REFUSED = (403, b"no")
BROKEN = (500, b"an error of the server")
UNREADABLE = (200, b'{"series":"?"}')
UNREADABLE_EVENT = (200, b'{"event":{"event_ticker":"?"}}')


def counted(event: str) -> float:
    """How often ingest counted an event by now."""
    return metrics.REGISTRY.get_sample_value("stage_events_total", {"stage": "ingest", "event": event}) or 0.0


def level(name: str) -> float:
    return metrics.REGISTRY.get_sample_value("stage_level", {"stage": "ingest", "name": name}) or 0.0


async def poll(listing, many: Many) -> list:
    """List once, and let the time until the next poll pass."""
    many.asked.clear()
    found = [one async for page in listing.open_markets() for one in page]
    many.clock.advance(ms=POLL_S * 1_000)
    return found


def own_series(name: str) -> str:
    return name.replace("KX", "KXS")


def test_a_client_that_fails_for_one_series_of_thirty_is_asked_for_the_others_as_before() -> None:
    for answer in (REFUSED, BROKEN, UNREADABLE):
        many = Many(30)
        many.series_of = own_series

        async def body(listing, many=many, answer=answer) -> None:
            await poll(listing, many)
            failures = counted("context_failed")
            # Two beside each other, the first that are due.
            many.answers |= {"/series/KXS-0000": answer, "/series/KXS-0001": answer}
            asked: Counter[str] = Counter()
            for _ in range(10):
                listed = await poll(listing, many)
                assert len(listed) == 30
                assert all(one.is_whole for one in listed)
                asked.update(path for path in many.asked if path.startswith("/series/KXS"))
            # What is older than a minute is read again: every third poll at the latest.
            assert min(asked[f"/series/{own_series(name)}"] for name in many.names) >= 3
            assert counted("context_failed") > failures
            assert level("context_overdue") == 2
            assert level("context_oldest_s") > 9 * POLL_S
            many.answers.clear()
            await poll(listing, many)
            assert level("context_overdue") == 0

        beside_listing(many, body)


def test_a_row_without_its_series_costs_only_its_own_event() -> None:
    many = Many(30)

    async def body(listing) -> None:
        first = {one.instrument: one.context for one in await poll(listing, many)}
        many.rows["KX-0000"] = {"event_ticker": "KX-0000"}
        many.overrides = dict.fromkeys(many.names, 2)
        polls = [await poll(listing, many) for _ in range(6)]
        assert [len(listed) for listed in polls] == [30] * 6
        now = {one.instrument: orjson.loads(one.context)["event"] for one in polls[-1]}
        # What was read of it last stands, the others are those of now.
        assert now.pop("kalshi:KX-0000-M") == orjson.loads(first["kalshi:KX-0000-M"])["event"]
        assert {event["fee_multiplier_override"] for event in now.values()} == {2}

    beside_listing(many, body)


@pytest.mark.parametrize("answer", [REFUSED, BROKEN], ids=["refused", "broken"])
def test_events_that_cannot_be_had_many_at_a_time_are_read_one_by_one(answer) -> None:
    many = Many(30)

    async def body(listing) -> None:
        await poll(listing, many)
        many.answers["/events"] = answer
        many.read = dict.fromkeys(many.names, 0)
        for _ in range(6):
            assert len(await poll(listing, many)) == 30
        assert min(many.read.values()) >= 2

    beside_listing(many, body)


def test_a_poll_asks_a_host_that_refuses_everything_only_a_few_times_of_each_kind() -> None:
    many = Many(30)
    many.series_of = own_series

    async def body(listing) -> None:
        await poll(listing, many)
        await poll(listing, many)
        refused = {f"/events/{name}": REFUSED for name in many.names} | {"/events": REFUSED, "/markets": REFUSED}
        many.answers |= refused | {f"/series/{own_series(name)}": REFUSED for name in many.names}
        for _ in range(2 * IDLE_POLLS):
            with pytest.raises(Unavailable):
                await poll(listing, many)
            many.clock.advance(ms=POLL_S * 1_000)
            kinds = Counter(path.rpartition("/")[0] for path in many.asked)
            assert kinds["/events"] <= FAILURES_MAX + 1
            assert kinds["/series"] <= FAILURES_MAX + 1  # that of scheduled fees
        # A list that broke off says nothing of which events are idle: all are read again.
        many.answers.clear()
        many.read = dict.fromkeys(many.names, 0)
        await poll(listing, many)
        assert min(many.read.values()) == 1

    beside_listing(many, body)


@pytest.mark.parametrize(
    ("answers", "first"),
    [
        ({"/events/KX-0003": REFUSED, "/events/KX-0004": UNREADABLE_EVENT}, 6),
        ({f"/series/{own_series('KX-0003')}": UNREADABLE, f"/series/{own_series('KX-0004')}": REFUSED}, 6),
        ({"/events/KX-0003": REFUSED, "/events/KX-0004": REFUSED}, 3),
        ({f"/series/{own_series('KX-0003')}": BROKEN, f"/series/{own_series('KX-0004')}": REFUSED}, 3),
    ],
    ids=["events", "series", "events refused", "series refused"],
)
def test_a_market_of_what_was_never_read_is_neither_described_nor_missed(doubles, answers, first) -> None:
    """It stands as it is until what belongs to it can be read: by halves it would be another's rules and fees."""
    many = Many(8)
    many.series_of = own_series
    lost = {"kalshi:KX-0003-M", "kalshi:KX-0004-M"}

    async def body(listing) -> None:
        def fresh(standing):
            log = doubles.Log(many.clock)
            catalogue = Catalogue(
                "kalshi", listing, log, doubles.Table(), many.clock, partitions=2, poll_s=1, markets_max=100
            )
            catalogue.take_share(doubles.share([0, 1], standing))
            return catalogue, log.topics[RAW_INSTRUMENT["kalshi"].noun]

        many.answers |= answers
        catalogue, written = fresh({})
        unread = counted("market_unread")
        # After two refusals beside each other the others of the page wait for the next poll.
        assert [await catalogue.look() for _ in range(3)] == [first, 6 - first, 0]
        assert counted("market_unread") >= unread + 3 * 2
        assert not lost & {key for key, *_ in written}
        standing = {key: record for key, record, _ in written}
        standing |= dict.fromkeys(lost, standing["kalshi:KX-0000-M"])
        catalogue, written = fresh(standing)
        # Also where they are looked up by name because they are closed.
        for name in ("KX-0003", "KX-0004"):
            many.names.remove(name)
        for _ in range(MISSES_MAX + 2):
            await catalogue.look()
        assert not written
        many.answers.clear()
        assert await catalogue.look() == 2
        assert {key for key, record, _ in written if record is not None} == lost

    beside_listing(many, body)


def test_many_events_that_the_venue_does_not_know_are_asked_for_in_turn_and_not_paged_for_again() -> None:
    many = Many(300)

    async def body(listing) -> None:
        many.answers = {f"/events/{name}": (404, b"") for name in many.names}
        many.unlisted = set(many.names)
        listed = await poll(listing, many)
        assert {one.context for one in listed} == {b""}
        assert all(one.is_whole for one in listed)
        many.paged = 0
        await poll(listing, many)
        assert many.paged == 0

    beside_listing(many, body)


def test_oldest_first_holds_among_what_fails_too() -> None:
    many = Many(40)
    many.series_of = own_series

    async def body(listing) -> None:
        await poll(listing, many)
        many.answers = {f"/series/{own_series(name)}": REFUSED for name in many.names}
        asked: Counter[str] = Counter()
        for _ in range(24):
            await poll(listing, many)
            asked.update(path for path in many.asked if path.startswith("/series/KXS"))
        assert set(asked) == set(many.answers)
        assert max(asked.values()) - min(asked.values()) <= 1

    beside_listing(many, body)


# --- not stated any more


def test_what_was_said_of_a_series_stands_when_the_venue_does_not_state_it_any_more() -> None:
    many = Many(3)

    async def body(listing) -> None:
        before = [one.context for one in await poll(listing, many)]
        assert orjson.loads(before[0])["series"]["ticker"] == "KX"
        many.answers["/series/KX"] = (404, b"")
        known = counted("series_not_stated")
        for _ in range(6):
            assert [one.context for one in await poll(listing, many)] == before
        # Asked for again when it is older than a minute, not in each poll.
        assert known + 2 <= counted("series_not_stated") <= known + 3

    beside_listing(many, body)


def test_a_market_whose_series_was_never_stated_is_described_without_it() -> None:
    many = Many(3)
    many.answers["/series/KX"] = (404, b"")

    async def body(listing) -> None:
        assert [(one.context, one.is_whole) for one in await poll(listing, many)] == [(b"", True)] * 3
        many.answers.clear()
        await poll(listing, many)
        assert orjson.loads((await poll(listing, many))[0].context)["series"]["ticker"] == "KX"

    beside_listing(many, body)


# --- events of several games at once, which the list of events leaves out


def test_series_get_half_of_each_polls_requests_though_events_come_one_by_one() -> None:
    many = Many(300)
    many.series_of = own_series
    many.unlisted = set(many.names)

    async def body(listing) -> None:
        for _ in range(2):
            await poll(listing, many)
        asked: Counter[str] = Counter()
        for _ in range(7):
            assert len(await poll(listing, many)) == 300
            series = [path for path in many.asked if path.startswith("/series/KXS")]
            events = [path for path in many.asked if path.startswith("/events/KX-")]
            assert len(series) >= 49
            assert len(events) >= 40
            asked.update(series)
        # Each once in seven polls of 49.
        assert len(asked) == 300

    beside_listing(many, body)


def test_events_get_what_series_leave_where_they_come_one_by_one() -> None:
    many = Many(300)
    many.unlisted = set(many.names)

    async def body(listing) -> None:
        for _ in range(2):
            await poll(listing, many)
        for _ in range(4):
            await poll(listing, many)
            assert len([path for path in many.asked if path.startswith("/events/KX-")]) >= 90

    beside_listing(many, body)


# --- scheduled fees


def change(ticker: str, **fields: object) -> dict[str, object]:
    stated = {"fee_type": "quadratic", "fee_multiplier": 2, "scheduled_ts": "2100-01-01T00:00:00Z"}
    return {"series_ticker": ticker} | stated | fields


def listed_changes(*rows: object) -> tuple[int, bytes]:
    return 200, orjson.dumps({"series_fee_change_arr": rows})


@pytest.mark.parametrize(
    "row",
    [
        change("KXS-0001", fee_multiplier=None),
        change("KXS-0001", fee_type=None),
        change("KXS-0001", fee_multiplier="two"),
        change("KXS-0001", scheduled_ts="soon"),
        change("KXS-0001", scheduled_ts=7),
        change("KXS-0001", fee_type=["quadratic"]),
        {"event_ticker": "KX-0001", "scheduled_ts": "2100-01-01T00:00:00Z", "fee_type_override": 3},
        {"event_ticker": "KX-0001", "fee_type_override": "quadratic", "fee_multiplier_override": 3},
    ],
    ids=["no multiplier", "no type", "no number", "no time", "time a number", "type a list", "event", "event, no time"],
)
def test_a_change_of_fees_that_cannot_be_read_makes_only_its_own_fees_unknown(captures, row) -> None:
    many = Many(3)
    many.series_of = own_series
    many.market = orjson.loads((captures / "kalshi/markets__single.json").read_bytes())["market"]

    async def body(listing) -> None:
        many.changes = listed_changes(change("KXS-0000"), row, change("KXS-0002"))
        unreadable = counted("fee_change_unreadable")
        ours = instruments(await poll(listing, many))
        assert [one.fee_model for one in ours.values()] == ["QUADRATIC", "UNKNOWN", "QUADRATIC"]
        assert [len(one.fees) for one in ours.values()] == [1, 0, 1]
        assert counted("fee_change_unreadable") == unreadable + 1
        # It ends with the row.
        many.changes = listed_changes(change("KXS-0000"))
        ours = instruments(await poll(listing, many))
        assert [(one.fee_model, len(one.fees)) for one in ours.values()] == [
            ("QUADRATIC", 1), ("QUADRATIC", 0), ("QUADRATIC", 0),
        ]  # fmt: skip

    beside_listing(many, body)


def test_a_series_whose_coming_fee_cannot_be_read_is_too_dear_where_an_event_overrides_its_type_alone(captures) -> None:
    many = Many(1)
    many.market = orjson.loads((captures / "kalshi/markets__single.json").read_bytes())["market"]
    many.rows["KX-0000"] = {"event_ticker": "KX-0000", "series_ticker": "KX", "fee_type_override": "quadratic"}
    many.changes = listed_changes(change("KX", fee_multiplier=None))

    async def body(listing) -> None:
        (ours,) = instruments(await poll(listing, many)).values()
        # A contract costs a dollar at most.
        assert ours.fees[0].taker_fee_e6 > 1_000 * 1_000_000

    beside_listing(many, body)


@pytest.mark.parametrize("row", [{"scheduled_ts": "2100-01-01T00:00:00Z"}, 7, None, ["KX"]])
def test_a_change_of_fees_of_nobody_is_counted_and_hides_no_other(row) -> None:
    many = Many(1)
    many.changes = listed_changes(row, change("KX"))

    async def body(listing) -> None:
        unreadable = counted("fee_change_unreadable")
        (one,) = await poll(listing, many)
        assert orjson.loads(one.context)["fee_changes"] == [change("KX")]
        assert counted("fee_change_unreadable") == unreadable + 1

    beside_listing(many, body)


@pytest.mark.parametrize("path", ["/series/fee_changes", "/events/fee_changes"])
def test_a_list_of_scheduled_fees_that_is_not_found_says_nothing_of_them(path) -> None:
    many = Many(1)
    many.changes = listed_changes(change("KX"))

    async def body(listing) -> None:
        (before,) = await poll(listing, many)
        assert orjson.loads(before.context)["fee_changes"] == [change("KX")]
        many.answers[path] = (404, b"")
        failed = counted("fee_changes_failed")
        (after,) = await poll(listing, many)
        assert after.context == before.context
        assert counted("fee_changes_failed") == failed + 1
        # The other list is another: where it can be had it counts.
        many.changes = listed_changes()
        (last,) = await poll(listing, many)
        assert (last.context == before.context) == (path == "/series/fee_changes")

    beside_listing(many, body)
