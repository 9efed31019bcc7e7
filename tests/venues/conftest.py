"""Where recorded messages and published vectors stand, and every recorded file as a test of its own."""

import os
from pathlib import Path

import pytest

_PROJECT = Path(__file__).resolve().parents[2]
_CAPTURES = (_PROJECT / os.environ.get("CROSSBOOK_CAPTURES", "../shared/captures")).resolve()


@pytest.fixture(scope="session")
def captures_dir(captures: Path) -> Path:
    """The recorded messages of all venues."""
    return captures


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for venue in ("kalshi", "polymarket"):
        name = f"{venue}_capture"
        if name in metafunc.fixturenames:
            files = sorted(f for f in (_CAPTURES / venue).glob("*") if f.suffix in {".json", ".jsonl", ".txt"})
            files = [f for f in files if not f.name.endswith(".meta.json")]
            missing = pytest.param(None, marks=pytest.mark.skip(reason=f"no captures at {_CAPTURES / venue}"))
            metafunc.parametrize(name, files or [missing], ids=[f.name for f in files] or ["missing"])
