"""A PostgreSQL of its own for the tests that ask for one: other tests' stack stays as small as it was."""

import contextlib
import uuid

import psycopg
import pytest

from infra.stack.temporary import TemporaryStack
from observe.postgres import Postgres


@pytest.fixture(scope="session")
def postgres_stack():
    """PostgreSQL alone, on a free port, started once (about two seconds)."""
    with TemporaryStack(("postgres",)) as running:
        yield running


@contextlib.contextmanager
def fresh_database(stack):
    """Make a database with the tables."""
    name = f"t{uuid.uuid4().hex[:10]}"
    with psycopg.connect(stack.postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    made = Postgres(stack.postgres_url.rpartition("/")[0] + "/" + name)
    made.prepare()
    yield made
    made.close()


@pytest.fixture
def database(postgres_stack):
    with fresh_database(postgres_stack) as made:
        yield made
