"""The inference group's handler: chunks of features in, predictions and their log out. Shell around `pipeline.step`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from streams import metrics
from streams.idle import IdleClock
from streams.inference_log import CONTENT_TYPE
from streams.rejections import fit, rejection_headers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from config import Topics
    from models.handle import ModelHandle
    from streams.checkpoint import TableRecord
    from streams.chunks import Chunk
    from streams.outbox import Outbox
    from streams.pipeline import Pipeline, StepResult
    from streams.table import PackedTable

log = structlog.get_logger()
GROUP = "inference"


class InferenceHandler:
    """Runs the pipeline over chunks, sends what comes of them, keeps the windows of its partitions."""

    def __init__(self, pipeline: Pipeline, outbox: Outbox, topics: Topics, *, idle_wait_s: float) -> None:
        """`idle_wait_s`: how long past its deadline a row may wait by the wall clock where nothing comes."""
        self.pipeline = pipeline
        self._idle = IdleClock(bound_s=idle_wait_s)
        self._outbox = outbox
        self._topics = topics
        self._table: PackedTable | None = None
        self._show_models()

    def use_table(self, table: PackedTable) -> None:
        """The windows table."""
        self._table = table

    def process(self, chunk: Chunk) -> None:
        """One chunk, whole."""
        started = time.perf_counter()
        out = self.pipeline.step(chunk.parts, self._load, self._scan)
        self._send(out)
        metrics.CHUNK_SECONDS.labels(GROUP).observe(time.perf_counter() - started)
        self._count(out)

    def move_idle_partitions(self) -> None:
        """Append clock records where rows have waited past their deadline and nothing comes to end the wait."""
        deadlines_us = {h.name: h.spec.deadline_us for h in self.pipeline.handles}
        for record in self._idle.due(self.pipeline.windows.waiting(), deadlines_us, time.monotonic()):
            self._outbox.send(self._topics.features, partition=record.partition, key=record.key, value=record.value)
            metrics.CLOCK_RECORDS.inc()

    def take_dirty(self) -> Sequence[TableRecord]:
        """Changed windows, packed."""
        return self.pipeline.take_dirty()

    def revoked(self, partitions: Iterable[int]) -> None:
        """Forget the windows of these partitions; whoever holds them now has them in its table."""
        for partition in partitions:
            self.pipeline.drop(partition)

    def swap(self, handles: Sequence[ModelHandle]) -> None:
        """Serve these versions from the next chunk on."""
        short = self.pipeline.swap(handles)
        self._show_models()
        log.info("models in service", models=[f"{h.name}:{h.version}" for h in handles])
        for feature_set, rows in short.items():
            log.warning(
                "windows grow: long lags are missing until a symbol has brought more rows", feature_set=feature_set, rows=rows
            )

    def _load(self, partition: int, symbol: str) -> bytes | None:
        return self._held().get(partition, symbol.encode())

    def _scan(self, partition: int) -> list[tuple[str, bytes]]:
        return [(key.decode(), value) for key, value in self._held().items(partition)]

    def _held(self) -> PackedTable:
        if self._table is None:
            raise RuntimeError("no table yet: a chunk came before the consumer")
        return self._table

    def _send(self, out: StepResult) -> None:
        if out.predictions:
            self._outbox.send_many(self._topics.predictions, out.predictions)
        for topic, streams in ((self._topics.predictions, out.frames), (self._topics.inference_log, out.logs)):
            for partition, data in streams:
                self._outbox.send(topic, partition=partition, key=None, value=data, headers=[("content-type", CONTENT_TYPE)])
        for r in map(fit, out.rejected):
            self._outbox.send(
                self._topics.features_rejected, partition=r.partition, key=r.key, value=r.value, headers=rejection_headers(r)
            )

    def _count(self, out: StepResult) -> None:
        c = out.counts
        metrics.ROWS.labels(GROUP).inc(c["rows"])
        metrics.PREDICTIONS.inc(c["predictions"])
        metrics.ABSTAINED.inc(c["abstained"])
        metrics.FRAMES.inc(c["frames"])
        metrics.UNREAD.inc(c["unread_features"])
        for what in ("late", "duplicate", "replayed"):
            if c[what]:
                metrics.ROW_EVENTS.labels(what).inc(c[what])
        if c["waited"]:
            metrics.WAITED.labels("deadline").inc(c["timed_out"])
            metrics.WAITED.labels("complete").inc(c["waited"] - c["timed_out"])
        for r in out.rejected:
            metrics.REJECTED.labels(r.reason).inc()
        for trouble in out.troubles:
            metrics.MODEL_TROUBLES.labels(trouble.split(":", 1)[0]).inc()
            log.warning("model trouble, rows abstain", trouble=trouble)
        metrics.SYMBOLS.set(len(self.pipeline.windows))

    def _show_models(self) -> None:
        metrics.MODEL.clear()
        for h in self.pipeline.handles:
            metrics.MODEL.labels(h.name, h.version, "champion").set(1)
