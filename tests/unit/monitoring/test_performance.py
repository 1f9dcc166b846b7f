"""The record of a window, and what alerts observe in it."""

from __future__ import annotations

import json

import numpy as np

from monitoring.alerts import AlertPolicy, decide
from monitoring.drift import DriftReport, count, drift_report
from monitoring.performance import drift_observations, performance_record
from monitoring.quality import quality_report
from monitoring.reference import Reference


def report() -> DriftReport:
    column = {"edges": [0.0], "counts": [500, 500, 0], "low": -1, "high": 1}
    r = Reference.from_columns(["ret_1", "vol_20", "new", "prediction"], dict.fromkeys(["ret_1", "vol_20", "prediction"], column))
    values = np.where(np.arange(200)[:, None] < [150, 100, 100, 190], 1.0, -1.0)
    return drift_report(r, count(r, values), threshold=0.1, min_samples=100, false_discovery_rate=0.05)


def test_the_record_is_json_and_names_its_window() -> None:
    nothing = np.empty(0)
    quality = quality_report(
        value=nothing,
        lower=nothing,
        upper=nothing,
        p_up=nothing,
        outcome=nothing,
        symbol_codes=np.empty(0, np.int64),
        ts_event_us=np.empty(0, np.int64),
        horizon_us=1,
    )
    record = performance_record(
        model="m", version="3", role="champion", window_start_us=5, window_end_us=65, drift=report(), quality=quality, revision=2
    )
    plain = json.loads(json.dumps(record, allow_nan=False))
    assert plain["performance_id"] == "m:3:champion:5:65:2"
    assert [c["verdict"] for c in plain["drift"]["columns"]] == ["critical", "stable", "insufficient_data", "critical"]
    assert plain["quality"]["rows"] == 0


def test_every_judged_column_is_observed_and_drift_fires() -> None:
    seen = drift_observations(report(), {"model": "m", "version": "3"})
    assert [(o.labels["alertname"], o.labels["column"]) for o in seen] == [
        ("feature_drift", "ret_1"),
        ("feature_drift", "vol_20"),
        ("prediction_drift", "prediction"),
    ]
    _, events = decide({}, seen, 65, policy=AlertPolicy(pending_windows=1))
    assert [(e["labels"]["column"], e["state"], e["severity"]) for e in events] == [
        ("ret_1", "firing", "critical"),
        ("prediction", "firing", "critical"),
    ]
    assert "times the threshold 0.1" in events[0]["annotations"]["summary"]
    json.dumps(events, allow_nan=False)
