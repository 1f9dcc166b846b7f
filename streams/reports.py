"""A window that closed → performance record, alert events → theirs; sent and stored. Shell: outbox, warehouse and metrics.

Drift is that of the window (start, end]. Quality is that of the predictions made one horizon earlier, in
(start - horizon, end - horizon]: those whose outcomes were due by the window's end.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from monitoring.matured import gather
from monitoring.performance import performance_record
from monitoring.quality import quality_report
from monitoring.warehouse import arrow_rows
from streams import metrics
from streams.partitioner import partition_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from config import Settings
    from config.sections import Kafka
    from monitoring.alerts import AlertState
    from monitoring.drift import Verdict
    from monitoring.labels import Labels
    from monitoring.panes import Window
    from monitoring.quality import QualityReport
    from streams.outbox import Outbox
    from streams.storing import Store
    from streams.watch import Judged, Watch

VERDICTS: Mapping[Verdict, int] = {"insufficient_data": 0, "stable": 1, "warn": 2, "critical": 3}
"""Value of the verdict gauge."""

_JSON = ("content-type", b"application/json")


class Reports:
    """Sends what windows say. Keeps nothing."""

    def __init__(self, settings: Settings, outbox: Outbox, store: Store) -> None:
        self._outbox = outbox
        self._store = store
        self._topics = settings.kafka.topics
        self._kafka = settings.kafka

    def window(self, watch: Watch, judged: Judged, labels: Mapping[int, Labels], *, horizon_us: int) -> None:
        """Report one window of one scorer: its performance record."""
        scorer, window = watch.scorer, judged.window
        bar_us = None if watch.trained is None else watch.trained.bar_us
        quality = window_quality(watch, window, labels, horizon_us=horizon_us, bar_us=bar_us)
        record = performance_record(
            **scorer._asdict(),
            window_start_us=window.start_us,
            window_end_us=window.end_us,
            drift=judged.drift,
            quality=quality,
        )
        if quality is not None:
            bounds = {"start_us": window.start_us - horizon_us, "end_us": window.end_us - horizon_us, "horizon_us": horizon_us}
            record["quality"] = bounds | record["quality"]
        key = scorer.model.encode()
        self._outbox.send(
            self._topics.performance,
            partition=partition_of(key, self._kafka.partitions),
            key=key,
            value=msgspec.json.encode(record),
            headers=[_JSON],
        )
        self._store.add("performance", arrow_rows("performance", [record]))
        metrics.WINDOWS_CLOSED.labels(scorer.model).inc()
        metrics.DRIFT_VERDICT.labels(*scorer).set(VERDICTS[judged.drift.verdict])
        for column in judged.drift.columns:
            metrics.DRIFT_PSI.labels(*scorer, column.name).set(column.psi)

    def hide(self, watch: Watch) -> None:
        """Take the scorer's drift out of the metrics: it serves no more."""
        names = () if watch.trained is None else watch.trained.reference.names
        for name in names:
            with suppress(KeyError):
                metrics.DRIFT_PSI.remove(*watch.scorer, name)
        with suppress(KeyError):
            metrics.DRIFT_VERDICT.remove(*watch.scorer)

    def alerts(self, events: list[dict[str, Any]]) -> None:
        """Send and store alert events, in order; each is a CloudEvent keyed by its alert's fingerprint."""
        send_alerts(self._outbox, self._kafka, events, group=self._kafka.monitor_group)
        if events:
            self._store.add("alerts", arrow_rows("alerts", events))


def send_alerts(outbox: Outbox, kafka: Kafka, events: Iterable[Mapping[str, Any]], *, group: str) -> None:
    """Hand alert events over, in order, each a CloudEvent keyed by its alert's fingerprint."""
    for event in events:
        key = event["fingerprint"].encode()
        outbox.send(
            kafka.topics.alerts,
            partition=partition_of(key, kafka.partitions),
            key=key,
            value=msgspec.json.encode(event),
            headers=[
                _JSON,
                ("ce_specversion", b"1.0"),
                ("ce_id", event["event_id"].encode()),
                ("ce_type", f"trading-ml.alert.{event['state']}".encode()),
                ("ce_source", f"/{group}".encode()),
            ],
        )
        metrics.ALERTS.labels(event["state"]).inc()


def window_quality(
    watch: Watch, window: Window, labels: Mapping[int, Labels], *, horizon_us: int, bar_us: int | None
) -> QualityReport | None:
    """Quality of the predictions that were due by the window's end; None if none were made."""
    rows = gather(
        [
            labels[p].matured.rows(watch.scorer, start_us=window.start_us - horizon_us, end_us=window.end_us - horizon_us)
            for p in sorted(labels)
        ]
    )
    if not rows.published:
        return None
    return quality_report(
        value=rows.value,
        lower=rows.lower,
        upper=rows.upper,
        p_up=rows.p_up,
        outcome=rows.outcome,
        symbol_codes=rows.symbol_codes,
        ts_event_us=rows.ts_event_us,
        horizon_us=horizon_us,
        bar_us=bar_us,
        published=rows.published,
    )


def show_alerts(states: Iterable[AlertState]) -> None:
    """Count alerts by state for the metrics."""
    now = Counter(alert.state for alerts in states for alert in alerts.values())
    for state in ("pending", "firing"):
        metrics.ALERTS_NOW.labels(state).set(now[state])
