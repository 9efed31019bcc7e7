"""Exact numbers: decimal text to an integer mantissa and back.

A number is `mantissa x 10**exp`. Text from a venue becomes an integer in `venues/*/wire.py`; an integer becomes a
double only at the glass. Nothing between uses a float.
"""

from core.domain.errors import NotExact

PREDICTION_PRICE_EXP = -4
"""Prices of prediction markets: 1/10,000 dollar."""
PREDICTION_SIZE_EXP = -6
"""Sizes of prediction markets: one millionth of a contract or share."""
MONEY_EXP = -6
"""Money of prediction markets: one millionth of a dollar."""

ONE_DOLLAR_E4 = 10_000
CENT_E4 = 100
E4_TO_E6 = 100
MICRO = 1_000_000

_LONG_MAX = 2**63 - 1
_DIGITS_MAX = 64


def to_fixed(text: str, exp: int, *, signed: bool = False) -> int:
    """Return the mantissa of decimal `text` at `10**exp`, exactly.

    Accepts plain decimals (`"12"`, `"0.4700"`, `".48"`); trailing zeros beyond the exponent are fine, any other
    digit there is not. With `signed`, one leading `-` is accepted.

    Raises:
        NotExact: empty, NaN, infinite, exponent notation, a sign that is not allowed, a digit finer than the exponent,
            or a mantissa that does not fit an Avro long.
    """
    whole, _, fraction = text.partition(".")
    negative = signed and whole[:1] == "-"
    if negative:
        whole = whole[1:]
    digits = whole + fraction
    # isdecimal() also accepts other scripts' digits; isascii() keeps to 0-9. Underscores fail isdecimal().
    if not (digits.isdecimal() and digits.isascii()) or len(digits) > _DIGITS_MAX:
        raise NotExact(f"expected a plain decimal number, found {text[:64]!r}")
    places = -exp
    if len(fraction) > places:
        if fraction[max(places, 0) :].strip("0"):
            raise NotExact(f"{text!r} is finer than 1e{exp}")
        fraction = fraction[: max(places, 0)]
    if places >= 0:
        mantissa = int(whole + fraction.ljust(places, "0") or "0")
    else:
        mantissa, rest = divmod(int(whole or "0"), 10**exp)
        if rest:
            raise NotExact(f"{text!r} is finer than 1e{exp}")
    if mantissa > _LONG_MAX:
        raise NotExact(f"{text!r} does not fit 64 bits at 1e{exp}")
    return -mantissa if negative else mantissa


def from_fixed(mantissa: int, exp: int, *, places_min: int = 0) -> str:
    """Return `mantissa x 10**exp` as plain decimal text, without superfluous zeros beyond `places_min` decimals."""
    sign = "-" if mantissa < 0 else ""
    if exp >= 0:
        digits = str(abs(mantissa) * 10**exp)
        return f"{sign}{digits}" + ("." + "0" * places_min if places_min else "")
    digits = str(abs(mantissa)).rjust(1 - exp, "0")
    whole, fraction = digits[:exp], digits[exp:].rstrip("0").ljust(places_min, "0")
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"


def rescale(mantissa: int, exp: int, to_exp: int) -> int:
    """Return the same number's mantissa at another exponent, exactly.

    Raises:
        NotExact: the target is coarser and digits would be lost.
    """
    if exp >= to_exp:
        return int(mantissa * 10 ** (exp - to_exp))
    quotient, rest = divmod(mantissa, 10 ** (to_exp - exp))
    if rest:
        raise NotExact(f"{mantissa}e{exp} is finer than 1e{to_exp}")
    return int(quotient)


def ceil_div(numerator: int, denominator: int) -> int:
    """Return the quotient rounded towards plus infinity."""
    return -(-numerator // denominator)
