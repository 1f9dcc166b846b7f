"""Composition root: settings → the parts of a worker, and its life from start to exit. Shell.

The only place, with `cli`, where settings are turned into objects.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import logging
import os
import random
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import structlog

from streams.errors import BrokerError, StateFolderInUse
from streams.leave import EX_TEMPFAIL, leave, leave_within

if TYPE_CHECKING:
    from config import Settings
    from models.registry import Registry
    from streams.group import Group
    from streams.web_history import WebHistory

log = structlog.get_logger()
_FOLLOW_S = 0.25
"""How often a worker looks whether there are orders to put in force."""


def run_worker(settings: Settings, group_name: str) -> NoReturn:
    """Run one worker of `inference` or `monitor` until SIGTERM or SIGINT, or until it must leave."""
    # Told to leave while it starts, it has nothing to finish; Faust's worker takes the signal over.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    _configure_logging()
    settings = in_own_folder(settings, group_name)
    from streams.monitor_group import monitor_group

    lock = lock_state_folder(settings.storage.state_dir)
    wait_for_kafka(settings)
    hurried = asyncio.Event()
    try:
        if group_name == "inference":
            group, history = inference_group(settings, hurried), None
        else:
            group, history = monitor_group(settings, registry_of(settings))
    except BrokerError as e:
        leave(EX_TEMPFAIL, str(e))
    _execute(group, group_name, settings, hurried, history)
    lock.close()
    sys.exit(0)


def in_own_folder(settings: Settings, group_name: str) -> Settings:
    """The settings with the group's own folder under `storage.state_dir`, so that one worker of each shares a machine."""
    storage = settings.storage.model_copy(update={"state_dir": settings.storage.state_dir / group_name})
    return settings.model_copy(update={"storage": storage})


def wait_for_kafka(settings: Settings) -> None:
    """Return when Kafka answers and all topics are right; a broker that is away is waited for, with jitter.

    Raises `TopicError` at once when a topic is missing or has another partition count.
    """
    from streams.topics import check_topics

    wait_s = 1.0
    while True:
        try:
            check_topics(settings.kafka)
        except BrokerError as e:
            log.warning("waiting for Kafka", error=str(e))
            time.sleep(wait_s * (0.5 + random.random()))  # noqa: S311 - jitter, not a secret
            wait_s = min(2 * wait_s, 15.0)
        else:
            return


def inference_group(settings: Settings, hurried: asyncio.Event) -> Group:
    """The inference group over the versions that the timeline names. `hurried`: set it to have the aliases looked at at once."""
    from models.code_models import code_warning
    from streams.challengers import Challengers
    from streams.clients import producer_config
    from streams.endpoint import through_endpoint
    from streams.following import Following
    from streams.group import Group
    from streams.inference import InferenceHandler
    from streams.outbox import Outbox
    from streams.pipeline import Pipeline
    from streams.refusals import Refusals, alert_values
    from streams.reports import send_alerts
    from streams.timeline_topic import TimelineTopic
    from streams.topics import WINDOWS_TABLE

    kafka, inference = settings.kafka, settings.inference
    if settings.mlflow.allow_code:
        log.warning(code_warning([m.name for m in settings.models]))
    registry = registry_of(settings)
    budget_s = inference.challenger_budget.total_seconds()
    challengers = Challengers(registry, budget_s=budget_s, allow_code=settings.mlflow.allow_code)
    outbox = Outbox(producer_config(kafka))
    following = Following(
        settings.models,
        registry,
        TimelineTopic(kafka),
        through_endpoint(settings),
        challengers,
        Refusals(lambda: alert_values(kafka), lambda events: send_alerts(outbox, kafka, events, group=kafka.inference_group)),
        ahead_us=_us(inference.switch_ahead),
        load_deadline_s=inference.load_deadline.total_seconds(),
    )
    handles, orders = following.start()
    pipeline = Pipeline(
        handles,
        partitions=kafka.partitions,
        max_future_us=_us(inference.max_future),
        slack_rows=inference.slack_rows,
        framed=[m.name for m in settings.models if m.publish == "frames"],
        orders=orders,
    )
    idle_wait_s = inference.idle_wait.total_seconds()
    handler = InferenceHandler(
        pipeline, outbox, kafka.topics, idle_wait_s=idle_wait_s, following=following, challengers=challengers
    )
    following.in_force = handler.newest_seq
    group = Group(
        settings,
        app_id=kafka.inference_group,
        topics=[kafka.topics.features],
        table=WINDOWS_TABLE,
        handler=handler,
        outbox=outbox,
    )
    following.watch()

    async def give_orders() -> None:
        """Whoever holds partition 0 asks what the aliases name now."""
        if group.ready and 0 in group.assignment():
            await following.give_orders(stream_time_us=pipeline.stream_time_us)

    async def give_hurried_orders() -> None:
        """Whoever the registry told asks at once, leader or not: of two orders with one number the first counts."""
        if group.ready and hurried.is_set():
            hurried.clear()
            await following.give_orders(stream_time_us=pipeline.stream_time_us)

    async def follow_orders() -> None:
        """Load what was ordered, and put it in force in this worker's partitions."""
        await following.load_ordered()
        if group.ready:
            handler.append_switches(group.assignment(), now_s=time.monotonic())

    async def move_idle_partitions() -> None:
        """Rows whose deadline passes while their partition is idle are settled through the log."""
        handler.move_idle_partitions()

    group.every(inference.cache_ttl.total_seconds(), give_orders)
    group.every(_FOLLOW_S, give_hurried_orders)
    group.every(_FOLLOW_S, follow_orders)
    group.every(idle_wait_s / 2, move_idle_partitions)
    return group


