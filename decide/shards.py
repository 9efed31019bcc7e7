"""Which partition of a sequenced log a strategy or an account set belongs to: Kafka's default for its key.

A log's owner reads configuration of all strategies and account sets; each task keeps to its own by this.
"""

from functools import lru_cache

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


@lru_cache(maxsize=4096)
def shard_of(key: str, partitions: int) -> int:
    """Return the partition of `key` among `partitions`, as Kafka's Java clients choose it (murmur2)."""
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """Return the 32-bit murmur2 of `data` with Kafka's seed, unsigned.

    Source: org.apache.kafka.common.utils.Utils.murmur2.
    """
    h = (_SEED ^ len(data)) & _MASK
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * _M & _MASK
        k = (k ^ (k >> 24)) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    tail = data[whole:]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * _M & _MASK
    h = (h ^ (h >> 13)) * _M & _MASK
    return h ^ (h >> 15)
