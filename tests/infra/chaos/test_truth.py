"""Oracle (a) on small histories: a planted difference is found, what is right is left alone, what nobody could know is named."""

import pytest

from infra.chaos.blind import blind_spans
from infra.chaos.matching import Sent, match, read_sent
from infra.chaos.truth import Truth, Venue
from schemas.derived import Depth, Quote
from schemas.market import BookDelta, BookSnapshot
from tests.records import sides

T = 1_780_000_000_000_000_000
KEY = "KXA"
NAME = f"kalshi:{KEY}"
LEVELS = [
    [KEY, 1, "bid", 4000, 1_000_000],
    [KEY, 2, "ask", 6000, 2_000_000],
    [KEY, 3, "bid", 4100, 3_000_000],
    [KEY, 4, "bid", 4000, 0],
    [KEY, 5, "ask", 5900, 5_000_000],
]
BOOKS = {
    2: ([(4000, 1_000_000)], [(6000, 2_000_000)]),
    3: ([(4100, 3_000_000), (4000, 1_000_000)], [(6000, 2_000_000)]),
    4: ([(4100, 3_000_000)], [(6000, 2_000_000)]),
    5: ([(4100, 3_000_000)], [(5900, 5_000_000), (6000, 2_000_000)]),
}
LINES = [
    [1, 1, "orderbook_snapshot", KEY, 0, "d1", [2], None],
    [1, 2, "orderbook_delta", KEY, 0, "d2", [3], None],
    [1, 3, "trade", KEY, 0, "d3", [], None],
    [1, 4, "orderbook_delta", KEY, 0, "d4", [4], None],
    [1, 5, "orderbook_delta", KEY, 0, "d5", [5], None],
]


def depth(frame_no, version, book=None, place=0, **changes):
    bids, asks = book or BOOKS[version]
    fields = dict(
        instrument=NAME, version_offset=version, version_index=0, state="LIVE", price_exp=-4, size_exp=-6,
        **sides(bids, asks),
        epoch=7, book_frame_no=frame_no, book_index=place, recv_ts_ns=T,
    )  # fmt: skip
    return Depth(**(fields | changes))


def quote(depth, **changes):
    fields = dict(
        instrument=depth.instrument, version_offset=depth.version_offset, version_index=1,
        depth_offset=depth.version_offset, depth_index=0, state="LIVE", price_exp=-4, size_exp=-6,
        bid_price=depth.bid_prices[0], bid_size=depth.bid_sizes[0], ask_price=depth.ask_prices[0],
        ask_size=depth.ask_sizes[0], epoch=7, recv_ts_ns=T,
    )  # fmt: skip
    return Quote(**(fields | changes))


def record(kind, frame_no, place=0, instrument=NAME):
    common = dict(
        instrument=instrument, epoch=7, frame_no=frame_no, index=place, price_exp=-4, size_exp=-6, recv_ts_ns=T
    )
    if kind == "snapshot":
        return BookSnapshot(**common, bid_prices=[], bid_sizes=[], ask_prices=[], ask_sizes=[])
    return BookDelta(**common, side="BUY", kind="SIGNED", price=1, size=1)


def feed(lines):
    """The frames as they stand on the feed: number -> digest."""
    return {number: line[5] for number, line in enumerate((line for line in lines if line[1]), 1)}


def compare(shown, lines=LINES, *, faults=(), every=1, levels=LEVELS, digests=None, records=None):
    sent = read_sent(lines)
    venue = Venue(
        "kalshi", sent, match(sent, {7: digests or feed(lines)}), levels, blind_spans("kalshi", sent, faults, every)
    )
    truth = Truth()
    for offset, one in enumerate(shown):
        truth.add(one, 0, offset)
    if records is None:
        records = [record("delta", n) for n, line in enumerate((line for line in lines if line[1]), 1) if line[6]]
    for one in records:
        truth.add_event(one)
    return truth.compare({"kalshi": venue})


def test_books_that_are_the_venues_own_have_no_difference():
    depths = [depth(1, 2), depth(2, 3), depth(4, 4), depth(5, 5)]
    outcome = compare([*depths, *(quote(one) for one in depths)])
    assert (outcome.checked, outcome.differences, outcome.examples) == (8, 0, [])


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        (([(4100, 3_000_000), (4000, 1_000_001)], [(6000, 2_000_000)]), "bid 2"),
        (([(4100, 3_000_000)], [(6000, 2_000_000)]), "bid 2"),
        (([(4100, 3_000_000), (4000, 1_000_000)], [(6000, 2_000_000), (6100, 1)]), "ask 2"),
        (([(4100, 3_000_000), (4000, 1_000_000)], [(6001, 2_000_000)]), "ask 1"),
        (([], []), "bid 1"),
    ],
)
def test_one_planted_level_is_found_and_named(wrong, where):
    outcome = compare([depth(1, 2), depth(2, 3, wrong), depth(4, 4)])
    assert (outcome.differences, dict(outcome.kinds)) == (1, {"levels": 1})
    assert where in outcome.examples[0]


