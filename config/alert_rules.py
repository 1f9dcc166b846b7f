"""The section `monitoring.rules`: what alerts watch, from where on they are bad, from where on good again; docs/alerts.md.

Each rule has the name of its alert. A threshold says its unit in its name or is a duration; what clears lies on the good
side of what raises, so that an alert does not flap.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, Self

from annotated_types import Ge
from pydantic import Field, model_validator

from config.durations import Duration, format_duration
from config.fields import Number, Whole
from config.section import Section

Severity = Literal["warn", "critical"]
Metric = Literal[
    "ic",
    "rank_ic",
    "hit_rate",
    "rmse",
    "rmse_zero",
    "mae",
    "mae_zero",
    "skill",
    "brier",
    "log_loss",
    "calibration_error",
    "coverage",
    "width",
    "decile_spread",
    "turnover",
    "expected_hit_rate",
    "expected_brier",
]
"""What a quality rule may watch: the numbers of a quality report that come with a standard error."""

_SIDE = "an alert clears on the good side of what raises it"
Windows = Annotated[Whole, Ge(1)]
_MINUTE = timedelta(minutes=1)


def _hysteresis(name: str, raises: float | timedelta, clears: float | timedelta) -> None:
    """Raise ValueError unless what clears lies below what raises."""
    if not clears < raises:  # type: ignore[operator]  # both are numbers, or both durations
        good, bad = (format_duration(x) if isinstance(x, timedelta) else x for x in (clears, raises))
        raise ValueError(f"clear {good} is not below {name} {bad}; {_SIDE}")


def _critical(name: str, raises: float, critical: float) -> None:
    if critical < raises:
        raise ValueError(f"critical {critical} is below {name} {raises}; it is at least that")


class Rule(Section):
    """What every rule has."""

    enabled: bool = Field(default=True, description="Whether it is watched; what it raised before ends when it no longer is.")
    cooldown: Duration | None = Field(
        default=None, description="Time after it resolves before it may fire again; null: as `monitoring.cooldown`."
    )


class WindowRule(Rule):
    """A rule on what windows say."""

    pending_windows: Windows | None = Field(
        default=None, description="Windows in a row that must be bad before it fires; null: as `monitoring.pending_windows`."
    )


class DriftRule(WindowRule):
    """PSI over `monitoring.alert_threshold`, and significant."""

    clear_ratio: Number = Field(
        default=0.8, gt=0, lt=1, description="Share of `monitoring.alert_threshold` below which it clears."
    )
    critical_ratio: Number = Field(
        default=2.5, ge=1, description="Times `monitoring.alert_threshold` from which on it is critical."
    )


class ConceptDriftRule(WindowRule):
    """Inputs and outcomes no longer belong together as they did."""

    pending_windows: Windows | None = Field(
        default=1, description="Windows in a row that must be bad before it fires; null: as `monitoring.pending_windows`."
    )
    delta: Number = Field(
        default=0.002, gt=0, lt=1, description="Confidence of the detector (ADWIN) at each look; smaller is slower and surer."
    )
    rise: Number = Field(
        default=0.05,
        gt=0,
        lt=1,
        description="Rise of the residuals' mean place among those of calibration (0.5 there) since the change that is bad.",
    )
    clear: Number = Field(default=0.02, ge=0, lt=1, description="Rise below which it clears; it does too where they fell again.")
    critical: Number = Field(default=0.15, gt=0, lt=1, description="Rise from which on it is critical.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _hysteresis("rise", self.rise, self.clear)
        _critical("rise", self.rise, self.critical)
        return self


class QualityRule(WindowRule):
    """One metric of quality and its bound."""

    metric: Metric = Field(description="The metric, a number of the quality report.")
    below: Number | None = Field(default=None, description="Bad where the metric is significantly below this. Or:")
    above: Number | None = Field(default=None, description="Bad where the metric is significantly above this.")
    clear: Number = Field(description="Good again from here on, on the good side of the bound.")
    confidence: Number = Field(
        default=0.95,
        gt=0.5,
        lt=1,
        description="How sure it must be, one-sided: 0.95 takes 1.645 standard errors, more where few instants tell them.",
    )
    min_effective: Number = Field(
        default=50, ge=2, description="Effective rows (overlapping horizons counted once) below which nothing is said."
    )
    severity: Severity = Field(default="warn", description="Its severity.")
    groups: bool = Field(default=True, description="Whether each of `monitoring.symbol_groups` is watched too.")

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if (self.below is None) == (self.above is None):
            raise ValueError(f"the rule of {self.metric} needs one of below and above; set one, not both")
        if self.below is not None and not self.clear > self.below:
            raise ValueError(f"clear {self.clear} is not greater than below {self.below} of {self.metric}; {_SIDE}")
        if self.above is not None:
            _hysteresis("above", self.above, self.clear)
        return self


class IntervalCoverageRule(WindowRule):
    """The share of outcomes within the published intervals, against their level."""

    tolerance: Number = Field(default=0.05, gt=0, lt=1, description="Distance of coverage from the intervals' level that is bad.")
    clear: Number = Field(default=0.03, ge=0, lt=1, description="Distance below which it clears.")
    critical: Number = Field(default=0.15, gt=0, lt=1, description="Distance from which on it is critical.")
    min_effective: Number = Field(default=50, ge=2, description="Effective rows below which nothing is said.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _hysteresis("tolerance", self.tolerance, self.clear)
        _critical("tolerance", self.tolerance, self.critical)
        return self


class LabelCoverageRule(WindowRule):
    """The share of predictions whose outcome came within `monitoring.revise_within`."""

    below: Number = Field(default=0.8, gt=0, le=1, description="Share of predictions with an outcome below which it is bad.")
    clear: Number = Field(default=0.9, gt=0, le=1, description="Share above which it clears.")
    min_predictions: Whole = Field(default=50, ge=1, description="Predictions below which nothing is said.")
    severity: Severity = Field(default="warn", description="Its severity.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.clear > self.below:
            raise ValueError(f"clear {self.clear} is not greater than below {self.below}; {_SIDE}")
        return self


class FeatureSetSilenceRule(WindowRule):
    """A joined feature set that does not come."""

    missing_rate: Number = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Share missing, of what training had, that is silence; in every column without a lag.",
    )
    clear: Number = Field(default=0.2, gt=0, le=1, description="Share below which it clears.")
    severity: Severity = Field(default="warn", description="Its severity.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _hysteresis("missing_rate", self.missing_rate, self.clear)
        return self


class InputSilenceRule(Rule):
    """No row at all for a model, by the wall clock."""

    cooldown: Duration | None = Field(
        default=timedelta(minutes=5),
        description="Time after it resolves before it may fire again; null: as `monitoring.cooldown`.",
    )
    after_bars: Whole = Field(
        default=5,
        ge=1,
        description="Bars of the trigger set without a prediction that are silence; in sessions, where the spec has them.",
    )
    at_least: Duration = Field(default=_MINUTE, description="Silence is this long at least, however short bars are.")
    severity: Severity = Field(default="warn", description="Its severity.")


class OperationRule(WindowRule):
    """A rule on windows of five minutes of the log's time, a new one each minute."""

    pending_windows: Windows | None = Field(
        default=2, description="Minutes with rows in a row that must be bad; null: as `monitoring.pending_windows`."
    )
    cooldown: Duration | None = Field(
        default=timedelta(minutes=10),
        description="Time after it resolves before it may fire again; null: as `monitoring.cooldown`.",
    )


