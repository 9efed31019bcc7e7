"""Each alert names a page that exists and metrics that some worker shows."""

import re

import pytest
import yaml

from core.runtime.metrics import REGISTRY
from infra.stack.settings import PROJECT

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
