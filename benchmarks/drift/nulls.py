"""Nothing drifts: how often is drift called? Our verdict, the test alone, and the bare threshold on PSI, on the same windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.drift.series import stretch, trained
from monitoring.alerts import AlertPolicy, Observation, decide
from monitoring.drift import count, drift_report
from monitoring.observed import drift_observations
from monitoring.panes import AT_ONCE, Panes
from monitoring.rules import AlertRules, DriftRule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.drift.series import Shape
    from monitoring.alerts import AlertState
    from monitoring.drift import DriftReport
    from monitoring.reference import Reference

THRESHOLD, MIN_SAMPLES, FALSE_DISCOVERY_RATE = 0.1, 100, 0.05
"""The defaults of `monitoring.alert_threshold`, `monitoring.min_samples` and `monitoring.false_discovery_rate`."""
WINDOWS_A_DAY = 24
PANES = 12
STEP_US = 60_000_000


def judged(reference: Reference, counts: Any, instants: int | None) -> DriftReport:
    """As the monitor does it with its defaults."""
    return drift_report(
        reference,
        counts,
        threshold=THRESHOLD,
        min_samples=MIN_SAMPLES,
        false_discovery_rate=FALSE_DISCOVERY_RATE,
        instants=instants,
    )


def null_windows(shape: Shape, *, windows: int, references: int, cross: bool = True, seed: int = 1) -> dict[str, Any]:
    """Independent windows without drift, in equal parts against references estimated afresh.

    `alarms`: share of windows in which any column is called. `alarms_a_day`: columns called in 24 such windows; `pending` those
    called in two windows in a row. Each for `ours`, the `test` without the threshold, and `bare`: PSI > 0.1.
    """
    rng = np.random.default_rng(seed)
    over: dict[str, list[Any]] = {"bare": [], "test": [], "ours": []}
    rows, in_judgement = [], []
    for _ in range(references):
        reference = trained(rng, shape, cross=cross)
        for _ in range(windows // references):
            report = judged(reference, count(reference, stretch(rng, shape)), shape.instants if cross else None)
            numbers = report.columns.numbers
            over["bare"].append(numbers["psi"] > THRESHOLD)
            over["test"].append(numbers["p_adjusted"] <= FALSE_DISCOVERY_RATE)
            over["ours"].append(report.columns.verdicts >= 2)  # noqa: PLR2004 - warn or critical
            rows.append(numbers["effective_rows"].mean())
            in_judgement.append((report.columns.verdicts > 0).mean())
    found: dict[str, Any] = {
        "windows": len(rows),
        "rows": shape.rows,
        "effective_rows": float(np.mean(rows)),
        "judged": float(np.mean(in_judgement)),
    }
    return found | {name: _alarms(np.array(called)) for name, called in over.items()}


def _alarms(called: Any) -> dict[str, float]:
    """Of bool[windows, columns]."""
    again = called[1:] & called[:-1]
    return {
        "alarms": float(called.any(axis=1).mean()),
        "alarms_a_day": float(called.sum(axis=1).mean() * WINDOWS_A_DAY),
        "pending": float(again.sum(axis=1).mean() * WINDOWS_A_DAY),
    }


def null_days(shape: Shape, *, days: int, references: int, seed: int = 1) -> dict[str, Any]:
    """Days of minutes without drift through panes and alerts, a window at each of the 288 panes' ends: firings a day.

    `ours` and `bare`, by the windows in a row they need (`pending_windows`).
    """
    rng = np.random.default_rng(seed)
    firings = dict.fromkeys([(which, pending) for which in ("ours", "bare") for pending in (1, 2)], 0)
    policies = {pending: AlertPolicy(pending_windows=pending) for pending in (1, 2)}
    rules = {pending: AlertRules(feature_drift=DriftRule(policy=policy)) for pending, policy in policies.items()}
    for _ in range(references):
        reference = trained(rng, shape)
        panes = Panes(reference, pane_us=5 * STEP_US, panes=PANES)
        states: dict[tuple[str, int], AlertState] = {key: {} for key in firings}
        minutes = days // references * 1440
        values = stretch(rng, shape, minutes)
        for start in range(0, minutes, 60):
            own = np.arange(start * shape.symbols, (start + 60) * shape.symbols)
            ts = (own // shape.symbols + 1) * STEP_US
            for window in panes.add(values[own], ts, source="s", own=own, decided=np.full(len(ts), AT_ONCE)):
                if window.rows < shape.rows:
                    continue
                report = judged(reference, window.counts, window.instants)
                for (which, pending), state in states.items():
                    seen = drift_observations(report, rules[pending], {}) if which == "ours" else _bare(report)
                    after, events = decide(state, seen, window.end_us, policy=policies[pending])
                    states[which, pending] = after
                    firings[which, pending] += sum(e["state"] == "firing" for e in events)
    a_day = {f"{which} {pending}": n / days for (which, pending), n in firings.items()}
    return {"days": days, "rows_a_window": shape.rows, "firings_a_day": a_day}


def _bare(report: DriftReport) -> Sequence[Observation]:
    """The same alerts without a test."""
    distances = report.columns.numbers["psi"].tolist()
    return [
        Observation(labels={"column": name}, value=distance, raise_at=THRESHOLD, clear_at=0.8 * THRESHOLD)
        for name, distance in zip(report.columns.names, distances, strict=True)
    ]