class InputLagRule(OperationRule):
    """How much later than usual rows are known: from their event to the decision."""

    quantile: Number = Field(default=0.95, gt=0, lt=1, description="The quantile of the rows' lags that is judged.")
    bars: Number = Field(
        default=1.0, gt=0, description="Bars of the trigger set beyond its publication lag and deadline that are bad."
    )
    at_least: Duration = Field(default=_MINUTE, description="A lag beyond the usual below this is never bad.")
    clear_ratio: Number = Field(default=0.7, gt=0, lt=1, description="Share of the threshold below which it clears.")
    critical_ratio: Number = Field(default=5.0, ge=1, description="Times the threshold from which on it is critical.")
    min_rows: Whole = Field(default=20, ge=1, description="Rows below which a window says nothing.")


class LatencyRule(OperationRule):
    """How long a prediction takes: from the decision's time to its record in the log."""

    quantile: Number = Field(default=0.95, gt=0, lt=1, description="The quantile of the rows' latencies that is judged.")
    above: Duration = Field(
        default=timedelta(seconds=30), description="Latency that is bad. Over a day is backfill and left out."
    )
    clear: Duration = Field(default=timedelta(seconds=15), description="Latency below which it clears.")
    critical_ratio: Number = Field(default=4.0, ge=1, description="Times `above` from which on it is critical.")
    min_rows: Whole = Field(default=20, ge=1, description="Rows below which a window says nothing.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _hysteresis("above", self.above, self.clear)
        return self


class RejectedShareRule(OperationRule):
    """Rejected records, against the rows of the busiest model."""

    above: Number = Field(default=0.01, gt=0, lt=1, description="Share of records rejected that is bad.")
    clear: Number = Field(default=0.005, gt=0, lt=1, description="Share below which it clears.")
    critical_ratio: Number = Field(default=10.0, ge=1, description="Times `above` from which on it is critical.")
    min_rejected: Whole = Field(default=10, ge=1, description="Rejected records below which a window cannot be bad.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _hysteresis("above", self.above, self.clear)
        return self


QUALITY = (
    QualityRule(metric="rank_ic", below=0.0, clear=0.01),
    QualityRule(metric="skill", below=-0.1, clear=-0.05),
)
"""What of quality is watched where nothing is said."""


class AlertRules(Section):
    """What alerts watch."""

    feature_drift: DriftRule = Field(default_factory=DriftRule, description="Drift of one column.")
    prediction_drift: DriftRule = Field(default_factory=DriftRule, description="Drift of the model's answers.")
    multivariate_drift: DriftRule = Field(default_factory=DriftRule, description="Drift of the columns' correlations.")
    concept_drift: ConceptDriftRule = Field(default_factory=ConceptDriftRule, description="Errors that grew.")
    quality: tuple[QualityRule, ...] = Field(
        default=QUALITY,
        max_length=32,
        description="Metrics of quality that are watched, each with its bound. Default: rank_ic below 0 (clear 0.01) and skill "
        "below -0.1 (clear -0.05); [] watches none.",
    )
    interval_coverage: IntervalCoverageRule = Field(default_factory=IntervalCoverageRule, description="Intervals that lie.")
    label_coverage: LabelCoverageRule = Field(default_factory=LabelCoverageRule, description="Outcomes that do not come.")
    feature_set_silence: FeatureSetSilenceRule = Field(default_factory=FeatureSetSilenceRule, description="A set that is silent.")
    input_silence: InputSilenceRule = Field(default_factory=InputSilenceRule, description="A model without input.")
    input_lag: InputLagRule = Field(default_factory=InputLagRule, description="Input that comes late.")
    prediction_latency: LatencyRule = Field(default_factory=LatencyRule, description="Predictions that come late.")
    rejected_share: RejectedShareRule = Field(default_factory=RejectedShareRule, description="Records that are rejected.")

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        bounds = [(rule.metric, "below" if rule.above is None else "above") for rule in self.quality]
        for metric, side in bounds:
            if bounds.count((metric, side)) > 1:
                raise ValueError(f"quality has two rules for {metric} {side}; keep one")
        return self
