"""Two serving specs side by side, and how far the training distributions of two versions lie apart. Pure.

A version's reference is counts in its own bins. To compare two, the second's distribution is read off at the edges of the
first: exactly where it has an edge there too, along a straight line between its own edges elsewhere. So equal references have
PSI 0, and for different bins it is an estimate, good enough to see what moved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from monitoring.distances import psi
from monitoring.reference import Reference

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.spec import ColumnReference, ColumnSpec, FeatureSetSpec, ServingSpec

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
        "prediction_reference": spec.prediction_reference is not None,
    }


def set_facts(one: FeatureSetSpec) -> dict[str, Any]:
    """A feature set as plain values; of its sessions the number."""
    return {**msgspec.to_builtins(one), "sessions": len(one.sessions)}


def diff_specs(a: ServingSpec, b: ServingSpec) -> dict[str, Any]:
    """What `b` has otherwise than `a`; empty where they agree."""
    left, right = {c.name: c for c in a.columns}, {c.name: c for c in b.columns}
    facts = {n: [getattr(a, n), getattr(b, n)] for n in _FACTS if getattr(a, n) != getattr(b, n)}
    if len(a.residuals) != len(b.residuals):
        facts["residuals"] = [len(a.residuals), len(b.residuals)]
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
    """PSI between two references of one column (`monitoring.distances.psi`), in the bins of `a`; None if one has no rows.

    >>> from models.spec import ColumnReference
    >>> fifty = ColumnReference(edges=(0.0,), counts=(50, 50, 0), low=-1.0, high=1.0)
    >>> reference_psi(fifty, fifty), round(reference_psi(fifty, msgspec.structs.replace(fifty, counts=(80, 20, 0))), 2)
    (0.0, 0.4)
    """
    bins = {"edges": a.edges, "counts": a.counts, "low": a.low, "high": a.high}
    counts: Any = recounted(b, a.edges)[np.newaxis]  # parts of rows count as well as whole ones
    distance = float(psi(Reference.from_columns(["column"], {"column": bins}), counts)[0])
    return None if np.isnan(distance) else distance


def recounted(reference: ColumnReference, edges: tuple[float, ...]) -> NDArray[np.float64]:
    """Rows of a reference in the bins of other edges, float64[bins + 1], the last for missing; they need not be whole."""
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
    counts = np.diff(wanted, prepend=0.0, append=total)
    return np.concatenate([counts, [float(reference.counts[-1])]])


def _at_or_below(own: NDArray[np.float64], rows: NDArray[np.float64], low: float) -> float:
    """Rows at the lowest value, as far as the bins tell: those of a bin that ends there."""
    found = np.flatnonzero(own == low)
    return float(rows[found[0]]) if found.size else 0.0
