"""Verification compares what one task wrote in its order; how the outputs of several interleave says nothing."""

import random

import pytest

from core.runtime import topics
from core.runtime.codec import Codec, FileRegistry
from schemas.decision import Intent
from simulate import replay

CODEC = Codec(FileRegistry())


def intent(shard: int, offset: int) -> Intent:
    return Intent(
        id=f"{shard}/{offset}", strategy=f"s{shard}", link="l", account_set="main", now_ns=offset, legs=[], profit_e6=0,
        input_partition=shard, input_offset=offset, recv_ts_ns=offset,
    )  # fmt: skip


def digests(monkeypatch: pytest.MonkeyPatch, records: list[Intent]):
    monkeypatch.setattr(replay, "_records", lambda *_: ((3, "main", record) for record in records))
    return replay._digests("", CODEC, "run", topics.DECISION_ACCOUNT, 4, (Intent,))


def differences(monkeypatch: pytest.MonkeyPatch, left: list[Intent], right: list[Intent]):
    return replay._first_differences(
        digests(monkeypatch, left), digests(monkeypatch, right), topics.DECISION_ACCOUNT, differences_max=9
    )


def test_shards_of_one_key_may_interleave_in_any_way(monkeypatch: pytest.MonkeyPatch) -> None:
    shards = [[intent(shard, offset) for offset in range(20)] for shard in range(3)]
    one_after_the_other = [record for shard in shards for record in shard]
    rng = random.Random(1)
    places = [shard for shard in range(3) for _ in range(20)]
    rng.shuffle(places)
    left = [iter(shard) for shard in shards]
    mixed = [next(left[shard]) for shard in places]
    assert differences(monkeypatch, one_after_the_other, mixed) == []
    # What a takeover says again is no difference either.
    assert differences(monkeypatch, one_after_the_other, [*mixed, *mixed[-5:]]) == []


def test_what_one_shard_wrote_in_another_order_is_told_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    right = [intent(0, 0), intent(1, 0), intent(1, 2), intent(1, 1)]
    (found,) = differences(monkeypatch, [intent(0, 0), intent(1, 0), intent(1, 1), intent(1, 2)], right)
    assert (found.topic, found.partition, found.key, found.input_partition, found.position) == (
        "decision.account", 3, "main", 1, 1,
    )  # fmt: skip
