"""May the challenger take the champion's place? A verdict with its reasons, from matured predictions on the same rows.

Core. All of these must hold:

| check            | holds when                                                                                            |
|------------------|-------------------------------------------------------------------------------------------------------|
| `sample`         | effective instants and both label coverages are at least the policy's                                 |
| `loss`           | mode `better`: one-sided p of the Diebold-Mariano test is at most alpha; mode `not_worse`: the upper   |
|                  | one-sided bound of challenger less champion at 1 - alpha is below margin * champion's loss            |
| `coverage`       | the challenger's interval coverage is within `coverage_tolerance` of `level`; no level: not judged     |
| `calibration`    | the challenger's calibration error is not significantly above the champion's (one-sided, alpha)       |

`not_worse` is a test of non-inferiority (Blackwelder 1982, "Proving the null hypothesis in clinical trials"): being close must be
shown, few data do not pass for it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from monitoring.drift import builtins
from monitoring.hac import t_quantile

if TYPE_CHECKING:
    from monitoring.paired import Comparison, PairedReport
    from monitoring.quality import QualityReport


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePolicy:
    """What a challenger must show. `ValueError` for a number outside its range.

    `margin`: share of the champion's loss that `not_worse` may cost; `level`: nominal coverage of intervals, None: not judged.
    """

    mode: Literal["better", "not_worse"] = "better"
    loss: Literal["squared_error", "absolute_error"] = "squared_error"
    alpha: float = 0.05
    margin: float = 0.01
    min_effective_instants: float = 30.0
    min_label_coverage: float = 0.8
    level: float | None = None
    coverage_tolerance: float = 0.05

    def __post_init__(self) -> None:
        if self.mode not in {"better", "not_worse"}:
            raise ValueError(f"gate mode {self.mode!r} must be 'better' or 'not_worse'")
        if self.loss not in {"squared_error", "absolute_error"}:
            raise ValueError(f"gate loss {self.loss!r} must be 'squared_error' or 'absolute_error'")
        for name, low, high in (("alpha", 0.0, 0.5), ("level", 0.0, 1.0)):
            x = getattr(self, name)
            if x is not None and not low < x < high:
                raise ValueError(f"gate {name} {x} must lie between {low:g} and {high:g}")
        for name in ("margin", "min_effective_instants", "coverage_tolerance"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"gate {name} {getattr(self, name)} must not be negative")
        if not 0 <= self.min_label_coverage <= 1:
            raise ValueError(f"gate min_label_coverage {self.min_label_coverage} must lie between 0 and 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One condition, whether it holds, and a sentence with its numbers."""

    name: str
    holds: bool
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GateVerdict:
    """`reasons`: the sentences of what failed, or of everything when all holds. The rest are the loss test's numbers."""

    promote: bool
    reasons: tuple[str, ...]
    test: str
    difference: float
    standard_error: float
    p_value: float
    upper_bound: float
    limit: float
    """What `upper_bound` must stay below: 0 for `better`, margin * champion's loss for `not_worse`."""
    checks: tuple[Check, ...]

    def to_dict(self) -> dict[str, Any]:
        """Builtins only, NaN as None: ready for JSON."""
        told: dict[str, Any] = builtins(asdict(self))
        return told


def gate(
    paired: PairedReport, champion: QualityReport, challenger: QualityReport, *, policy: GatePolicy | None = None
) -> GateVerdict:
    """Judge a challenger by its paired comparison with the champion and by both quality reports of the same window."""
    policy = policy or GatePolicy()
    comparison: Comparison = getattr(paired, policy.loss)
    upper = comparison.worst_difference(policy.alpha)
    limit = 0.0 if policy.mode == "better" else policy.margin * comparison.champion
    checks = (
        *_sample(paired, champion, challenger, policy),
        _loss(comparison, policy, upper=upper, limit=limit),
        *_coverage(challenger, policy),
        *_calibration(champion, challenger, policy),
    )
    failed = tuple(c.sentence for c in checks if not c.holds)
    name = "Diebold-Mariano, one-sided" if policy.mode == "better" else "non-inferiority by the Diebold-Mariano bound"
    return GateVerdict(
        promote=not failed,
        reasons=failed or tuple(c.sentence for c in checks),
        test=f"{name}, {policy.loss.replace('_', ' ')}, alpha {policy.alpha:g}",
        difference=comparison.difference,
        standard_error=comparison.standard_error,
        p_value=comparison.p_better,
        upper_bound=upper,
        limit=limit,
        checks=checks,
    )


