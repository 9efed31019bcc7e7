"""Decimal text to integers and back, exactly or not at all."""

import re
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.domain.errors import NotExact
from core.domain.units import ceil_div, from_fixed, rescale, to_fixed

LONGS = st.integers(-(2**63) + 1, 2**63 - 1)
EXPONENTS = st.integers(-18, 6)
PRICE, SIZE = -4, -6


@settings(deadline=None)
@example(mantissa=9_000_000_000_000_000_001, exp=0, places=20)  # 39 digits, most of them zeros
@given(mantissa=LONGS, exp=EXPONENTS, places=st.integers(0, 20))
def test_integer_to_text_to_integer_is_the_same(mantissa, exp, places):
    text = from_fixed(mantissa, exp, places_min=places)
    assert to_fixed(text, exp, signed=True) == mantissa
    assert Decimal(text) == Decimal(mantissa).scaleb(exp)


@settings(deadline=None)
@given(whole=st.integers(0, 9_000_000), fraction=st.from_regex(r"\A[0-9]{0,6}\Z"), zeros=st.integers(0, 8))
def test_text_to_integer_to_text_is_the_same_number(whole, fraction, zeros):
    text = f"{whole}.{fraction}{'0' * zeros}"
    mantissa = to_fixed(text, SIZE)
    assert mantissa == Decimal(text).scaleb(6)
    shortest = f"{whole}.{fraction}".rstrip("0").rstrip(".")
    assert from_fixed(mantissa, SIZE) == (shortest or "0")


@settings(deadline=None)
@given(text=st.text(max_size=45))
def test_any_text_is_an_exact_number_or_a_named_refusal(text):
    plain = re.fullmatch(r"-?[0-9]*\.?[0-9]*", text) is not None
    try:
        mantissa = to_fixed(text, SIZE, signed=True)
    except NotExact:
        refused = True
    else:
        refused = False
        assert Decimal(text) == Decimal(mantissa).scaleb(SIZE)
    assert refused or plain


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "-",
        " 1",
        "1 ",
        "1\n",
        "+1",
        "--1",
        "-1",
        "NaN",
        "nan",
        "Infinity",
        "inf",
        "1e3",
        "1E-2",
        "1_000",
        "1,5",
        "1.2.3",
        "0x10",
        "١٢",  # arabic-indic digits
        "½",
        "²",
        "true",
        "9" * 30,
        "0." + "0" * 40 + "1",
        "0" * 65,
    ],
)
def test_what_is_no_plain_decimal_is_refused(text):
    with pytest.raises(NotExact):
        to_fixed(text, SIZE)


@pytest.mark.parametrize("text", ["0.47001", "0.00001", "1.23456", ".99999"])
def test_price_finer_than_its_exponent_is_refused(text):
    with pytest.raises(NotExact, match="finer than 1e-4"):
        to_fixed(text, PRICE)


@pytest.mark.parametrize(
    ("text", "mantissa"),
    [("0.47", 4_700), ("0.4700", 4_700), ("0.470000000", 4_700), (".48", 4_800), ("1", 10_000), ("1.", 10_000)],
)
def test_price_as_venues_write_it(text, mantissa):
    assert to_fixed(text, PRICE) == mantissa


@settings(deadline=None)
@given(text=st.from_regex(r"\A[1-9][0-9]{29}(\.[0-9]{0,3})?\Z"))
def test_thirty_digits_are_refused_at_every_exponent_that_cannot_hold_them(text):
    with pytest.raises(NotExact):
        to_fixed(text, SIZE)


def test_bounds_of_an_avro_long():
    assert to_fixed("9223372036854775807", 0) == 2**63 - 1
    with pytest.raises(NotExact, match="64 bits"):
        to_fixed("9223372036854775808", 0)


def test_sign_is_taken_only_where_it_is_allowed():
    assert to_fixed("-3.00", SIZE, signed=True) == -3_000_000
    assert to_fixed("-0", SIZE, signed=True) == 0
    with pytest.raises(NotExact):
        to_fixed("-3.00", SIZE)


def test_positive_exponents_take_whole_steps_only():
    assert to_fixed("1500", 2) == 15
    assert to_fixed("1500.000", 2) == 15
    for text in ("1550", "1500.5"):
        with pytest.raises(NotExact):
            to_fixed(text, 2)


@settings(deadline=None)
@given(mantissa=LONGS, exp=st.integers(-9, 3), finer=st.integers(0, 9))
def test_rescale_is_exact_and_reversible(mantissa, exp, finer):
    fine = rescale(mantissa, exp, exp - finer)
    assert fine == mantissa * 10**finer
    assert rescale(fine, exp - finer, exp) == mantissa


def test_rescale_refuses_to_lose_digits():
    with pytest.raises(NotExact):
        rescale(15, -1, 0)


@settings(deadline=None)
@given(numerator=st.integers(-(10**20), 10**20), denominator=st.integers(1, 10**9))
def test_ceil_div_is_the_smallest_integer_not_below(numerator, denominator):
    quotient = ceil_div(numerator, denominator)
    assert (quotient - 1) * denominator < numerator <= quotient * denominator
