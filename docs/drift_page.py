"""docs/drift.md, from benchmarks/drift.json: no figure is typed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "benchmarks" / "drift.json"

_PAGE = """# Drift

Whether the rows a model answers still look like those it was trained on. Figures are from
`python -m benchmarks.drift --write` (fixed seeds, some three minutes); this page is made from them by `make docs`.

## What is measured

Publishing keeps, of each column, of the answers and of the reconstruction error, counts in fixed cells
([publishing.md](publishing.md)): ten quantile bins, or the levels of a column whose numbers are names (flags always), and one
cell for missing. The monitor counts the rows of the inference log into the same cells, by panes of event time; a
window is the sum of its panes, so it costs the same however many rows it has, and rows that come twice count once.
Counting is finer by what lies below and above the training range (of levels: what training never saw); outer bins are open,
so one wild value is one row in an outer bin and nothing more.

| in the record | what it is |
|---|---|
| `psi` | population stability index over all cells; the effect size that is judged |
| `jensen_shannon` | distance in [0, 1], a metric |
| `ks`, `wasserstein` | largest gap of the distribution functions; mean distance moved, in the column's unit. Null for levels |
| `missing_rate`, `missing_rate_trained` | shares of all rows |
| `below_rate`, `above_rate` | shares of the rows present outside the training range; for levels `above_rate`: unknown to it |
| `effective_rows` | how many independent rows the window is worth |
| `p_value`, `p_adjusted` | of the null test; after Benjamini-Hochberg over the columns of the window |
| `warming` | judged on what is present: the column looks further back than the first row, so what it misses is no drift |
| `counts` | the cells themselves: below, bins or levels, padding, above or other, missing |

What moves together without any one column moving shows in the reconstruction error: the part of a vector that the
principal components of training leave over. `trading-ml drift explain` shows a column's two histograms.

## How it is judged

A column has drifted (`warn`) where PSI reaches `monitoring.alert_threshold` ({threshold:g}) **and** the difference is
significant at `monitoring.false_discovery_rate` ({rate:g}) after adjustment; from 2.5 times the threshold on it is `critical`.
Below `monitoring.min_samples` rows, or ten effective ones, it is `insufficient_data`: no alarm and no all-clear.

The test is Pearson's chi-square of two samples on effective counts. n rows of series with autocorrelation rho, m of which
stand side by side at each instant and share a part `cross` of their movement, are worth

    n (1 - rho) / (1 + rho) / (1 + (m - 1) cross)

rho and `cross` are estimated at publishing (give `times` and `groups`, else every row counts as its own instant); rho's
small-sample bias is taken off; m comes from the distinct event times of the window, exact below 512 in a pane, beyond an
estimate with a standard error of 4.4 %. Cells that expect fewer than five effective rows are merged.

## False alarms: the budget and what was found

With no drift anywhere, `false_discovery_rate` is the chance that a window calls any column at all: at {rate:g}, at most
{budget:.1f} of the 24 independent windows of a day have a false call, with 50 columns as with one. The threshold on PSI and
`monitoring.pending_windows` (2) come on top. Columns without drift, references estimated from a training stretch as
publishing does it:

{nulls}

At a window each five minutes, as the monitor judges them, with alerts that clear and fire again (50 columns, 20 symbols, an hour;
firings a day with `pending_windows` 1 and 2):

{days}

With independent rows the test uses about half of its budget; with dependent ones it stays far below, since indicators of
bins forget sooner than the values do. That is its price: it waits longer than it would have to.

## Delay

One of 50 columns moves by one standard deviation, at once and for good; the window is full of older rows then. 1,000 runs:

{shifts}

So independent rows need a third of a window, dependent ones most of it; `pending_windows` 2 adds a pane.

## What it cannot see

- **Slow under fast.** {mixed}
- **Too few effective rows.** An hour of minute bars of one symbol at rho 0.9 is worth {few:.1f} rows: never judged. Use a longer
  `monitoring.metrics_window`.
