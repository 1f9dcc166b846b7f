"""A model version in service: rows and vectors in, prediction records and their log out. Core."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise, repeat
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.score import score
from streams.inference_log import encode_after, log_batch, log_schema
from streams.plan import VectorPlan, plan_vectors
from streams.prediction_frames import FrameWriter
from streams.predictions import HASH_DIGITS, SCHEMA_VERSION, Prediction, Source, hash_digits
from streams.wire import INDEX_BITS, MAX_FRAME_ROWS

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from numpy.typing import NDArray

    from models.handle import ModelHandle
    from models.score import Scores
    from streams.layout import Layout
    from streams.records import FeatureBatch, Rejected
    from streams.switches import Order, Role
    from streams.windows import Vectors


@dataclass(slots=True)
class StepResult:
    """What a chunk leads to.

    `predictions`: (partition, key, JSON); `frames`: (partition, Arrow IPC stream) of the models that publish so; `shadow`,
    `shadow_frames`: the challengers'; `logs`: (partition, Arrow IPC stream); `switched`: (partition, order put in force, event
    time from which it is); `pending`: what challengers are still to score.
    """

    predictions: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    frames: list[tuple[int, bytes]] = field(default_factory=list)
    shadow: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    shadow_frames: list[tuple[int, bytes]] = field(default_factory=list)
    logs: list[tuple[int, bytes]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    troubles: list[str] = field(default_factory=list)
    switched: list[tuple[int, Order, int]] = field(default_factory=list)
    pending: list[tuple[Served, Inputs]] = field(default_factory=list)

    def challenge(self, into: StepResult) -> None:
        """Have the challengers score what is pending, in the order it came, into this result or another."""
        pending, self.pending = self.pending, []
        for served, inputs in pending:
            served.answer(inputs, into)


class Inputs:
    """Trigger rows and their vectors, with what follows from both alone: worked out once for all models of the same columns.

    Of each row `ts_known_us` is the decision time and `offset` where the trigger row stands in the topic. `decided`: of rows
    that waited the positions of those that ended their waits, int64 (rows,).
    """

    def __init__(self, rows: FeatureBatch, vectors: Vectors, decided: NDArray[np.int64] | None = None) -> None:
        self.rows = rows
        self.vectors = vectors
        self.decided = decided

    def take(self, rows: NDArray[np.intp]) -> Inputs:
        """Those of just these rows, in the order given."""
        return Inputs(self.rows.take(rows), self.vectors.take(rows), None if self.decided is None else self.decided[rows])

    @cached_property
    def symbols(self) -> pa.Array:
        """Symbol of each row."""
        return pa.array(self.rows.symbols, pa.string())

    @cached_property
    def hashes(self) -> pa.Array:
        """Hash of each vector."""
        n = len(self.vectors.values)
        ends = np.arange(n + 1, dtype=np.int32) * np.int32(HASH_DIGITS)
        return pa.StringArray.from_buffers(n, pa.py_buffer(ends), pa.py_buffer(hash_digits(self.vectors.values).encode()))

    @cached_property
    def identity(self) -> pa.Array:
        """Of each row ``symbol:ts_event_us:revision``, with which its prediction's id ends."""
        events = pc.cast(pa.array(self.rows.ts_event_us), pa.string())
        revisions = pc.cast(pa.array(self.rows.revision), pa.string()) if self.rows.revision.any() else "0"
        return pc.binary_join_element_wise(self.symbols, events, revisions, ":")

    @cached_property
    def spans(self) -> list[tuple[int, int, int]]:
        """(partition, first row, row after the last) of each stretch of rows of one partition."""
        partition = self.rows.partition
        edges = [0, *(np.flatnonzero(np.diff(partition)) + 1).tolist(), len(partition)]
        return [(int(partition[start]), start, stop) for start, stop in pairwise(edges)]

    @cached_property
    def missing_values(self) -> int:
        """How many values are missing."""
        return int(np.count_nonzero(self.vectors.missing))


