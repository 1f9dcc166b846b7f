"""One window of one model version: its record for training and storage, and what alerts observe in it.

Core.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from monitoring.alerts import Observation
from monitoring.drift import CRITICAL_RATIO, DriftReport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from monitoring.quality import QualityReport

SCHEMA_VERSION = 1
"""Number of the performance record's schema."""

CLEAR_RATIO = 0.8
"""A drift alert clears below this share of the threshold that raised it, so that it does not flap."""

QUIET_RATIO = 4.0
"""It clears too where the adjusted p-value is above this many times the false discovery rate: chance explains the window."""


def performance_record(
    *,
    model: str,
    version: str,
    role: str,
    window_start_us: int,
    window_end_us: int,
    drift: DriftReport | None,
    quality: QualityReport | None,
    revision: int = 0,
) -> dict[str, Any]:
    """The record of the window (window_start_us, window_end_us], ready for JSON; what was not measured is None.

    A window reported again (an outcome was revised) carries the next `revision`; the greatest one holds. The id is
    made of what names the record, so a replay repeats it.

    >>> r = performance_record(
    ...     model="m", version="3", role="champion", window_start_us=0, window_end_us=60, drift=None, quality=None
    ... )
    >>> r["performance_id"]
    'm:3:champion:0:60:0'
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "performance_id": f"{model}:{version}:{role}:{window_start_us}:{window_end_us}:{revision}",
        "model": model,
        "version": version,
        "role": role,
        "window_start_us": window_start_us,
        "window_end_us": window_end_us,
        "revision": revision,
        "drift": None if drift is None else drift.to_dict(),
        "quality": None if quality is None else quality.to_dict(),
    }


def drift_observations(report: DriftReport, labels: Mapping[str, str], *, prediction: str = "prediction") -> list[Observation]:
    """What `alerts.decide` sees of a drift report: one observation per column judged, in the report's order.

    `labels` name the model and version; `alertname` and `column` are added. The column called `prediction` is the model's
    own answer. Columns with insufficient data say nothing: an alert on them neither rises nor clears.
    """
    seen: list[Observation] = []
    for c in report.columns:
        if c.verdict == "insufficient_data":
            continue
        kind = "prediction_drift" if c.name == prediction else "feature_drift"
        ratio = c.psi / report.threshold
        seen.append(
            Observation(
                labels={**labels, "alertname": kind, "column": c.name},
                value=c.psi,
                raise_at=report.threshold,
                clear_at=CLEAR_RATIO * report.threshold,
                severity="critical" if ratio >= CRITICAL_RATIO else "warn",
                significant=c.p_adjusted <= report.false_discovery_rate,
                quiet=c.p_adjusted > QUIET_RATIO * report.false_discovery_rate,
                summary=(
                    f"{c.name} {'drifted' if c.verdict in {'warn', 'critical'} else 'does not drift'}: "
                    f"PSI {c.psi:.3f}, {ratio:.1f} times the threshold {report.threshold:g}"
                ),
                description=(
                    f"{c.rows} rows (worth {c.effective_rows:.0f} independent ones) against training: "
                    f"KS {c.ks:.2f}, adjusted p {c.p_adjusted:.2g}, "
                    f"missing {c.missing_rate:.1%} (trained {c.missing_rate_trained:.1%})"
                ),
            )
        )
    return seen
