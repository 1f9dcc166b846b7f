"""A performance record and a retrain request with every part in them, from fixed values: what the golden files hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from monitoring.alerts import AlertPolicy, Observation, decide
from monitoring.drift import count, drift_report
from monitoring.labels import QualityRows
from monitoring.paired import paired_instants, paired_report
from monitoring.quality import quality_report
from monitoring.record import performance_record
from monitoring.reference import Reference
from monitoring.retrain import RetrainPolicy, RetrainState, decide_retrain
from monitoring.sums import instants_of

HOUR_US = 3_600_000_000
END_US = 480_000 * HOUR_US


def drift() -> dict[str, Any]:
    column = {"edges": [-1.0, 1.0], "counts": [200, 590, 200, 10], "low": -3, "high": 3}
    levels = {"levels": [0.0, 1.0], "counts": [700, 290, 0, 10], "edges": [], "low": 0, "high": 1}
    known = {"ret_1": column, "open": levels, "prediction": column}
    reference = Reference.from_columns(["ret_1", "open", "prediction"], known)
    grid = np.linspace(-3.5, 3.5, 240)
    rows = np.column_stack((grid, (grid > 0) * 1.0, 0.2 * grid))
    rows[:6, 0] = np.nan
    counts = count(reference, rows)
    return drift_report(reference, counts, threshold=0.1, min_samples=100, false_discovery_rate=0.05, instants=60).to_dict()


def rows(noise: float) -> QualityRows:
    """Four symbols, sixty hours; errors that repeat."""
    n = 240
    outcome = np.sin(np.arange(n) * 0.7)
    value = outcome + noise * np.cos(np.arange(n) * 1.3)
    return QualityRows(
        value=value,
        lower=value - 0.5,
        upper=value + 0.5,
        p_up=np.clip(0.5 + value / 3, 0.05, 0.95),
        completeness=np.ones(n),
        outcome=np.where(np.arange(n) % 16 == 0, np.nan, outcome),
        symbols=("A", "B", "C", "D"),
        symbol_codes=np.tile(np.arange(4), 60),
        ts_event_us=END_US + HOUR_US * (np.repeat(np.arange(60), 4) - 60),
    )


def window() -> dict[str, Any]:
    """A challenger's."""
    champion, challenger = rows(0.5), rows(0.3)
    quality = quality_report(instants_of(challenger, horizon_us=HOUR_US), horizon_us=HOUR_US).to_dict()
    paired = paired_report(paired_instants(champion, challenger, horizon_us=HOUR_US)).to_dict()
    return performance_record(
        model="goog_ret_5d",
        version="4",
        role="challenger",
        window_start_us=END_US - 60 * HOUR_US,
        window_end_us=END_US,
        drift=drift(),
        quality={
            "start_us": END_US - 61 * HOUR_US,
            "end_us": END_US - HOUR_US,
            "horizon_us": HOUR_US,
            **quality,
            "by_group": {"tech": quality},
            "by_completeness": {"complete": quality},
        },
        paired={"champion": "3", **paired},
        estimate={"mae": 0.21, "rmse": 0.28, "hit_rate": 0.61, "brier": 0.2},
        concept={"n": 240, "mean_before": 0.5, "mean_now": 0.71, "detected_at_us": END_US - HOUR_US, "direction": "worse"},
    )


def alerts() -> list[dict[str, Any]]:
    """Events of a window in which two alerts began to fire that ask for a new training."""
    who = {"model": "goog_ret_5d", "version": "3", "role": "champion"}
    seen = [
        Observation(
            labels={**who, "alertname": "feature_drift", "column": "ret_1"},
            value=0.43,
            raise_at=0.1,
            clear_at=0.08,
            severity="critical",
            summary="ret_1 drifted: PSI 0.430, 4.3 times the threshold 0.1",
        ),
        Observation(
            labels={**who, "alertname": "quality", "metric": "rank_ic", "bound": "below"},
            value=-0.05,
            raise_at=0.0,
            clear_at=0.01,
            summary="rank_ic is -0.050 ± 0.020, significantly below 0",
        ),
        Observation(labels={**who, "alertname": "input_lag"}, value=9.0, raise_at=1.0, clear_at=0.5, severity="critical"),
    ]
    return decide({}, seen, END_US, policy=AlertPolicy(pending_windows=1))[1]


def request() -> dict[str, Any]:
    record = window() | {"role": "champion", "version": "3", "paired": None}
    record["performance_id"] = f"goog_ret_5d:3:champion:{record['window_start_us']}:{END_US}:0"
    state = RetrainState(requested_us=END_US - 48 * HOUR_US, suppressed=7)
    _, made = decide_retrain(state, fired=alerts(), record=record, now_us=END_US, policy=RetrainPolicy())
    assert made is not None
    return made
