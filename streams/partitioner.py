"""Which partition a key belongs to: murmur2 as Kafka's Java client, Faust and librdkafka's `murmur2_random` compute it. Core."""

from __future__ import annotations

_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """MurmurHash2 (Austin Appleby, 2008) with Kafka's seed, as an unsigned 32-bit integer.

    >>> murmur2(b"GOOG")
    2144222649
    """
    h = 0x9747B28C ^ len(data)
    whole = len(data) & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * _M & _MASK
        k = (k ^ (k >> 24)) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    tail = data[whole:]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * _M & _MASK
    h = (h ^ (h >> 13)) * _M & _MASK
    return h ^ (h >> 15)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key among `partitions`, as Kafka's default partitioner chooses it.

    >>> partition_of(b"GOOG", 8) in range(8)
    True
    """
    return (murmur2(key) & 0x7FFFFFFF) % partitions
