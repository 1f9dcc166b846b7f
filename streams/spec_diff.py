"""Two serving specs side by side, and how far the training distributions of two versions lie apart. Pure.

A version's reference is counts in its own cells. To compare two, the second's distribution is read off at the edges of the
first: exactly where it has an edge there too, along a straight line between its own edges elsewhere. So equal references have
PSI 0, and for different bins it is an estimate, good enough to see what moved. Levels are compared value by value; how bins
lie in levels cannot be told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from monitoring.distances import psi
from monitoring.reference import Reference

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.spec import ColumnReference, ColumnSpec, FeatureSetSpec, LossEstimate, Reconstruction, ServingSpec

_FACTS = ("trigger", "horizon_us", "level", "min_completeness", "deadline_us", "runtime")


def spec_facts(spec: ServingSpec) -> dict[str, Any]:
    """What a spec says, as plain values: no bins and no residuals, only how many."""
    return {
        **{name: getattr(spec, name) for name in _FACTS},
        "spec_digest": spec.digest(),
        "columns": [msgspec.to_builtins(c) for c in spec.columns],
        "feature_sets": {name: set_facts(one) for name, one in sorted(spec.feature_sets.items())},
        "residuals": len(spec.residuals),
        "reference_columns": sorted(spec.reference),
        "level_columns": level_columns(spec),
        "prediction_reference": spec.prediction_reference is not None,
        "rows_per_instant": spec.rows_per_instant,
        "reconstruction": None if spec.reconstruction is None else reconstruction_facts(spec.reconstruction),
        "loss_estimate": None if spec.loss_estimate is None else loss_facts(spec.loss_estimate),
    }


def level_columns(spec: ServingSpec) -> list[str]:
    """The columns judged in levels rather than bins: booleans and categories."""
    return sorted(name for name, r in spec.reference.items() if r.levels)


def reconstruction_facts(r: Reconstruction) -> dict[str, Any]:
    """How many components there are, and the share of the variance that lies in them."""
    return {"components": len(r.components), "explained": r.explained}


def loss_facts(estimate: LossEstimate) -> dict[str, Any]:
    """Of each kind of loss its mean on the calibration rows, and how much of its variance is foreseen."""
    kinds = {"absolute": estimate.absolute, "squared": estimate.squared}
    return {kind: {"mean": loss.intercept, "explained": loss.explained} for kind, loss in kinds.items()}


def set_facts(one: FeatureSetSpec) -> dict[str, Any]:
    """A feature set as plain values; of its sessions the number."""
    return {**msgspec.to_builtins(one), "sessions": len(one.sessions)}


def diff_specs(a: ServingSpec, b: ServingSpec) -> dict[str, Any]:
    """What `b` has otherwise than `a`; empty where they agree."""
    left, right = {c.name: c for c in a.columns}, {c.name: c for c in b.columns}
    facts = {n: [getattr(a, n), getattr(b, n)] for n in _FACTS if getattr(a, n) != getattr(b, n)}
    if len(a.residuals) != len(b.residuals):
        facts["residuals"] = [len(a.residuals), len(b.residuals)]
    if level_columns(a) != level_columns(b):
        facts["levels"] = [level_columns(a), level_columns(b)]
    components = [0 if s.reconstruction is None else len(s.reconstruction.components) for s in (a, b)]
    if components[0] != components[1]:
        facts["components"] = components
    both = [name for name in left if name in right]
    return {
        "facts": facts,
        "columns_added": [name for name in right if name not in left],
        "columns_removed": [name for name in left if name not in right],
        "columns_changed": {name: changed for name in both if (changed := _changed(left[name], right[name]))},
        "columns_reordered": both != [name for name in right if name in left],
        "feature_sets": _diff_sets(a, b),
    }


def _changed(a: ColumnSpec, b: ColumnSpec) -> dict[str, list[Any]]:
    one, other = msgspec.to_builtins(a), msgspec.to_builtins(b)
    return {key: [one[key], other[key]] for key in one if one[key] != other[key]}


def _diff_sets(a: ServingSpec, b: ServingSpec) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for name in sorted({*a.feature_sets, *b.feature_sets}):
        one, other = a.feature_sets.get(name), b.feature_sets.get(name)
        if one is None or other is None:
            changed[name] = "added" if one is None else "removed"
        elif one != other:
            left, right = set_facts(one), set_facts(other)
            left["sessions"], right["sessions"] = list(one.sessions), list(other.sessions)
            changed[name] = {
                key: [len(left[key]), len(right[key])] if key == "sessions" else [left[key], right[key]]
                for key in left
                if left[key] != right[key]
            }
    return changed


def diff_references(a: ServingSpec, b: ServingSpec) -> dict[str, float | None]:
    """PSI of `b`'s training distribution against `a`'s, by column both have; "(prediction)" for the answers. None: unknown."""
    pairs = {name: (a.reference[name], b.reference[name]) for name in a.reference if name in b.reference}
    if a.prediction_reference is not None and b.prediction_reference is not None:
        pairs["(prediction)"] = (a.prediction_reference, b.prediction_reference)
    return {name: reference_psi(*pair) for name, pair in pairs.items()}


def reference_psi(a: ColumnReference, b: ColumnReference) -> float | None:
    """PSI between two references of one column (`monitoring.distances.psi`), in the cells of `a`.

    None if one has no rows, or if the rows of `b` cannot be told apart in the cells of `a`.

    >>> from models.spec import ColumnReference
    >>> fifty = ColumnReference(edges=(0.0,), counts=(50, 50, 0), low=-1.0, high=1.0)
    >>> reference_psi(fifty, fifty), round(reference_psi(fifty, msgspec.structs.replace(fifty, counts=(80, 20, 0))), 2)
    (0.0, 0.4)
    """
    cells = {"edges": a.edges, "levels": a.levels, "counts": a.counts, "low": a.low, "high": a.high}
    rows: Any = recounted(b, a)  # parts of rows count as well as whole ones
    if rows is None:
        return None
    distance = float(psi(Reference.from_columns(["column"], {"column": cells}), rows[np.newaxis])[0])
    return None if np.isnan(distance) else distance


def recounted(reference: ColumnReference, into: ColumnReference) -> NDArray[np.float64] | None:
    """Rows of a reference in the cells of another, float64[cells + 1], the last for missing; they need not be whole.

    None where they cannot be told: rows in bins have no level, and those of any "other" level no bin.
    """
    missing = float(reference.counts[-1])
    if reference.levels or into.levels:
        counts = _of_levels(reference, into)
        return None if counts is None else np.array([*counts, missing])
    edges = into.edges
    own = np.array(reference.edges, dtype=np.float64)
    rows = np.cumsum(np.array(reference.counts[:-1], dtype=np.float64))
    total = float(rows[-1])
    if np.array_equal(own, np.array(edges)):
        return np.array(reference.counts, dtype=np.float64)
    # Rows at or below each own edge; all lie in [low, high], so an edge at or beyond those adds nothing.
    inner = (own > reference.low) & (own < reference.high)
    at = np.concatenate([[reference.low], own[inner], [reference.high]])
    below = np.concatenate([[_at_or_below(own, rows, reference.low)], rows[:-1][inner], [total]])
    wanted = np.interp(edges, at, below, left=0.0, right=total)
    return np.array([*np.diff(wanted, prepend=0.0, append=total), missing])


def _of_levels(reference: ColumnReference, into: ColumnReference) -> list[float] | None:
    """Rows in the cells of `into` without missing, where one of the two has levels."""
    *known, other = reference.counts[:-1]
    if not reference.levels or (other and not into.levels):
        return None
    cells = len(into.levels or into.edges) + 1
    rows = [0.0] * cells
    rows[-1] += other
    for level, n in zip(reference.levels, known, strict=True):
        if not into.levels:
            cell = int(np.searchsorted(into.edges, level, side="left"))
        else:
            cell = into.levels.index(level) if level in into.levels else cells - 1
        rows[cell] += n
    return rows


def _at_or_below(own: NDArray[np.float64], rows: NDArray[np.float64], low: float) -> float:
    """Rows at the lowest value, as far as the bins tell: those of a bin that ends there."""
    found = np.flatnonzero(own == low)
    return float(rows[found[0]]) if found.size else 0.0
