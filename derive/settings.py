"""What a derive process is told beyond every worker's settings: nothing yet; `CROSSBOOK_*` as in `WorkerSettings`."""

from core.runtime.settings import WorkerSettings


class DeriveSettings(WorkerSettings):
    """Settings of `python -m derive`."""
