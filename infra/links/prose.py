"""Dates, numbers, names and sources in the prose of titles and rules."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from decimal import Decimal
from typing import Literal, NamedTuple

Direction = Literal["UP", "DOWN", "IN", "?"]


class Day(NamedTuple):
    """A date as far as it is stated; 0: not."""

    year: int
    month: int
    day: int

    def fits(self, other: Day) -> bool:
        """Say whether nothing both state differs."""
        return all(mine == theirs or not mine or not theirs for mine, theirs in zip(self, other, strict=True))

    def __str__(self) -> str:
        return "-".join(f"{part:02d}" if part else "??" for part in self)


class Strike(NamedTuple):
    """A number an outcome turns on. `inclusive`: at the number itself it pays; None: not said."""

    direction: Direction
    value: Decimal
    inclusive: bool | None

    def __str__(self) -> str:
        sign = {"UP": "above", "DOWN": "below", "IN": "in", "?": "at"}[self.direction]
        return f"{sign} {self.value.normalize():f}"


_MONTH = (
    r"(jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\b\.?"
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAY = r"(\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(20[2-4]\d)"
_DATES = (
    (re.compile(rf"\b{_YEAR}-(\d\d)-(\d\d)\b"), ("year", "number", "day")),
    (re.compile(rf"\b{_MONTH}\s+{_DAY}(?!\d)(?:,?\s+{_YEAR})?"), ("month", "day", "year")),
    (re.compile(rf"\b{_DAY}\s+(?:of\s+)?{_MONTH}(?:,?\s+{_YEAR})?"), ("day", "month", "year")),
    (re.compile(rf"\b{_MONTH},?\s+{_YEAR}\b"), ("month", "year")),
    (re.compile(rf"\b{_YEAR}\b"), ("year",)),
)
_TIME = re.compile(r"\b(\d{1,2})(?::(\d\d))?\s?([ap])\.?m\b\.?", re.IGNORECASE)
_CITY = re.compile(r"New York City")
_MONTH_ALONE = re.compile(_MONTH)
_ALIASES = (
    (re.compile(r"\bbtc\b"), "bitcoin"),
    (re.compile(r"\beth\b"), "ethereum"),
    (re.compile(r"\bsol\b"), "solana"),
    (re.compile(r"\bnyc\b|\bnew york city\b"), "new york"),
    (re.compile(r"\bu\.?s\.?a?\.?(?=\s|$)"), "us"),
    (re.compile(r"\bunited states\b"), "us"),
    (re.compile(r"\bunited kingdom\b|\bu\.k\."), "uk"),
    (re.compile(r"\bfederal reserve\b"), "fed"),
    (re.compile(r"\bdemocrats?\b|\bdemocratic party\b"), "democratic"),
    (re.compile(r"\brepublicans?\b|\brepublican party\b|\bgop\b"), "republican"),
    (re.compile(r"\bpresidency\b|\bpresidential\b"), "president"),
    (re.compile(r"\btemperature\b"), "temp"),
    (re.compile(r"\bhighest\b"), "high"),
    (re.compile(r"\bpercent\b"), "%"),
)
STOP = frozenset(
    re.findall(
        r"\w+",
        """a an and any are as at be been before by can could day did do does for from get has have if in is it its may
        more of on one or over above below under than the their there this to until up was were what when where which
        who will win wins with would yes no not happen happens between least most during end market resolve resolves
        pm am et utc next first higher lower greater less fewer exactly match game""",
    )
)
"""Words that say nothing of which question it is."""
_WEEKDAYS = frozenset(["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"])
_NEGATION = re.compile(r"\b(?:not|won't|fails? to|without|never|no longer)\b")
_SCALES = {"k": 3, "thousand": 3, "m": 6, "million": 6, "b": 9, "bn": 9, "billion": 9, "t": 12, "trillion": 12}
_NUMBER = re.compile(r"(?<![\w.])[$€£]?(\d[\d,]*(?:\.\d+)?)\s?(k|m|bn|b|t|thousand|million|billion|trillion)?(?![\w])")
_SPAN = re.compile(
    r"[$€£]?\d[\d,]*(?:\.\d+)?\s?(?:[°%]?[fc]?|k|m|bn|b|thousand|million|billion|trillion)\s?(?:-|–|to|and)\s?[$€£]?\d"
)
_UP = re.compile(r"(?:above|over|greater|more than|exceeds?|higher|at least|reach(?:es)?|hits?|>=?|≥)[^\d<>≥≤]*$")
_DOWN = re.compile(r"(?:below|under|less|fewer|lower|at most|dips?|falls?|<=?|≤)[^\d<>≥≤]*$")
_UP_AFTER = re.compile(r"^\s?[°%]?[fc]?\s?(?:or (?:above|higher|more|greater|over)|\+)")
_DOWN_AFTER = re.compile(r"^\s?[°%]?[fc]?\s?or (?:below|lower|less|fewer|under)")
_AT_LEAST = re.compile(r"(?:at least|at most|>=|≥|<=|≤)[^\d]*$")
_HOST = re.compile(r"https?://(?:www\.)?([a-z0-9.-]+)")
_KNOWN_SOURCES = (
    "national weather service", "associated press", "chainlink", "coinbase", "binance", "cf benchmarks", "bls",
    "bureau of labor statistics", "federal reserve", "reuters", "fox news", "nbc", "espn", "accuweather",
    "weather underground", "box office mojo", "rotten tomatoes",
)  # fmt: skip
AROUND = 24
"""Characters before and after a number in which its direction is looked for."""


def days_in(text: str) -> Iterator[Day]:
    """Yield the dates a lower-case text states; what one pattern took, the vaguer ones leave."""
    for pattern, parts in _DATES:
        for match in pattern.finditer(text):
            found = dict(zip(parts, match.groups(), strict=True))
            name = found.get("month")
            month = _MONTHS.index(name[:3]) + 1 if name else int(found.get("number") or 0)
            day = Day(int(found.get("year") or 0), month, int(found.get("day") or 0))
            if day.month <= 12 and day.day <= 31:
                yield day
        text = pattern.sub(" ; ", text)


def times_in(text: str) -> Iterator[str]:
    """Yield the times of day a lower-case text states, as 17:05."""
    for hour, minute, half in _TIME.findall(text):
        yield f"{int(hour) % 12 + (12 if half == 'p' else 0):02d}:{minute or '00'}"


def strikes_in(text: str) -> Iterator[Strike]:
    """Yield the numbers a text turns on, dates and ordinals left out. A number without a direction is `?`."""
    text = _TIME.sub(" ; ", text.lower())
    for pattern, _ in _DATES:
        text = pattern.sub(" ; ", text)
    spans = [match.span() for match in _SPAN.finditer(text)]
    for match in _NUMBER.finditer(text):
        digits, scale = match.groups()
        value = Decimal(digits.replace(",", "").rstrip(".")) * (Decimal(10) ** _SCALES.get(scale or "", 0))
        before, after = text[max(match.start() - AROUND, 0) : match.start()], text[match.end() : match.end() + AROUND]
        if any(start <= match.start() <= end for start, end in spans):
            yield Strike("IN", value, True)
        elif _UP_AFTER.search(after):
            yield Strike("UP", value, True)
        elif _DOWN_AFTER.search(after):
            yield Strike("DOWN", value, True)
        elif _UP.search(before):
            yield Strike("UP", value, bool(_AT_LEAST.search(before)))
        elif _DOWN.search(before):
            yield Strike("DOWN", value, bool(_AT_LEAST.search(before)))
        else:
            yield Strike("?", value, None)


def plain(text: str) -> str:
    """Return the text in lower case, without accents, names by one spelling."""
    text = unicodedata.normalize("NFKD", text)
    text = "".join(letter for letter in text if not unicodedata.combining(letter)).casefold().replace("’", "'")
    for pattern, name in _ALIASES:
        text = pattern.sub(name, text)
    return text


def words_in(text: str) -> list[str]:
    """Return the words and numbers of a lower-case text, in order."""
    return re.findall(r"[a-z0-9]+(?:[.'][a-z0-9]+)*", text.replace("'s", "").replace(",", ""))


def subject_in(text: str) -> set[str]:
    """Return the words of a lower-case text that say what is asked: no numbers, dates or words without weight."""
    found = {word.rstrip("'.") for word in words_in(text)}
    return {
        word
        for word in found
        if len(word) > 2 and word.isalpha() and word not in STOP and not _MONTH_ALONE.fullmatch(word)
    }


def names_in(title: str) -> Iterator[str]:
    """Yield what is written like a name: capitals, or letters and digits in one word."""
    title = _CITY.sub("New York", _TIME.sub(" ", title))
    for word in re.findall(r"[^\W_][\w.'’-]*", title):
        name = plain(word.removesuffix("'s").removesuffix("’s")).strip(".'’-")
        if len(name) < 2 or name in STOP or name in _WEEKDAYS or _MONTH_ALONE.fullmatch(name):
            continue
        mixed = any(letter.isdigit() for letter in name) and sum(letter.isalpha() for letter in name) > 1
        if word[0].isupper() or mixed:
            yield from name.split()


def sources_in(text: str) -> Iterator[str]:
    """Yield who is named in rules as deciding: known names, and the hosts of addresses."""
    folded = text.casefold()
    yield from (name for name in _KNOWN_SOURCES if re.search(rf"\b{re.escape(name)}\b", folded))
    yield from (host.strip(".") for host in _HOST.findall(folded))


def is_negated(text: str) -> bool:
    """Say whether a lower-case question asks for something not to happen."""
    return len(_NEGATION.findall(text)) % 2 == 1
