"""The real servers: started once, surviving stop, start and kill -9."""

import http.client
import json
import time
from collections.abc import Iterator
from urllib.parse import quote

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from infra.stack.stack import Stack
from infra.stack.temporary import TemporaryStack

pytestmark = pytest.mark.broker

RECORDS = 1_000


@pytest.fixture(scope="module")
def stack() -> Iterator[TemporaryStack]:
    """Servers of these tests' own: what others' thousands of partitions take to come back says nothing here."""
    with TemporaryStack() as running:
        yield running


def write_records(bootstrap: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(10)
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True})
    for number in range(RECORDS):
        producer.produce(topic, str(number).encode())
    assert producer.flush(10) == 0


def read_records(bootstrap: str, topic: str) -> list[int]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", "auto.offset.reset": "error"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[int] = []
    deadline = time.monotonic() + 10
    while len(found) < RECORDS and time.monotonic() < deadline:
        found += [int(message.value() or b"") for message in consumer.consume(RECORDS, 1.0) if message.error() is None]
    consumer.close()
    return found


def query(address: str, sql: str) -> list[list[object]]:
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request("GET", f"/exec?query={quote(sql)}")
    answer = json.loads(connection.getresponse().read())
    connection.close()
    assert "error" not in answer, answer
    rows: list[list[object]] = answer.get("dataset", [])
    return rows


def post_schema(url: str, subject: str) -> int:
    host, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=10)
    body = json.dumps({"schema": '{"type":"record","name":"Kept","fields":[]}'})
    headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    connection.request("POST", f"/{path}/subjects/{subject}/versions", body, headers)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return int(answer["id"])


def test_starting_twice_starts_nothing_and_keeps_every_process(stack: TemporaryStack) -> None:
    dev = Stack(stack.settings)
    before = dev.pids()
    assert dev.start() == []
    assert dev.pids() == before
    assert all(len(pids) == 1 for pids in before.values())
    assert set(before) == {"kafka", "registry", "questdb"}


def test_no_server_listens_beyond_loopback(stack: TemporaryStack) -> None:
    for name in ("kafka", "registry", "questdb"):
        addresses = {
            found.laddr.ip
            for found in psutil.Process(stack.pid(name)).net_connections("tcp")
            if found.status == psutil.CONN_LISTEN
        }
        assert addresses <= {"127.0.0.1", "::ffff:127.0.0.1"}, name
        assert addresses


def test_records_rows_and_schemas_survive_down_and_up(stack: TemporaryStack) -> None:
    write_records(stack.bootstrap, "infra.survives")
    query(stack.questdb_http, "CREATE TABLE infra_survives (ts TIMESTAMP, n LONG) TIMESTAMP(ts) PARTITION BY DAY WAL")
    query(stack.questdb_http, "INSERT INTO infra_survives VALUES (now(), 42)")
    identity = post_schema(stack.registry_url, "infra.survives.Kept")
    dev = Stack(stack.settings)
    old = dev.pids()
    assert dev.down() == ["stack"]
    assert not any(psutil.pid_exists(pid) for pids in old.values() for pid in pids)
    assert dev.start() == ["kafka", "registry", "questdb"]
    assert read_records(stack.bootstrap, "infra.survives") == list(range(RECORDS))
    assert query(stack.questdb_http, "SELECT n FROM infra_survives") == [[42]]
    assert post_schema(stack.registry_url, "infra.survives.Kept") == identity


def test_a_killed_server_stays_dead_until_it_is_started_and_keeps_its_data(stack: TemporaryStack) -> None:
    write_records(stack.bootstrap, "infra.killed")
    stack.kill("kafka")
    assert Stack(stack.settings).pids()["kafka"] == []
    stack.start("kafka")
    assert read_records(stack.bootstrap, "infra.killed") == list(range(RECORDS))
