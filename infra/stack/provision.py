"""What a run needs before its first worker: its topics and the schemas of their records."""

from core.runtime.admin import ensure_topics, register_schemas
from infra.stack.settings import StackSettings


def provision(settings: StackSettings, run: str) -> tuple[int, int]:
    """Create the missing topics of a run and register the schemas; return how many of each stand now."""
    topics = ensure_topics(settings.bootstrap, run, settings.partitions)
    schemas = register_schemas(settings.registry_url)
    return topics, schemas
