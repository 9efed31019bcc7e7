"""Kafka's default partition of a key (murmur2), for code that must know it without a client library."""

from functools import lru_cache

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


@lru_cache(maxsize=65_536)
def partition_of(key: str, partitions: int) -> int:
    """Return the partition Kafka's own clients choose for `key` (tested against confluent-kafka's murmur2)."""
    return (_murmur2(key.encode()) & 0x7FFFFFFF) % partitions


def _murmur2(data: bytes) -> int:
    length = len(data)
    state = (_SEED ^ length) & _MASK
    whole = length - length % 4
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start : start + 4], "little") * _M & _MASK
        word = (word ^ (word >> 24)) * _M & _MASK
        state = (state * _M & _MASK) ^ word
    if length % 4:
        state = (state ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    state = (state ^ (state >> 13)) * _M & _MASK
    return state ^ (state >> 15)
