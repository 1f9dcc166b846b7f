"""Vectors to prediction records, as every contender but ours makes them: what defines the output, and no more.

Scores, vector hashes and the record's shape are our worker's own (`models.score`, `streams.predictions`), for all must do
the same job. Needs numpy and msgspec only, so that the peers can have it in their environment.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from models.score import score
from streams.predictions import SCHEMA_VERSION, Prediction, Source, vector_hashes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from models.handle import ModelHandle
    from models.score import Scores


class Answered(NamedTuple):
    """`records` in the order of the rows, and what a log would want beside them, by row."""

    records: list[bytes]
    ids: list[str]
    hashes: list[str]
    reasons: list[str | None]
    scores: Scores
    completeness: NDArray[np.float64]


def row_decoder(handle: ModelHandle) -> Callable[[bytes], Any]:
    """From a JSON row to (symbol, ts_event_us, values), a struct each, a missing value as NaN."""
    spec = handle.spec
    fields = [(f, float | None, math.nan) for f in spec.feature_sets[spec.trigger].features]
    values = msgspec.defstruct("Values", fields, gc=False)
    row = msgspec.defstruct("Row", [("symbol", str), ("ts_event_us", int), ("values", values)], gc=False)
    return msgspec.json.Decoder(row).decode


def lags_of(handle: ModelHandle) -> list[int]:
    """The job's lags in bars; the vector has all features at the first, then all at the second, and so on."""
    return list(dict.fromkeys(0 if c.lag == 0 else c.lag.bars or 0 for c in handle.spec.columns))


class Answers:
    """Scores and encodes for one model."""

    def __init__(self, handle: ModelHandle, *, features_topic: str) -> None:
        self._handle = handle
        self._topic = features_topic
        self._digest = handle.spec.digest()
        self._names = [c.name for c in handle.spec.columns]
        self._encode = msgspec.json.Encoder().encode

    def __call__(
        self,
        symbols: Sequence[str],
        events: Sequence[int],
        partitions: Sequence[int],
        offsets: Sequence[int],
        vectors: NDArray[np.float64],
    ) -> Answered:
        """One record a row; `vectors` float64 (rows, columns), NaN = missing."""
        scores = score(self._handle, vectors)
        hashes = vector_hashes(vectors)
        head = f"{self._handle.name}:{self._handle.version}:"
        ids = [f"{head}{s}:{e}:0" for s, e in zip(symbols, events, strict=True)]
        absent = np.isnan(vectors)
        completeness = 1.0 - absent.sum(axis=1) / absent.shape[1]
        missing: dict[int, list[str]] = {}
        if absent.any():
            for i in np.flatnonzero(absent.any(axis=1)).tolist():
                missing[i] = [self._names[j] for j in np.flatnonzero(absent[i]).tolist()]
        reasons = scores.reason
        spec, digest, encode, nothing, topic = self._handle.spec, self._digest, self._encode, (), self._topic
        model, version, horizon, level = self._handle.name, self._handle.version, spec.horizon_us, spec.level
        lists = (symbols, ids, hashes, reasons, partitions, offsets, events)
        numbers = (scores.value, scores.lower, scores.upper, scores.p_up, scores.confidence, scores.ood, completeness)
        records = [
            encode(
                Prediction(
                    SCHEMA_VERSION, pid, symbol, model, version, "champion", event, event, horizon, 0, v, lo, up, level, pu,
                    conf, ood, compl, missing.get(i, nothing), nothing, why is not None, why, vhash, digest,
                    Source(topic, part, offset), None,
                )
            )
            for i, (symbol, pid, vhash, why, part, offset, event, v, lo, up, pu, conf, ood, compl) in enumerate(
                zip(*lists, *(x.tolist() for x in numbers), strict=True)
            )
        ]  # fmt: skip
        return Answered(records, ids, hashes, reasons, scores, completeness)
