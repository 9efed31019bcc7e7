"""Which instruments may pay by one event: candidates with a score and the reasons for and against.

Titles are compared as words (rapidfuzz); names, dates, numbers, closing times and sources are compared as what they are.
A candidate needs two kinds of reasons besides its title (`KINDS_MIN`), and nothing that rules it out: other dates, other
times of day, other numbers, another name on each side. Candidates are found by words both sides share, rare words first,
so two catalogues of ten thousand markets are not compared pair by pair.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import pairwise

from rapidfuzz import fuzz

from core.domain.units import MICRO
from decide.links import default_payouts
from infra.links import prose
from infra.links.prose import Direction, Strike
from infra.links.terms import Terms
from schemas.enums import Polarity

KINDS_MIN = 2
"""Kinds of reasons besides the title that a candidate needs."""
SCORE_MIN = 60
TITLE_MIN = 45
"""Of 100; below it words alone speak against the pair."""
SEEN_MAX = 25
"""Markets of the other venue that one market is compared with."""
COMMON_MAX = 400
"""A word that more markets of a venue share finds none of them."""
RIVAL = 15
"""What a pair loses when one of its markets has a better partner."""
OUTCOMES_MAX = 60
NEAR_NS = 36 * 3_600 * 1_000_000_000
FAR_NS = 45 * 86_400 * 1_000_000_000
_HOUR_NS = 3_600 * 1_000_000_000


@dataclass
class Evidence:
    """Reasons collected for one candidate."""

    score: int = 0
    kinds: set[str] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)
    ruled_out: str = ""

    def speaks_for(self, kind: str, points: int, reason: str) -> None:
        """Count a reason for it."""
        self.score += points
        self.kinds.add(kind)
        self.reasons.append(f"+ {reason}")

    def speaks_against(self, points: int, reason: str) -> None:
        """Count a reason against it."""
        self.score -= points
        self.reasons.append(f"- {reason}")

    def rules_out(self, reason: str) -> None:
        """Say why it cannot be."""
        self.ruled_out = self.ruled_out or reason
        self.reasons.append(f"- {reason}")


@dataclass(frozen=True)
class Pair:
    """Two instruments that may pay by one event."""

    a: Terms
    b: Terms
    polarity: Polarity
    score: int
    """0 to 100"""
    evidence: tuple[str, ...]
    table: tuple[tuple[str, int, int], ...]
    """state, what YES of a pays, what YES of b pays"""
    ruled_out: str = ""

    @property
    def link(self) -> str:
        """The link's id."""
        return f"{self.a.instrument}|{self.b.instrument}"


@dataclass(frozen=True)
class Outcomes:
    """The markets of one event of a venue."""

    event_group: str
    outcomes: tuple[Terms, ...]
    score: int
    evidence: tuple[str, ...]
    may_exhaust: bool
    """Nothing the venue says forbids that one of them must win."""

    @property
    def link(self) -> str:
        """The link's id."""
        return f"event|{self.event_group}"


# --- two venues


def pairs(left: Sequence[Terms], right: Sequence[Terms], *, score_min: int = SCORE_MIN) -> list[Pair]:
    """Return the candidates between two venues, best first; one market of the left may have several."""
    finder = _Finder(right)
    found = [
        pair
        for a in left
        for b in finder.near(a)
        if not (pair := compare(a, b)).ruled_out and pair.score >= score_min and _has_kinds(pair)
    ]
    rivalled = (pair for pair in _rivalled(found) if pair.score >= score_min)
    return sorted(rivalled, key=lambda pair: (-pair.score, pair.link))


def _has_kinds(pair: Pair) -> bool:
    return not any(reason.startswith("- nothing but") for reason in pair.evidence)


def _rivalled(found: Sequence[Pair]) -> Iterator[Pair]:
    """Yield the pairs; who has a better partner of the same polarity is told so, and loses by it."""
    best: dict[tuple[str, str], Pair] = {}
    for pair in found:
        for side in (pair.a, pair.b):
            key = (side.instrument, pair.polarity)
            if key not in best or pair.score > best[key].score:
                best[key] = pair
    for pair in found:
        rivals = [best[side.instrument, pair.polarity] for side in (pair.a, pair.b)]
        rival = max(rivals, key=lambda one: one.score)
        if rival.score <= pair.score:
            yield pair
            continue
        other = rival.b if rival.a is pair.a else rival.a
        reason = f"- {other.instrument} fits better ({rival.score})"
        yield replace(pair, score=max(pair.score - RIVAL, 0), evidence=(*pair.evidence, reason))


