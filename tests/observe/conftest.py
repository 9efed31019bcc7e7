"""A PostgreSQL of its own for the tests that ask for one: other tests' stack stays as small as it was."""

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


@pytest.fixture
def database(postgres_stack):
    """A fresh database with the tables."""
    name = f"t{uuid.uuid4().hex[:10]}"
    with psycopg.connect(postgres_stack.postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    made = Postgres(postgres_stack.postgres_url.rpartition("/")[0] + "/" + name)
    made.prepare()
    yield made
    made.close()
