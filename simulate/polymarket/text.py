"""Numbers as Polymarket writes them: no superfluous zeros."""

from core.domain.units import MONEY_EXP, ONE_DOLLAR_E4, PREDICTION_PRICE_EXP, PREDICTION_SIZE_EXP, from_fixed

PRICES = [from_fixed(price, PREDICTION_PRICE_EXP) for price in range(ONE_DOLLAR_E4 + 1)]
_LEVELS_MAX = 200_000
_levels: dict[tuple[int, int], str] = {}


def size_text(size_e6: int) -> str:
    """Return shares."""
    return from_fixed(size_e6, PREDICTION_SIZE_EXP)


def money_text(money_e6: int) -> str:
    """Return dollars."""
    return from_fixed(money_e6, MONEY_EXP)


# hot: every level of every hashed book
def level_text(price_e4: int, size_e6: int) -> str:
    """Return a level as it stands in books and in what is hashed."""
    text = _levels.get((price_e4, size_e6))
    if text is None:
        if len(_levels) >= _LEVELS_MAX:
            _levels.clear()
        text = _levels[price_e4, size_e6] = f'{{"price":"{PRICES[price_e4]}","size":"{size_text(size_e6)}"}}'
    return text
