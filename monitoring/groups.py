"""Quality by group of symbols and by completeness of the vector: where a model is good and where it is not.

Core. Each part of a breakdown is `Instants` of its own, so panes add up as the whole does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

import numpy as np

from monitoring.quality import QualityReport, quality_report
from monitoring.quality_instants import Instants, joined
from monitoring.sums import split_instants

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from monitoring.labels import QualityRows
    from monitoring.reference import Floats, Ints

OTHER: Final = "other"
"""The group of symbols that no group names."""

COMPLETENESS: Final = ("below 0.5", "0.5-0.9", "0.9-1", "complete", "unknown")
"""Buckets of the share of a vector's columns that had a value: lower bound included; `complete` is 1, `unknown` NaN."""

_LIMITS: Final = np.array([0.5, 0.9, 1.0])


class SymbolGroups:
    """Which group a symbol is in: the first that names it or has a pattern that matches, else `other`.

    Patterns are those of a shell (`*`, `?`, `[ab]`), and upper and lower case differ.

    >>> groups = SymbolGroups({"majors": ["BTC*", "ETH-USD"], "euro": ["*-EUR"]})
    >>> [groups.of(s) for s in ("BTC-EUR", "SOL-EUR", "SOL-USD")]
    ['majors', 'euro', 'other']
    """

    def __init__(self, groups: Mapping[str, Sequence[str]]) -> None:
        """`groups`: name → symbols or patterns. `ValueError` for a group without any, or one called `other`."""
        for name, patterns in groups.items():
            if name == OTHER:
                raise ValueError(f"a symbol group cannot be called {OTHER!r}: that is where symbols go that no group names")
            if isinstance(patterns, str) or not patterns:
                raise ValueError(f"symbol group {name!r} must list symbols or patterns such as ['BTC*'], not {patterns!r}")
        self.names = (*groups, OTHER)
        self._patterns = [(k, p) for k, patterns in enumerate(groups.values()) for p in patterns]
        self._known: dict[str, int] = {}
        self._last: tuple[tuple[str, ...], Ints] = ((), np.empty(0, np.int64))

    def of(self, symbol: str) -> str:
        """The name of the symbol's group."""
        return self.names[self._code(symbol)]

    def codes(self, symbols: tuple[str, ...]) -> Ints:
        """Index into `names` for each symbol, int64[symbols]."""
        if symbols is not self._last[0]:
            self._last = symbols, np.array([self._code(s) for s in symbols], np.int64)
        return self._last[1]

    def _code(self, symbol: str) -> int:
        code = self._known.get(symbol)
        if code is None:
            code = next((k for k, p in self._patterns if p == symbol or fnmatchcase(symbol, p)), len(self.names) - 1)
            self._known[symbol] = code
        return code


@dataclass(frozen=True, slots=True, eq=False)
class Breakdown:
    """Instants of every group and bucket that has rows, of one pane or of a window."""

    by_group: dict[str, Instants] = field(default_factory=dict)
    by_completeness: dict[str, Instants] = field(default_factory=dict)


def breakdown(rows: QualityRows, *, whole: Instants, groups: SymbolGroups | None, calibration: Floats | None = None) -> Breakdown:
    """Split one pane's rows. `whole`: its `instants_of`, which a dimension with a single part is, at no cost."""
    if not len(whole):
        return Breakdown()
    by_group: dict[str, Instants] = {}
    if groups is not None:
        by_group = _split(rows, groups.codes(rows.symbols)[rows.symbol_codes], groups.names, whole, calibration)
    return Breakdown(by_group, _split(rows, bucket_of(rows.completeness), COMPLETENESS, whole, calibration))


def bucket_of(completeness: Floats) -> Ints:
    """Index into `COMPLETENESS` for each row.

    >>> [COMPLETENESS[k] for k in bucket_of(np.array([0.0, 0.5, 0.95, 1.0, np.nan]))]
    ['below 0.5', '0.5-0.9', '0.9-1', 'complete', 'unknown']
    """
    # NaN is sorted behind all numbers.
    return np.where(np.isnan(completeness), len(_LIMITS) + 1, np.searchsorted(_LIMITS, completeness, side="right"))


def joined_breakdowns(parts: Sequence[Breakdown]) -> Breakdown:
    """Panes as one."""
    return Breakdown(_joined([p.by_group for p in parts]), _joined([p.by_completeness for p in parts]))


def breakdown_reports(
    parts: Breakdown, *, horizon_us: int, bar_us: int | None = None
) -> tuple[dict[str, QualityReport], dict[str, QualityReport]]:
    """Reports by group and by completeness. A dimension with one part only says what the whole says, and is left empty."""
    by_group, by_completeness = (
        {name: quality_report(i, horizon_us=horizon_us, bar_us=bar_us) for name, i in sorted(dimension.items())}
        if len(dimension) > 1
        else {}
        for dimension in (parts.by_group, parts.by_completeness)
    )
    return by_group, by_completeness


def _split(
    rows: QualityRows, codes: Ints, names: tuple[str, ...], whole: Instants, calibration: Floats | None
) -> dict[str, Instants]:
    kept = np.isfinite(rows.value)
    seen = np.bincount(codes if kept.all() else codes[kept], minlength=len(names))
    (some,) = np.nonzero(seen)
    if len(some) == 1:
        return {names[some[0]]: whole}
    parts = split_instants(rows, codes, how_many=len(names), horizon_us=whole.horizon_us, calibration=calibration)
    return {names[k]: parts[k] for k in some.tolist()}


def _joined(parts: Sequence[dict[str, Instants]]) -> dict[str, Instants]:
    names = sorted({name for part in parts for name in part})
    return {name: joined([part[name] for part in parts if name in part]) for name in names}
