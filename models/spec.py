"""What a model version needs to be served: its columns and their lags, its calibration, its reference.

Core: no clock, no I/O. A spec is an artifact of the model version (`serving_spec.json`), written by
`models.publish`, read by the workers. Its digest stands in every prediction record.

    column's value = newest row of its feature set with ts_event <= e - lag that was known at decision time

| lag              | instant looked at (e = the trigger row's ts_event) | value too old when                      |
|------------------|-----------------------------------------------------|-----------------------------------------|
| ``0``            | e                                                   | age > max_age_us (default: never)       |
| ``{"bars": n}``  | the bar end n bars before e (`models.bars`)         | age > max_age_us (default: its bar)     |
| ``{"us": d}``    | e - d                                               | age > max_age_us (default: never)       |

where age = instant - ts_event of the row found; both bounds are inclusive (a row exactly at the instant
has age 0, a row of age exactly max_age_us still counts).
"""

from __future__ import annotations

import hashlib
from itertools import pairwise
from math import inf
from typing import Literal

import msgspec

from models.bars import Sessions
from models.errors import SpecError
from models.trained import (
    AdditiveLoss,
    ColumnReference,
    LossEstimate,
    Reconstruction,
    cells_of,
    column_contradictions,
    loss_contradictions,
    reconstruction_contradictions,
    sparse,
)

__all__ = [
    "LAYOUT",
    "MAX_US",
    "AdditiveLoss",
    "ColumnReference",
    "ColumnSpec",
    "FeatureSetSpec",
    "Lag",
    "LossEstimate",
    "Reconstruction",
    "Runtime",
    "ServingSpec",
    "decode_spec",
    "depth_rows",
    "encode_spec",
]

LAYOUT = 1
"""Number of the serving-spec layout written by this version."""


Runtime = Literal["native", "onnx", "lleaves"]
"""What computes the answers: the model's own library, or another that gives the same bits (`models.runtimes`)."""

MAX_US = 1 << 53
"""Times and durations lie below this many microseconds (285 years): exact in every JSON reader, and no sum of two overflows."""


