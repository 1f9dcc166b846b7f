"""Recomputes vectors by brute force and holds them against the hashes in the prediction records. Core."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streams.demo.vectors import vectors_from_rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from models.spec import ServingSpec
    from streams.demo.ledger import PredictionHead


@dataclass(frozen=True, slots=True)
class Verified:
    """How many predictions were checked, how many had bit for bit the vector found by brute force, and one that had not."""

    checked: int
    equal: int
    differing: str | None


def verify_vectors(rows: pd.DataFrame, predictions: Iterable[PredictionHead], spec: ServingSpec) -> Verified:
    """Check the predictions of every trigger row in `rows` (in log order; all rows of each symbol in it)."""
    names = [c.name for c in spec.columns]
    table = vectors_from_rows(rows, spec)
    hashes = (_hash(v) for v in table[names].to_numpy(np.float64))
    expected = dict(zip(zip(table["symbol"], table["ts_event_us"].tolist(), strict=True), hashes, strict=True))
    checked = [p for p in predictions if (p.symbol, p.ts_event_us) in expected]
    differing = [p.prediction_id for p in checked if expected[p.symbol, p.ts_event_us] != p.vector_hash]
    return Verified(len(checked), len(checked) - len(differing), differing[0] if differing else None)


def _hash(vector: np.ndarray[tuple[int], np.dtype[np.float64]]) -> str:
    """BLAKE2b (64 bits, hex) of the float64 bytes, little-endian, every missing value as one quiet NaN."""
    canonical = np.where(np.isnan(vector), np.nan, vector).astype("<f8")
    return hashlib.blake2b(canonical.tobytes(), digest_size=8).hexdigest()
