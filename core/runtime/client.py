"""What every client of Kafka begins with: where it is, and how to speak with it."""

from __future__ import annotations

from core.domain.errors import Misconfigured
from core.runtime.settings import KafkaSettings, load

Options = dict[str, str | int | float | bool]


def kafka_at(bootstrap: str, settings: KafkaSettings | None = None) -> Options:
    """Return the options that lead to these servers; without `settings` those of this process.

    Raises:
        Misconfigured: a setting contradicts another, or the password cannot be read.
    """
    chosen = settings or load(KafkaSettings)
    options: Options = {"bootstrap.servers": bootstrap}
    if chosen.security == "PLAINTEXT":
        return options
    options["security.protocol"] = chosen.security
    files = {
        "ssl.ca.location": chosen.ca_file,
        "ssl.certificate.location": chosen.certificate_file,
        "ssl.key.location": chosen.key_file,
    }
    options |= {name: str(path) for name, path in files.items() if path is not None}
    if chosen.password_file is not None:
        try:
            password = chosen.password_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as e:
            raise Misconfigured(f"CROSSBOOK_KAFKA_PASSWORD_FILE {chosen.password_file}: {type(e).__name__}") from e
        options |= {"sasl.mechanism": chosen.sasl_mechanism, "sasl.username": chosen.user, "sasl.password": password}
    return options
