"""Settings of the sinks."""

from pydantic import Field

from core.runtime.settings import WorkerSettings


class ObserveSettings(WorkerSettings):
    """What the sinks are told beside what every worker is."""

    questdb_http: str = Field("127.0.0.1:9000", description="QuestDB's HTTP host:port")
    questdb_layers: str = Field("raw,market,derived,decision,order", description="layers whose topics are written")
    questdb_raw_frames: bool = Field(
        True, description="a row for each frame read from a socket: its place, size and digest, without its bytes"
    )
    postgres_url: str = Field(
        "postgresql://crossbook:crossbook@127.0.0.1:5432/crossbook", description="PostgreSQL's database, with user"
    )
    flush_rows_max: int = Field(10_000, ge=1, le=100_000, description="a batch is sent at this many rows")
    flush_interval_ms: int = Field(1_000, ge=1, le=60_000, description="or when its first row is this old")
