"""Quix Streams: a stateful function per row, RocksDB state with a changelog, at-least-once.

Tuned: bytes in and out and in the state, msgspec in place of the JSON deserializer, the window as packed numbers, a
checkpoint a second and no other, a producer that gathers for a few milliseconds.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from quixstreams import Application, message_context
from quixstreams.models.topics import TopicAdmin, TopicConfig

from benchmarks.options import parser
from benchmarks.peers.windows import Place, Shared

if TYPE_CHECKING:
    import argparse


def _inspect_topics(admin: Any, topic_names: list[str], timeout: float = 30) -> dict[str, Any]:
    """What Quix asks DescribeConfigs for, which the embedded broker does not know; asking for a topic makes it there."""
    found = {}
    for name in topic_names:
        partitions = admin.admin_client.list_topics(name, timeout=timeout).topics[name].partitions
        settings = {"retention.ms": "604800000", "retention.bytes": "-1"}
        found[name] = TopicConfig(num_partitions=len(partitions), replication_factor=1, extra_config=settings)
    return found


def main(args: argparse.Namespace) -> None:
    """Run until SIGTERM."""
    TopicAdmin.inspect_topics = _inspect_topics
    shared = Shared(args)
    width = 1 + shared.features
    app = Application(
        broker_address=args.servers,
        consumer_group=args.group,
        auto_offset_reset="earliest",
        commit_interval=1.0,
        state_dir=args.state,
        auto_create_topics=False,
        loglevel="WARNING",
        consumer_extra_config={"fetch.wait.max.ms": args.fetch_max_wait_ms},
        producer_extra_config={"linger.ms": 5, "acks": "all", "enable.idempotence": True},
    )
    features = app.topic(args.features, value_deserializer="bytes", key_deserializer="bytes")
    predictions = app.topic(args.predictions, value_serializer="bytes", key_serializer="bytes")

    def answer(value: bytes, state: Any) -> bytes:
        symbol, row = shared.decode(value)
        held = np.frombuffer(state.get_bytes("window", b"")).reshape(-1, width)
        window = np.concatenate([held, [row]])[-shared.depth :]
        state.set_bytes("window", window.tobytes())
        at = message_context()
        return shared.record(Place(symbol, row[0], at.partition, at.offset), shared.vector(window.tolist()))

    frame = app.dataframe(features)
    frame = frame.apply(answer, stateful=True)
    # Quix gives a prediction its row's timestamp; here the time at which it is sent is what is measured.
    frame = frame.set_timestamp(lambda *_: time.time_ns() // 1_000_000)
    frame.to_topic(predictions)
    app.run()


if __name__ == "__main__":
    main(parser().parse_args())
