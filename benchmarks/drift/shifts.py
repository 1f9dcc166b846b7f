"""Something drifts: how many rows come until it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.drift.nulls import FALSE_DISCOVERY_RATE, PANES, THRESHOLD
from benchmarks.drift.series import stretch, trained
from monitoring.distances import psi
from monitoring.drift import encode, tally
from monitoring.reference import fold
from monitoring.significance import p_values

if TYPE_CHECKING:
    from benchmarks.drift.series import Shape


def rows_until_called(shape: Shape, *, runs: int, sigmas: float = 1.0, columns: int = 50, seed: int = 1) -> dict[str, Any]:
    """One of `columns` moves by `sigmas` standard deviations at once, and stays: rows since then until its first bad window.

    A window is judged at each pane's end, so rows come in steps of a pane; when the shift begins it is full of rows from before.
    The other columns do not move: their part in the Benjamini-Hochberg adjustment is taken at its worst, that none of them
    helps. Runs stand side by side as the columns of one stretch. Infinite where two windows' lengths did not do.
    """
    rng = np.random.default_rng(seed)
    step = shape.rows // PANES
    delays: list[float] = []
    while len(delays) < runs:
        reference = trained(rng, shape)
        values = stretch(rng, shape, 3 * shape.instants)
        values[shape.rows :] += sigmas
        codes = encode(reference, values)
        panes = np.array([tally(reference, codes[:, a : a + step]) for a in range(0, 3 * shape.rows, step)])
        delay = np.full(shape.columns, np.inf)
        for last in range(3 * PANES - 1, PANES - 1, -1):
            window = fold(reference, panes[last - PANES + 1 : last + 1].sum(axis=0))
            p = p_values(reference, window, rows_per_instant=shape.symbols)
            called = (p <= FALSE_DISCOVERY_RATE / columns) & (psi(reference, window) >= THRESHOLD)
            delay[called] = (last - PANES + 1) * step
        delays += delay.tolist()
    rows = np.array(delays[:runs])
    return {
        "runs": runs,
        "window_rows": shape.rows,
        "pane_rows": step,
        "caught": float(np.isfinite(rows).mean()),
        "median_rows": float(np.quantile(rows, 0.5, method="higher")),
        "p95_rows": float(np.quantile(rows, 0.95, method="higher")),
    }
