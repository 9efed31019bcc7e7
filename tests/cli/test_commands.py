"""The command line without a server: help, names, errors that name their remedy."""

import ast

import pytest

from core.domain.errors import Misconfigured
from core.runtime import topics
from infra.cli.app import run
from infra.cli.reach import Reach, topic_named
from infra.cli.tail import _last_of, _moment
from infra.cli.topics import kept
from infra.stack.settings import PROJECT

COMMANDS = ("up", "down", "status", "topics", "tail", "dead", "scale", "demo", "replay", "bench")
CLI = PROJECT / "infra" / "cli"
SHARED = CLI / "options.py"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("CROSSBOOK_STACK_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("CROSSBOOK_BOOTSTRAP", "127.0.0.1:1")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    assert run([command, "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_help_lists_all_commands(capsys):
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["tail", "market.evnt"], "crossbook up"),
        (["topics"], "crossbook up"),
        (["scale", "normalize", "3"], "crossbook demo"),
        (["tail", "market.event", "--run", "Not A Run"], "use live, paper, demo"),
    ],
    ids=["tail", "topics", "scale", "run"],
)
def test_an_error_is_one_line_that_names_the_remedy(arguments, remedy, capsys):
    assert run(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert remedy in lines[0]


def test_a_missing_argument_is_exit_code_2(capsys):
    assert run(["tail"]) == 2
    assert "TOPIC" in capsys.readouterr().err.upper()


def test_a_topic_is_found_with_and_without_its_run():
    assert topic_named("market.event", "demo") is topics.MARKET_EVENT
    assert topic_named("demo.market.event", "demo") is topics.MARKET_EVENT


def test_a_misspelt_topic_names_the_nearest():
    with pytest.raises(Misconfigured, match=r"market\.event"):
        topic_named("market.evnt", "demo")


def test_retention_is_said_in_words():
    assert kept(topics.MARKET_INSTRUMENT) == "newest of each key"
    assert kept(topics.DECISION_ACCOUNT) == "for ever"
    assert kept(topics.RAW_FEED) == "30 d"
    assert kept(topics.DERIVED_RESYNC) == "1 h"


def test_a_start_is_a_count_a_word_or_a_time():
    assert _last_of("-20") == 20
    assert _last_of("beginning") == _last_of("20") == _last_of("-") == 0
    assert _moment("2026-11-20T14:30:00") == _moment("2026-11-20T15:30:00+01:00")
    with pytest.raises(Misconfigured, match="--from"):
        _moment("yesterday")


def test_workers_are_told_the_addresses_of_the_dev_stack(monkeypatch):
    monkeypatch.delenv("CROSSBOOK_BOOTSTRAP")
    monkeypatch.setenv("CROSSBOOK_STACK_KAFKA_PORT", "29092")
    reach = Reach.load("test-x")
    assert reach.bootstrap == "127.0.0.1:29092"
    assert reach.environment()["CROSSBOOK_BOOTSTRAP"] == "127.0.0.1:29092"
    assert reach.environment()["CROSSBOOK_RUN"] == "test-x"


def test_a_given_address_wins_over_the_dev_stacks():
    assert Reach.load("test-x").bootstrap == "127.0.0.1:1"


def options_of(path):
    """Return the options a module spells out: where, by their source."""
    found = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Subscript) and getattr(node.value, "id", "") == "Annotated":
            found[ast.unparse(node)] = f"{path.name}:{node.lineno}"
    return found


@pytest.mark.parametrize("path", sorted(set(CLI.glob("*.py")) - {SHARED}), ids=lambda path: path.stem)
def test_an_option_that_many_commands_have_is_spelt_out_once(path):
    shared, here = options_of(SHARED), options_of(path)
    assert [here[option] for option in here if option in shared] == []
