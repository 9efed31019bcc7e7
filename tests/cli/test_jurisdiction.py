"""What a sign-off must say before it becomes a record."""

import pytest

from core.domain.errors import Misconfigured
from infra.cli.jurisdiction import signed

NOW = 1_780_000_000_000_000_000


def make(**changes):
    fields = dict(
        entity="Acme BV", venue="kalshi", category="*", verdict="allowed", by="counsel", why="memo 7", until=""
    )
    return signed(**(fields | changes), now_ns=NOW)


def test_sign_off_names_entity_venue_category_and_who():
    record = make(category="Sports", verdict="close-only", until="2030-01-01")
    assert record.id == "Acme BV/kalshi/Sports"
    assert record.verdict == "CLOSE_ONLY"
    assert record.signed_by == "counsel"
    assert record.expires_ts_ns == 1_893_456_000 * 1_000_000_000


def test_sign_off_says_from_where_orders_may_leave():
    assert make().regions == []
    assert make(regions=["us", "ca"]).regions == ["us", "ca"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"regions": ["us", " "]}, "--from is empty"),
        ({"regions": ["us"], "verdict": "forbidden"}, "leaves from nowhere"),
        ({"venue": "nowhere"}, "no venue"),
        ({"verdict": "maybe"}, "no verdict"),
        ({"by": " "}, "--by is empty"),
        ({"why": ""}, "--why is empty"),
        ({"entity": ""}, "entity is empty"),
        ({"until": "soon"}, "is no date"),
        ({"until": "2001-01-01"}, "is past"),
    ],
)
def test_sign_off_that_says_too_little_is_refused(changes, words):
    with pytest.raises(Misconfigured, match=words):
        make(**changes)
