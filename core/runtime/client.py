"""What every client of Kafka begins with: where it is, and how to speak with it."""

from __future__ import annotations

from pathlib import Path

from core.domain.errors import Misconfigured
from core.runtime.settings import KafkaSettings, load

Options = dict[str, str | int | float | bool]


def kafka_at(bootstrap: str, settings: KafkaSettings | None = None) -> Options:
    """Return the options that lead to these servers; without `settings` those of this process.

    Raises:
        Misconfigured: a setting contradicts another, or a file cannot be read.
    """
    chosen = settings or load(KafkaSettings)
    options: Options = {"bootstrap.servers": bootstrap}
    if chosen.security == "PLAINTEXT":
        return options
    options["security.protocol"] = chosen.security
    files = {
        "ssl.ca.location": ("CA_FILE", chosen.ca_file),
        "ssl.certificate.location": ("CERTIFICATE_FILE", chosen.certificate_file),
        "ssl.key.location": ("KEY_FILE", chosen.key_file),
    }
    for name, (setting, path) in files.items():
        if path is not None:
            _text_of(setting, path)  # the client would only say that its configuration is wrong
            options[name] = str(path)
    if chosen.password_file is not None:
        password = _text_of("PASSWORD_FILE", chosen.password_file).strip()
        options |= {"sasl.mechanism": chosen.sasl_mechanism, "sasl.username": chosen.user, "sasl.password": password}
    return options


def _text_of(setting: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise Misconfigured(f"CROSSBOOK_KAFKA_{setting} {path} cannot be read: {type(e).__name__}") from e
