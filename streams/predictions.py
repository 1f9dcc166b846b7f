"""The prediction record: a model's answer for one trigger row, as JSON of a fixed shape. Core; golden-tested."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEMA_VERSION = 1
HASH_DIGITS = 16


class Source(msgspec.Struct, frozen=True, gc=False):
    """Where the trigger row stands in the features topic."""

    topic: str
    partition: int
    offset: int


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """One prediction or abstention. Numbers that do not exist (an abstention's value) are null.

    `prediction_id` = ``model:version:symbol:ts_event_us:revision`` is deterministic: a repeated id has an
    identical body. Published time is the record's Kafka timestamp, never in the body.
    """

    schema_version: int
    prediction_id: str
    symbol: str
    model: str
    version: str
    role: str
    ts_event_us: int
    ts_decision_us: int
    horizon_us: int
    revision: int
    value: float
    lower: float
    upper: float
    level: float
    p_up: float
    confidence: float
    ood: float
    completeness: float
    missing: Sequence[str]
    stale: Sequence[str]
    abstained: bool
    reason: str | None
    vector_hash: str
    spec_digest: str
    source: Source
    supersedes: str | None


def vector_hashes(values: NDArray[np.float64]) -> list[str]:
    """BLAKE2b (64 bits, hex) of each row's float64 bytes, little-endian, missing as the one quiet NaN."""
    digits = hash_digits(values)
    return [digits[at : at + HASH_DIGITS] for at in range(0, len(digits), HASH_DIGITS)]


def hash_digits(values: NDArray[np.float64]) -> str:
    """The same as one text, `HASH_DIGITS` hex digits a row."""
    rows = np.ascontiguousarray(values, dtype="<f8")
    begun = hashlib.blake2b(digest_size=HASH_DIGITS // 2).copy  # a copy costs less than another beginning
    digests = []
    for row in rows.view(f"V{8 * rows.shape[1]}")[:, 0].tolist():
        one = begun()
        one.update(row)
        digests.append(one.digest())
    return b"".join(digests).hex()