def compare(a: Terms, b: Terms) -> Pair:
    """Return what speaks for and against two markets paying by one event."""
    evidence = Evidence()
    title = round((fuzz.token_set_ratio(a.text, b.text) + fuzz.token_sort_ratio(a.text, b.text)) / 2)
    evidence.score += title * 45 // 100
    evidence.reasons.append(f"{'+' if title >= TITLE_MIN else '-'} titles are {title} % alike")
    if title < TITLE_MIN:
        evidence.ruled_out = f"titles are only {title} % alike"
    _compare_names(a, b, evidence)
    _compare_subjects(a, b, evidence)
    _compare_days(a, b, evidence)
    _compare_closing(a, b, evidence)
    _compare_sources(a, b, evidence)
    mirrored, boundary = _compare_strikes(a, b, evidence)
    polarity: Polarity = "OPPOSITE" if mirrored ^ (a.negated != b.negated) else "SAME"
    if a.negated != b.negated:
        evidence.speaks_against(0, "one of them asks for what does not happen: YES of one is NO of the other")
    if len(evidence.kinds) < KINDS_MIN:
        what = " and ".join(["the title", *sorted(evidence.kinds)])
        evidence.speaks_against(20, f"nothing but {what} speaks for it")
    table = [*default_payouts(polarity), *boundary]
    return Pair(
        a, b, polarity, max(0, min(evidence.score, 100)), tuple(evidence.reasons), tuple(table), evidence.ruled_out
    )


def _compare_names(a: Terms, b: Terms, evidence: Evidence) -> None:
    common = a.names & b.names
    words_a, words_b = set(a.text.split()), set(b.text.split())
    # A name that stands in the other's title in small letters is no difference.
    only_a, only_b = a.names - words_b, b.names - words_a
    if common:
        share = len(common) / max(min(len(a.names), len(b.names)), 1)
        evidence.speaks_for("names", round(20 * share), f"both name {_listed(common)}")
    if only_a and only_b:
        alike = fuzz.ratio(" ".join(sorted(only_a)), " ".join(sorted(only_b)))
        if alike < 75:
            evidence.rules_out(f"one names {_listed(only_a)}, the other {_listed(only_b)}")
        else:
            evidence.speaks_against(5, f"names are spelled differently: {_listed(only_a)}, {_listed(only_b)}")
    elif only_a or only_b:
        evidence.speaks_against(5, f"only one names {_listed(only_a or only_b)}")


def _compare_subjects(a: Terms, b: Terms, evidence: Evidence) -> None:
    """Compare what is asked of the names: hits are no home runs."""
    mine, theirs = (prose.subject_in(one.text) - one.names for one in (a, b))
    only_a, only_b = (
        {word for word in these - others if not any(_is_alike(word, other) for other in others)}
        for these, others in ((mine, theirs | b.names), (theirs, mine | a.names))
    )
    if only_a and only_b:
        evidence.speaks_against(20, f"they ask for different things: {_listed(only_a)}, {_listed(only_b)}")
    elif only_a or only_b:
        evidence.speaks_against(6, f"only one asks for {_listed(only_a or only_b)}")


def _is_alike(word: str, other: str) -> bool:
    return fuzz.ratio(word, other) >= 80 or (min(len(word), len(other)) >= 4 and word[:4] == other[:4])


def _compare_days(a: Terms, b: Terms, evidence: Evidence) -> None:
    if a.times and b.times and not a.times & b.times:
        evidence.rules_out(f"times of day differ: {_listed(a.times)}, {_listed(b.times)}")
    if not (a.days and b.days):
        if a.days or b.days:
            evidence.speaks_against(3, f"only one states a date: {_listed(map(str, a.days or b.days))}")
        return
    fitting = [(mine, theirs) for mine in a.days for theirs in b.days if mine.fits(theirs)]
    if not fitting:
        evidence.rules_out(f"dates differ: {_listed(map(str, a.days))}, {_listed(map(str, b.days))}")
        return
    mine, theirs = max(fitting, key=lambda both: sum(1 for x, y in zip(*both, strict=True) if x and y))
    is_exact = bool(mine.month and theirs.month)
    evidence.speaks_for("dates" if is_exact else "years", 15 if is_exact else 5, f"dates agree: {mine} and {theirs}")
    if is_exact and bool(mine.day) != bool(theirs.day):
        evidence.speaks_against(3, f"one date says the day, the other only the month: {mine}, {theirs}")


