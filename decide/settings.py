"""What a decide process is told beyond every worker's settings: nothing yet; `CROSSBOOK_*` as in `WorkerSettings`."""

from core.runtime.settings import WorkerSettings


class DecideSettings(WorkerSettings):
    """Settings of `python -m decide`."""
