"""How clients are told to speak with Kafka: in the clear, over TLS, over TLS with a user."""

import pytest

from core.domain.errors import Misconfigured
from core.runtime.client import kafka_at
from core.runtime.consumer import consumer_config
from core.runtime.producer import producer_config
from core.runtime.settings import KafkaSettings, load
from infra.stack.settings import StackSettings


def test_nothing_is_said_where_kafka_is_on_this_machine():
    assert kafka_at("127.0.0.1:9092") == {"bootstrap.servers": "127.0.0.1:9092"}


def test_producers_and_consumers_take_what_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("CROSSBOOK_KAFKA_SECURITY", "SSL")
    for name in ("CA", "CERTIFICATE", "KEY"):
        (tmp_path / name).write_text("PEM")
        monkeypatch.setenv(f"CROSSBOOK_KAFKA_{name}_FILE", str(tmp_path / name))
    for options in (producer_config("k:1", "c"), consumer_config("k:1", group="g", joins=False)):
        assert options["bootstrap.servers"] == "k:1"
        assert options["security.protocol"] == "SSL"
        assert options["ssl.ca.location"] == str(tmp_path / "CA")
        assert options["ssl.certificate.location"] == str(tmp_path / "CERTIFICATE")
        assert options["ssl.key.location"] == str(tmp_path / "KEY")
        assert not [name for name in options if name.startswith("sasl.")]


def test_password_comes_from_a_file_and_never_stands_in_a_message(tmp_path):
    file = tmp_path / "password"
    file.write_text("secret\n")
    settings = load(KafkaSettings, security="SASL_SSL", user="eu", password_file=file)
    options = kafka_at("k:1", settings)
    assert (options["sasl.mechanism"], options["sasl.username"], options["sasl.password"]) == (
        "SCRAM-SHA-512",
        "eu",
        "secret",
    )
    assert "secret" not in repr(settings)
    file.unlink()
    with pytest.raises(Misconfigured, match="CROSSBOOK_KAFKA_PASSWORD_FILE"):
        kafka_at("k:1", settings)


@pytest.mark.parametrize("name", ["CA", "CERTIFICATE", "KEY"])
def test_a_file_that_is_not_there_is_named(monkeypatch, tmp_path, name):
    monkeypatch.setenv("CROSSBOOK_KAFKA_SECURITY", "SSL")
    for other in ("CA", "CERTIFICATE", "KEY"):
        (tmp_path / other).write_text("PEM")
        monkeypatch.setenv(f"CROSSBOOK_KAFKA_{other}_FILE", str(tmp_path / other))
    (tmp_path / name).unlink()
    with pytest.raises(Misconfigured, match=f"CROSSBOOK_KAFKA_{name}_FILE .*cannot be read: FileNotFoundError"):
        kafka_at("k:1")


def test_an_empty_setting_is_none(monkeypatch):
    for name in ("CA_FILE", "CERTIFICATE_FILE", "KEY_FILE", "PASSWORD_FILE", "USER"):
        monkeypatch.setenv(f"CROSSBOOK_KAFKA_{name}", "")
    monkeypatch.setenv("CROSSBOOK_STACK_TLS", "")
    assert kafka_at("k:1") == {"bootstrap.servers": "k:1"}
    assert StackSettings().tls is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ca_file": "ca.pem"}, "security is PLAINTEXT, so ca_file would not be used"),
        ({"user": "eu"}, "security is PLAINTEXT, so user would not be used"),
        ({"security": "SSL", "certificate_file": "c.pem"}, "certificate_file and key_file go together"),
        ({"security": "SASL_SSL", "user": "eu"}, "SASL_SSL, user and password_file go together"),
        ({"security": "SSL", "user": "eu", "password_file": "p"}, "SASL_SSL, user and password_file go together"),
        ({"security": "SASL_PLAINTEXT"}, "CROSSBOOK_KAFKA_SECURITY"),
    ],
)
def test_settings_that_would_leave_the_wire_open_are_refused(changes, words):
    with pytest.raises(Misconfigured, match=words):
        load(KafkaSettings, **changes)
