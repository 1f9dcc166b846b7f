"""What windows say → performance records, alert events, retrain requests; sent, stored and shown. Shell."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from monitoring.record import PARTS, encode
from monitoring.report_drift import VERDICTS
from monitoring.warehouse import arrow_rows
from streams import metrics
from streams.cloudevents import event_headers, send_performance, send_retrain_request
from streams.partitioner import partition_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prometheus_client import Gauge

    from config import Settings
    from config.sections import Kafka
    from monitoring.alerts import AlertState
    from monitoring.joined import Scorer
    from streams.judging import Judged
    from streams.monitor_state import Said
    from streams.operations import Operations
    from streams.outbox import Outbox
    from streams.storing import Store
    from streams.watch import Watch

log = structlog.get_logger()

_SHOWN = ("ic", "rank_ic", "hit_rate", "rmse", "skill", "brier", "coverage", "label_coverage")
"""Metrics of quality that Prometheus gets."""


class Reports:
    """Sends what windows say. Keeps nothing."""

    def __init__(self, settings: Settings, outbox: Outbox, store: Store) -> None:
        self._outbox = outbox
        self._store = store
        self._kafka = settings.kafka
        self._psi: dict[Scorer, list[Gauge]] = {}

    def window(self, watch: Watch, judged: Judged) -> None:
        """Report a window that closed, or one whose labels changed since."""
        scorer = watch.scorer
        # Each part is made JSON once, for the topic and for the warehouse.
        parts = {name: encode(judged.record[name]) for name in PARTS if judged.record[name] is not None}
        raw = {name: msgspec.Raw(part) for name, part in parts.items()}
        send_performance(self._outbox, self._kafka, {**judged.record, **raw})
        self._store.add("performance", arrow_rows("performance", [{**judged.record, **parts}]))
        if judged.drift is None:
            metrics.WINDOWS_REVISED.labels(scorer.model).inc()
            return
        metrics.WINDOWS_CLOSED.labels(scorer.model).inc()
        metrics.DRIFT_VERDICT.labels(*scorer).set(VERDICTS.index(judged.drift.verdict))
        columns = judged.drift.columns
        gauges = self._psi.get(scorer)
        if gauges is None or len(gauges) != len(columns.names):
            gauges = self._psi[scorer] = [metrics.DRIFT_PSI.labels(*scorer, name) for name in columns.names]
        for gauge, psi in zip(gauges, columns.numbers["psi"].tolist(), strict=True):
            gauge.set(psi)
        if judged.quality is not None:
            for name in _SHOWN:
                metrics.QUALITY.labels(*scorer, name).set(getattr(judged.quality, name))

    def hide(self, watch: Watch) -> None:
        """Take the scorer out of the metrics: it serves no more."""
        self._psi.pop(watch.scorer, None)
        names = () if watch.trained is None else watch.trained.reference.names
        for gauge, labels in ((metrics.DRIFT_PSI, names), (metrics.QUALITY, _SHOWN)):
            for name in labels:
                with suppress(KeyError):
                    gauge.remove(*watch.scorer, name)
        with suppress(KeyError):
            metrics.DRIFT_VERDICT.remove(*watch.scorer)

    def say(self, said: Said) -> None:
        """Send and store alert events and retrain requests, in order."""
        send_alerts(self._outbox, self._kafka, said.events, group=self._kafka.monitor_group)
        if said.events:
            self._store.add("alerts", arrow_rows("alerts", said.events))
        for request in said.requests:
            send_retrain_request(self._outbox, self._kafka, request)
            metrics.RETRAIN_REQUESTS.labels(request["model"]).inc()
        if said.requests:
            rows = [{**request, "record": request} for request in said.requests]
            self._store.add("retrain_requests", arrow_rows("retrain_requests", rows))


def send_alerts(outbox: Outbox, kafka: Kafka, events: Iterable[Mapping[str, Any]], *, group: str) -> None:
    """Hand alert events over, in order, each a CloudEvent keyed by its alert's fingerprint."""
    for event in events:
        key = event["fingerprint"].encode()
        outbox.send(
            kafka.topics.alerts,
            partition=partition_of(key, kafka.partitions),
            key=key,
            value=msgspec.json.encode(event),
            headers=event_headers(f"trading-ml.alert.{event['state']}", event["event_id"], group=group),
        )
        metrics.ALERTS.labels(event["state"]).inc()


def close_traffic(operations: Operations) -> None:
    """Count what was taken, and say where a record came from the future."""
    operations.close(time.time_ns() // 1000)
    for topic, partition, by_us in operations.ahead:
        log.warning(
            "records stamped ahead of this clock count as if they were not: set the clock of whoever sends them, or this one",
            topic=topic,
            partition=partition,
            ahead_s=round(by_us / 1e6),
        )
    operations.ahead.clear()


def show_alerts(states: Iterable[AlertState]) -> None:
    """Count alerts by state for the metrics."""
    now = Counter(alert.state for alerts in states for alert in alerts.values())
    for state in ("pending", "firing"):
        metrics.ALERTS_NOW.labels(state).set(now[state])
