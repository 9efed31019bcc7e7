"""PostgreSQL's tables, as steps that are done once and in order (alembic).

A step is a file under `versions/`; a new one names the step before it in `down_revision`. Steps of a kept release are never
edited: data was written under them.
"""
