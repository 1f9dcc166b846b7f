"""The Faust application that both Faust contenders use."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import faust
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread

if TYPE_CHECKING:
    import argparse


def make_app(args: argparse.Namespace) -> tuple[Any, Any, Any, Any]:
    """(app, features topic, predictions topic, table key → list of rows)."""
    _wait_no_longer(args.fetch_max_wait_ms)
    app = faust.App(
        args.group,
        broker=f"kafka://{args.servers}",
        store="memory://",
        key_serializer="raw",
        value_serializer="raw",
        topic_partitions=args.partitions,
        # The embedded broker has no CreateTopics: topics exist, or come with the first metadata request.
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        broker_session_timeout=6.0,
        broker_heartbeat_interval=1.0,
        broker_commit_interval=1.0,
        broker_commit_every=100_000,
        broker_max_poll_records=args.batch_rows,
        stream_buffer_maxsize=4 * args.batch_rows,
        stream_wait_empty=False,
        producer_acks=-1,
        producer_linger_ms=1,
        producer_max_batch_size=262_144,
        consumer_auto_offset_reset="earliest",
        web_enabled=False,
        worker_redirect_stdouts=False,
    )
    features = app.topic(args.features, key_type=bytes, value_type=bytes, partitions=args.partitions)
    predictions = app.topic(args.predictions, key_type=bytes, value_type=bytes, partitions=args.partitions)
    windows = app.Table("windows", key_type=bytes, value_type=list, partitions=args.partitions)  # JSON, by orjson
    return app, features, predictions, windows


def _wait_no_longer(fetch_max_wait_ms: int) -> None:
    """Faust lets the broker hold a fetch for 1.5 s and has no setting for it; the embedded broker would, whatever arrives."""
    create = AIOKafkaConsumerThread._create_worker_consumer  # noqa: SLF001 - Faust has no setting for its fetch wait

    def created(thread: Any, transport: Any) -> Any:
        consumer = create(thread, transport)
        consumer._fetch_max_wait_ms = fetch_max_wait_ms  # noqa: SLF001 - the same
        return consumer

    AIOKafkaConsumerThread._create_worker_consumer = created  # type: ignore[method-assign,assignment]  # noqa: SLF001 - the same


def work(app: Any) -> None:
    """Serve until SIGTERM."""
    faust.Worker(app, loglevel=logging.WARNING).execute_from_commandline()
