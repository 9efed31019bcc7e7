"""Typed settings: the only place that reads the environment (`CROSSBOOK_*`, and one `.env` file).

A stage's `settings.py` derives from `WorkerSettings`; its `__main__` makes one and hands values on. Nothing else looks.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.domain.errors import Misconfigured

_RUN = re.compile(r"live|paper|demo|(?:demo|paper|test|bench|replay)-[a-z0-9][a-z0-9-]{0,40}")
LIVE = "live"

SettingsT = TypeVar("SettingsT", bound=BaseSettings)


class WorkerSettings(BaseSettings):
    """What every worker process is told."""

    model_config = SettingsConfigDict(env_prefix="CROSSBOOK_", env_file=".env", extra="ignore", frozen=True)

    run: str = Field(
        "demo", description="live, paper, demo, demo-<id>, paper-<id>, test-<id>, bench-<id> or replay-<id>"
    )
    read_run: str = Field("", description="run whose topics are read; empty: the same as run")
    write_run: str = Field("", description="run whose topics are written; empty: the same as run")
    arm: str = Field("", description="the account that may trade; only with run live")
    bootstrap: str = Field("127.0.0.1:9092", description="Kafka bootstrap servers")
    registry_url: str = Field(
        "http://127.0.0.1:8081/apis/ccompat/v7", description="Confluent-compatible schema registry"
    )
    partitions: int = Field(4, ge=1, le=256, description="of the hot topics, when a run is created")
    replication: int = Field(
        0, ge=0, le=5, description="of topics, when a run is created; 0: the brokers' own default (3 of three)"
    )
    log_level: str = Field("info", description="debug, info, warning or error")
    metrics_port: int = Field(0, ge=0, le=65535, description="of /metrics and /health on 127.0.0.1; 0: any free one")
    worker_dir: str = Field(
        "", description="folder where a worker leaves <pid>.json with its metrics port; empty: nowhere"
    )
    batch_records_max: int = Field(500, ge=1, le=10_000, description="records handled between two polls")
    commit_interval_ms: int = Field(250, ge=10, le=60_000, description="between commits, each after acknowledgement")
    checkpoint_interval_s: float = Field(
        10.0, ge=0.1, le=600, description="between checkpoints of a task's state; a takeover handles so much again"
    )
    replay: bool = Field(False, description="handle the source run's log up to its committed offset, then exit")
    replay_speed: float = Field(
        0.0, ge=0, description="of a replay: 1 as it was, 2 twice as fast, 0 as fast as it goes"
    )
    start_wait_s: float = Field(20.0, gt=0, description="how long servers may take to answer at start")
    pressure_calm_ms: int = Field(50, ge=1, le=60_000, description="lag in time below which a reader keeps up")
    pressure_busy_ms: int = Field(100, ge=1, le=60_000, description="lag from which on a reader is busy")
    pressure_conflate_ms: int = Field(
        250, ge=1, le=60_000, description="lag from which on sequencers append only the newest quote of an instrument"
    )
    pressure_behind_ms: int = Field(
        1_000, ge=1, le=600_000, description="lag from which on a reader is behind; ticks are then too old for trading"
    )
    pressure_calm_after_ms: int = Field(
        1_000, ge=0, le=600_000, description="how long the lag must be small before the level falls"
    )

    @field_validator("run", "read_run", "write_run")
    @classmethod
    def _is_a_run(cls, value: str) -> str:
        if value and not _RUN.fullmatch(value):
            raise ValueError(f"{value!r} is not a run: use live, paper, demo, replay-<id>, test-<id> or bench-<id>")
        return value

    @model_validator(mode="after")
    def _replay_writes_elsewhere(self) -> Self:
        if self.replay and (self.reads == self.writes or not self.writes.startswith(("replay-", "test-"))):
            raise ValueError(f"a replay of {self.reads!r} may only write a run named replay-<id>, was {self.writes!r}")
        if self.writes == LIVE and self.reads != LIVE:
            raise ValueError("only the run live writes live topics; set CROSSBOOK_WRITE_RUN to another run")
        if self.arm and self.writes != LIVE:
            raise ValueError(
                f"CROSSBOOK_ARM is set but the run is {self.writes!r}: only live trades; unset one of them"
            )
        return self

    @model_validator(mode="after")
    def _limits_rise(self) -> Self:
        limits = (self.pressure_calm_ms, self.pressure_busy_ms, self.pressure_conflate_ms, self.pressure_behind_ms)
        if list(limits) != sorted(limits):
            raise ValueError(f"pressure limits must rise from calm over busy and conflate to behind, were {limits}")
        return self

    @property
    def reads(self) -> str:
        """The run whose topics are read."""
        return self.read_run or self.run

    @property
    def writes(self) -> str:
        """The run whose topics and groups are written."""
        return self.write_run or self.run


class KafkaSettings(BaseSettings):
    """How every client of Kafka proves who it is, and whom it believes; nothing where Kafka is on this machine."""

    model_config = SettingsConfigDict(
        env_prefix="CROSSBOOK_KAFKA_", env_file=".env", extra="ignore", frozen=True, env_ignore_empty=True
    )

    security: Literal["PLAINTEXT", "SSL", "SASL_SSL"] = Field(
        "PLAINTEXT", description="PLAINTEXT, SSL (TLS) or SASL_SSL (TLS with a user)"
    )
    ca_file: Path | None = Field(
        None, description="PEM of who signs Kafka's certificates; empty: this system's own list"
    )
    certificate_file: Path | None = Field(
        None, description="PEM of this client's certificate, where Kafka asks for one"
    )
    key_file: Path | None = Field(None, description="PEM of its private key")
    sasl_mechanism: Literal["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"] = Field(
        "SCRAM-SHA-512", description="with SASL_SSL: SCRAM-SHA-256, SCRAM-SHA-512 or PLAIN"
    )
    user: str = Field("", description="with SASL_SSL")
    password_file: Path | None = Field(None, description="with SASL_SSL: a file with the password")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        given = [name for name in ("ca_file", "certificate_file", "key_file") if getattr(self, name) is not None]
        if self.security == "PLAINTEXT" and (given or self.user):
            raise ValueError(f"security is PLAINTEXT, so {', '.join(given) or 'user'} would not be used: set it to SSL")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together")
        if (self.security == "SASL_SSL") != bool(self.user and self.password_file):
            raise ValueError("SASL_SSL, user and password_file go together")
        return self


def load(kind: type[SettingsT], **overrides: Any) -> SettingsT:
    """Read settings of `kind` from the environment.

    Raises:
        Misconfigured: a value is missing or not allowed; says which variable and why, never its value.
    """
    try:
        return kind(**overrides)
    except ValidationError as e:
        prefix = str(kind.model_config.get("env_prefix", ""))
        lines = []
        for error in e.errors(include_input=False, include_url=False):
            where = "_".join(str(part) for part in error["loc"])
            lines.append(f"{prefix + where.upper() if where else 'settings'}: {error['msg']}")
        raise Misconfigured("; ".join(lines)) from e