def test_a_right_book_at_the_wrong_point_of_the_feed_is_a_difference():
    assert compare([depth(2, 2)]).differences == 1
    assert compare([depth(4, 5)]).differences == 1


def test_only_ten_levels_are_shown_and_compared():
    levels = [[KEY, n, "bid", 1000 + n, n] for n in range(1, 13)]
    lines = [[1, 1, "orderbook_snapshot", KEY, 0, "d", [12], None]]
    ten = [(1000 + n, n) for n in range(12, 2, -1)]
    assert compare([depth(1, 12, (ten, []))], lines, levels=levels).differences == 0
    assert compare([depth(1, 12, (ten[:9], []))], lines, levels=levels).differences == 1


def test_other_exponents_are_a_difference():
    assert compare([depth(1, 2, price_exp=-3)]).differences == 1


def test_a_book_that_is_not_live_is_not_compared():
    outcome = compare([depth(1, 2, ([(1, 1)], []), state="STALE")])
    assert (outcome.checked, outcome.differences) == (0, 0)


@pytest.mark.parametrize(
    "untraceable",
    [
        depth(-1, 2),
        depth(9, 2),
        depth(3, 3),
        depth(1, 2, place=1),
        depth(1, 2, epoch=8),
        depth(1, 2, instrument="kalshi:OTHER"),
        depth(1, 2, instrument="nowhere:KXA"),
    ],
)
def test_a_book_without_a_way_back_to_the_venue_is_a_difference(untraceable):
    outcome = compare([untraceable])
    assert dict(outcome.kinds) == {"untraceable": 1}


def test_a_quote_that_says_other_than_its_depth_is_a_difference():
    shown = depth(1, 2)
    assert dict(compare([shown, quote(shown, bid_price=4001)]).kinds) == {"quote": 1}
    assert dict(compare([shown, quote(shown, ask_size=1)]).kinds) == {"quote": 1}
    assert dict(compare([shown, quote(shown, depth_offset=3)]).kinds) == {"quote without depth": 1}


def test_an_empty_side_is_quoted_with_size_zero():
    shown = depth(1, 1, ([(4000, 1_000_000)], []))
    lines = [[1, 1, "orderbook_snapshot", KEY, 0, "d", [1], None]]
    said = Quote(
        instrument=NAME, version_offset=1, version_index=1, depth_offset=1, depth_index=0, state="LIVE", price_exp=-4,
        size_exp=-6, bid_price=4000, bid_size=1_000_000, ask_price=0, ask_size=0, epoch=7, recv_ts_ns=T,
    )  # fmt: skip
    assert compare([shown, said], lines).differences == 0


def test_the_truth_goes_on_though_a_frame_of_it_was_never_sent():
    dropped = [LINES[0], [1, 0, "orderbook_delta", KEY, 0, "x", [3], [1, "dropped"]], *LINES[2:]]
    # Number 3 on the feed is the frame of version 4: the reader never heard of version 3.
    wrong = ([], [(6000, 2_000_000)])
    assert compare([depth(1, 2), depth(3, 4, wrong)], dropped).differences == 1
    assert compare([depth(1, 2), depth(3, 4)], dropped).differences == 0


def test_an_old_snapshot_states_another_book_than_the_venues():
    stale = [*LINES[:4], [1, 5, "orderbook_snapshot", KEY, 0, "old", [3], [1, "delayed"]]]
    assert compare([depth(5, 3)], stale).differences == 1
    assert compare([depth(5, 4)], stale).differences == 0


DROP = [
    LINES[0],
    [1, 0, "orderbook_delta", KEY, 0, "x", [3], [4, "dropped"]],
    [1, 2, "orderbook_delta", KEY, 0, "d4", [4], None],
    [1, 3, "orderbook_delta", KEY, 0, "d5", [5], None],
]
BEGIN = {"event": "begin", "id": 4, "fault": "gap", "venue": "kalshi", "connection": 1, "market": KEY}
LACKS = {4: ([], [(6000, 2_000_000)]), 5: ([], [(5900, 5_000_000), (6000, 2_000_000)])}


