"""Reports as alerts see them: every rule raises and clears at its thresholds, and says nothing where too little is known."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from monitoring.alerts import Alert, AlertPolicy, Observation, decide
from monitoring.drift import DriftReport, count, drift_report
from monitoring.observed import (
    concept_observations,
    coverage_observations,
    drift_observations,
    label_coverage_observations,
    quality_observations,
    set_silence_observations,
    silent_sets,
)
from monitoring.reference import Reference
from monitoring.rules import AlertRules, ConceptRule, DriftRule, QualityRule, unwatched
from monitoring.silence import SetSilence

RULES = AlertRules()
LABELS = {"model": "m", "version": "3", "role": "champion"}
DAY_US = 86_400_000_000
USUAL = AlertPolicy()


def drift(*shares: float, rows: int = 400) -> DriftReport:
    """Columns of which this share lies above the median of training."""
    names = ["ret_1", "prediction", "reconstruction_error"]
    column = {"edges": [0.0], "counts": [500, 500, 0], "low": -1, "high": 1}
    r = Reference.from_columns(names, dict.fromkeys(names, column))
    values = np.where(np.arange(rows)[:, None] < rows * np.array(shares), 0.5, -0.5)
    return drift_report(r, count(r, values), threshold=0.1, min_samples=100, false_discovery_rate=0.05)


def names(seen: list[Observation]) -> list[tuple[str, str, bool]]:
    return [(o.labels["alertname"], o.severity, o.over) for o in seen]


def test_drift_has_three_alerts_each_with_its_rule() -> None:
    report = drift(0.7, 0.95, 0.5)
    assert names(drift_observations(report, RULES, LABELS)) == [
        ("feature_drift", "warn", True),
        ("prediction_drift", "critical", True),
        ("multivariate_drift", "warn", False),
    ]
    some = replace(RULES, prediction_drift=None, feature_drift=DriftRule(critical_ratio=1.0))
    assert names(drift_observations(report, some, LABELS)) == [
        ("feature_drift", "critical", True),
        ("multivariate_drift", "warn", False),
    ]


def test_drift_of_few_rows_says_nothing() -> None:
    assert drift_observations(drift(1.0, 1.0, 1.0, rows=99), RULES, LABELS) == []


def test_drift_that_something_else_explains_does_not_rise_and_may_clear() -> None:
    inhibited = {"ret_1", "prediction"}
    seen = drift_observations(drift(0.95, 0.5, 0.95), RULES, LABELS, inhibited=inhibited)
    assert [(o.over, o.under) for o in seen] == [(False, False), (False, True), (True, False)]


@given(st.lists(st.lists(st.sampled_from([0.5, 0.6, 0.63, 0.68, 0.95]), min_size=3, max_size=3), max_size=8))
def test_columns_left_out_because_they_are_well_would_have_changed_nothing(windows: list[list[float]]) -> None:
    every: dict[str, Alert] = {}
    some = every
    for now_us, shares in enumerate(windows):
        report = drift(*shares)
        is_open = {a.labels["column"] for a in some.values() if a.state in {"pending", "firing"}}
        every, said = decide(every, drift_observations(report, RULES, LABELS), now_us, policy=USUAL)
        some, told = decide(some, drift_observations(report, RULES, LABELS, open_=is_open), now_us, policy=USUAL)
        assert told == said


def quality(**changes: Any) -> dict[str, Any]:
    usual = {"effective_rows": 400.0, "effective_instants": 400.0, "rank_ic": 0.03, "rank_ic_se": 0.01}
    return usual | {"skill": 0.0, "skill_se": 0.01} | changes


def seen_of(rule: QualityRule, **changes: Any) -> list[Observation]:
    return quality_observations(quality(**changes), replace(RULES, quality=(rule,)), LABELS)


RANK_IC = QualityRule(metric="rank_ic", bound=0.0, clear=0.01, low=True)
LOSS = QualityRule(metric="log_loss", bound=0.7, clear=0.69, low=False)


@pytest.mark.parametrize(
    ("value", "se", "over", "under"),
    [
        (-0.02, 0.01, True, False),
        (-0.01, 0.01, False, False),  # chance may explain it, but not with room to spare
        (-0.005, 0.01, False, True),  # chance explains it
        (0.005, 0.001, False, True),
        (-0.001, 0.0005, True, False),
        (0.02, 0.5, False, True),
        (-0.02, 0.0, True, False),
    ],
)
def test_a_metric_is_bad_where_noise_does_not_explain_it(*, value: float, se: float, over: bool, under: bool) -> None:
    (o,) = seen_of(RANK_IC, rank_ic=value, rank_ic_se=se)
    assert (o.over, o.under) == (over, under)


def test_a_bound_above_is_the_same_the_other_way_round() -> None:
    (bad,) = seen_of(LOSS, log_loss=0.72, log_loss_se=0.01)
    (good,) = seen_of(LOSS, log_loss=0.68, log_loss_se=0.01)
    assert (bad.over, bad.under, good.over, good.under) == (True, False, False, True)
    assert bad.labels == LABELS | {"alertname": "quality", "metric": "log_loss", "bound": "above"}


@pytest.mark.parametrize(
    "changes",
    [{"rank_ic_se": None}, {"rank_ic": None}, {"effective_rows": 49.0}, {"effective_rows": None}, {"rank_ic_se": np.nan}],
)
def test_without_a_standard_error_or_enough_rows_nothing_is_said(changes: dict[str, Any]) -> None:
    assert seen_of(RANK_IC, **{"rank_ic": -0.9, **changes}) == []


@given(st.floats(0.1, 3.0), st.integers(5, 500))
def test_the_test_is_students_of_the_effective_instants(t: float, instants: int) -> None:
    (o,) = seen_of(RANK_IC, rank_ic=-0.01 * t, effective_instants=float(instants))
    assert o.significant == (stats.t.sf(t, instants - 1) <= 0.05)
    assert o.quiet == (stats.t.sf(t, instants - 1) > 0.2)


def test_groups_are_watched_by_the_rules_that_say_so() -> None:
    bad = quality(rank_ic=-0.1)
    report = quality(by_group={"energy": bad, "tech": quality()})
    seen = quality_observations(report, RULES, LABELS)
    assert [(o.labels.get("group"), o.labels["metric"], o.over) for o in seen] == [
        (None, "rank_ic", False),
        (None, "skill", False),
        ("energy", "rank_ic", True),
        ("energy", "skill", False),
        ("tech", "rank_ic", False),
        ("tech", "skill", False),
    ]
    whole = replace(RULES, quality=(replace(RANK_IC, groups=False),))
    assert len(quality_observations(report, whole, LABELS)) == 1
    assert len(quality_observations(quality(), whole, LABELS, by_group={"energy": bad})) == 1


@pytest.mark.parametrize(
    ("coverage", "rows", "over", "severity"),
    [
        (0.9, 400.0, False, "warn"),
        (0.84, 400.0, True, "warn"),
        (0.96, 400.0, True, "warn"),
        (0.86, 4_000.0, False, "warn"),  # significant, but within the tolerance
        (0.84, 100.0, False, "warn"),  # two standard errors
        (0.7, 400.0, True, "critical"),
    ],
)
def test_coverage_is_bad_when_far_from_its_level_and_not_by_chance(
    *, coverage: float, rows: float, over: bool, severity: str
) -> None:
    report = quality(coverage=coverage, coverage_se=0.005, effective_rows=rows)
    (o,) = coverage_observations(report, RULES, LABELS, level=0.9)
    assert (o.over, o.severity) == (over, severity)


def test_intervals_that_never_missed_in_few_rows_are_not_too_wide() -> None:
    report = quality(coverage=1.0, coverage_se=0.0, effective_rows=60.0)
    (o,) = coverage_observations(report, RULES, LABELS, level=0.9)
    assert not o.over
    assert coverage_observations(report | {"effective_rows": 49.0}, RULES, LABELS, level=0.9) == []
    assert coverage_observations(report | {"coverage_se": None}, RULES, LABELS, level=0.9) == []


@pytest.mark.parametrize(
    ("coverage", "published", "age_us", "expected", "over"),
    [
        (0.7, 100, DAY_US, True, [True]),
        (0.85, 100, DAY_US, True, [False]),
        (0.7, 49, DAY_US, True, []),
        (0.7, 100, DAY_US - 1, True, []),
        (0.0, 100, DAY_US, False, []),  # nobody sends outcomes
        (None, 100, DAY_US, True, []),
    ],
)
def test_outcomes_that_do_not_come(
    *, coverage: float | None, published: int, age_us: int, expected: bool, over: list[bool]
) -> None:
    report = {"label_coverage": coverage, "published": published}
    seen = label_coverage_observations(report, RULES, LABELS, age_us=age_us, expected=expected)
    assert [o.over for o in seen] == over


@pytest.mark.parametrize(
    ("before", "now", "direction", "over", "under"),
    [
        (None, 0.9, None, False, True),  # no change yet, however bad it always was
        (0.5, 0.56, "worse", True, False),
        (0.5, 0.53, "worse", False, False),
        (0.5, 0.51, "worse", False, True),
        (0.7, 0.5, "better", False, True),
    ],
)
def test_concept_drift_is_a_rise_since_the_last_change(
    *, before: float | None, now: float, direction: str | None, over: bool, under: bool
) -> None:
    report = {"n": 20, "mean_before": before, "mean_now": now, "detected_at_us": 1, "direction": direction}
    (o,) = concept_observations(report, RULES, LABELS)
    assert (o.over, o.under) == (over, under)


def test_no_residuals_no_concept_drift() -> None:
    assert concept_observations(None, RULES, LABELS) == []
    assert concept_observations({"n": 0, "mean_before": None, "mean_now": None, "direction": None}, RULES, LABELS) == []


def test_a_set_is_silent_from_its_newest_pane_on_and_inhibits_for_the_whole_window() -> None:
    silences = {"news": SetSilence(60, 1.0, 1.0), "back": SetSilence(60, 0.0, 1.0), "fine": SetSilence(60, 0.1, 0.3)}
    seen = set_silence_observations(silences, RULES, LABELS)
    assert [(o.labels["feature_set"], o.over, o.under) for o in seen] == [
        ("back", False, True),
        ("fine", False, True),
        ("news", True, False),
    ]
    assert silent_sets(silences, RULES) == {"news", "back"}
    off = replace(RULES, feature_set_silence=None)
    assert (set_silence_observations(silences, off, LABELS), silent_sets(silences, off)) == ([], frozenset())


OFF = AlertRules(
    feature_drift=None,
    prediction_drift=None,
    multivariate_drift=None,
    concept_drift=None,
    quality=(),
    interval_coverage=None,
    label_coverage=None,
    feature_set_silence=None,
    input_silence=None,
    input_lag=None,
    prediction_latency=None,
    rejected_share=None,
)


def everything(rules: AlertRules) -> list[Observation]:
    report = quality(rank_ic=-1.0, coverage=0.2, coverage_se=0.01, label_coverage=0.1, published=99)
    concept = {"n": 9, "mean_before": 0.5, "mean_now": 0.9, "direction": "worse"}
    return [
        *drift_observations(drift(0.95, 0.95, 0.95), rules, LABELS),
        *quality_observations(report, rules, LABELS, by_group={"energy": report}),
        *coverage_observations(report, rules, LABELS, level=0.9),
        *label_coverage_observations(report, rules, LABELS, age_us=DAY_US, expected=True),
        *concept_observations(concept, rules, LABELS),
        *set_silence_observations({"news": SetSilence(9, 1.0, 1.0)}, rules, LABELS),
    ]


def fired(rules: AlertRules) -> dict[str, Alert]:
    state: dict[str, Alert] = {}
    for now_us in (1, 2, 3):
        state, events = decide(state, everything(rules), now_us, policy=USUAL)
        json.dumps(events, allow_nan=False)
    return {key: alert for key, alert in state.items() if alert.state == "firing"}


def test_every_rule_fires_and_none_that_is_off_and_what_fired_is_then_withdrawn() -> None:
    state = fired(RULES)
    names = {alert.labels["alertname"] for alert in state.values()}
    assert names == {
        *("feature_drift", "prediction_drift", "multivariate_drift", "concept_drift", "quality"),
        *("interval_coverage", "label_coverage", "feature_set_silence"),
    }
    assert fired(OFF) == {}
    assert unwatched(RULES, state) == []
    assert sorted(unwatched(OFF, state)) == sorted(state)
    alone = replace(RULES, quality=(replace(RANK_IC, groups=False),))
    assert [state[key].labels.get("group") for key in unwatched(alone, state)] == ["energy"]


@given(st.lists(st.floats(-0.2, 0.2), min_size=1, max_size=40), st.floats(0.0, 0.05))
def test_between_its_two_thresholds_nothing_changes(values: list[float], clear: float) -> None:
    """Whatever the values do: of one that neither raises nor clears no event comes, so the band cannot flap."""
    rules = replace(RULES, concept_drift=ConceptRule(rise=0.1, clear=clear))
    state: dict[str, Alert] = {}
    for now_us, rise in enumerate(values):
        report = {"n": 9, "mean_before": 0.5, "mean_now": 0.5 + rise, "direction": "worse"}
        (o,) = concept_observations(report, rules, LABELS)
        state, events = decide(state, [o], now_us, policy=USUAL)
        kinds = [e["state"] for e in events]
        if clear <= o.value < 0.1:
            assert kinds == []
        assert all(o.value < clear for kind in kinds if kind == "resolved")
        assert all(o.value >= 0.1 for kind in kinds if kind == "firing")
