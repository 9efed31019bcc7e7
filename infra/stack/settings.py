"""Settings of the dev stack: `CROSSBOOK_STACK_*` in the environment or in the project's `.env`."""

from pathlib import Path
from urllib.parse import quote

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
"""Where everything listens, but for what `StackSettings.host` moves."""
BROKERS = (0, 1, 3)
POSTGRES_NAME = "crossbook"
"""Of PostgreSQL's database and of the role that owns it."""


def names_of(brokers: int) -> tuple[str, ...]:
    """Return the server names of one Kafka node or of several."""
    return ("kafka",) if brokers == 1 else tuple(f"kafka-{number}" for number in range(1, brokers + 1))


def brokers_of(data: Path) -> int:
    """Return for how many Kafka nodes a data folder was made, 0 when it holds none yet."""
    return next((count for count in BROKERS if count and (data / names_of(count)[0]).exists()), 0)


def broker_port_settings(name: str) -> tuple[str, str]:
    """Return the names of the settings that hold a broker's ports; the first of three uses those of the only one."""
    prefix = "kafka" if name in ("kafka", "kafka-1") else name.replace("-", "_")
    return f"{prefix}_port", f"{prefix}_controller_port"


class StackSettings(BaseSettings):
    """Where the stack's data lies, which ports it takes, how much memory each server may use."""

    model_config = SettingsConfigDict(
        env_prefix="CROSSBOOK_STACK_", env_file=PROJECT / ".env", extra="ignore", frozen=True, env_ignore_empty=True
    )

    data: Path = Path(".crossbook")
    """Data, configuration, logs; a relative path is taken from the project's folder."""
    cache: Path = Path("~/.cache/crossbook")
    """Unpacked archives, shared by all stacks of this user."""

    brokers: int = 0
    """Kafka nodes: 1, or 3 (every record stands on three, two must have it before it is acknowledged). 0: as many as the
    data folder was made for, 1 when it is new."""

    host: str = HOST
    """The address at which Kafka and the registry listen, and by which Kafka tells clients to come back; another than
    127.0.0.1 only where workers run on other hosts (docs/hosts.md). Controllers, QuestDB and PostgreSQL stay on 127.0.0.1."""
    tls: Path | None = None
    """A folder with `server.pem` (Kafka's private key, then its certificates) and `ca.pem`: Kafka then speaks TLS alone, and only
    with who shows a certificate of that authority. Clients here need CROSSBOOK_KAFKA_* then. None: it speaks in the clear."""
    kafka_port: int = Field(default=9092, ge=1, le=65535)
    kafka_controller_port: int = Field(default=9093, ge=1, le=65535)
    kafka_2_port: int = Field(default=9094, ge=1, le=65535)
    kafka_2_controller_port: int = Field(default=9095, ge=1, le=65535)
    kafka_3_port: int = Field(default=9096, ge=1, le=65535)
    kafka_3_controller_port: int = Field(default=9097, ge=1, le=65535)
    registry_port: int = Field(default=8081, ge=1, le=65535)
    registry_management_port: int = Field(default=8082, ge=1, le=65535)
    questdb_http_port: int = Field(default=9000, ge=1, le=65535)
    questdb_health_port: int = Field(default=9003, ge=1, le=65535)
    questdb_line_port: int = Field(default=9009, ge=1, le=65535)
    questdb_pg_port: int = Field(default=8812, ge=1, le=65535)
    postgres_port: int = Field(default=5432, ge=1, le=65535)

    kafka_heap_mb: int = Field(default=512, ge=128)
    """Of one node; each of three takes half."""
    registry_heap_mb: int = Field(default=256, ge=128)
    questdb_heap_mb: int = Field(default=1024, ge=256)
    questdb_workers: int = Field(default=2, ge=1)
    questdb_page_kb: int = Field(default=1024, ge=64)
    """What a column of an open partition takes on disk at once: QuestDB's own 16 MiB make 12 GB of 30 empty tables."""

    postgres: bool = True
    """Whether PostgreSQL belongs to the stack."""
    postgres_user: str = "nobody"
    """Whom PostgreSQL runs as when the stack is started by root, which it refuses."""
    postgres_password: str = POSTGRES_NAME
    """Of the role `crossbook`, when the data folder is made."""

    ready_timeout_s: float = Field(default=90.0, gt=0)
    """A server that does not answer by then is reported with the end of its log."""
    respawn: bool = True
    """Start a server again that died; tests that kill one on purpose turn this off."""

    run: str = "demo"
    """The run whose topics `up` creates."""
    partitions: int = Field(default=4, ge=1)
    """Partitions of a hot topic: each costs a request of its own, so few on one small machine."""

    @field_validator("data", "cache", "tls")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return path and (PROJECT / path.expanduser()).resolve()

    @field_validator("host")
    @classmethod
    def _is_one_address(cls, host: str) -> str:
        if host in {"", "0.0.0.0", "::", "*"} or ":" in host:
            raise ValueError(f"expected one IPv4 address or name that clients can reach, found {host!r}")
        return host

    @field_validator("brokers")
    @classmethod
    def _has_a_majority(cls, count: int) -> int:
        if count not in BROKERS:
            raise ValueError(f"expected 1 or 3, found {count}: two lose their majority with either one")
        return count

    @property
    def broker_names(self) -> tuple[str, ...]:
        """Kafka's nodes by server name; each has a data folder of that name."""
        return names_of(self.brokers or brokers_of(self.data) or 1)

    @property
    def server_names(self) -> tuple[str, ...]:
        """All servers in the order they are started."""
        return (*self.broker_names, "registry", "questdb", *(["postgres"] if self.postgres else []))

    @property
    def replication(self) -> int:
        """How many brokers hold a record."""
        return len(self.broker_names)

    @property
    def bootstrap(self) -> str:
        """Kafka's `host:port`, all of them where there are three."""
        return ",".join(self.broker_address(name) for name in self.broker_names)

    def broker_address(self, name: str) -> str:
        """Return one broker's `host:port`."""
        return f"{self.host}:{self.broker_ports(name)[0]}"

    def broker_ports(self, name: str) -> tuple[int, int]:
        """Return one broker's ports: for clients, for the controllers among themselves."""
        clients, controllers = broker_port_settings(name)
        return getattr(self, clients), getattr(self, controllers)

    def bind_address(self, port_setting: str) -> str:
        """Return the address at which the port of a setting is opened."""
        for_workers = {"registry_port", *(broker_port_settings(name)[0] for name in self.broker_names)}
        return self.host if port_setting in for_workers else HOST

    @property
    def registry_url(self) -> str:
        """The registry's Confluent-compatible API."""
        return f"http://{self.host}:{self.registry_port}/apis/ccompat/v7"

    @property
    def questdb_http(self) -> str:
        """QuestDB's HTTP `host:port`; its web console lives there too."""
        return f"{HOST}:{self.questdb_http_port}"

    @property
    def questdb_pg(self) -> str:
        """QuestDB's PostgreSQL wire `host:port` (user admin, password quest, database qdb)."""
        return f"{HOST}:{self.questdb_pg_port}"

    @property
    def postgres_url(self) -> str:
        """PostgreSQL's database, with user and password."""
        return f"postgresql://{POSTGRES_NAME}:{quote(self.postgres_password, safe='')}@{HOST}:{self.postgres_port}/{POSTGRES_NAME}"

    @property
    def logs(self) -> Path:
        """One file a process group."""
        return self.data / "logs"
