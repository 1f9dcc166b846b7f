"""What the served specs together ask of the feature topic: which sets, which features, how deep. Core.

Several models may read one feature set: windows keep the union of their features and the greatest of their
depths, and every lookup is still bounded by the model's own depth, so that a model's vectors never depend on
which other models a worker happens to serve.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from streams.errors import LayoutError
from streams.wire import CLOCK

if TYPE_CHECKING:
    from models.spec import ServingSpec


@dataclass(frozen=True, slots=True)
class SetLayout:
    """How one feature set is kept: feature order, publication lag and rows per window."""

    feature_set: str
    features: tuple[str, ...]
    publication_lag_us: int
    depth_rows: int


Layout = Mapping[str, SetLayout]

CLOCK_LAYOUT = SetLayout(CLOCK, (), publication_lag_us=0, depth_rows=1)
"""Clock rows are read in every layout; no window keeps them."""

MAX_DEPTH_ROWS = 65_535
MAX_STATE_BYTES = 6 * 1024 * 1024
"""A symbol's windows are one table value, so one changelog record: they must fit both (`state`, `clients.MAX_RECORD_BYTES`)."""
MAX_NAMES_BYTES = 400_000
"""A prediction names its missing columns, and the stale ones again; Kafka takes records of 1 MB unless told otherwise."""


def merge_specs(specs: Iterable[ServingSpec]) -> dict[str, SetLayout]:
    """The layout that serves all these specs; features in first-come order.

    Raises `LayoutError` when two models disagree on a set's publication lag (a row has one known time), when the
    windows would be larger than a table value may be, for column names that are too long together for a prediction that names
    them all, and for a feature name that JSON or the table would have to escape.
    """
    merged: dict[str, SetLayout] = {}
    for spec in specs:
        _refuse_names_too_long(spec)
        for name, wanted in sorted(spec.feature_sets.items()):
            have = merged.get(name)
            if have is None:
                merged[name] = SetLayout(name, wanted.features, wanted.publication_lag_us, wanted.depth_rows)
                continue
            if have.publication_lag_us != wanted.publication_lag_us:
                raise LayoutError(
                    f"model {spec.model!r} wants a publication lag of {wanted.publication_lag_us} us for feature set {name!r}, "
                    f"another served model {have.publication_lag_us} us; publish them with the same lag"
                )
            more = tuple(f for f in wanted.features if f not in have.features)
            merged[name] = SetLayout(name, have.features + more, have.publication_lag_us, max(have.depth_rows, wanted.depth_rows))
    _refuse_what_cannot_be_kept(merged)
    return merged


def _refuse_names_too_long(spec: ServingSpec) -> None:
    size = len(msgspec.json.encode([c.name for c in spec.columns]))
    if size > MAX_NAMES_BYTES:
        raise LayoutError(
            f"the names of the {len(spec.columns)} columns of model {spec.model!r} take {size} bytes, {MAX_NAMES_BYTES} are "
            "possible, for a prediction names those that are missing; publish it with shorter names or fewer columns"
        )


def _refuse_what_cannot_be_kept(merged: Layout) -> None:
    size = 0
    for s in merged.values():
        if s.depth_rows > MAX_DEPTH_ROWS:
            raise LayoutError(
                f"feature set {s.feature_set!r} asks for windows of {s.depth_rows} rows, {MAX_DEPTH_ROWS} are possible; "
                "publish longer lags as features of a slower set"
            )
        for f in s.features:
            if not f.isprintable() or '"' in f or "\\" in f:
                raise LayoutError(
                    f"feature {f!r} of feature set {s.feature_set!r}: a name has no quotes, backslashes or control characters"
                )
        size += s.depth_rows * 8 * (3 + len(s.features)) + sum(len(f.encode()) + 1 for f in s.features)
    if size > MAX_STATE_BYTES:
        raise LayoutError(
            f"the served models ask for windows of {size} bytes a symbol, {MAX_STATE_BYTES} are possible; "
            "publish them with fewer features or shorter lags"
        )
