"""The house rules that a linter does not know."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from core.runtime.topics import BY_NOUN

PROJECT = Path(__file__).resolve().parents[1]
STAGES = ("ingest", "normalize", "derive", "decide", "execute", "observe")
CODE = ("core", "venues", "schemas", "simulate", "infra", "benchmarks", *STAGES)
FILES = sorted(path for folder in CODE for path in (PROJECT / folder).rglob("*.py"))
TEXTS = sorted(
    path
    for pattern in ("*.py", "*.md", "*.toml", "*.avsc", "*.sql", "*.sh", "*.yaml", "*.ini")
    for path in PROJECT.rglob(pattern)
    if not {".venv", "build", ".crossbook", ".git"} & set(path.relative_to(PROJECT).parts)
)
NOT_A_NOUN = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"}


def name(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_module_says_what_it_is_for(path):
    text = path.read_text(encoding="utf-8")
    assert not text.strip() or ast.get_docstring(ast.parse(text)), f"{name(path)}: begin with a docstring"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_modules_are_nouns(path):
    assert path.stem not in NOT_A_NOUN, f"{name(path)}: name what it defines"


@pytest.mark.parametrize("stage", STAGES)
def test_a_main_is_short_and_a_contract_stands_in_init(stage):
    main = (PROJECT / stage / "__main__.py").read_text(encoding="utf-8")
    assert len(main.splitlines()) <= 60, f"{stage}/__main__.py builds and runs; logic belongs beside it"
    doc = ast.get_docstring(ast.parse((PROJECT / stage / "__init__.py").read_text(encoding="utf-8"))) or ""
    for word in ("reads", "writes"):
        assert word in doc.lower(), f"{stage}/__init__.py: the contract says what it {word}"


def test_topic_names_are_written_in_one_place_only():
    allowed = {"core/runtime/topics.py"}
    found = []
    for path in FILES:
        if name(path) in allowed or path.parts[-2] in ("raw", "market", "derived", "decision", "order", "dead"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in BY_NOUN:
                found.append(f"{name(path)}:{node.lineno} {node.value}")
    assert not found, f"use core.runtime.topics: {found}"


@pytest.mark.parametrize("stage", ["normalize", "derive", "decide"])
def test_pure_stages_read_no_clock_and_no_environment(stage):
    banned = {"time", "datetime", "random", "os", "secrets", "uuid", "threading", "asyncio", "socket"}
    for path in (PROJECT / stage).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name.split(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module.split(".")[0]]
                if node.module == "datetime":
                    modules = []  # parsing a written date is pure; now() is banned by ruff
            assert not banned & set(modules), f"{name(path)}:{node.lineno}: {banned & set(modules)} is not pure"


def test_the_text_speaks_of_the_project_only():
    # Written with classes of one letter, so that the pattern does not find itself.
    machine = re.compile(
        r"(^|[^\w.])/(wor[k]|roo[t]|far[m]|hom[e]/[a-z]+)/|--(extra-)?index-ur[l]|/maven[2]|/simpl[e]/"
    )
    found = []
    for path in TEXTS:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if machine.search(line):
                found.append(f"{name(path)}:{number}")
    assert not found, f"machine paths or registry addresses: {found}"


def test_each_venue_has_its_facts_its_card_and_its_behaviour():
    from venues import VENUES

    for venue in VENUES:
        for file in ("README.md", "card.toml", "wire", "auth", "rules"):
            found = list((PROJECT / "venues" / venue).glob(f"{file}*"))
            assert found, f"venues/{venue}/{file} is missing"
        for stage in ("ingest", "normalize", "execute", "simulate"):
            assert list((PROJECT / stage).glob(f"{venue}*")), f"{stage}/{venue}.py is missing"


def test_venue_cards_name_tests_that_exist():
    from venues import VENUES

    for venue in VENUES:
        card = tomllib.loads((PROJECT / "venues" / venue / "card.toml").read_text(encoding="utf-8"))
        for identifier in _done(card):
            file, _, function = identifier.partition("::")
            path = PROJECT / file
            assert path.is_file(), f"venues/{venue}/card.toml: {file} does not exist"
            if function:
                assert f"def {function.split('[')[0].split('::')[-1]}(" in path.read_text(encoding="utf-8"), identifier


def _done(node):
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "done" and isinstance(value, str):
                yield value
            else:
                yield from _done(value)
    elif isinstance(node, list):
        for value in node:
            yield from _done(value)


def test_no_test_is_left_unfinished():
    found = []
    for path in (PROJECT / "tests").rglob("*.py"):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.search(r"assert Tru[e]\b|@pytest\.mark\.ski[p]\b|NotImplementedErro[r]", line):
                found.append(f"{name(path)}:{number}")
    assert not found, found


def test_each_promise_names_tests_that_exist():
    promises = (PROJECT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    section = promises[promises.index("## The promises") : promises.index("## Code map")]
    named = re.findall(r"`([a-z0-9]+/test_[a-z0-9_]+\.py)`", section)
    assert len(named) > 20
    assert not [path for path in named if not (PROJECT / "tests" / path).exists()]


def test_promises_say_which_of_their_tests_make_test_leaves_out():
    promises = (PROJECT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    section = promises[promises.index("## The promises") : promises.index("## Code map")]
    named = set(re.findall(r"`([a-z0-9]+/test_[a-z0-9_]+\.py)`", section))
    told = set(re.findall(r"`([a-z0-9]+/test_[a-z0-9_]+\.py)` \*\(long\)\*", section))
    assert told == {path for path in named if "mark.long" in (PROJECT / "tests" / path).read_text(encoding="utf-8")}
