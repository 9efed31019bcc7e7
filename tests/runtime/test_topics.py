"""The one list of topics, and Kafka's own partitioner."""

import confluent_kafka
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.partition import partition_of
from core.runtime.topics import STAGES, TOPICS
from schemas.record import LAYERS, record_types


def test_names_are_run_layer_noun_with_dots_and_hyphens_only():
    for topic in TOPICS:
        assert topic.layer in LAYERS
        assert topic.name("demo") == f"demo.{topic.noun}"
        assert "_" not in topic.noun


def test_every_record_stands_on_a_topic():
    placed = {record.schema_name for topic in TOPICS for record in topic.records}
    assert placed == set(record_types())


def test_no_topic_is_listed_twice():
    assert len({topic.noun for topic in TOPICS}) == len(TOPICS)


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_a_dead_letter_topic(stage):
    assert any(topic.noun == f"dead.{stage}" for topic in TOPICS)


@given(st.text(max_size=40), st.integers(1, 256))
def test_our_partition_is_kafkas(key, partitions):
    assert partition_of(key, partitions) == confluent_kafka.murmur2(key.encode(), partitions)