class Lag(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How far back a column looks: exactly one of `bars` (steps of the feature set's bar grid) or `us`."""

    bars: int | None = None
    us: int | None = None

    def __post_init__(self) -> None:
        given = [n for n in (self.bars, self.us) if n is not None]
        if len(given) != 1 or given[0] < 0:
            raise ValueError('a lag is 0, {"bars": n} or {"us": d}, with n and d >= 0')


class ColumnSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One column of the model's vector.

    >>> ColumnSpec(name="ret_1.lag5", feature_set="bars_1d", feature="ret_1", lag=Lag(bars=5)).name
    'ret_1.lag5'
    """

    name: str
    feature_set: str
    feature: str
    lag: Literal[0] | Lag = 0
    max_age_us: int | None = None
    required: bool = True


class FeatureSetSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One feature set as this model was trained on it.

    `features` in the order windows keep them; `bar_us` the step of its bar grid, which runs without pause or, with
    `sessions` ((open_us, close_us), ascending), inside trading sessions only; `publication_lag_us` what is added to
    `ts_event_us` when a row does not say when it was known; `depth_rows` how many rows (newest by event time,
    revisions counted) a lookup may reach back. Sessions stand in the spec, not in a calendar that a later release
    may correct, so that a replay finds the same bars.
    """

    features: tuple[str, ...]
    bar_us: int
    publication_lag_us: int = 0
    depth_rows: int
    sessions: Sessions = ()


class ServingSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All a worker must know to serve one model version. Built by `models.publish`, checked by `check`.

    `deadline_us`: how long a trigger row may wait, in stream time, for a required column of another feature set; 0 does
    not wait. `min_completeness`: share of the required columns below which the record is an abstention. `runtime`: what
    computes the answers; a spec that does not say means, and is written for, "native".

    For the monitor alone: `reference` and `prediction_reference`, the training distributions; `rows_per_instant`, training
    rows for each distinct event time; `reconstruction`, how the columns hang together; `loss_estimate`, what errors to expect
    in which part of the data.
    """

    layout: int = LAYOUT
    model: str
    trigger: str
    horizon_us: int
    columns: tuple[ColumnSpec, ...]
    feature_sets: dict[str, FeatureSetSpec]
    level: float = 0.9
    min_completeness: float = 0.0
    deadline_us: int = 0
    residuals: tuple[float, ...] = ()
    reference: dict[str, ColumnReference] = {}
    prediction_reference: ColumnReference | None = None
    runtime: Runtime = "native"
    rows_per_instant: float = 1.0
    reconstruction: Reconstruction | None = None
    loss_estimate: LossEstimate | None = None

    def check(self) -> ServingSpec:
        """Return self, or raise `SpecError` naming the first contradiction and what would be right."""
        for wrong in _contradictions(self):
            raise SpecError(f"serving spec of {self.model!r}: {wrong}")
        return self

    def digest(self) -> str:
        """SHA-256 of the canonical JSON, as 16 hex digits: the same spec has the same digest everywhere."""
        return hashlib.sha256(encode_spec(self)).hexdigest()[:16]


def _contradictions(spec: ServingSpec) -> list[str]:
    wrong: list[str] = []
    if spec.layout != LAYOUT:
        wrong.append(f"layout {spec.layout} is not {LAYOUT}; serve it with the release that wrote it, or publish it again")
    if not spec.columns:
        wrong.append("it has no columns; name at least one")
    if spec.trigger not in spec.feature_sets:
        wrong.append(f"trigger {spec.trigger!r} is not one of its feature sets {sorted(spec.feature_sets)}")
    names = [c.name for c in spec.columns]
    if len(set(names)) != len(names):
        wrong.append("two columns share a name; make them unique")
    if not 0.0 < spec.level < 1.0:
        wrong.append(f"level {spec.level} is not between 0 and 1")
    if not 0.0 <= spec.min_completeness <= 1.0:
        wrong.append(f"min_completeness {spec.min_completeness} is not between 0 and 1")
    if not 0 <= spec.deadline_us < MAX_US:
        wrong.append(f"deadline_us {spec.deadline_us} is not in [0, {MAX_US})")
    if not 0 < spec.horizon_us < MAX_US:
        wrong.append(f"horizon_us {spec.horizon_us} is not in (0, {MAX_US})")
    for name, fs in spec.feature_sets.items():
        wrong += _set_contradictions(name, fs)
    for c in spec.columns:
        owner = spec.feature_sets.get(c.feature_set)
        if owner is None:
            wrong.append(f"column {c.name!r} is of feature set {c.feature_set!r}, which the spec does not describe")
        elif c.feature not in owner.features:
            wrong.append(f"column {c.name!r} reads {c.feature!r}, which feature set {c.feature_set!r} does not have")
        if c.max_age_us is not None and c.max_age_us < 0:
            wrong.append(f"column {c.name!r}: max_age_us {c.max_age_us} is negative")
    return wrong + _trained_contradictions(spec)


def _trained_contradictions(spec: ServingSpec) -> list[str]:
    wrong: list[str] = []
    if not 1.0 <= spec.rows_per_instant < inf:
        wrong.append(f"rows_per_instant {spec.rows_per_instant} is not at least 1")
    for name, r in spec.reference.items():
        wrong += column_contradictions(f"reference of column {name!r}", r)
    if spec.prediction_reference is not None:
        wrong += column_contradictions("prediction_reference", spec.prediction_reference)
    if spec.reconstruction is not None:
        wrong += reconstruction_contradictions(spec.reconstruction, len(spec.columns))
    if spec.loss_estimate is not None:
        cells = {name: len(r.counts) for name, r in cells_of(spec.reference, spec.prediction_reference).items()}
        wrong += loss_contradictions("absolute", spec.loss_estimate.absolute, cells)
        wrong += loss_contradictions("squared", spec.loss_estimate.squared, cells)
    return wrong


def _set_contradictions(name: str, fs: FeatureSetSpec) -> list[str]:
    wrong: list[str] = []
    if name.startswith("__"):
        wrong.append(f"feature set {name!r}: names that begin with two underscores are reserved; choose another")
    if not (0 < fs.bar_us < MAX_US and fs.depth_rows > 0 and 0 <= fs.publication_lag_us < MAX_US):
        wrong.append(
            f"feature set {name!r}: bar_us and depth_rows must be positive, publication_lag_us not negative, all below {MAX_US}"
        )
    if any(o >= c for o, c in fs.sessions) or any(a[1] > b[0] for a, b in pairwise(fs.sessions)):
        wrong.append(f"feature set {name!r}: sessions must be (open, close) with open < close, ascending, not overlapping")
    if len(set(fs.features)) != len(fs.features) or not fs.features:
        wrong.append(f"feature set {name!r}: features must be named, each once")
    return wrong


def depth_rows(columns: tuple[ColumnSpec, ...], feature_set: str, bar_us: int) -> int:
    """Rows a window must reach back for these columns: (longest lag + its max age) in bars, and one more.

    A quarter on top (at least 4) leaves room for revisions, which take rows too.

    >>> depth_rows((ColumnSpec(name="a", feature_set="s", feature="x", lag=Lag(bars=15)),), "s", 60)
    20
    """
    reach = 0
    for c in columns:
        if c.feature_set == feature_set:
            lag_us = 0 if c.lag == 0 else c.lag.us if c.lag.us is not None else (c.lag.bars or 0) * bar_us
            reach = max(reach, lag_us + (c.max_age_us or 0))
    rows = -(-reach // bar_us) + 1
    return rows + max(4, rows // 4)


_LATER = (("runtime", "native"), ("rows_per_instant", 1.0), ("reconstruction", None), ("loss_estimate", None))


def encode_spec(spec: ServingSpec) -> bytes:
    """The canonical JSON of a spec: fields in declaration order, maps sorted by key.

    Fields that came later are left out at their defaults, so a spec written before there were runtimes, levels or
    reconstructions has the text, and the digest, that it was published with.
    """
    fields = msgspec.to_builtins(spec, order="deterministic")
    for name, default in _LATER:
        if fields[name] == default:
            del fields[name]
    fields["reference"] = {name: sparse(r) for name, r in fields["reference"].items()}
    if fields["prediction_reference"] is not None:
        fields["prediction_reference"] = sparse(fields["prediction_reference"])
    if "reconstruction" in fields:
        fields["reconstruction"]["error"] = sparse(fields["reconstruction"]["error"])
    return msgspec.json.encode(fields)


def decode_spec(data: bytes) -> ServingSpec:
    """Read a spec, refusing unknown fields.

    >>> decode_spec(b'{"model": "m"}')
    Traceback (most recent call last):
    ...
    models.errors.SpecError: serving spec cannot be read: Object missing required field `trigger`
    """
    try:
        spec = msgspec.json.decode(data, type=ServingSpec)
    except msgspec.MsgspecError as e:
        raise SpecError(f"serving spec cannot be read: {e}") from e
    return spec.check()
