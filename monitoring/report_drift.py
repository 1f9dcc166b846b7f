"""What `drift_report` answers: a window's drift, column by column. Core.

A report is made at the end of every pane and mostly goes straight to JSON, so it keeps arrays over all columns, and makes
objects of single columns only for those who look at them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from monitoring.reference import Floats, Ints

Verdict = Literal["insufficient_data", "stable", "warn", "critical"]
Kind = Literal["numeric", "levels"]

VERDICTS: tuple[Verdict, ...] = ("insufficient_data", "stable", "warn", "critical")
"""Ascending: the worst of several holds for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDrift:
    """One column of one window. `rows` counts all rows, missing ones too; what cannot be told is NaN (None in JSON).

    `ks` and `wasserstein` need an order and a unit, which levels lack. `below_rate` and `above_rate`: shares of the rows present
    that lie outside the training range; of levels only `above_rate`, the share that training never saw. `warming`: judged
    on the rows present alone. `counts` as they are kept: below, bins (or levels), padding, above (or other), missing.
    """

    name: str
    kind: Kind
    rows: int
    effective_rows: float
    psi: float
    jensen_shannon: float
    ks: float
    wasserstein: float
    missing_rate: float
    missing_rate_trained: float
    below_rate: float
    above_rate: float
    p_value: float
    p_adjusted: float
    verdict: Verdict
    warming: bool
    counts: list[int]


FIELDS = tuple(ColumnDrift.__dataclass_fields__)
_NUMBERS = tuple(name for name, f in ColumnDrift.__dataclass_fields__.items() if f.type == "float")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Columns(Sequence[ColumnDrift]):
    """All columns of a window, in the reference's order: a sequence of `ColumnDrift`, kept as arrays."""

    names: tuple[str, ...]
    kinds: Sequence[str]
    rows: Ints  # (columns,)
    numbers: Mapping[str, Floats]  # every float field of `ColumnDrift` -> (columns,)
    verdicts: Ints  # (columns,) into `VERDICTS`
    warming: Sequence[bool]
    counts: Ints  # (columns, bins + 3)

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> ColumnDrift: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[ColumnDrift, ...]: ...
    def __getitem__(self, index: int | slice) -> ColumnDrift | tuple[ColumnDrift, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        row: dict[str, Any] = {name: values[index].item() for name, values in self.numbers.items()}
        return ColumnDrift(
            name=self.names[index],
            kind="levels" if self.kinds[index] == "levels" else "numeric",
            rows=int(self.rows[index]),
            verdict=VERDICTS[self.verdicts[index]],
            warming=bool(self.warming[index]),
            counts=self.counts[index].tolist(),
            **row,
        )

    def to_dicts(self) -> list[dict[str, Any]]:
        """Of each column the fields of `ColumnDrift`; builtins only, NaN as None."""
        numbers = np.array([self.numbers[name] for name in _NUMBERS])
        plain = numbers.astype(object)
        plain[~np.isfinite(numbers)] = None
        fields: dict[str, Sequence[Any]] = dict(zip(_NUMBERS, plain.tolist(), strict=True))
        fields |= {"name": self.names, "kind": self.kinds, "rows": self.rows.tolist(), "counts": self.counts.tolist()}
        fields |= {"verdict": [VERDICTS[v] for v in self.verdicts.tolist()], "warming": self.warming}
        return [dict(zip(FIELDS, row, strict=True)) for row in zip(*(fields[name] for name in FIELDS), strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """All columns of one window, in the reference's order, with the gates they were judged by."""

    rows: int
    threshold: float
    min_samples: int
    false_discovery_rate: float
    verdict: Verdict
    columns: Columns

    def worst(self, most: int = 5) -> tuple[ColumnDrift, ...]:
        """The columns that drifted furthest: by verdict, then by PSI."""
        columns = self.columns
        furthest = np.lexsort((np.array(columns.names), -np.nan_to_num(columns.numbers["psi"]), -columns.verdicts))
        return tuple(columns[i] for i in furthest[:most].tolist())

    def to_dict(self) -> dict[str, Any]:
        """Builtins only, NaN as None: ready for JSON."""
        return {
            "rows": self.rows,
            "threshold": self.threshold,
            "min_samples": self.min_samples,
            "false_discovery_rate": self.false_discovery_rate,
            "verdict": self.verdict,
            "columns": self.columns.to_dicts(),
        }