def _compare_closing(a: Terms, b: Terms, evidence: Evidence) -> None:
    if not (a.cutoffs_ns and b.cutoffs_ns):
        evidence.speaks_against(2, "one does not say when it closes")
        return
    apart = min(abs(mine - theirs) for mine in a.cutoffs_ns for theirs in b.cutoffs_ns)
    if apart <= NEAR_NS:
        evidence.speaks_for("closing", 10, f"they close or are decided {apart // _HOUR_NS} h apart")
    elif apart <= FAR_NS:
        evidence.speaks_against(5, f"they close {apart // (24 * _HOUR_NS)} days apart")
    else:
        evidence.speaks_against(15, f"they close {apart // (24 * _HOUR_NS)} days apart")


def _compare_sources(a: Terms, b: Terms, evidence: Evidence) -> None:
    common = a.sources & b.sources
    if common:
        evidence.speaks_for("sources", 10, f"both are decided by {_listed(common)}")
    elif a.sources and b.sources:
        evidence.speaks_against(5, f"decided by {_listed(a.sources)}, and by {_listed(b.sources)}")
    else:
        evidence.speaks_against(2, "who decides is not named by both: read the rules")


def _compare_strikes(a: Terms, b: Terms, evidence: Evidence) -> tuple[bool, list[tuple[str, int, int]]]:
    """Compare the numbers they turn on; return whether one is the other's mirror, and states at the number itself."""
    if not (a.strikes and b.strikes):
        if a.strikes or b.strikes:
            evidence.speaks_against(10, f"only one turns on a number: {_listed(map(str, a.strikes or b.strikes))}")
        return False, []
    values = {strike.value for strike in a.strikes} & {strike.value for strike in b.strikes}
    spans_a, spans_b = _span(a.strikes), _span(b.strikes)
    if not values or spans_a != spans_b:
        evidence.rules_out(f"numbers differ: {_listed(map(str, a.strikes))}, {_listed(map(str, b.strikes))}")
        return False, []
    at = max(values)
    mine, theirs = _at(a.strikes, at), _at(b.strikes, at)
    evidence.speaks_for(
        "numbers", 15, f"both turn on {', '.join(f'{value.normalize():f}' for value in sorted(values))}"
    )
    mirrored = {mine.direction, theirs.direction} == {"UP", "DOWN"}
    if mirrored:
        evidence.speaks_against(0, "one pays above the number, the other below it")
    return mirrored, _boundary(mine, theirs, mirrored=mirrored, evidence=evidence)


def _boundary(mine: Strike, theirs: Strike, *, mirrored: bool, evidence: Evidence) -> list[tuple[str, int, int]]:
    """Return the state at the number itself, where the two do not treat it alike."""
    if mine.inclusive is None or theirs.inclusive is None or "IN" in (mine.direction, theirs.direction):
        return []
    if (mine.inclusive == theirs.inclusive) != mirrored:
        return []
    pays = (MICRO * mine.inclusive, MICRO * theirs.inclusive)
    evidence.speaks_against(
        5, f"at exactly {mine.value.normalize():f} they pay {pays[0] // MICRO} and {pays[1] // MICRO}"
    )
    return [(f"exactly {mine.value.normalize():f}", *pays)]


def _span(strikes: Iterable[Strike]) -> frozenset[Decimal]:
    return frozenset(strike.value for strike in strikes if strike.direction == "IN")


def _at(strikes: Iterable[Strike], value: Decimal) -> Strike:
    """Return the strike at a value, one with a direction first."""
    return min(
        (strike for strike in strikes if strike.value == value), key=lambda strike: (strike.direction == "?", strike)
    )


class _Finder:
    """Finds the markets that share the rarest words with one."""

    def __init__(self, markets: Sequence[Terms]) -> None:
        self._markets = markets
        self._with: dict[str, list[int]] = defaultdict(list)
        for place, market in enumerate(markets):
            for key in market.keys:
                self._with[key].append(place)

    def near(self, market: Terms) -> Iterator[Terms]:
        """Yield at most `SEEN_MAX` of them, most promising first."""
        weights: dict[int, float] = defaultdict(float)
        for key in sorted(market.keys):
            places = self._with.get(key, ())
            if len(places) <= COMMON_MAX:
                for place in places:
                    weights[place] += math.log1p(len(self._markets) / len(places))
        for place in heapq.nlargest(SEEN_MAX, weights, key=lambda place: (weights[place], -place)):
            yield self._markets[place]