def reveals(ordinal):
    return {"event": "reveals", "id": 4, "connection": 1, "ordinal": ordinal, "market": KEY, "by": "hash"}


def test_what_no_reader_could_know_is_counted_apart_until_a_frame_gives_it_away():
    shown = [depth(2, 4, LACKS[4]), depth(3, 5, LACKS[5])]
    outcome = compare(shown, DROP, faults=[BEGIN, reveals(3)])
    assert (dict(outcome.unknowable), outcome.differences) == ({"gap": 1}, 1)


def test_the_frame_that_gives_it_away_is_too_late_for_excuses():
    outcome = compare([depth(2, 4, LACKS[4])], DROP, faults=[BEGIN, reveals(2)])
    assert (dict(outcome.unknowable), outcome.differences) == ({}, 1)


def test_a_sampled_hash_is_given_as_many_records_as_it_lets_pass():
    shown = [depth(2, 4, LACKS[4]), depth(3, 5, LACKS[5])]
    assert compare(shown, DROP, faults=[BEGIN, reveals(2)], every=2).differences == 1
    assert compare(shown, DROP, faults=[BEGIN, reveals(2)], every=3).differences == 0


def test_without_a_fault_of_this_venue_nothing_is_excused():
    shown = [depth(2, 4, LACKS[4])]
    assert compare(shown, DROP, faults=[BEGIN | {"venue": "polymarket"}]).differences == 1
    assert compare(shown, DROP).differences == 1


def test_what_is_right_though_it_could_not_be_known_is_no_excuse_used():
    outcome = compare([depth(2, 4)], DROP, faults=[BEGIN])
    assert (outcome.differences, sum(outcome.unknowable.values())) == (0, 0)


def test_a_frame_of_many_books_states_the_version_of_each_in_its_order():
    other = "KXB"
    lines = [[1, 1, "dump", "", 0, "d", [[other, 1], [KEY, 2]], None]]
    levels = [*LEVELS, [other, 1, "bid", 100, 7]]
    records = [record("snapshot", 1, 0, f"kalshi:{other}"), record("snapshot", 1, 2)]
    shown = [depth(1, 1, ([(100, 7)], []), instrument=f"kalshi:{other}"), depth(1, 2, place=2)]
    assert compare(shown, lines, levels=levels, records=records).differences == 0
    swapped = [depth(1, 2, place=0), depth(1, 1, ([(100, 7)], []), 2, instrument=f"kalshi:{other}")]
    assert compare(swapped, lines, levels=levels, records=records).differences == 2


def test_a_quote_is_held_against_the_depth_it_names_and_no_other():
    first, second = depth(1, 2), depth(2, 3)
    outcome = compare([first, second, quote(second, depth_offset=first.version_offset)])
    assert dict(outcome.kinds) == {"quote": 1}


# Matching


def test_a_feed_belongs_to_the_connection_that_sent_most_of_it():
    sent = read_sent(
        [*LINES, *[[2, *line[1:]] for line in LINES[:2]], [2, 3, "orderbook_delta", KEY, 0, "e3", [3], None]]
    )
    found = match(sent, {7: feed(LINES), 8: {1: "d1", 2: "d2", 3: "e3"}})
    assert (found[7].connection, found[8].connection) == (1, 2)
    assert found[8].places == {1: 0, 2: 1, 3: 2}


def test_what_is_missing_in_the_middle_is_lost_and_at_the_end_unread():
    sent = read_sent(LINES)
    found = match(sent, {7: {1: "d1", 3: "d4"}})[7]
    assert (found.lost, found.unread, found.foreign) == ([1, 2], 1, [])


def test_a_frame_nobody_sent_and_a_frame_sent_once_and_kept_twice_are_foreign():
    found = match(read_sent(LINES), {7: {1: "d1", 2: "zz", 3: "d2", 4: "d2"}})[7]
    assert found.foreign == [2, 4]


def test_a_frame_sent_twice_is_two_lines():
    lines = [*LINES[:2], [1, 3, "orderbook_delta", KEY, 0, "d2", [3], [1, "duplicated"]]]
    found = match(read_sent(lines), {7: {1: "d1", 2: "d2", 3: "d2"}})[7]
    assert (found.foreign, found.lost, found.places) == ([], [], {1: 0, 2: 1, 3: 2})


def test_private_connections_and_keep_alives_are_left_out():
    lines = [[5, 1, "fill", "", 0, "f", [], None], *LINES, [1, 6, "PONG", "", 0, "p", [], None]]
    sent = read_sent(lines)
    assert list(sent) == [1]
    assert Sent(6, "PONG", "p", (), None) not in sent[1]
