"""The rules of the settings as the numbers the core goes by. Core."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from monitoring import rules as core
from monitoring.alerts import AlertPolicy

if TYPE_CHECKING:
    from datetime import timedelta

    from config import Settings
    from config.alert_rules import QualityRule, Rule


def alert_rules(settings: Settings) -> core.AlertRules:
    """What is watched, and by which numbers. A rule that is not enabled is None, of quality left out."""
    monitoring = settings.monitoring
    r = monitoring.rules
    usual = AlertPolicy(pending_windows=monitoring.pending_windows, cooldown_us=_us(monitoring.cooldown))

    def made(kind: Any, rule: Rule, **numbers: Any) -> Any:
        """The rule as `kind` has it: the fields of the same name, and those given."""
        if not rule.enabled:
            return None
        same = {name: getattr(rule, name) for name in kind.__dataclass_fields__ if hasattr(rule, name)}
        return kind(**{**same, "policy": _policy(rule, usual), **numbers})

    lag, latency, silence = r.input_lag, r.prediction_latency, r.input_silence
    after_us = min(_us(monitoring.revise_within), _us(monitoring.label_timeout))
    return core.AlertRules(
        feature_drift=made(core.DriftRule, r.feature_drift),
        prediction_drift=made(core.DriftRule, r.prediction_drift),
        multivariate_drift=made(core.DriftRule, r.multivariate_drift),
        concept_drift=made(core.ConceptRule, r.concept_drift),
        quality=tuple(_quality(rule, _policy(rule, usual)) for rule in r.quality if rule.enabled),
        interval_coverage=made(core.IntervalCoverageRule, r.interval_coverage),
        label_coverage=made(core.LabelCoverageRule, r.label_coverage, after_us=after_us),
        feature_set_silence=made(core.SetSilenceRule, r.feature_set_silence),
        input_silence=made(core.InputSilenceRule, silence, at_least_us=_us(silence.at_least)),
        input_lag=made(core.InputLagRule, lag, at_least_us=_us(lag.at_least)),
        prediction_latency=made(core.LatencyRule, latency, above_us=_us(latency.above), clear_us=_us(latency.clear)),
        rejected_share=made(core.RejectedShareRule, r.rejected_share),
    )


def _quality(rule: QualityRule, policy: AlertPolicy) -> core.QualityRule:
    bound = rule.above if rule.below is None else rule.below
    if bound is None:
        raise ValueError(f"the rule of {rule.metric} has no bound")  # the settings refuse it
    return core.QualityRule(
        policy=policy,
        metric=rule.metric,
        bound=bound,
        clear=rule.clear,
        low=rule.below is not None,
        alpha=round(1 - rule.confidence, 12),
        min_effective=rule.min_effective,
        severity=rule.severity,
        groups=rule.groups,
    )


def _policy(rule: Rule, usual: AlertPolicy) -> AlertPolicy:
    """The rule's own, and where it says nothing the usual one. A rule without windows fires at once."""
    pending = getattr(rule, "pending_windows", 1)
    return AlertPolicy(
        pending_windows=usual.pending_windows if pending is None else pending,
        cooldown_us=usual.cooldown_us if rule.cooldown is None else _us(rule.cooldown),
    )


def _us(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1_000_000)
