"""The monitor group's handler: inference log and outcomes in; performance, alerts and warehouse rows out. Shell.

A chunk goes through whole, in this order, so that a window that closes in it knows all the labels the chunk brought:

    predictions into labels → outcomes into labels → drift counts, windows close → reports

State of a partition is read from the table when the first chunk after a start or a revocation comes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import structlog

from monitoring.journal import Outcomes, Predictions
from streams import metrics
from streams.logrows import LogRows, in_time_order, read_log
from streams.monitor_state import MonitorState
from streams.outcomes import OutcomeDecoder
from streams.references import References
from streams.rejections import rejection_headers
from streams.reports import Reports, show_alerts
from streams.rules import Rules
from streams.storing import Store
from streams.warehouse_rows import feature_rows, outcome_rows, prediction_rows, vector_column_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from config import Settings
    from config.sections import Database
    from monitoring.joined import Scorer
    from monitoring.warehouse import Warehouse
    from streams.checkpoint import TableRecord
    from streams.chunks import Chunk
    from streams.monitor_state import Entries
    from streams.outbox import Outbox
    from streams.outcomes import OutcomeBatch
    from streams.records import PartitionRecords, Rejected
    from streams.references import SpecSource
    from streams.watch import Watch

log = structlog.get_logger()
GROUP = "monitor"


def open_warehouse(database: Database) -> Warehouse:
    """The warehouse the settings name; raises `WarehouseError` when it cannot be opened."""
    if database.type == "duckdb":
        from monitoring.duckdb import DuckDBWarehouse

        return DuckDBWarehouse(database.path)
    from monitoring.bigquery import BigQueryWarehouse

    return BigQueryWarehouse(project=database.project, dataset=database.dataset)


class MonitorHandler:
    """Watches every scorer whose log comes by. One worker holds all partitions in this version."""

    def __init__(
        self,
        settings: Settings,
        registry: SpecSource,
        outbox: Outbox,
        warehouse: Warehouse,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock`: seconds, never going back; only paces attempts at a registry or warehouse that failed."""
        self._rules = Rules.of(settings)
        self._topics = settings.kafka.topics
        self._outbox = outbox
        self._references = References(registry, clock=clock)
        self._store = Store(warehouse, settings.storage.state_dir / "warehouse-waiting", clock=clock)
        self._reports = Reports(settings, outbox, self._store)
        self._outcomes = OutcomeDecoder(
            partitions=self._rules.partitions,
            max_future_us=int(settings.inference.max_future.total_seconds() * 1_000_000),
        )
        self._state = MonitorState(self._rules)
        self._table: Entries | None = None
        self._named: set[tuple[str, str, str]] = set()

    def use_table(self, table: Entries) -> None:
        """The group's table."""
        self._table = table

    async def prepare(self, chunk: Chunk) -> None:
        """Nothing is needed."""

    def process(self, chunk: Chunk) -> None:
        """One chunk, whole. Raises `WarehouseError` when too many rows wait for the warehouse."""
        started = time.perf_counter()
        self._store.check()
        self._load()
        logs: list[LogRows] = []
        outcomes: list[tuple[PartitionRecords, OutcomeBatch]] = []
        rejected: list[Rejected] = []
        for part in chunk.parts:
            if part.topic == self._topics.inference_log:
                read, refused = read_log(part)
                logs += read
            else:
                batch, refused = self._outcomes.decode(part)
                outcomes.append((part, batch))
            rejected += refused
        for rows in logs:
            self._take_predictions(rows)
        for part, batch in outcomes:
            self._take_outcomes(part, batch)
        alike: dict[tuple[Scorer, tuple[str, ...]], list[LogRows]] = {}
        for rows in logs:
            alike.setdefault((rows.scorer, rows.columns), []).append(rows)
        for records in alike.values():
            self._count(records)
        self._reject(rejected)
        self._close_chunk({rows.partition for rows in logs})
        metrics.ROWS.labels(GROUP).inc(len(chunk))
        metrics.CHUNK_SECONDS.labels(GROUP).observe(time.perf_counter() - started)

    def take_dirty(self) -> Sequence[TableRecord]:
        """Changed entries, after the warehouse has the rows of every chunk they come from, or the disk has."""
        self.say()
        self._store.flush()
        return self._state.take_dirty()

    def say(self) -> None:
        """Send and store the alert events that no crash can take back any more. Only while all partitions are held."""
        self._load()
        events = [] if self._table is None else self._state.take_durable(self._table)
        if events:
            self._reports.alerts(events)
            self._store.flush()

    def revoked(self, partitions: Iterable[int]) -> None:
        """Forget these partitions; their state is read again when a chunk comes."""
        gone = set(partitions)
        if gone and len(gone) < self._rules.partitions:
            log.warning(
                "only some partitions were revoked: run the monitor as one worker, windows span all of them",
                revoked=sorted(gone),
                partitions=self._rules.partitions,
            )
        self._state.forget(gone)

    def _load(self) -> None:
        if self._state.complete:
            return
        if self._table is None:
            raise RuntimeError("no table yet: a chunk came before the consumer")
        for fault in self._state.load(self._table):
            metrics.STATE_FAULTS.inc()
            log.warning("stored state could not be read, that piece starts afresh", error=str(fault))

    def _take_predictions(self, rows: LogRows) -> None:
        self._store.add("predictions", prediction_rows(rows))
        self._store.add("features", feature_rows(rows))
        digest = rows.table["spec_digest"][0].as_py()
        if (digest, rows.scorer.model, rows.scorer.version) not in self._named:
            self._named.add((digest, rows.scorer.model, rows.scorer.version))
            self._store.add("vector_columns", vector_column_rows(rows))
        labels = self._state.labels[rows.partition]
        if rows.offset <= labels.taken(rows.topic):
            return
        made = np.isfinite(rows.value)
        table = rows.table if made.all() else rows.table.filter(made)
        block = Predictions.of(
            rows.scorer,
            horizon_us=rows.horizon_us,
            prediction_ids=table["prediction_id"].to_pylist(),
            symbols=table["symbol"].to_pylist(),
            ts_event_us=table["ts_event_us"].to_numpy(),
            revision=table["revision"].to_numpy(),
            value=table["value"].to_numpy(),
            lower=table["lower"].to_numpy(),
            upper=table["upper"].to_numpy(),
            p_up=table["p_up"].to_numpy(),
        )
        labels.add_predictions(block, source=rows.topic, offset=rows.offset)

    def _take_outcomes(self, part: PartitionRecords, batch: OutcomeBatch) -> None:
        self._store.add("outcomes", outcome_rows(batch))
        labels = self._state.labels[part.partition]
        fresh = batch.after(labels.taken(part.topic))
        if not len(fresh):
            return
        block = Outcomes.of(
            symbols=fresh.symbols,
            ts_event_us=fresh.ts_event_us,
            horizon_us=fresh.horizon_us,
            revision=fresh.revision,
            value=fresh.value,
        )
        labels.add_outcomes(block, source=part.topic, offset=int(fresh.offset[-1]))

    def _count(self, records: list[LogRows]) -> None:
        """Count rows of one scorer and its columns for drift, and report the windows they close."""
        scorer = records[0].scorer
        trained = self._references.get(scorer.model, scorer.version, records[0].columns)
        if trained is None:
            metrics.DRIFT_SKIPPED.inc(sum(len(r) for r in records))
            return
        watch = self._state.watch(scorer)
        fault = watch.arm(trained)
        if fault is not None:
            metrics.STATE_FAULTS.inc()
            log.warning("stored counts could not be used, they start afresh", scorer=":".join(scorer), error=str(fault))
        horizon_us, end_us = records[0].horizon_us, None
        for together in in_time_order(records, pane_us=self._rules.pane_us):
            for judged in watch.count(together):
                end_us = judged.window.end_us
                self._reports.window(watch, judged, self._state.labels, horizon_us=horizon_us)
                self._retire_others(watch, start_us=judged.window.start_us, end_us=end_us)
        if end_us is not None:
            # The next window ends a pane later at the earliest.
            needed_us = end_us - (self._rules.panes - 1) * self._rules.pane_us - horizon_us
            for labels in self._state.labels.values():
                labels.matured.forget(scorer, until_us=needed_us)

    def _retire_others(self, watch: Watch, *, start_us: int, end_us: int) -> None:
        """End the alerts of versions that this one has replaced for a whole window; drop those silent for long."""
        model, version, role = watch.scorer
        for scorer, other in list(self._state.watches.items()):
            if (scorer.model, scorer.role) != (model, role) or scorer.version == version or other.newest_us > start_us:
                continue
            self._reports.hide(other)
            if other.open_alerts():
                reason = f"version {version} serves in place of {scorer.version}"
                self._state.watch(scorer).withdraw(end_us, reason=reason)
            if not other.unsaid and other.newest_us + self._rules.label_timeout_us < start_us:
                self._state.drop(scorer)
                for labels in self._state.labels.values():
                    labels.matured.forget(scorer, until_us=end_us)

    def _reject(self, rejected: list[Rejected]) -> None:
        for r in rejected:
            self._outbox.send(
                self._topics.features_rejected, partition=r.partition, key=r.key, value=r.value, headers=rejection_headers(r)
            )
            metrics.REJECTED.labels(r.reason).inc()

    def _close_chunk(self, partitions: set[int]) -> None:
        state = self._state
        for partition in partitions:
            for lost in state.labels[partition].advance().values():
                metrics.UNLABELLED.inc(lost)
        for labels in state.labels.values():
            metrics.MATURED.inc(labels.matured_rows)
            labels.matured_rows = 0
        metrics.PENDING.set(sum(len(labels.pending) for labels in state.labels.values()))
        metrics.LABELS_EVICTED.set(sum(labels.pending.evicted + labels.matured.evicted for labels in state.labels.values()))
        metrics.DRIFT_LATE.set(sum(w.panes.late_rows for w in state.watches.values() if w.panes is not None))
        show_alerts(w.alerts for w in state.watches.values())