- **Less than the threshold**, however significant: that is what the threshold is for. And moves within a bin.
- **Walks.** A column whose rho is 1 (a price level) is never judged; train on returns.
- **What training did not know**: hours, seasons and regimes outside the training stretch are drift, and are called so.
- **Whether it matters.** Inputs may drift and the answers stay good, or the relation break with no input moving: that is
  what quality and concept drift are for ([topics.md](topics.md)).
"""

_NULLS = {
    "independent": "rho 0, 20 symbols, an hour of minutes",
    "hour": "rho 0.9, 20 symbols, an hour of minutes",
    "day": "rho 0.9, one symbol, a day of minutes",
    "five_hours_of_one": "rho 0.9, one symbol, five hours",
    "market": "rho 0.5, 500 symbols, half of it one factor; 10 columns",
    "market_unknown": "the same, `cross` not known",
    "mixed": "half rho 0.98, half noise, 20 symbols, an hour",
}
_SHIFTS = {
    "independent": "rho 0, 20 symbols, an hour",
    "hour": "rho 0.9, 20 symbols, an hour",
    "day_independent": "rho 0, one symbol, a day",
    "day": "rho 0.9, one symbol, a day",
}


def page() -> str:
    """The text of docs/drift.md."""
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    rate = found["false_discovery_rate"]
    return _PAGE.format(
        threshold=found["threshold"],
        rate=rate,
        budget=24 * rate,
        nulls=_nulls(found["null"]),
        days=_days(found["days"]),
        shifts=_shifts(found["shift"]),
        few=found["null"]["hour_of_one"]["effective_rows"],
        mixed=_mixed(found["null"]["mixed"], rate),
    )


def _nulls(null: dict[str, Any]) -> str:
    lines = [
        "| columns | windows | rows, worth | PSI > 0.1 | test | verdict | called a day: PSI > 0.1 | verdict | verdict, twice |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, words in _NULLS.items():
        one = null[name]
        cells = [
            f"{one['windows']:,}",
            f"{one['rows']:,}, {one['effective_rows']:,.0f}",
            *(f"{one[which]['alarms']:.1%}" for which in ("bare", "test", "ours")),
            f"{one['bare']['alarms_a_day']:.1f}",
            f"{one['ours']['alarms_a_day']:.2f}",
            f"{one['ours']['pending']:.2f}",
        ]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    shares = (
        "Percentages are shares of windows in which any column is called: by the bare threshold, by the test alone, by the\n"
        "verdict. A day is 24 independent windows and counts the columns called; `twice`: in two windows in a row."
    )
    return "\n".join([*lines, "", shares])


def _days(days: dict[str, Any]) -> str:
    lines = ["| columns | days | bare 1 | bare 2 | ours 1 | ours 2 |", "|---|---|---|---|---|---|"]
    for name, words in (("independent", "rho 0"), ("hour", "rho 0.9")):
        one = days[name]
        firings = " | ".join(f"{one['firings_a_day'][key]:.1f}" for key in ("bare 1", "bare 2", "ours 1", "ours 2"))
        lines.append(f"| {words} | {one['days']} | {firings} |")
    return "\n".join(lines)


def _shifts(shift: dict[str, Any]) -> str:
    lines = ["| columns | rows of the window | rows until called, median | 95th percentile | caught |", "|---|---|---|---|---|"]
    for name, words in _SHIFTS.items():
        one = shift[name]
        numbers = f"{one['window_rows']:,} | {one['median_rows']:,.0f} | {one['p95_rows']:,.0f} | {one['caught']:.1%}"
        lines.append(f"| {words} | {numbers} |")
    return "\n".join(lines)


def _mixed(mixed: dict[str, Any], rate: float) -> str:
    """What the last null says of series that are not AR(1)."""
    alarms = mixed["ours"]["alarms"]
    if alarms <= rate:
        return (
            "The formula is that of AR(1) series; publishing gives others the rho of the AR(1) series with the same memory, as\n"
            "  far as a third of the training stretch shows it. What moves more slowly than that is drift to it."
        )
    return (
        "The first autocorrelation tells the memory of AR(1) series only. Of columns that are half slow movement and half noise\n"
        f"  (the last null above) it sees too little, and {alarms:.0%} of windows raise a false alarm."
    )