def _us(span: timedelta) -> int:
    return span // timedelta(microseconds=1)


def registry_of(settings: Settings) -> Registry:
    """The model registry the settings name."""
    from models.registry import Registry

    return Registry(
        settings.mlflow.tracking_uri,
        model_cache_folder(settings),
        max_concurrent_models=settings.inference.max_concurrent_models,
        bucket=settings.storage.cache_dir if "://" in settings.storage.cache_dir else None,
        cache_max_bytes=settings.storage.cache_max_bytes,
        row_budget_us=_us(settings.inference.row_budget),
        allow_code=settings.mlflow.allow_code,
    )


def model_cache_folder(settings: Settings) -> Path:
    """Where this worker keeps model artifacts: the cache folder, or for a bucket its own folder beside the state.

    Behind that folder the bucket is a second level, see docs/artifact-cache.md.
    """
    if "://" in settings.storage.cache_dir:
        return settings.storage.state_dir / "models"
    return Path(settings.storage.cache_dir)


def lock_state_folder(folder: Path) -> Any:
    """Hold a state folder for this process; raises `StateFolderInUse` when another worker has it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / "worker.lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        lock.seek(0)
        owner = lock.read().strip() or "unknown"
        raise StateFolderInUse(
            f"state folder {folder} is in use by process {owner}; stop it, or give this worker its own storage.state_dir"
        ) from e
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _execute(group: Group, name: str, settings: Settings, hurried: asyncio.Event, history: WebHistory | None) -> None:
    import faust

    from streams.web import WebServer
    from streams.webhook import Webhook

    drain_s = settings.inference.drain_deadline.total_seconds()

    class Worker(faust.Worker):
        """Faust's worker, with a bound on how long stopping may take."""

        def install_signal_handlers(self) -> None:
            super().install_signal_handlers()
            leave_within(drain_s)

        async def _sentinel_task(self) -> None:
            """Everything has ended by now, and all futures are gathered; Faust waits for another second."""

    group.outbox.connect()
    # What is loaded by now stays: models, MLflow and pandas' heap need not be walked again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    secret = settings.mlflow.webhook_secret if name == "inference" else None
    webhook = None if secret is None else (Webhook(secret.get_secret_value()), hurried.set)
    web = WebServer(group, name, host=settings.web.host, port=settings.web.port, webhook=webhook, history=history)
    worker = Worker(group.app, web, loglevel="WARNING", quiet=True, redirect_stdouts=False, override_logging=False)
    worker.spinner = None  # it moves the terminal's cursor, even into a log file
    log.info("worker starts", group=name, kafka=settings.kafka.bootstrap_servers, web=f"{settings.web.host}:{settings.web.port}")
    worker.execute_from_commandline()


def _configure_logging() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
        ],
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
