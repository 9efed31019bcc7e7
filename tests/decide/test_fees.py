"""What an account pays at a time, alike for strategies that look and for accounts that admit."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.errors import Misconfigured
from decide import operator
from decide.fees import FILL_WAIT_NS, in_force
from schemas.decision import FeeTerm, Grant, Intent

ONE = 1_000_000
DAY = 86_400 * 10**9


def paid(make, terms, *, now_ns=0, **changes):
    instrument = make.instrument(make.KALSHI, **changes)
    return in_force(instrument, make.profile("kalshi", fees=terms), now_ns).taker_fee_e6


def test_without_a_term_the_venues_word_counts(make):
    assert paid(make, []) == 70_000
    assert paid(make, [FeeTerm(instruments="kalshi:OTHER", taker_fee_e6=1)]) == 70_000
    assert paid(make, [FeeTerm(category="Sports", taker_fee_e6=1)], category="Economics") == 70_000
    assert in_force(make.instrument(make.KALSHI), None, 0).taker_fee_e6 == 70_000


def test_last_term_that_is_valid_and_fits_counts(make):
    terms = [
        FeeTerm(taker_fee_e6=60_000),
        FeeTerm(instruments="kalshi:KX-", taker_fee_e6=50_000),
        FeeTerm(category="Sports", taker_fee_e6=40_000),
        FeeTerm(instruments="kalshi:KX-1", until_ts_ns=DAY, taker_fee_e6=30_000),
    ]
    assert paid(make, terms) == 30_000
    assert paid(make, terms, now_ns=DAY) == 50_000
    assert paid(make, terms, now_ns=DAY, category="Sports") == 40_000


def test_share_of_what_is_stated_is_rounded_up(make):
    assert paid(make, [FeeTerm(share_e6=333_333)]) == 23_334
    assert paid(make, [FeeTerm(share_e6=0)]) == 0
    assert paid(make, [FeeTerm(taker_fee_e6=10, share_e6=2 * ONE)]) == 20


@pytest.mark.parametrize(("before", "after"), [(30_000, 90_000), (90_000, 30_000)])
def test_dearer_side_of_a_change_counts_while_an_order_may_fill_on_either(make, before, after):
    terms = [FeeTerm(taker_fee_e6=before), FeeTerm(from_ts_ns=DAY, taker_fee_e6=after)]
    assert paid(make, terms, now_ns=DAY - FILL_WAIT_NS - 1) == before
    assert paid(make, terms, now_ns=DAY - FILL_WAIT_NS) == 90_000
    assert paid(make, terms, now_ns=DAY - 1) == 90_000
    assert paid(make, terms, now_ns=DAY) == after


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200), st.integers(-1, 99)), max_size=6), st.integers(0, 200)
)
def test_fee_is_the_largest_of_any_moment_the_order_may_fill_in(make, spans, at):
    minute = FILL_WAIT_NS // 60
    terms = [FeeTerm(from_ts_ns=a * minute, until_ts_ns=b * minute, taker_fee_e6=fee) for a, b, fee in spans]

    def at_moment(ts_ns):
        valid = [t for t in terms if t.from_ts_ns <= ts_ns and (t.until_ts_ns == 0 or ts_ns < t.until_ts_ns)]
        return valid[-1].taker_fee_e6 if valid and valid[-1].taker_fee_e6 >= 0 else 70_000

    moments = [(at + step) * minute for step in range(61)]
    assert paid(make, terms, now_ns=at * minute) == max(at_moment(ts_ns) for ts_ns in moments)


def test_strategies_and_accounts_use_the_same_term(make):
    """An edge of 40 cents on ten contracts: with the stated fees there is profit in it, with the account's there is none."""
    books = [
        (make.KALSHI, [(5_000, 10 * ONE)], [(5_200, 10 * ONE)]),
        (make.POLY, [(3_800, 10 * ONE)], [(4_600, 10 * ONE)]),
    ]

    def looked_at(*profiles):
        log = make.strategies().start(params='{"min_profit_e6": 1}')
        for profile in profiles:
            log.feed(profile)
        for name, bids, asks in books:
            follows = log.book(name, 10, bids=bids, asks=asks)
        return [record for record in follows if isinstance(record, Intent)]

    dear = make.profile("kalshi", fees=[FeeTerm(taker_fee_e6=140_000)])
    cheap = make.profile("kalshi", fees=[FeeTerm(share_e6=0)])
    (intent,) = looked_at()
    assert looked_at(dear) == []
    (better,) = looked_at(cheap)
    assert better.profit_e6 - intent.profit_e6 == 180_000
    accounts = make.accounts().start()
    accounts.feed(dear)
    assert accounts.feed(intent)[0].reason == "NO_PROFIT"
    accounts.feed(cheap)
    assert isinstance(accounts.feed(make.replace(intent, id="again"))[0], Grant)


def file(**term):
    return {
        "profiles": [{"id": "kalshi:main", "venue": "kalshi", "entity": "e", "currency": "USD", "fees": [term]}],
    }


def test_operators_file_has_terms(make):
    (output,) = operator.records(
        operator.read(
            msgspec.json.encode(file(source="fee page of 2026-02-05", instruments="kalshi:KXNBA", share_e6=500_000))
        ),
        now_ns=1,
        approved_by="a human",
    )
    (term,) = output.record.fees
    assert (term.instruments, term.share_e6, term.taker_fee_e6, term.source) == (
        "kalshi:KXNBA",
        500_000,
        -1,
        "fee page of 2026-02-05",
    )


@pytest.mark.parametrize(
    ("term", "words"),
    [
        (dict(source=""), "source is empty"),
        (dict(source="s", share_e6=-1), "0 or more"),
        (dict(source="s", from_ts_ns=5, until_ts_ns=5), "not after"),
    ],
)
def test_term_that_contradicts_itself_is_refused(term, words):
    with pytest.raises(Misconfigured, match=words):
        operator.records(operator.read(msgspec.json.encode(file(**term))), now_ns=1, approved_by="a human")


def test_what_the_venue_scheduled_counts_once_an_order_may_fill_after_it(make):
    terms = [FeeTerm(from_ts_ns=DAY, taker_fee_e6=140_000), FeeTerm(from_ts_ns=2 * DAY, taker_fee_e6=10_000)]
    assert paid(make, [], fees=terms) == 70_000
    assert paid(make, [], fees=terms, now_ns=DAY - FILL_WAIT_NS - 1) == 70_000
    assert paid(make, [], fees=terms, now_ns=DAY - FILL_WAIT_NS) == 140_000
    # The dearer one as long as it may still hold.
    assert paid(make, [], fees=terms, now_ns=2 * DAY - 1) == 140_000
    assert paid(make, [], fees=terms, now_ns=2 * DAY) == 10_000
    assert in_force(make.instrument(make.KALSHI, fees=terms), None, DAY).taker_fee_e6 == 140_000


def test_share_of_a_profile_is_of_what_the_venue_states_for_the_time(make):
    scheduled = [FeeTerm(from_ts_ns=DAY, taker_fee_e6=140_000)]
    assert paid(make, [FeeTerm(share_e6=500_000)], fees=scheduled) == 35_000
    assert paid(make, [FeeTerm(share_e6=500_000)], fees=scheduled, now_ns=DAY) == 70_000
    assert paid(make, [FeeTerm(taker_fee_e6=20_000)], fees=scheduled, now_ns=DAY) == 20_000
