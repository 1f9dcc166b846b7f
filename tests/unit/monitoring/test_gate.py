"""The gate: each condition by itself refuses, with a sentence that has the numbers."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from monitoring.gate import GatePolicy, GateVerdict, gate
from monitoring.paired import paired_instants, paired_report
from monitoring.quality import QualityReport, instants_of, quality_report
from tests.unit.monitoring.quality_rows import BAR, Rows, panel


def model(truth: Rows, noise: float, seed: int) -> Rows:
    """A model that knows 0.4 of the value and adds noise; intervals and probabilities are those of unit residuals."""
    value = 0.4 * truth.value + noise * np.random.default_rng(seed).normal(size=len(truth))
    width = 1.645 * np.sqrt(1 + noise**2)
    return replace(truth, value=value, lower=value - width, upper=value + width, p_up=1 / (1 + np.exp(-1.6 * value)))


def quality(rows: Rows) -> QualityReport:
    return quality_report(instants_of(rows, horizon_us=4 * BAR), horizon_us=4 * BAR, bar_us=BAR)


def verdict(champion: Rows, challenger: Rows, policy: GatePolicy | None = None) -> GateVerdict:
    paired = paired_report(paired_instants(champion, challenger, horizon_us=4 * BAR), bar_us=BAR)
    return gate(paired, quality(champion), quality(challenger), policy=policy or GatePolicy(level=0.9))


TRUTH = panel(1, symbols=10, instants=400, overlap=4, common=0.2)
GOOD, BAD = model(TRUTH, 0.1, 1), model(TRUTH, 0.6, 2)


def test_a_better_challenger_is_promoted_and_the_reasons_say_all_that_held() -> None:
    v = verdict(BAD, GOOD)
    assert v.promote
    assert [c.name for c in v.checks] == ["sample", "sample", "sample", "loss", "coverage", "calibration"]
    assert v.reasons == tuple(c.sentence for c in v.checks)
    assert v.test == "Diebold-Mariano, one-sided, squared error, alpha 0.05"
    assert v.p_value < 0.001
    json.dumps(v.to_dict(), allow_nan=False)


def test_a_worse_one_is_not() -> None:
    v = verdict(GOOD, BAD)
    assert not v.promote
    assert [c.name for c in v.checks if not c.holds] == ["loss", "calibration"]
    assert "one-sided p 1; at most 0.05 is needed." in v.reasons[0]


def test_one_as_good_passes_only_as_not_worse_and_within_the_margin() -> None:
    equal = model(TRUTH, 0.1, 3)
    assert not verdict(GOOD, equal).promote
    policy = GatePolicy(mode="not_worse", margin=0.05, level=0.9)
    v = verdict(GOOD, equal, policy)
    assert v.promote
    assert v.test.startswith("non-inferiority")
    assert v.upper_bound < v.limit == pytest.approx(0.05 * quality(GOOD).rmse ** 2, rel=0.01)
    just = v.upper_bound / quality(GOOD).rmse ** 2
    assert verdict(GOOD, equal, replace(policy, margin=1.01 * just)).promote
    tight = verdict(GOOD, equal, replace(policy, margin=0.99 * just))
    assert not tight.promote
    assert "upper bound 0." in tight.reasons[0]


def test_few_instants_do_not_pass_for_not_worse() -> None:
    few = TRUTH.between(0, 30 * BAR)
    v = verdict(model(few, 0.1, 1), model(few, 0.1, 2), GatePolicy(mode="not_worse", margin=0.5))
    assert v.reasons == ("They were compared on 300 rows at 30 instants, worth 7.5 independent ones; at least 30 are needed.",)


def test_no_rows_in_common_refuse_in_every_mode() -> None:
    nothing = GOOD.between(-2, -1)
    for mode in ("better", "not_worse"):
        v = verdict(GOOD, nothing, GatePolicy(mode=mode, min_effective_instants=0, level=0.9))
        assert {c.name for c in v.checks if not c.holds} == {"sample", "loss", "coverage", "calibration"}
        assert "unknown" in " ".join(v.reasons)


def test_unknown_outcomes_refuse() -> None:
    half = np.arange(len(GOOD)) % 2 == 0
    v = verdict(BAD, replace(GOOD, outcome=np.where(half, GOOD.outcome, np.nan)))
    assert v.reasons == ("Outcomes of 50.0% of the challenger's 4000 predictions are known; at least 80.0% are needed.",)


def test_intervals_that_break_their_promise_refuse() -> None:
    v = verdict(BAD, replace(GOOD, lower=GOOD.value - 1, upper=GOOD.value + 1))
    assert len(v.reasons) == 1
    assert v.reasons[0].startswith("The challenger's intervals promise to cover 90.0% of the outcomes and covered 70.0%")
    assert verdict(BAD, replace(GOOD, lower=GOOD.value - 1, upper=GOOD.value + 1), GatePolicy()).promote


def test_worse_probabilities_refuse_and_none_at_all_too() -> None:
    certain = replace(GOOD, p_up=np.where(GOOD.value > 0, 0.99, 0.01))
    v = verdict(BAD, certain)
    assert [c.name for c in v.checks if not c.holds] == ["calibration"]
    assert "calibration error is 0." in v.reasons[0]
    silent = replace(GOOD, p_up=np.full(len(GOOD), np.nan))
    assert [c.name for c in verdict(BAD, silent).checks if not c.holds] == ["calibration"]
    both_silent = verdict(replace(BAD, p_up=silent.p_up), silent)
    assert both_silent.promote
    assert "calibration" not in {c.name for c in both_silent.checks}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"mode": "best"}, "mode 'best' must be 'better' or 'not_worse'"),
        ({"loss": "rmse"}, "loss 'rmse' must be"),
        ({"alpha": 0.0}, "alpha 0.0 must lie between 0 and 0.5"),
        ({"level": 90}, "level 90 must lie between 0 and 1"),
        ({"margin": -0.1}, "margin -0.1 must not be negative"),
        ({"min_label_coverage": 80}, "min_label_coverage 80 must lie between 0 and 1"),
    ],
)
def test_a_policy_that_means_nothing_is_refused(wrong: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        GatePolicy(**wrong)  # type: ignore[arg-type]  # wrong on purpose
