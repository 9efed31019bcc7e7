"""A venue's card names tests that exist, and every venue has the same modules."""

import re
import tomllib
from pathlib import Path

import pytest

from venues import VENUES

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("venue", VENUES)
def test_every_rule_of_a_card_is_done_todo_or_exempt_and_its_test_exists(venue: str) -> None:
    card = tomllib.loads((PROJECT / "venues" / venue / "card.toml").read_text())
    rules = [(f"{area}.{name}", rule) for area, group in card.items() for name, rule in group.items()]
    assert len(rules) > 20
    for name, rule in rules:
        ((state, text),) = rule.items()
        assert state in {"done", "todo", "exempt"}, name
        assert text, name
        if state == "done":
            path, _, test = text.partition("::")
            assert re.search(rf"^(async )?def {test}\(", (PROJECT / path).read_text(), re.MULTILINE), name


@pytest.mark.parametrize("venue", VENUES)
def test_every_venue_has_the_same_modules(venue: str) -> None:
    folder = PROJECT / "venues" / venue
    named = {"README.md", "card.toml", "__init__.py", "wire.py", "control.py", "rest.py", "account.py", "orders.py"}
    named |= {"auth.py", "rules.py", "hosts.py"}
    assert named <= {path.name for path in folder.iterdir()}
