"""Laws of drift: it keeps its false-alarm budget, sees what it says it sees, and online it is what a batch would find.

Few runs with fixed seeds; in full: `python -m benchmarks.drift`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import to_builtins

from benchmarks.drift.nulls import FALSE_DISCOVERY_RATE, null_days, null_windows
from benchmarks.drift.series import Shape, trained
from benchmarks.drift.shifts import rows_until_called
from models.reference import column_reference
from monitoring.drift import DriftReport, count, drift_report
from monitoring.panes import AT_ONCE, Panes, Window
from monitoring.reference import Floats, Ints, Reference

MINUTES = Shape(columns=50, symbols=20, instants=60, rho=0.9, training=1_000)
"""An hour of minute bars."""


def judged(reference: Reference, values: Floats, instants: int | None = None) -> DriftReport:
    counts = count(reference, values)
    return drift_report(reference, counts, threshold=0.1, min_samples=100, false_discovery_rate=0.05, instants=instants)


def reference_of(columns: dict[str, Floats], **known: Any) -> Reference:
    return Reference.from_columns(
        list(columns), {name: to_builtins(column_reference(v, **known.get(name, {}))) for name, v in columns.items()}
    )


# The false-alarm budget ---------------------------------------------------------------------------------------


def test_dependent_windows_raise_alarms_within_the_budget_where_the_bare_threshold_does_not() -> None:
    found = null_windows(MINUTES, windows=200, references=4)
    assert found["judged"] == 1.0
    assert found["ours"]["alarms"] <= FALSE_DISCOVERY_RATE
    assert found["test"]["alarms"] <= FALSE_DISCOVERY_RATE
    assert found["bare"]["alarms"] > 0.4


def test_one_symbol_with_few_effective_rows_stays_within_the_budget() -> None:
    found = null_windows(Shape(columns=50, symbols=1, instants=300, rho=0.9, training=2_000), windows=300, references=30)
    assert found["judged"] > 0.9
    assert found["ours"]["alarms"] <= FALSE_DISCOVERY_RATE
    assert found["bare"]["alarms"] == 1.0


def test_symbols_that_share_a_factor_raise_no_alarms_once_that_is_known() -> None:
    shape = Shape(columns=5, symbols=200, instants=60, rho=0.5, cross=0.5, training=500)
    known, unknown = (null_windows(shape, windows=100, references=4, cross=cross) for cross in (True, False))
    assert known["judged"] == 1.0
    assert known["test"]["alarms"] <= FALSE_DISCOVERY_RATE
    assert unknown["test"]["alarms"] > 0.9


def test_a_day_of_sliding_windows_fires_nothing_where_the_bare_threshold_fires_all_day() -> None:
    firings = null_days(MINUTES, days=1, references=1)["firings_a_day"]
    assert firings["ours 1"] == 0
    assert firings["bare 2"] > 10


# What is seen -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [0.0, 0.9])
def test_a_shift_of_one_sigma_is_called_before_its_window_is_full(rho: float) -> None:
    found = rows_until_called(Shape(columns=50, symbols=20, instants=60, rho=rho, training=1_000), runs=100)
    assert found["caught"] == 1.0
    assert found["p95_rows"] <= found["window_rows"]


@given(st.integers(0, 2**32 - 1), st.integers(100, 400), st.sampled_from([1_000.0, -1_000.0]))
@settings(max_examples=50, deadline=None)
def test_an_outlier_of_a_thousand_sigma_is_one_row_like_any_other_of_its_outer_bin(seed: int, rows: int, outlier: float) -> None:
    reference, calm = four_columns(seed, rows)
    wild, tame = calm.copy(), calm.copy()
    at = np.random.default_rng(seed).integers(rows)
    wild[at] = outlier
    tame[at] = reference.high if outlier > 0 else reference.low
    for one, other in zip(judged(reference, wild).columns, judged(reference, tame).columns, strict=True):
        beyond = (one.above_rate - other.above_rate, one.below_rate - other.below_rate)
        assert beyond == pytest.approx((1 / rows, 0.0) if outlier > 0 else (0.0, 1 / rows))
        without = [replace(column, above_rate=0.0, below_rate=0.0, counts=[]) for column in (one, other)]
        assert without[0] == without[1]


@pytest.mark.parametrize("outlier", [1_000.0, -1_000.0])
@pytest.mark.parametrize("seed", range(10))
def test_one_outlier_of_a_thousand_sigma_changes_no_verdict(seed: int, outlier: float) -> None:
    rows = 500
    reference, calm = four_columns(seed, rows)
    wild = calm.copy()
    wild[seed] = outlier
    before, after = judged(reference, calm).columns, judged(reference, wild).columns
    assert [c.verdict for c in after] == [c.verdict for c in before] == ["stable"] * 3 + ["critical"]
    for c in range(3):
        assert abs(before[c].ks - after[c].ks) <= 1 / rows + 1e-12
        assert abs(before[c].wasserstein - after[c].wasserstein) <= (reference.high - reference.low)[c] / rows
        # These two have no unit and no bound of their own: two rows' shares, one where it was and one where it is.
        assert abs(before[c].psi - after[c].psi) <= 2 / rows
        assert abs(before[c].jensen_shannon - after[c].jensen_shannon) <= 2 / rows


def four_columns(seed: int, rows: int) -> tuple[Reference, Floats]:
    """A reference, and a window whose last column has moved by one sigma."""
    rng = np.random.default_rng(seed)
    reference = trained(rng, Shape(columns=4, symbols=1, instants=1, rho=0.0, training=1_000))
    return reference, rng.normal([0, 0, 0, 1.0], 1, (rows, 4))


def test_a_broken_correlation_that_no_column_shows_is_seen_in_the_reconstruction_error() -> None:
    """Two columns that went together no longer do; each alone is distributed as ever."""
    rng = np.random.default_rng(5)

    def rows(n: int, together: float) -> Floats:
        x, noise = rng.normal(size=(2, n))
        y = together * x + math.sqrt(1 - together**2) * noise
        # What one principal component, (x + y) / sqrt 2, leaves over.
        return np.column_stack([x, y, np.abs(x - y) / math.sqrt(2)])

    reference = reference_of(dict(zip(("x", "y", "reconstruction_error"), rows(5_000, 0.9).T, strict=True)))
    assert [c.verdict for c in judged(reference, rows(1_000, 0.9)).columns] == ["stable"] * 3
    assert [c.verdict for c in judged(reference, rows(1_000, 0.0)).columns] == ["stable", "stable", "critical"]


# Online is batch ----------------------------------------------------------------------------------------------

PANE_US, PANES, GRACE = 50, 4, 1
MIXED = reference_of(
    {"x": np.linspace(-1, 1, 500), "flag": np.tile([0.0, 1.0], 250), "sector": np.tile([10.0, 20, 40, 45], 125)},
    sector={"levels": "auto"},
)


def recounted(values: Floats) -> Ints:
    """Judged in one go with numpy: the cells of `MIXED`, below, bins or levels, padding, above or other, missing."""
    table = np.zeros(MIXED.shape, np.int64)
    for c, column in enumerate(values.T):
        present = column[~np.isnan(column)]
        table[c, -1] = len(column) - len(present)
        if c in MIXED.levels:
            held = [(present == level).sum() for level in MIXED.levels[c]]
            table[c, 1 : 1 + len(held)] = held
            table[c, -2] = len(present) - sum(held)
        else:
            below, above = present < MIXED.low[c], present > MIXED.high[c]
            edges = MIXED.edges[c, : MIXED.bins[c] - 1]
            inside = np.digitize(present[~below & ~above], edges, right=True)
            table[c, 1 : 1 + len(edges) + 1] = np.bincount(inside, minlength=len(edges) + 1)
            table[c, 0], table[c, -2] = below.sum(), above.sum()
    return table


@given(st.integers(0, 2**32 - 1), st.integers(1, 1_500), st.floats(0, 120), st.integers(1, 400))
@settings(max_examples=60, deadline=None)
def test_a_closed_window_is_what_a_batch_makes_of_its_rows(seed: int, rows: int, disorder: float, batch: int) -> None:
    """Rows out of order by `disorder`, of two sources, in batches of any size: counts, rows and instants are those of numpy."""
    rng = np.random.default_rng(seed)
    ts = np.sort(rng.integers(1, 10 * rows // 3 + 2, rows)) + np.rint(rng.normal(0, disorder, rows)).astype(np.int64)
    values = np.column_stack([rng.normal(0, 1, rows), rng.integers(0, 2, rows), rng.choice([10.0, 20, 40, 45, 50], rows)])
    values[rng.random(values.shape) < 0.05] = np.nan
    panes, place, closed = Panes(MIXED, pane_us=PANE_US, panes=PANES, grace_panes=GRACE), {"a": 0, "b": 0}, list[Window]()
    for start in range(0, rows, batch):
        source, some = rng.choice(["a", "b"]), slice(start, start + batch)
        own = np.arange(place[source], place[source] + len(ts[some]))
        place[source] += len(own)
        closed += panes.add(values[some], ts[some], source=source, own=own, decided=np.full(len(own), AT_ONCE))

    pane = -(-ts // PANE_US) - 1
    newest = np.maximum.accumulate(pane)
    in_time = pane > newest - PANES - GRACE
    assert panes.late_rows == (~in_time).sum()
    assert [w.end_us for w in closed] == [(p + 1) * PANE_US for p in _closing(pane, newest, in_time)]
    for window in closed:
        last = window.end_us // PANE_US - 1
        known = np.arange(rows) < np.argmax(newest > last + GRACE)  # the row that closes it comes after
        within = in_time & known & (ts > window.start_us) & (ts <= window.end_us)
        assert window.end_us - window.start_us == PANES * PANE_US
        assert window.rows == within.sum()
        assert window.instants == len(np.unique(ts[within]))
        assert (window.counts == recounted(values[within])).all()


def _closing(pane: Ints, newest: Ints, in_time: Any) -> list[int]:
    """Panes whose window closes: some row had come for them by then."""
    found = []
    for p in np.unique(pane[in_time]).tolist():
        after = np.flatnonzero(newest > p + GRACE)
        if len(after) and (in_time & (pane == p))[: after[0]].any():
            found.append(p)
    return found
