"""One chunk's whole path, from record bytes to the records to send. Core: no clock, no I/O, no Kafka.

Worker, replay and tests call `step`; whatever it returns depends on the records, their offsets and the models
given, never on how the stream was cut into chunks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from models.score import score
from streams.inference_log import encode_log, log_batch, log_schema
from streams.layout import Layout, merge_specs
from streams.predictions import SCHEMA_VERSION, Prediction, Source, vector_hashes
from streams.records import FeatureBatch, FeatureDecoder, PartitionRecords, Record, Rejected
from streams.ring import CONFLICT, DUPLICATE, EXPIRED, LATE, REPLAYED
from streams.state import unpack
from streams.windows import LagWindows, VectorPlan, Vectors, plan_vectors

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from models.handle import ModelHandle

Load = Callable[[int, str], bytes | None]
"""(partition, symbol) → the symbol's table value, None if it has none."""


@dataclass(slots=True)
class StepResult:
    """What a chunk leads to. `predictions`: (partition, key, JSON); `logs`: (partition, Arrow IPC stream)."""

    predictions: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    logs: list[tuple[int, bytes]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    troubles: list[str] = field(default_factory=list)


class _Served:
    """A model version in service: its handle, how its vectors are built, what of its records never changes."""

    def __init__(self, handle: ModelHandle, role: str, layout: Layout) -> None:
        self.handle = handle
        self.role = role
        self.plan: VectorPlan = plan_vectors(handle.spec, layout)
        self.names = [c.name for c in handle.spec.columns]
        self.required = np.array([c.required for c in handle.spec.columns], dtype=bool)
        self.digest = handle.spec.digest()
        self.schema: pa.Schema = log_schema(model=handle.name, version=handle.version, role=role, columns=self.names)


class Pipeline:
    """The state of one worker's path: windows and the models in service (role champion)."""

    def __init__(self, handles: Sequence[ModelHandle], *, partitions: int, max_future_us: int, slack_rows: int) -> None:
        self._slack_rows = slack_rows
        self._max_future_us = max_future_us
        self._partitions = partitions
        self._encode = msgspec.json.Encoder().encode
        self._serve(handles)
        self.windows = LagWindows(self._layout, slack_rows=slack_rows)

    def swap(self, handles: Sequence[ModelHandle]) -> None:
        """Serve these versions from the next chunk on. Windows are kept; when the layout changes they are laid out anew.

        Raises `LayoutError`, and changes nothing, when these versions cannot be served together.
        """
        before = self._layout
        self._serve(handles)
        if self._layout != before:
            self.windows = self.windows.laid_out(self._layout)

    @property
    def handles(self) -> list[ModelHandle]:
        """The versions in service."""
        return [s.handle for s in self._served]

    def _serve(self, handles: Sequence[ModelHandle]) -> None:
        layout = merge_specs(h.spec for h in handles)
        served = [_Served(h, "champion", layout) for h in handles]
        self._decoder = FeatureDecoder(layout, partitions=self._partitions, max_future_us=self._max_future_us)
        self._layout, self._served = layout, served  # last, all at once: what raises above leaves the old ones in service

    def step(self, parts: Sequence[PartitionRecords], load: Load) -> StepResult:
        """Take a chunk's records through decode, windows, vectors, models and encode.

        Windows change; everything else is in the result. Nothing in `parts` can make it raise.
        """
        out = StepResult()
        batches, out.rejected = self._decoder.decode(parts)
        out.counts["rows"] = sum(len(p.records) for p in parts)
        for b in batches:
            for partition, symbol in self.windows.absent(b):
                held = load(partition, symbol)
                self.windows.admit(partition, symbol, None if held is None else unpack(held))
        for cut in cut_by_slack(batches, self._slack_rows):
            statuses = self.windows.push(cut)
            for b, status in zip(cut, statuses, strict=True):
                self._account(b, status, parts, out)
                keep = np.flatnonzero(status <= LATE)
                if len(keep):
                    fresh = b if len(keep) == len(status) else b.take(keep)
                    for served in self._served:
                        if served.plan.trigger == b.feature_set:
                            self._predict(served, fresh, out)
        out.counts["predictions"] = len(out.predictions)
        out.counts["rejected"] = len(out.rejected)
        return out

    def _account(self, b: FeatureBatch, status: NDArray[np.int8], parts: Sequence[PartitionRecords], out: StepResult) -> None:
        if not status.any():
            return
        tally = Counter(status.tolist())
        for code, name in ((LATE, "late"), (DUPLICATE, "duplicate"), (REPLAYED, "replayed")):
            out.counts[name] += tally[code]
        for row in np.flatnonzero((status == CONFLICT) | (status == EXPIRED)).tolist():
            record = _record_at(parts, int(b.seq[row]))
            partition, offset = int(b.partition[row]), int(b.offset[row])
            reason, detail = ("conflict", _CONFLICT) if status[row] == CONFLICT else ("expired", _EXPIRED)
            out.rejected.append(Rejected(b.topic, partition, offset, record.key, record.value, reason, detail))

    def _predict(self, served: _Served, rows: FeatureBatch, out: StepResult) -> None:
        handle, spec = served.handle, served.handle.spec
        vectors = self.windows.vectors(served.plan, rows)
        scores = score(handle, vectors.values)
        if scores.detail is not None:
            out.troubles.append(f"{handle.name}:{handle.version}: {scores.detail}")
        completeness = _completeness(vectors, served.required)
        reasons: list[str | None] = scores.reason
        abstained = scores.abstained | (completeness < spec.min_completeness)
        if vectors.expired is not None:
            abstained |= vectors.expired
            reasons = ["expired" if e else r for r, e in zip(reasons, vectors.expired.tolist(), strict=True)]
        n = len(rows.symbols)
        value, lower, upper = scores.value, scores.lower, scores.upper
        p_up, confidence = scores.p_up, scores.confidence
        if abstained.any():
            reasons = [
                r if r is not None else "incomplete" if a else None for r, a in zip(reasons, abstained.tolist(), strict=True)
            ]
            value, lower, upper, p_up, confidence = (
                np.where(abstained, np.nan, x) for x in (value, lower, upper, p_up, confidence)
            )
            out.counts["abstained"] += int(abstained.sum())
        head = f"{handle.name}:{handle.version}:"
        ids = [
            f"{head}{s}:{e}:{r}" for s, e, r in zip(rows.symbols, rows.ts_event_us.tolist(), rows.revision.tolist(), strict=True)
        ]
        hashes = vector_hashes(vectors.values)
        columns = {
            "prediction_id": ids,
            "symbol": rows.symbols,
            "ts_event_us": rows.ts_event_us,
            "ts_decision_us": rows.ts_known_us,
            "horizon_us": spec.horizon_us,
            "revision": rows.revision,
            "value": value,
            "lower": lower,
            "upper": upper,
            "level": spec.level,
            "p_up": p_up,
            "confidence": confidence,
            "ood": scores.ood,
            "completeness": completeness,
            "abstained": abstained,
            "reason": reasons,
            "vector_hash": hashes,
            "spec_digest": served.digest,
            "source_topic": rows.topic,
            "source_partition": rows.partition,
            "source_offset": rows.offset,
        }
        missing = _names(vectors.missing, served.names)
        stale = _names(vectors.stale, served.names)
        encode, name, version, role, horizon, level = (
            self._encode,
            handle.name,
            handle.version,
            served.role,
            spec.horizon_us,
            spec.level,
        )
        digest, topic, nothing = served.digest, rows.topic, ()
        lists = (rows.partition, rows.offset, rows.ts_event_us, rows.ts_known_us, rows.revision)
        numbers = (value, lower, upper, p_up, confidence, scores.ood, completeness, abstained)
        for i, (symbol, pid, vhash, reason, part, off, event, known, rev, v, lo, up, pu, conf, ood, compl, abst) in enumerate(
            zip(rows.symbols, ids, hashes, reasons, *(x.tolist() for x in lists), *(x.tolist() for x in numbers), strict=True)
        ):
            before = vectors.supersedes.get(i)
            record = Prediction(
                SCHEMA_VERSION, pid, symbol, name, version, role, event, known, horizon, rev, v, lo, up, level, pu, conf,
                ood, compl, missing.get(i, nothing), stale.get(i, nothing), abst, reason, vhash, digest,
                Source(topic, part, off), None if before is None else f"{head}{symbol}:{event}:{before}",
            )  # fmt: skip
            out.predictions.append((part, symbol.encode(), encode(record)))
        self._log(served, columns, vectors.values, rows.partition, out)
        out.counts["missing_values"] += int(vectors.missing.sum())
        out.counts["vectors"] += n

    def _log(
        self,
        served: _Served,
        columns: dict[str, object],
        values: NDArray[np.float64],
        partition: NDArray[np.int64],
        out: StepResult,
    ) -> None:
        batch = log_batch(served.schema, columns, values)
        edges = [0, *(np.flatnonzero(np.diff(partition)) + 1).tolist(), len(partition)]
        at_most = max(1, _LOG_BYTES // max(1, batch.nbytes // len(partition)))
        for start, stop in pairwise(edges):
            for first in range(start, stop, at_most):
                rows = batch.slice(first, min(at_most, stop - first))
                out.logs.append((int(partition[start]), encode_log(rows)))


_LOG_BYTES = 4 << 20
"""About how large a log record may be: half of what our producers send and the topic takes."""
_CONFLICT = (
    "a row with this symbol, feature set, event time and revision but another payload came before; publish a higher revision"
)
_EXPIRED = "older than all rows a window of this feature set keeps; publish it earlier, or a model with a deeper window"


def _record_at(parts: Sequence[PartitionRecords], seq: int) -> Record:
    for p in parts:
        if seq < len(p.records):
            return p.records[seq]
        seq -= len(p.records)
    raise IndexError(seq)


def _completeness(vectors: Vectors, required: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Share of the required columns present, float64 (rows,); 1 where none is required."""
    total = int(required.sum())
    if not vectors.missing.any() or total == 0:
        return np.ones(len(vectors.values))
    share: NDArray[np.float64] = 1.0 - vectors.missing[:, required].sum(axis=1) / total
    return share


def _names(mask: NDArray[np.bool_], names: Sequence[str]) -> dict[int, list[str]]:
    """By row with any, the names of its marked columns."""
    out: dict[int, list[str]] = {}
    for row, column in zip(*(x.tolist() for x in np.nonzero(mask)), strict=True):
        out.setdefault(row, []).append(names[column])
    return out


def cut_by_slack(batches: Sequence[FeatureBatch], slack_rows: int) -> Iterator[list[FeatureBatch]]:
    """Cut a chunk, in record order, so that no window receives more than `slack_rows` rows in one piece."""
    if not batches:
        return
    if all(max(Counter(b.symbols).values()) <= slack_rows for b in batches):
        yield list(batches)
        return
    order = sorted(
        (seq, at, symbol) for at, b in enumerate(batches) for seq, symbol in zip(b.seq.tolist(), b.symbols, strict=True)
    )
    held: Counter[tuple[int, str]] = Counter()
    edges = [-1]
    for seq, at, symbol in order:
        held[at, symbol] += 1
        if held[at, symbol] > slack_rows:
            edges.append(seq)
            held.clear()
            held[at, symbol] = 1
    edges.append(order[-1][0] + 1)
    for start, stop in pairwise(edges):
        piece = []
        for b in batches:
            rows = np.flatnonzero((b.seq >= start) & (b.seq < stop))
            if len(rows):
                piece.append(b.take(rows))
        yield piece
