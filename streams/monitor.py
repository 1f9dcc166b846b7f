"""The monitor group's handler: inference log and outcomes in; performance, alerts and warehouse rows out. Shell.

A chunk goes through whole, in this order, so that a window that closes in it knows all the labels the chunk brought:

    predictions into labels → outcomes into labels → drift counts, windows close → reports → traffic counts

Rows that are far ahead of other partitions' wait before they are counted (`streams.aligning`), and their chunk with them.

State of a partition is read from the table when the first chunk after a start or a revocation comes.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import numpy as np
import structlog

from monitoring.labels import Outcomes, Predictions
from streams import metrics
from streams.counting import Counting
from streams.logrows import LogRows, read_log
from streams.monitor_state import MonitorState, Said
from streams.outcomes import OutcomeDecoder
from streams.references import References
from streams.rejections import rejection_headers
from streams.reports import Reports, close_traffic, show_alerts
from streams.rules import Rules
from streams.storing import Store
from streams.warehouse_rows import feature_rows, outcome_rows, prediction_rows, vector_column_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from config import Settings
    from config.sections import Database
    from monitoring.alerts import AlertState
    from monitoring.warehouse import Warehouse
    from streams.checkpoint import TableRecord
    from streams.chunks import Chunk
    from streams.monitor_state import Entries
    from streams.outbox import Outbox
    from streams.outcomes import OutcomeBatch
    from streams.records import PartitionRecords, Rejected
    from streams.references import SpecSource

log = structlog.get_logger()
GROUP = "monitor"
REVISE_S = 5.0
"""Least time between two looks at the labels; a window is reported again once a look found nothing new for it."""
_OF_A_PREDICTION = ("ts_event_us", "revision", "value", "lower", "upper", "p_up", "completeness")


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
        """`clock`: seconds, never going back; paces attempts at what failed, and how often labels are looked at for revisions."""
        self._clock = clock
        self._looked_s = clock()
        self._rules = Rules.of(settings)
        self._topics = settings.kafka.topics
        self._served = frozenset(model.name for model in settings.models)
        self._outbox = outbox
        self._store = Store(warehouse, settings.storage.state_dir / "warehouse-waiting", clock=clock)
        self._reports = Reports(settings, outbox, self._store)
        self._outcomes = OutcomeDecoder(
            partitions=self._rules.partitions,
            max_future_us=int(settings.inference.max_future.total_seconds() * 1_000_000),
        )
        self._state = MonitorState(self._rules)
        self.references = References(registry, clock=clock)
        self._counting = Counting(
            self._rules,
            self._state,
            self.references,
            self._reports,
            outcomes=self._topics.outcomes,
            clock=clock,
        )
        self.highwater: Callable[[int], int | None] = lambda _partition: 0
        """Partition of the log → the offset at which it ends, None while that is not known."""
        self.stood: Callable[[int], int | None] = lambda _partition: None
        """Partition of the log → the offset from which it is read on."""
        self._next: dict[int, int] = {}
        self._catching_up = True
        self._ends: list[int | None] = [None] * self._rules.partitions
        self._table: Entries | None = None
        self._named: set[tuple[str, str, str]] = set()
        self._handed = 0

    def use_table(self, table: Entries) -> None:
        """The group's table."""
        self._table = table

    async def prepare(self, chunk: Chunk) -> None:
        """Have the registry asked about versions that are new in it, off the event loop."""
        await self.references.prepare(chunk, self._topics.inference_log)

    def process(self, chunk: Chunk) -> bool:
        """One chunk, whole. Whether it is finished here, now or once its rows were counted; else the caller does that.

        Raises `WarehouseError` when too many rows wait for the warehouse.
        """
        started = time.perf_counter()
        self._store.check()
        self._load()
        logs: list[LogRows] = []
        outcomes: list[tuple[PartitionRecords, OutcomeBatch]] = []
        rejected: list[Rejected] = []
        for part in chunk.parts:
            if part.topic == self._topics.features_rejected:
                self._state.operations.take_rejected(part)
                continue
            if part.topic == self._topics.inference_log:
                read, refused = read_log(part)
                logs += read
                self._next[part.partition] = part.records[-1].offset + 1
            else:
                batch, refused = self._outcomes.decode(part)
                outcomes.append((part, batch))
            rejected += refused
        for rows in logs:
            self._take_predictions(rows)
        for part, batch in outcomes:
            self._take_outcomes(part, batch)
        held = self._counting.add(logs, chunk)
        self._count()
        self._reject(rejected)
        self._close_chunk({rows.partition for rows in logs})
        metrics.ROWS.labels(GROUP).inc(len(chunk))
        metrics.CHUNK_SECONDS.labels(GROUP).observe(time.perf_counter() - started)
        return held

    def take_dirty(self) -> Sequence[TableRecord]:
        """Changed entries. Durable they may be once the rows of every chunk they come from are `kept`."""
        self.say()
        self._handed = self._store.hand_over()
        return self._state.take_dirty()

    async def kept(self) -> None:
        """Return when the warehouse has the rows of every chunk that the last `take_dirty` knew, or the disk has."""
        await asyncio.to_thread(self.wait_kept)

    def wait_kept(self) -> None:
        """The same, blocking."""
        self._store.wait(self._handed)

    def urgent(self) -> bool:
        """Whether an alert waits to be said for which no row comes."""
        return self._state.unsaid()

    def say(self) -> None:
        """Send and store what no crash can take back any more, and revised windows. Only while all partitions are held."""
        self._load()
        if self._clock() >= self._looked_s + REVISE_S:
            self._looked_s = self._clock()
            self._counting.revise()
        self._count()
        said = Said([], []) if self._table is None else self._state.take_durable(self._table)
        if said.events or said.requests:
            self._reports.say(said)
            self._store.flush()

    def caught_up(self) -> bool:
        """Whether all was taken that the log had at the last call. Who reads a busy log is hardly ever at its very end."""
        ends, self._ends = self._ends, [self.highwater(p) for p in range(self._rules.partitions)]
        return all(end is not None and self._at(partition) >= end for partition, end in enumerate(ends))

    def look_at_the_clock(self, now_us: int, *, caught_up: bool) -> None:
        """Judge which models get no input. `caught_up`: the log has been read to its end. Only while all partitions are held."""
        self._load()
        state = self._state
        self._counting.expect()
        state.serve(self._served, now_us)
        state.operations.silence(now_us, caught_up=caught_up)
        show_alerts(self._alert_states())

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
        self._counting.clear()
        self._next.clear()
        self._ends = [None] * self._rules.partitions

    def close(self) -> None:
        """Let go of the warehouse's thread."""
        self._store.close()

    def _count(self) -> None:
        behind = self._behind()
        self._counting.count(behind, anew=self._catching_up)
        if not behind and not self._counting.waiting:
            self._catching_up = False

    def _behind(self) -> list[int]:
        """Partitions of the log that have more to read."""
        ends = [self.highwater(partition) for partition in range(self._rules.partitions)]
        return [partition for partition, end in enumerate(ends) if end is None or self._at(partition) < end]

    def _at(self, partition: int) -> int:
        """The offset of the log from which on nothing was taken."""
        at = self._next.get(partition)
        at = self.stood(partition) if at is None else at
        return at or 0

    def _load(self) -> None:
        if self._state.complete:
            return
        if self._table is None:
            raise RuntimeError("no table yet: a chunk came before the consumer")
        self._catching_up = True
        for fault in self._state.load(self._table):
            metrics.STATE_FAULTS.inc()
            log.warning("stored state could not be read, that piece starts afresh", error=str(fault))

    def _take_predictions(self, rows: LogRows) -> None:
        self._store.add("predictions", prediction_rows(rows))
        self._store.add("features", feature_rows(rows))
        self._state.operations.take_log(rows)
        digest = rows.table["spec_digest"][0].as_py()
        if (digest, rows.scorer.model, rows.scorer.version) not in self._named:
            self._named.add((digest, rows.scorer.model, rows.scorer.version))
            self._store.add("vector_columns", vector_column_rows(rows))
        labels = self._state.labels[rows.partition]
        if rows.offset <= labels.taken(rows.topic):
            return
        made = np.isfinite(rows.value)
        table = rows.table if made.all() else rows.table.filter(made)
        numbers = {name: table[name].to_numpy() for name in _OF_A_PREDICTION}
        block = Predictions.of(rows.scorer, horizon_us=rows.horizon_us, symbols=table["symbol"].to_pylist(), **numbers)
        labels.add_predictions(block, source=rows.topic, offset=rows.offset)

    def _take_outcomes(self, part: PartitionRecords, batch: OutcomeBatch) -> None:
        self._store.add("outcomes", outcome_rows(batch))
        labels = self._state.labels[part.partition]
        fresh = batch.after(labels.taken(part.topic))
        if not len(fresh):
            return
        block = Outcomes(
            symbols=fresh.symbols,
            ts_event_us=fresh.ts_event_us,
            horizon_us=fresh.horizon_us,
            revision=fresh.revision,
            value=fresh.value,
        )
        labels.add_outcomes(block, source=part.topic, offset=int(fresh.offset[-1]))

    def _reject(self, rejected: list[Rejected]) -> None:
        for r in rejected:
            self._outbox.send(
                self._topics.features_rejected, partition=r.partition, key=r.key, value=r.value, headers=rejection_headers(r)
            )
            metrics.REJECTED.labels(r.reason).inc()

    def _close_chunk(self, partitions: set[int]) -> None:
        state = self._state
        close_traffic(state.operations)
        for partition in partitions:
            for lost in state.labels[partition].advance().values():
                metrics.UNLABELLED.inc(lost)
        labels = state.labels.values()
        metrics.MATURED.inc(sum(part.take_matured() for part in labels))
        metrics.PENDING.set(sum(part.waiting for part in labels))
        metrics.LABELS_EVICTED.set(sum(part.evicted for part in labels))
        metrics.DRIFT_LATE.set(sum(w.panes.late_rows for w in state.watches.values() if w.panes is not None))
        show_alerts(self._alert_states())

    def _alert_states(self) -> list[AlertState]:
        return [self._state.operations.alerts, *(w.alerts for w in self._state.watches.values())]
