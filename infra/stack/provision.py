"""What a run needs before its first worker: the schemas of its records, its topics, its incarnation."""

from core.domain.errors import Unavailable
from core.runtime.admin import create_run, register_schemas
from infra.stack.settings import StackSettings

# A registry that has just started loads its classes with the first write, which can take longer than a client waits.
REGISTER_ATTEMPTS = 3


def provision(settings: StackSettings, run: str) -> int:
    """Register the schemas and make the run unless it exists; return the run's incarnation.

    Raises:
        Misconfigured: an incompatible schema, or a run with another partition count.
        Unavailable: Kafka or the registry does not answer.
    """
    for attempt in range(REGISTER_ATTEMPTS):
        try:
            register_schemas(settings.registry_url)
            break
        except Unavailable:
            if attempt == REGISTER_ATTEMPTS - 1:
                raise
    made = create_run(
        bootstrap=settings.bootstrap,
        registry_url=settings.registry_url,
        run=run,
        partitions=settings.partitions,
        replication=settings.replication,
    )
    return made.incarnation