# --- one venue


def events(markets: Iterable[Terms], *, exclusive: Mapping[str, bool], grows: Mapping[str, bool]) -> list[Outcomes]:
    """Return the events with two or more outcomes, most promising first.

    Args:
        markets: of one venue, those that can be traded.
        exclusive: by instrument, whether the venue says that at most one outcome of the event pays.
        grows: by instrument, whether the venue may add outcomes.
    """
    groups: dict[str, list[Terms]] = defaultdict(list)
    for market in markets:
        if market.event_group:
            groups[market.event_group].append(market)
    found = [
        _event(name, tuple(sorted(group, key=_place)), exclusive, grows)
        for name, group in groups.items()
        if 1 < len(group) <= OUTCOMES_MAX
    ]
    return sorted(found, key=lambda event: (-event.score, event.link))


def _place(market: Terms) -> tuple[Decimal, str]:
    return max((strike.value for strike in market.strikes), default=Decimal(0)), market.instrument


def _event(name: str, group: tuple[Terms, ...], exclusive: Mapping[str, bool], grows: Mapping[str, bool]) -> Outcomes:
    evidence = Evidence(score=30)
    is_exclusive = all(exclusive.get(market.instrument, False) for market in group)
    if is_exclusive:
        evidence.speaks_for("exclusive", 30, "the venue says that at most one of them pays")
    else:
        evidence.speaks_against(
            20, "the venue does not say that they exclude each other: thresholds, or separate questions"
        )
    grown = [market.instrument for market in group if grows.get(market.instrument, False)]
    if grown:
        evidence.rules_out("the venue may add outcomes: they can never be held to be exhaustive")
    covers = _covers(group)
    if covers:
        evidence.speaks_for("numbers", 30, covers)
    rest = [market.title for market in group if _REST & set(market.text.split())]
    if rest:
        evidence.speaks_for("rest", 10, f"one of them stands for the rest: {rest[0]}")
    if not covers and not rest:
        evidence.speaks_against(10, "none of them stands for the rest: who else could win?")
    closing = {max(market.cutoffs_ns, default=0) for market in group}
    if len(closing) > 1:
        evidence.speaks_against(10, f"they close at {len(closing)} different times")
    evidence.speaks_against(0, "outcomes that are not in the catalogue are not seen: compare with the venue's page")
    may_exhaust = is_exclusive and not grown
    return Outcomes(name, group, max(0, min(evidence.score, 100)), tuple(evidence.reasons), may_exhaust)


_REST = frozenset({"other", "another", "else", "neither", "none", "nobody", "tie", "draw", "field"})


def _covers(group: Sequence[Terms]) -> str:
    """Return how ranges cover all numbers, empty if they do not or if they are none.

    The step between one range's end and the next one's begin has to be the same everywhere: 0 where ranges touch, 1
    where only whole numbers come.
    """
    low = _edge(group, "DOWN")
    high = _edge(group, "UP")
    spans = sorted(found for market in group if (found := sorted(_span(market.strikes))))
    if low is None or high is None or len(spans) + 2 != len(group) or any(len(span) != 2 for span in spans):
        return ""
    inner = {later[0] - before[1] for before, later in pairwise(spans)}
    step = inner.pop() if inner else Decimal(1)
    edges = ((low, spans[0][0] if spans else high.value), (high, spans[-1][1] if spans else low.value))
    if inner or step not in (0, 1):
        return ""
    for edge, neighbour in edges if spans else edges[:1]:
        touches = not edge.inclusive if spans else edge.inclusive != high.inclusive
        if abs(edge.value - neighbour) != (0 if touches else step):
            return ""
    return f"their ranges cover all numbers without a hole, from {low} to {high}"


def _edge(group: Sequence[Terms], direction: Direction) -> Strike | None:
    """Return where the outermost range of a side begins; None unless one market has it. What includes it says it best."""
    found = [
        [strike for strike in market.strikes if strike.direction == direction]
        for market in group
        if any(strike.direction == direction for strike in market.strikes)
    ]
    return max(found[0], key=lambda strike: (strike.inclusive is True, strike.value)) if len(found) == 1 else None


def _listed(words: Iterable[str]) -> str:
    found = sorted(words)
    return ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")
