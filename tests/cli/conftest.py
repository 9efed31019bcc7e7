"""Commands typed at a run on the mock cluster."""

from collections.abc import Callable

import pytest

from core.runtime.codec import Codec, FileRegistry
from infra.cli.app import run
from infra.cli.reach import Reach
from infra.mock_cluster import MockCluster


@pytest.fixture
def typed_at(monkeypatch, capsys) -> Callable[..., Callable[..., tuple[int, str]]]:
    """Return a maker of typists: one types a command at a cluster's run and returns (exit code, what it printed)."""

    def at(kafka: MockCluster, name: str) -> Callable[..., tuple[int, str]]:
        monkeypatch.setenv("CROSSBOOK_BOOTSTRAP", kafka.bootstrap)
        monkeypatch.setenv("CROSSBOOK_RUN", name)
        monkeypatch.setattr(Reach, "codec", property(lambda self: Codec(FileRegistry())))

        def type_(*arguments: str) -> tuple[int, str]:
            code = run([*arguments])
            printed = capsys.readouterr()
            return code, printed.out + printed.err

        return type_

    return at
