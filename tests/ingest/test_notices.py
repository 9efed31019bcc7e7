"""What a catalogue does with what a venue says on its stream: when it counts as answered, and how soon it is."""

import orjson

from core.runtime.flow import Input
from core.runtime.topics import MARKET_NOTICE, RAW_INSTRUMENT
from ingest.catalogue import Catalogue
from schemas.market import Notice
from tests.ingest.kalshi_of_many import Many, beside_listing


def notice_of(recv_ts_ns: int, *, event_group: str = "", instrument: str = "") -> Input:
    notice = Notice(
        venue="kalshi", event_group=event_group, instrument=instrument, reason="event_fee_update", feed="f", epoch=1,
        frame_no=1, index=0, recv_ts_ns=recv_ts_ns,
    )  # fmt: skip
    return Input(notice, MARKET_NOTICE.noun, 0, 0, instrument or event_group)


def catalogue_on(doubles, many: Many, listing, standing=None):
    """A catalogue that owns all of an empty topic, and what it writes."""
    log = doubles.Log(many.clock)
    catalogue = Catalogue(
        "kalshi", listing, log, doubles.Table(), many.clock, partitions=2, poll_s=1, markets_max=1_000
    )
    catalogue.take_share(doubles.share([0, 1], standing or {}))
    return catalogue, log.topics[RAW_INSTRUMENT["kalshi"].noun]


def override_of(record) -> int | None:
    return orjson.loads(record.context)["event"].get("fee_multiplier_override")


# --- when it is answered


def test_a_description_whose_event_was_read_before_the_notice_does_not_answer_it(doubles) -> None:
    many = Many(1)

    async def body(listing) -> None:
        catalogue, written = catalogue_on(doubles, many, listing)
        await catalogue.look()
        many.clock.advance(ms=30_000)
        # The feed's worker hears it now, and normalize lags; meanwhile the market is written for something else.
        heard_ns = many.clock.now_ns()
        many.overrides["KX-0000"], many.words = 2, "b"
        many.clock.advance(ms=500)
        assert await catalogue.look() == 1
        between = written[-1][1]
        assert between.recv_ts_ns > heard_ns
        assert override_of(between) is None
        catalogue.take_notice(notice_of(heard_ns, event_group="kalshi:KX-0000"))
        assert await catalogue.look_at_noticed() == 1
        assert override_of(written[-1][1]) == 2
        assert written[-1][1].recv_ts_ns > between.recv_ts_ns
        assert await catalogue.look_at_noticed() == await catalogue.look() == 0

    beside_listing(many, body)


def test_an_event_that_was_read_for_another_market_is_read_again_for_a_notice_of_this_one(doubles) -> None:
    many = Many(1)

    async def body(listing) -> None:
        catalogue, written = catalogue_on(doubles, many, listing)
        await catalogue.look()
        name, standing, _ = written[-1]
        # Who takes over does not know of which event the instrument is until it was listed.
        catalogue, written = catalogue_on(doubles, many, listing, {name: standing})
        heard_ns = many.clock.now_ns()
        many.overrides["KX-0000"] = 2
        catalogue.take_notice(notice_of(heard_ns, instrument=name))
        assert [await catalogue.look_at_noticed(), await catalogue.look_at_noticed()] == [0, 1]
        assert override_of(written[-1][1]) == 2

    beside_listing(many, body)


# --- how soon


def test_a_notice_is_looked_up_between_two_pages_of_a_list(doubles) -> None:
    many = Many(100)

    async def body(listing) -> None:
        catalogue, written = catalogue_on(doubles, many, listing)
        await catalogue.look()
        many.pages.clear()
        told = iter([0, 0, 1])

        def on_page() -> None:
            if next(told, 0):
                many.overrides["KX-0000"] = 2
                catalogue.take_notice(notice_of(many.clock.now_ns(), event_group="kalshi:KX-0000"))

        many.on_page = on_page
        assert await catalogue.look() == 1
        # Its page had gone by; it was written before the list went on.
        assert override_of(written[-1][1]) == 2
        assert many.pages == [0, 10, 20, "KX-0000-M", 30, 40, 50, 60, 70, 80, 90]
        assert await catalogue.look_at_noticed() == 0

    beside_listing(many, body, page=10)


def test_a_notice_that_came_while_events_were_read_again_is_looked_up_before_the_list(doubles) -> None:
    many = Many(30)

    async def body(listing) -> None:
        catalogue, _ = catalogue_on(doubles, many, listing)
        await catalogue.look()
        many.clock.advance(ms=90_000)
        catalogue.take_notice(notice_of(many.clock.now_ns(), event_group="kalshi:KX-0029"))
        many.pages.clear()
        await catalogue.look()
        assert many.pages == ["KX-0029-M", 0, 10, 20]

    beside_listing(many, body, page=10)


def test_a_list_goes_on_where_a_look_at_a_notice_fails_and_answers_it_itself(doubles) -> None:
    many = Many(30)

    async def body(listing) -> None:
        catalogue, written = catalogue_on(doubles, many, listing)
        await catalogue.look()
        many.knows_tickers = False
        many.answers["/markets?tickers"] = (403, b"no")
        many.overrides["KX-0029"] = 2
        catalogue.take_notice(notice_of(many.clock.now_ns(), event_group="kalshi:KX-0029"))
        assert await catalogue.look() == 1
        assert override_of(written[-1][1]) == 2
        assert catalogue.polls == 2

    beside_listing(many, body, page=10)
