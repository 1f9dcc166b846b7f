"""Our partitioner puts every key where librdkafka's murmur2_random, Faust and aiokafka put it."""

from __future__ import annotations

import random

import pytest
from aiokafka.partitioner import DefaultPartitioner
from confluent_kafka import murmur2 as librdkafka_murmur2

from streams.partitioner import partition_of


def _keys() -> list[bytes]:
    seeded = random.Random(7)  # noqa: S311 - test data
    plain = [b"", b"G", b"GO", b"GOOG", b"BRK.B", b"^GSPC", "ÅÄÖ-€".encode()]
    return plain + [seeded.randbytes(seeded.randint(1, 40)) for _ in range(200 - len(plain))]


@pytest.mark.parametrize("partitions", [1, 4, 8, 12, 64])
def test_agrees_with_librdkafka_on_200_keys(partitions: int) -> None:
    assert [partition_of(k, partitions) for k in _keys()] == [librdkafka_murmur2(k, partitions) for k in _keys()]


@pytest.mark.parametrize("partitions", [1, 4, 8, 12, 64])
def test_agrees_with_the_partitioner_faust_uses_on_200_keys(partitions: int) -> None:
    theirs = DefaultPartitioner()
    every = list(range(partitions))
    assert [partition_of(k, partitions) for k in _keys()] == [theirs(k, every, every) for k in _keys()]
