"""Settings of the dev stack: `CROSSBOOK_STACK_*` in the environment or in the project's `.env`."""

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"


class StackSettings(BaseSettings):
    """Where the stack's data lies, which ports it takes, how much memory each server may use."""

    model_config = SettingsConfigDict(
        env_prefix="CROSSBOOK_STACK_", env_file=PROJECT / ".env", extra="ignore", frozen=True
    )

    data: Path = Path(".crossbook")
    """Data, configuration, logs; a relative path is taken from the project's folder."""
    cache: Path = Path("~/.cache/crossbook")
    """Unpacked archives, shared by all stacks of this user."""

    kafka_port: int = Field(default=9092, ge=1, le=65535)
    kafka_controller_port: int = Field(default=9093, ge=1, le=65535)
    registry_port: int = Field(default=8081, ge=1, le=65535)
    registry_management_port: int = Field(default=8082, ge=1, le=65535)
    questdb_http_port: int = Field(default=9000, ge=1, le=65535)
    questdb_health_port: int = Field(default=9003, ge=1, le=65535)
    questdb_line_port: int = Field(default=9009, ge=1, le=65535)
    questdb_pg_port: int = Field(default=8812, ge=1, le=65535)

    kafka_heap_mb: int = Field(default=512, ge=128)
    registry_heap_mb: int = Field(default=256, ge=128)
    questdb_heap_mb: int = Field(default=1024, ge=256)
    questdb_workers: int = Field(default=2, ge=1)

    ready_timeout_s: float = Field(default=90.0, gt=0)
    """A server that does not answer by then is reported with the end of its log."""
    respawn: bool = True
    """Start a server again that died; tests that kill one on purpose turn this off."""

    run: str = "demo"
    """The run whose topics `up` creates."""
    partitions: int = Field(default=4, ge=1)
    """Partitions of a hot topic: each costs a request of its own, so few on one small machine."""

    @field_validator("data", "cache")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        return (PROJECT / path.expanduser()).resolve()

    @property
    def bootstrap(self) -> str:
        """Kafka's `host:port`."""
        return f"{HOST}:{self.kafka_port}"

    @property
    def registry_url(self) -> str:
        """The registry's Confluent-compatible API."""
        return f"http://{HOST}:{self.registry_port}/apis/ccompat/v7"

    @property
    def questdb_http(self) -> str:
        """QuestDB's HTTP `host:port`; its web console lives there too."""
        return f"{HOST}:{self.questdb_http_port}"

    @property
    def questdb_pg(self) -> str:
        """QuestDB's PostgreSQL wire `host:port` (user admin, password quest, database qdb)."""
        return f"{HOST}:{self.questdb_pg_port}"

    @property
    def logs(self) -> Path:
        """One file a process group."""
        return self.data / "logs"
