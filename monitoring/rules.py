"""What alerts watch and by which numbers: plain values, worked out of the settings by `streams.alert_rules`.

Core. Times are microseconds. A rule that is not watched is None in `AlertRules`.

| rule                  | watches                                                | over (raises)                          |
|-----------------------|--------------------------------------------------------|----------------------------------------|
| `feature_drift`       | PSI of a column                                        | threshold of the report, significant   |
| `prediction_drift`    | PSI of the answers                                     | the same                               |
| `multivariate_drift`  | PSI of the reconstruction error                        | the same                               |
| `concept_drift`       | residuals against their own past                       | a change, and up by `rise` since       |
| `quality`             | a metric against its bound                             | beyond it with a chance of error `alpha` |
| `interval_coverage`   | coverage of the intervals against their level          | `tolerance`, by chance below `alpha`    |
| `label_coverage`      | predictions that got an outcome in time                | below `below`                          |
| `feature_set_silence` | a joined set: share missing of what training had       | `missing_rate`                         |
| `input_silence`       | bars of the trigger set without a prediction           | `after_bars`                           |
| `input_lag`           | event to decision, beyond what is usual                | `bars`, at least `at_least_us`         |
| `prediction_latency`  | decision to record in the log                          | `above_us`                             |
| `rejected_share`      | rejected records against rows                          | `above`, and `min_rejected`            |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from monitoring.alerts import AlertPolicy, Severity

if TYPE_CHECKING:
    from monitoring.alerts import AlertState


_USUAL = AlertPolicy()
_AT_ONCE = AlertPolicy(pending_windows=1)
_SILENCE = AlertPolicy(pending_windows=1, cooldown_us=300_000_000)
_OPERATION = AlertPolicy(cooldown_us=600_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftRule:
    """`clear_ratio` and `critical_ratio`: times the report's threshold."""

    policy: AlertPolicy = _USUAL
    clear_ratio: float = 0.8
    critical_ratio: float = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptRule:
    """`rise`: of the residuals' mean place among those of calibration. `delta`: the detector's."""

    policy: AlertPolicy = _AT_ONCE
    delta: float = 0.002
    rise: float = 0.05
    clear: float = 0.02
    critical: float = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityRule:
    """One metric: bad beyond `bound`, which is a lower one if `low`; good from `clear` on. `alpha`: of a one-sided test."""

    policy: AlertPolicy = _USUAL
    metric: str
    bound: float
    clear: float
    low: bool
    alpha: float = 0.05
    min_effective: float = 50
    severity: Severity = "warn"
    groups: bool = True

    @property
    def side(self) -> str:
        """Where bad values lie, as the label `bound` says it."""
        return "below" if self.low else "above"


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalCoverageRule:
    """Distances of coverage from the level. `alpha`: of a two-sided test, three standard errors."""

    policy: AlertPolicy = _USUAL
    tolerance: float = 0.05
    clear: float = 0.03
    critical: float = 0.15
    alpha: float = 0.0027
    min_effective: float = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelCoverageRule:
    """Judged once a window is `after_us` old: outcomes may come later than their horizon."""

    policy: AlertPolicy = _USUAL
    below: float = 0.8
    clear: float = 0.9
    min_predictions: int = 50
    after_us: int = 86_400_000_000
    severity: Severity = "warn"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSilenceRule:
    """`missing_rate`, `clear`: share missing of what training had."""

    policy: AlertPolicy = _USUAL
    missing_rate: float = 0.5
    clear: float = 0.2
    severity: Severity = "warn"


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSilenceRule:
    """Silence by the wall clock."""

    policy: AlertPolicy = _SILENCE
    after_bars: int = 5
    at_least_us: int = 60_000_000
    severity: Severity = "warn"


@dataclass(frozen=True, slots=True, kw_only=True)
class InputLagRule:
    """The threshold is the greater of `bars` bars and `at_least_us`, beyond the usual lag."""

    policy: AlertPolicy = _OPERATION
    quantile: float = 0.95
    bars: float = 1.0
    at_least_us: int = 60_000_000
    clear_ratio: float = 0.7
    critical_ratio: float = 5.0
    min_rows: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyRule:
    """Of predictions."""

    policy: AlertPolicy = _OPERATION
    quantile: float = 0.95
    above_us: int = 30_000_000
    clear_us: int = 15_000_000
    critical_ratio: float = 4.0
    min_rows: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedShareRule:
    """Of records."""

    policy: AlertPolicy = _OPERATION
    above: float = 0.01
    clear: float = 0.005
    critical_ratio: float = 10.0
    min_rejected: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRules:
    """All of them; the fields have the names of the alerts."""

    feature_drift: DriftRule | None = DriftRule()
    prediction_drift: DriftRule | None = DriftRule()
    multivariate_drift: DriftRule | None = DriftRule()
    concept_drift: ConceptRule | None = ConceptRule()
    quality: tuple[QualityRule, ...] = (
        QualityRule(metric="rank_ic", bound=0.0, clear=0.01, low=True),
        QualityRule(metric="skill", bound=-0.1, clear=-0.05, low=True),
    )
    interval_coverage: IntervalCoverageRule | None = IntervalCoverageRule()
    label_coverage: LabelCoverageRule | None = LabelCoverageRule()
    feature_set_silence: SetSilenceRule | None = SetSilenceRule()
    input_silence: InputSilenceRule | None = InputSilenceRule()
    input_lag: InputLagRule | None = InputLagRule()
    prediction_latency: LatencyRule | None = LatencyRule()
    rejected_share: RejectedShareRule | None = RejectedShareRule()

    def watched(self, labels: Any) -> bool:
        """Whether a rule observes the alert with these labels; names that are no rule's are somebody else's, and are."""
        name = labels.get("alertname")
        if name == "quality":
            ours = {(rule.metric, rule.side) for rule in self.quality}
            grouped = {(rule.metric, rule.side) for rule in self.quality if rule.groups}
            return (labels.get("metric"), labels.get("bound")) in (grouped if "group" in labels else ours)
        return getattr(self, name, True) is not None if name in AlertRules.__dataclass_fields__ else True


def unwatched(rules: AlertRules, state: AlertState) -> list[str]:
    """Fingerprints of alerts, pending or firing, that no rule observes any more: to be withdrawn.

    >>> from monitoring.alerts import Alert
    >>> alert = Alert(fingerprint="f", labels={"alertname": "input_lag"}, state="firing", updated_us=0)
    >>> unwatched(AlertRules(), {"f": alert}), unwatched(AlertRules(input_lag=None), {"f": alert})
    ([], ['f'])
    """
    return [key for key, alert in state.items() if alert.state in {"pending", "firing"} and not rules.watched(alert.labels)]
