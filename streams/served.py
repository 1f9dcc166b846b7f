"""A model version in service: rows and vectors in, prediction records and their log out. Core."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from models.score import score
from streams.inference_log import encode_log, log_batch, log_schema
from streams.plan import VectorPlan, plan_vectors
from streams.predictions import SCHEMA_VERSION, Prediction, Source, vector_hashes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from models.handle import ModelHandle
    from streams.layout import Layout
    from streams.records import FeatureBatch, Rejected
    from streams.windows import Vectors


@dataclass(slots=True)
class StepResult:
    """What a chunk leads to. `predictions`: (partition, key, JSON); `logs`: (partition, Arrow IPC stream)."""

    predictions: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    logs: list[tuple[int, bytes]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    troubles: list[str] = field(default_factory=list)


class Served:
    """A model's handle, how its vectors are built, and what of its records never changes."""

    def __init__(self, handle: ModelHandle, role: str, layout: Layout) -> None:
        self.handle = handle
        self.role = role
        self.plan: VectorPlan = plan_vectors(handle.spec, layout)
        self.names = [c.name for c in handle.spec.columns]
        self.required = np.array([c.required for c in handle.spec.columns], dtype=bool)
        self.digest = handle.spec.digest()
        self.schema: pa.Schema = log_schema(model=handle.name, version=handle.version, role=role, columns=self.names)
        self._encode = msgspec.json.Encoder().encode

    def predict(self, rows: FeatureBatch, vectors: Vectors, out: StepResult) -> None:
        """Score vectors, and add a record for each row and their log to the result.

        Of each row `ts_known_us` is the decision time and `source_offset` where the trigger row stands in the topic.
        """
        handle, spec = self.handle, self.handle.spec
        scores = score(handle, vectors.values)
        if scores.detail is not None:
            out.troubles.append(f"{handle.name}:{handle.version}: {scores.detail}")
        completeness = _completeness(vectors, self.required)
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
            "spec_digest": self.digest,
            "source_topic": rows.topic,
            "source_partition": rows.partition,
            "source_offset": rows.source_offset,
        }
        missing = _names(vectors.missing, self.names)
        stale = _names(vectors.stale, self.names)
        encode, name, version, role, horizon, level = (
            self._encode,
            handle.name,
            handle.version,
            self.role,
            spec.horizon_us,
            spec.level,
        )
        digest, topic, nothing = self.digest, rows.topic, ()
        lists = (rows.partition, rows.source_offset, rows.ts_event_us, rows.ts_known_us, rows.revision)
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
        self._log(columns, vectors.values, rows.partition, out)
        out.counts["missing_values"] += int(vectors.missing.sum())
        out.counts["vectors"] += n

    def _log(
        self,
        columns: dict[str, object],
        values: NDArray[np.float64],
        partition: NDArray[np.int64],
        out: StepResult,
    ) -> None:
        batch = log_batch(self.schema, columns, values)
        edges = [0, *(np.flatnonzero(np.diff(partition)) + 1).tolist(), len(partition)]
        at_most = max(1, _LOG_BYTES // max(1, batch.nbytes // len(partition)))
        for start, stop in pairwise(edges):
            for first in range(start, stop, at_most):
                rows = batch.slice(first, min(at_most, stop - first))
                out.logs.append((int(partition[start]), encode_log(rows)))


_LOG_BYTES = 4 << 20
"""About how large a log record may be: half of what our producers send and the topic takes."""


def _completeness(vectors: Vectors, required: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Share of the required columns present, float64 (rows,); 1 where none is required."""
    total = int(required.sum())
    if not vectors.missing.any() or total == 0:
        return np.ones(len(vectors.values))
    share: NDArray[np.float64] = 1.0 - vectors.missing[:, required].sum(axis=1) / total
    return share


def _names(mask: NDArray[np.bool_], names: Sequence[str]) -> dict[int, list[str]]:
    """By row with any, the names of its marked columns."""
    if not mask.any():
        return {}
    out: dict[int, list[str]] = {}
    for row, column in zip(*(x.tolist() for x in np.nonzero(mask)), strict=True):
        out.setdefault(row, []).append(names[column])
    return out
