"""What alerts see of a window's reports: report in, observations out. One that cannot tell says nothing.

Core. `labels` name the model, version and role; `alertname` and what the alert is about are added. Where chance may explain a
value, its alert rises only at a significance of `alpha` and clears too once the p-value is above four times that (5 % at
least): chance explains it with room to spare. Between the two, as between the two thresholds, nothing changes.

Reports are read by the names of their fields, as objects or as the mappings they are in a performance record.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from monitoring.alerts import Observation
from monitoring.report_drift import VERDICTS

if TYPE_CHECKING:
    from collections.abc import Collection

    from monitoring.report_drift import DriftReport
    from monitoring.rules import AlertRules, DriftRule, IntervalCoverageRule, QualityRule
    from monitoring.silence import SetSilence

Labels = Mapping[str, str]
_DRIFTED = VERDICTS.index("warn")
QUIET_RATIO = 4.0
"""An alert clears too where the p-value is above this many times what raises it."""
_QUIET_AT_LEAST = 0.05


def drift_observations(
    report: DriftReport,
    rules: AlertRules,
    labels: Labels,
    *,
    prediction: str = "prediction",
    reconstruction: str = "reconstruction_error",
    inhibited: Collection[str] = (),
    open_: Collection[str] | None = None,
) -> list[Observation]:
    """One observation per column judged, in the report's order. Columns with insufficient data say nothing.

    `open_`: columns with an alert pending or firing; of others only those that drifted are told of, the rest could change
    nothing. None: all are.

    `prediction`, `reconstruction`: what the columns of the answer and of the reconstruction error are called; `inhibited`:
    columns whose drift something else explains (`monitoring.silence.inhibited_columns`).
    """
    own = {prediction: "prediction_drift", reconstruction: "multivariate_drift"}
    seen: list[Observation] = []
    for name, worst, i in zip(report.columns.names, report.columns.verdicts.tolist(), range(len(report.columns)), strict=True):
        if open_ is not None and worst < _DRIFTED and name not in open_:
            continue
        c = report.columns[i]
        kind = own.get(c.name, "feature_drift")
        rule: DriftRule | None = getattr(rules, kind)
        if rule is None or c.verdict == "insufficient_data":
            continue
        ratio = c.psi / report.threshold
        significant = c.p_adjusted <= report.false_discovery_rate
        drifted = significant and ratio >= 1
        distance = "" if math.isnan(c.ks) else f"KS {c.ks:.2f}, "
        seen.append(
            Observation(
                labels={**labels, "alertname": kind, "column": c.name},
                value=c.psi,
                raise_at=report.threshold,
                clear_at=rule.clear_ratio * report.threshold,
                severity="critical" if ratio >= rule.critical_ratio else "warn",
                significant=significant,
                quiet=c.p_adjusted > QUIET_RATIO * report.false_discovery_rate,
                inhibited=c.name in inhibited,
                policy=rule.policy,
                summary=(
                    f"{c.name} {'drifted' if drifted else 'does not drift'}: "
                    f"PSI {c.psi:.3f}, {ratio:.1f} times the threshold {report.threshold:g}"
                ),
                description=(
                    f"{c.rows} rows (worth {c.effective_rows:.0f} independent ones) against training: "
                    f"{distance}adjusted p {c.p_adjusted:.2g}, "
                    f"missing {c.missing_rate:.1%} (trained {c.missing_rate_trained:.1%})"
                ),
            )
        )
    return seen


def quality_observations(
    report: Any, rules: AlertRules, labels: Labels, *, by_group: Mapping[str, Any] | None = None
) -> list[Observation]:
    """Each rule's metric, of all symbols and of each group; `by_group` None: what the report has under this name.

    Labels added: `metric`, `bound` (below or above), and `group` of a group. A metric without its standard error, or from
    fewer effective rows than its rule wants, says nothing.

    >>> from monitoring.rules import AlertRules
    >>> report = {"rank_ic": -0.05, "rank_ic_se": 0.02, "effective_rows": 900.0, "effective_instants": 60.0}
    >>> [(o.labels["metric"], o.over) for o in quality_observations(report, AlertRules(), {"model": "m"})]
    [('rank_ic', True)]
    """
    groups = (_field(report, "by_group") or {}) if by_group is None else by_group
    seen = [_quality(report, rule, labels) for rule in rules.quality]
    for name, part in sorted(groups.items()):
        seen += [_quality(part, rule, {**labels, "group": name}) for rule in rules.quality if rule.groups]
    return [o for o in seen if o is not None]


def coverage_observations(report: Any, rules: AlertRules, labels: Labels, *, level: float) -> list[Observation]:
    """How far the coverage of the intervals is from their level, whichever side.

    The standard error is the report's, or that of as many independent outcomes at the level if this is greater: intervals
    that never missed yet would else be sure of themselves.
    """
    rule: IntervalCoverageRule | None = rules.interval_coverage
    coverage, rows = _number(report, "coverage"), _number(report, "effective_rows")
    own = _number(report, "coverage_se")
    if rule is None or not rows >= rule.min_effective or not (math.isfinite(coverage) and math.isfinite(own)):
        return []
    distance = abs(coverage - level)
    p = min(1.0, 2 * _chance(distance, max(own, math.sqrt(level * (1 - level) / rows)), report))
    side = "narrow" if coverage < level else "wide"
    return [
        Observation(
            labels={**labels, "alertname": "interval_coverage"},
            value=distance,
            raise_at=rule.tolerance,
            clear_at=rule.clear,
            severity="critical" if distance >= rule.critical else "warn",
            significant=p <= rule.alpha,
            quiet=_quiet(p, rule.alpha),
            policy=rule.policy,
            summary=f"intervals at level {level:g} hold {coverage:.1%} of the outcomes: too {side} by {distance:.1%}",
            description=f"{rows:.0f} effective rows, p {p:.2g}, tolerance {rule.tolerance:.1%}",
        )
    ]


def concept_observations(report: Any, rules: AlertRules, labels: Labels) -> list[Observation]:
    """How far residuals rose since the last change that was found (`monitoring.concept.Concept.report`); None says nothing.

    Without a change the rise is 0; after one for the better it is below. The detector has judged that it is no chance.

    >>> from monitoring.rules import AlertRules
    >>> report = {"n": 40, "mean_before": 0.5, "mean_now": 0.68, "detected_at_us": 60, "direction": "worse"}
    >>> [(round(o.value, 2), o.severity, o.over) for o in concept_observations(report, AlertRules(), {"model": "m"})]
    [(0.18, 'critical', True)]
    """
    rule = rules.concept_drift
    now, before = _number(report, "mean_now"), _number(report, "mean_before")
    if rule is None or math.isnan(now):
        return []
    rise = 0.0 if math.isnan(before) else now - before
    found = _field(report, "direction") or "none"
    return [
        Observation(
            labels={**labels, "alertname": "concept_drift"},
            value=rise,
            raise_at=rule.rise,
            clear_at=rule.clear,
            severity="critical" if rise >= rule.critical else "warn",
            policy=rule.policy,
            summary=f"residuals are at {now:.2f} among those of calibration, {rise:+.2f} since the last change ({found})",
            description=f"0.5 is as at calibration; {_number(report, 'n'):.0f} blocks of a horizon each since the change",
        )
    ]


def label_coverage_observations(
    report: Any, rules: AlertRules, labels: Labels, *, age_us: int, expected: bool
) -> list[Observation]:
    """The share of predictions whose outcome came.

    `age_us`: how long ago the window's outcomes were due: before the rule's `after_us` nothing is said, since some come late.
    `expected`: whether outcomes come at all; who never sent one has no producer of them, and no alert.
    """
    rule = rules.label_coverage
    coverage, published = _number(report, "label_coverage"), _number(report, "published")
    if rule is None or not expected or age_us < rule.after_us:
        return []
    if not published >= rule.min_predictions or not math.isfinite(coverage):
        return []
    return [
        Observation(
            labels={**labels, "alertname": "label_coverage"},
            value=coverage,
            raise_at=rule.below,
            clear_at=rule.clear,
            severity=rule.severity,
            policy=rule.policy,
            summary=f"{coverage:.1%} of {published:.0f} predictions have an outcome",
            description=f"bad up to {rule.below:.0%}; quality is only that of the predictions with an outcome",
        )
    ]


def set_silence_observations(silences: Mapping[str, SetSilence], rules: AlertRules, labels: Labels) -> list[Observation]:
    """How silent the joined feature sets are, by their newest pane."""
    rule = rules.feature_set_silence
    if rule is None:
        return []
    return [
        Observation(
            labels={**labels, "alertname": "feature_set_silence", "feature_set": name},
            value=silence.newest,
            raise_at=rule.missing_rate,
            clear_at=rule.clear,
            severity=rule.severity,
            policy=rule.policy,
            summary=(
                f"feature set {name} is silent: {silence.newest:.0%} missing of what training had"
                if silence.newest >= rule.missing_rate
                else f"feature set {name} comes: {max(0.0, silence.newest):.0%} missing of what training had"
            ),
            description=f"in its least missing column, of {silence.rows} rows; drift of its columns does not rise meanwhile",
        )
        for name, silence in sorted(silences.items())
    ]


def silent_sets(silences: Mapping[str, SetSilence], rules: AlertRules) -> frozenset[str]:
    """Sets that were silent in any pane of the window: what is missing of it explains the window's drift.

    Nothing is inhibited where their silence is not watched: else nobody would hear of it.
    """
    rule = rules.feature_set_silence
    return frozenset() if rule is None else frozenset(n for n, s in silences.items() if s.greatest >= rule.missing_rate)


def _quality(report: Any, rule: QualityRule, labels: Labels) -> Observation | None:
    value, se = _number(report, rule.metric), _number(report, f"{rule.metric}_se")
    rows = _number(report, "effective_rows")
    if not rows >= rule.min_effective or not (math.isfinite(value) and math.isfinite(se)):
        return None
    beyond = rule.bound - value if rule.low else value - rule.bound
    p = _chance(beyond, se, report)
    of = f" of {labels['group']}" if "group" in labels else ""
    return Observation(
        labels={**labels, "alertname": "quality", "metric": rule.metric, "bound": rule.side},
        value=value,
        raise_at=rule.bound,
        clear_at=rule.clear,
        severity=rule.severity,
        significant=p <= rule.alpha,
        quiet=_quiet(p, rule.alpha),
        policy=rule.policy,
        summary=f"{rule.metric}{of} is {value:.4g} ± {se:.2g}; bad is {rule.side} {rule.bound:g}",
        description=f"{rows:.0f} effective rows, p {p:.2g}",
    )


def _quiet(p: float, alpha: float) -> bool:
    return p > max(QUIET_RATIO * alpha, _QUIET_AT_LEAST)


def _chance(beyond: float, se: float, report: Any) -> float:
    """The chance that noise goes this far beyond or further, by Student's t with the effective instants less one."""
    from scipy.special import ndtr, stdtr

    if se <= 0:
        return 0.0 if beyond > 0 else 1.0
    instants = _number(report, "effective_instants")
    t = -beyond / se
    return float(stdtr(max(1.0, instants - 1), t) if math.isfinite(instants) else ndtr(t))


def _field(report: Any, name: str) -> Any:
    return report.get(name) if isinstance(report, Mapping) else getattr(report, name, None)


def _number(report: Any, name: str) -> float:
    """A field as a number; NaN where it is not told."""
    value = None if report is None else _field(report, name)
    return math.nan if value is None else float(value)
