"""The parts of a monitor: settings → handler, group, and the threads beside it. Shell."""

from __future__ import annotations

import atexit
import importlib
import os
import time
from typing import TYPE_CHECKING

from faust.types import TP

from streams.clients import producer_config
from streams.group import Group
from streams.monitor import MonitorHandler, open_warehouse
from streams.monitor_state import HOME
from streams.outbox import Outbox
from streams.registry_metrics import RegistryMetrics
from streams.telling import Telling
from streams.topics import PANES_TABLE
from streams.web_history import web_history

if TYPE_CHECKING:
    from config import Settings
    from models.registry import Registry
    from streams.web_history import WebHistory


_FETCH_BYTES = 1 << 22
"""Of a partition, at most. Records of the log are up to 1 MB: with one of each partition in a chunk, a fifth of the time went
into waiting for the next chunk; with eight, a chunk no longer stays in the processor's cache."""


def monitor_group(settings: Settings, registry: Registry) -> tuple[Group, WebHistory]:
    """The monitor group over the log of predictions and the outcomes, and what answers questions about its warehouse."""
    receivers = [receiver.resolved(os.environ) for receiver in settings.monitoring.notify]
    # Up to a second of work each, which the first window would do on the event loop.
    for heavy in ("scipy.special", "river.drift", "pyarrow.parquet"):
        importlib.import_module(heavy)

    topics = settings.kafka.topics
    outbox = Outbox(producer_config(settings.kafka))
    warehouse = open_warehouse(settings.database)
    handler = MonitorHandler(settings, registry, outbox, warehouse)
    atexit.register(warehouse.close)
    atexit.register(handler.close)  # first: the last one registered begins
    group = Group(
        settings,
        app_id=settings.kafka.monitor_group,
        topics=[topics.inference_log, topics.outcomes, topics.features_rejected],
        table=PANES_TABLE,
        handler=handler,
        outbox=outbox,
        fetch_bytes=_FETCH_BYTES,
    )

    def highwater(partition: int) -> int | None:
        tp = TP(topics.inference_log, partition)
        if group.consumer is None:
            return None
        # Another worker's partition has nothing to read for this one; aiokafka refuses to be asked about it.
        return group.consumer.highwater(tp) if tp in group.consumer.assignment() else 0

    def stood(partition: int) -> int | None:
        return None if group.consumer is None else group.consumer.stood().get(TP(topics.inference_log, partition))

    handler.highwater, handler.stood = highwater, stood

    async def say_alerts() -> None:
        """Also where no rows come, and so no checkpoint."""
        if group.ready and len(group.assignment()) == settings.kafka.partitions:
            handler.say()

    async def look_at_the_clock() -> None:
        """Where no rows come, nothing else tells."""
        if group.ready and len(group.assignment()) == settings.kafka.partitions:
            handler.look_at_the_clock(time.time_ns() // 1000, caught_up=handler.caught_up())

    group.every(1.0, look_at_the_clock)
    group.every(0.5, say_alerts)
    threads: list[Telling | RegistryMetrics] = []
    if receivers:
        threads.append(Telling(settings.kafka, receivers))
    if settings.monitoring.log_to_registry:
        threads.append(RegistryMetrics(settings.kafka, settings.mlflow.tracking_uri))
    for thread in threads:
        thread.start()

    async def take_duty() -> None:
        """Of several workers the one tells, and logs, that has the alerts' state."""
        for thread in threads:
            thread.duty(on=HOME in group.assignment())

    group.every(1.0, take_duty)
    return group, web_history(settings, warehouse)
