"""Each alert names a page that exists and metrics that some worker shows."""

import re

import pytest
import yaml

from core.runtime.flow import Input, TaskContext
from core.runtime.metrics import REGISTRY
from core.runtime.targets import FOLDER, JOB
from derive.stage import BookTask
from infra.stack.settings import PROJECT, StackSettings
from schemas import market

RULES = [
    rule
    for group in yaml.safe_load((PROJECT / "infra/alerts/crossbook.yml").read_text())["groups"]
    for rule in group["rules"]
]
PAGES = sorted((PROJECT / "docs/runbooks").glob("*.md"))
PROMETHEUS_OWN = {"up"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_names_its_page_and_metrics_that_exist(rule):
    assert PROJECT / rule["annotations"]["runbook"] in PAGES
    shown = {metric.name for metric in REGISTRY.collect()}
    asked = set(re.findall(r"\b(?:worker|stage)_[a-z_]+|\bup\b", rule["expr"]))
    assert asked
    assert {name.removesuffix("_total") for name in asked} <= shown | PROMETHEUS_OWN


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_runbook_is_named_by_an_alert_and_says_what_not_to_do(page):
    text = page.read_text()
    named = re.search(r"`([A-Z][A-Za-z]+)`", text)
    assert named is not None
    assert named[1] in {rule["alert"] for rule in RULES}
    assert "**Do not**" in text


# What the rules see of books: the figures are those a book task gives, selected as Prometheus does.

A = "kalshi:A"
T0 = 1_790_000_000_000_000_000


def fires(alert: str, levels: dict[str, int]) -> bool:
    """Say whether a rule of the form `sum(stage_level{stage="derive", name=~"…"}) > 0` has something to say."""
    (rule,) = [rule for rule in RULES if rule["alert"] == alert]
    found = re.fullmatch(
        r'sum by \(name\) \(stage_level\{stage="derive", name=~"(?P<names>[^"]+)"\}\) > 0', rule["expr"].strip()
    )
    assert found is not None, rule["expr"]
    return any(count > 0 and re.fullmatch(found["names"], name) for name, count in levels.items())


def place(frame_no: int, ms: int = 0, epoch: int = 1) -> dict[str, int]:
    return {"epoch": epoch, "frame_no": frame_no, "recv_ts_ns": T0 + ms * 1_000_000}


def snapshot(frame_no: int) -> market.BookSnapshot:
    sides = {"bid_prices": [4_700], "bid_sizes": [3], "ask_prices": [5_200], "ask_sizes": [4]}
    return market.BookSnapshot(instrument=A, index=0, price_exp=-4, size_exp=-6, **place(frame_no), **sides)


def change(frame_no: int, size: int, ms: int, late_ms: int = 0) -> market.BookDelta:
    level = {"side": "BUY", "kind": "SIGNED", "price": 4_700, "size": size, "price_exp": -4, "size_exp": -6}
    venue_ts_ns = T0 + (ms - late_ms) * 1_000_000
    return market.BookDelta(instrument=A, index=0, venue_ts_ns=venue_ts_ns, **place(frame_no, ms), **level)


def says(frame_no: int, status: str) -> market.Status:
    return market.Status(instrument=A, index=0, status=status, price_exp=-4, venue_ts_ns=5, **place(frame_no))


def ends(frame_no: int) -> market.FeedReset:
    told = {"feed": "kalshi-0", "venue": "kalshi", "instruments": [], "closed": True, "reason": "closed: end"}
    return market.FeedReset(index=0, **place(frame_no), **told)


def ticks(ms: int, epoch: int) -> market.Tick:
    return market.Tick(feed=f"kalshi-{epoch}", venue="kalshi", **place(1, ms, epoch))


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([], set()),
        ([change(2, -4, 0)], {"BookNotLive"}),
        ([ends(2)], {"BookNotLive"}),
        ([says(2, "CLOSED")], set()),
        ([says(2, "SETTLED"), ends(3)], set()),
        ([says(2, "PAUSED")], set()),
        ([says(2, "PAUSED"), change(3, -4, 0)], {"BookNotLive"}),
        ([ticks(5_000, 2)], {"BookNotLive", "BooksStale"}),
        ([change(2, 1, 5, late_ms=60_000)], {"BookNotLive", "BooksStale"}),
        ([says(2, "CLOSED"), ticks(5_000, 2)], set()),
    ],
    ids=[
        "live",
        "contradiction",
        "feed ended",
        "closed",
        "settled",
        "paused",
        "paused and wrong",
        "freeze",
        "late",
        "over",
    ],
)
def test_an_alert_on_books_fires_for_what_somebody_should_look_at(records, expected):
    task = BookTask(TaskContext())
    for offset, record in enumerate([snapshot(1), *records]):
        list(task.handle(Input(record, "market.event", 0, offset)))
    assert {alert for alert in ("BookNotLive", "BooksStale") if fires(alert, task.sizes())} == expected


def test_prometheus_looks_where_workers_write_and_names_the_job_the_rules_ask_for():
    config = yaml.safe_load((PROJECT / "infra/alerts/prometheus.yml").read_text())
    (scraped,) = config["scrape_configs"]
    assert scraped["job_name"] == JOB
    (pattern,) = scraped["file_sd_configs"][0]["files"]
    data = StackSettings.model_fields["data"].default
    expected = PROJECT / data / "workers" / "*" / FOLDER / "*.json"
    assert (PROJECT / "infra/alerts" / pattern).resolve() == expected
    assert config["rule_files"] == ["crossbook.yml"]
    for rule in RULES:
        assert f'job="{JOB}"' in rule["expr"] or "job=" not in rule["expr"]


@pytest.mark.parametrize("alert", ["CatalogueFails", "CataloguePartial", "CatalogueBehind"])
def test_an_alert_on_catalogues_asks_for_what_catalogues_say(alert):
    (rule,) = [rule for rule in RULES if rule["alert"] == alert]
    (names,) = re.findall(r'(?:event|name)=~?"([^"]+)"', rule["expr"])
    code = "".join(path.read_text() for path in sorted((PROJECT / "ingest").glob("*.py")))
    page = (PROJECT / rule["annotations"]["runbook"]).read_text()
    for name in names.split("|"):
        assert f'labels("ingest", "{name}")' in code
        assert f"`{name}`" in page