class Served:
    """A model's handle, how its vectors are built, and what of its records never changes.

    `framed`: its predictions leave as frames, not row by row.
    """

    def __init__(self, handle: ModelHandle, role: Role, layout: Layout, *, framed: bool = False) -> None:
        self.handle = handle
        self.role: Role = role
        self.waits_as = waits_as(handle.name, role)
        self.plan: VectorPlan = plan_vectors(handle.spec, layout)
        self.names = [c.name for c in handle.spec.columns]
        self.required = np.array([c.required for c in handle.spec.columns], dtype=bool)
        self.digest = handle.spec.digest()
        same = {"model": handle.name, "version": handle.version, "role": role}
        self.schema: pa.Schema = log_schema(**same, columns=self.names)
        self._log_start: bytes = self.schema.serialize().to_pybytes()
        self._frames = FrameWriter(**same, spec_digest=self.digest, columns=self.names) if framed else None
        self._encode = msgspec.json.Encoder().encode

    @cached_property
    def reads(self) -> Hashable:
        """Models for which this is equal have the same vectors for the same rows."""
        spec = self.handle.spec
        return spec.trigger, spec.columns, tuple(sorted(spec.feature_sets.items()))

    def predict(self, inputs: Inputs, out: StepResult) -> None:
        """Score vectors into the result; a challenger's are pending there, because champions come first."""
        if self.role == "challenger":
            out.pending.append((self, inputs))
        else:
            self.answer(inputs, out)

    def answer(self, inputs: Inputs, out: StepResult) -> None:
        """Score vectors, and add a record for each row, or frames of them, and their log to the result."""
        handle, spec = self.handle, self.handle.spec
        rows, vectors = inputs.rows, inputs.vectors
        scores = score(handle, vectors.values)
        if scores.detail is not None:
            out.troubles.append(f"{handle.name}:{handle.version}: {scores.detail}")
        completeness = _completeness(vectors, self.required)
        abstained = scores.abstained | (completeness < spec.min_completeness)
        if vectors.expired is not None:
            abstained |= vectors.expired
        n = len(rows.symbols)
        reasons: list[str | None] = [None] * n
        answer = {name: getattr(scores, name) for name in ("value", "lower", "upper", "p_up", "confidence")}
        if abstained.any():
            reasons = _reasons(scores, vectors, abstained)
            answer = {name: np.where(abstained, np.nan, x) for name, x in answer.items()}
            out.counts["abstained"] += int(abstained.sum())
        # Each array is made once, for the log and for the records.
        log = log_batch(
            self.schema,
            {
                "prediction_id": pc.binary_join_element_wise(f"{handle.name}:{handle.version}", inputs.identity, ":"),
                "symbol": inputs.symbols,
                "ts_event_us": rows.ts_event_us,
                "ts_decision_us": rows.ts_known_us,
                "horizon_us": spec.horizon_us,
                "revision": rows.revision,
                **answer,
                "level": spec.level,
                "ood": scores.ood,
                "completeness": completeness,
                "abstained": abstained,
                "reason": reasons,
                "vector_hash": inputs.hashes,
                "spec_digest": self.digest,
                "source_topic": rows.topic,
                "source_partition": rows.partition,
                "source_offset": rows.source_offset,
                "source_index": rows.offset & _INDEX,
                "decided_offset": None if inputs.decided is None else inputs.decided >> INDEX_BITS,
                "decided_index": None if inputs.decided is None else inputs.decided & _INDEX,
            },
            vectors.values,
        )
        if self._frames is None:
            self._add_rows(log, rows, vectors, out)
        else:
            batch = self._frames.batch(
                log, topic=rows.topic, missing=vectors.missing, stale=vectors.stale, supersedes=self._superseded(rows, vectors)
            )
            for partition, start, stop in inputs.spans:
                frames = [(partition, frame) for frame in self._frames.frames(batch.slice(start, stop - start))]
                (out.shadow_frames if self.role == "challenger" else out.frames).extend(frames)
        self._add_logs(log, inputs.spans, out)
        out.counts["missing_values"] += inputs.missing_values
        out.counts["vectors"] += n
        out.counts["predictions"] += n

    def _add_rows(self, log: pa.RecordBatch, rows: FeatureBatch, vectors: Vectors, out: StepResult) -> None:
        """A JSON record of each row."""
        to = out.shadow if self.role == "challenger" else out.predictions
        encode, add, spec = self._encode, to.append, self.handle.spec
        name, version, role, horizon, level = self.handle.name, self.handle.version, self.role, spec.horizon_us, spec.level
        digest, topic = self.digest, rows.topic
        n = len(rows.symbols)
        before = self._superseded(rows, vectors)
        columns = (
            *(log.column(c).to_pylist() for c in ("prediction_id", "vector_hash", "reason")),
            _names(vectors.missing, self.names),
            _names(vectors.stale, self.names),
            map(before.get, range(n)) if before else repeat(None, n),
            *(x.tolist() for x in (rows.partition, rows.source_offset, rows.ts_event_us, rows.ts_known_us, rows.revision)),
            *(log.column(c).to_numpy(zero_copy_only=False).tolist() for c in _NUMBERS),
        )
        for (
            symbol, pid, vhash, reason, missing, stale, supersedes, part, off, event, known, rev,
            value, lower, upper, p_up, conf, ood, compl, abstained,
        ) in zip(rows.symbols, *columns, strict=True):  # fmt: skip
            record = Prediction(
                SCHEMA_VERSION, pid, symbol, name, version, role, event, known, horizon, rev, value, lower, upper, level, p_up,
                conf, ood, compl, missing, stale, abstained, reason, vhash, digest, Source(topic, part, off), supersedes,
            )  # fmt: skip
            add((part, symbol.encode(), encode(record)))

    def _add_logs(self, log: pa.RecordBatch, spans: Iterable[tuple[int, int, int]], out: StepResult) -> None:
        at_most = max(1, _LOG_BYTES // max(1, log.nbytes // log.num_rows))
        for partition, start, stop in spans:
            for first in range(start, stop, at_most):
                rows = log.slice(first, min(at_most, stop - first))
                out.logs.append((partition, encode_after(self._log_start, rows)))

    def _superseded(self, rows: FeatureBatch, vectors: Vectors) -> dict[int, str]:
        """By row, the id of the prediction that it replaces."""
        head = f"{self.handle.name}:{self.handle.version}"
        return {i: f"{head}:{rows.symbols[i]}:{rows.ts_event_us[i]}:{before}" for i, before in vectors.supersedes.items()}


def waits_as(model: str, role: Role) -> str:
    """What a waiting row is kept under: champion and canary are one, for a row has one of the two."""
    return f"{model}\x1fchallenger" if role == "challenger" else model


_INDEX = MAX_FRAME_ROWS - 1
"""The bits of a position that are the row's index in its frame."""

_LOG_BYTES = 4 << 20
"""About how large a log record may be: half of what our producers send and the topic takes."""

_NUMBERS = ("value", "lower", "upper", "p_up", "confidence", "ood", "completeness", "abstained")


def _completeness(vectors: Vectors, required: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Share of the required columns present, float64 (rows,); 1 where none is required."""
    total = int(required.sum())
    if not vectors.missing.any() or total == 0:
        return np.ones(len(vectors.values))
    share: NDArray[np.float64] = 1.0 - vectors.missing[:, required].sum(axis=1) / total
    return share


def _reasons(scores: Scores, vectors: Vectors, abstained: NDArray[np.bool_]) -> list[str | None]:
    """Why each row abstains: it came too late, else what the model did, else it is incomplete; None where it does not."""
    expired = np.zeros(len(abstained), dtype=bool) if vectors.expired is None else vectors.expired
    return [
        "expired" if e else r if r is not None else "incomplete" if a else None
        for r, a, e in zip(scores.reason, abstained.tolist(), expired.tolist(), strict=True)
    ]


def _names(mask: NDArray[np.bool_], names: Sequence[str]) -> Iterable[Sequence[str]]:
    """Of each row the names of its marked columns."""
    if not mask.any():
        return repeat((), len(mask))
    out: list[list[str]] = [[] for _ in range(len(mask))]
    for row, column in zip(*(x.tolist() for x in np.nonzero(mask)), strict=True):
        out[row].append(names[column])
    return out