def _sample(paired: PairedReport, champion: QualityReport, challenger: QualityReport, policy: GatePolicy) -> tuple[Check, ...]:
    instants = paired.effective_instants
    enough = Check(
        name="sample",
        holds=instants >= policy.min_effective_instants,
        sentence=(
            f"They were compared on {paired.rows} rows at {paired.instants} instants, worth {instants:.1f} "
            f"independent ones; at least {policy.min_effective_instants:g} are needed."
        ),
    )
    covered = tuple(
        Check(
            name="sample",
            holds=q.label_coverage >= policy.min_label_coverage,
            sentence=(
                f"Outcomes of {_share(q.label_coverage)} of the {who}'s {q.published} predictions are known; "
                f"at least {_share(policy.min_label_coverage)} are needed."
            ),
        )
        for who, q in (("champion", champion), ("challenger", challenger))
    )
    return enough, *covered


def _loss(comparison: Comparison, policy: GatePolicy, *, upper: float, limit: float) -> Check:
    loss = policy.loss.replace("_", " ")
    means = (
        f"The challenger's mean {loss} is {comparison.challenger:.4g}, the champion's {comparison.champion:.4g}: "
        f"difference {comparison.difference:+.3g}, standard error {_number(comparison.standard_error)}"
    )
    if policy.mode == "better":
        holds = comparison.p_better <= policy.alpha
        return Check(
            name="loss",
            holds=holds,
            sentence=f"{means}, one-sided p {_number(comparison.p_better)}; at most {policy.alpha:g} is needed.",
        )
    return Check(
        name="loss",
        holds=upper < limit,
        sentence=(
            f"{means}, upper bound {_number(upper)} at {_share(1 - policy.alpha)}; "
            f"it must be below {limit:.3g}, {_share(policy.margin)} of the champion's."
        ),
    )


def _coverage(challenger: QualityReport, policy: GatePolicy) -> tuple[Check, ...]:
    if policy.level is None:
        return ()
    return (
        Check(
            name="coverage",
            holds=abs(challenger.coverage - policy.level) <= policy.coverage_tolerance,
            sentence=(
                f"The challenger's intervals promise to cover {_share(policy.level)} of the outcomes and covered "
                f"{_share(challenger.coverage)}; it must be within {_share(policy.coverage_tolerance)}."
            ),
        ),
    )


def _calibration(champion: QualityReport, challenger: QualityReport, policy: GatePolicy) -> tuple[Check, ...]:
    if math.isnan(champion.calibration_error):
        return ()
    worse = challenger.calibration_error - champion.calibration_error
    # Of one window's outcomes, the two errors go up and down together: taken as independent, chance is given too much room.
    se = math.hypot(challenger.calibration_error_se, champion.calibration_error_se)
    room = t_quantile(1 - policy.alpha, min(champion.effective_instants, challenger.effective_instants) - 1) * se
    return (
        Check(
            name="calibration",
            holds=worse <= (0.0 if math.isnan(room) else room),
            sentence=(
                f"The challenger's calibration error is {_number(challenger.calibration_error)}, the champion's "
                f"{champion.calibration_error:.3g}; it may be higher by {_number(room)}, which chance explains."
            ),
        ),
    )


def _share(x: float) -> str:
    return "an unknown share" if math.isnan(x) else f"{x:.1%}"


def _number(x: float) -> str:
    return "unknown" if math.isnan(x) else f"{x:.3g}"
