"""The section `monitoring.rules` and what stands beside it: thresholds that contradict each other are refused in one line."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, get_args

import pytest
import yaml

from config import load_settings
from config.alert_rules import AlertRules, Metric
from monitoring.quality import QualityReport
from tests.unit.config.trees import CONFIG, put, shipped

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIDE = "an alert clears on the good side of what raises it"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("concept_drift.clear", 0.05, f"concept_drift: clear 0.05 is not below rise 0.05; {SIDE}"),
        ("concept_drift.critical", 0.01, "concept_drift: critical 0.01 is below rise 0.05; it is at least that"),
        ("interval_coverage.clear", 0.5, f"interval_coverage: clear 0.5 is not below tolerance 0.05; {SIDE}"),
        ("interval_coverage.critical", 0.04, "interval_coverage: critical 0.04 is below tolerance 0.05; it is at least that"),
        ("label_coverage.clear", 0.8, f"label_coverage: clear 0.8 is not greater than below 0.8; {SIDE}"),
        ("feature_set_silence.clear", 0.6, f"feature_set_silence: clear 0.6 is not below missing_rate 0.5; {SIDE}"),
        ("prediction_latency.above", "15s", f"prediction_latency: clear 15s is not below above 15s; {SIDE}"),
        ("rejected_share.clear", 0.02, f"rejected_share: clear 0.02 is not below above 0.01; {SIDE}"),
        ("feature_drift.clear_ratio", 1, "feature_drift.clear_ratio = 1: should be a number, above 0 and below 1"),
        ("input_lag.critical_ratio", 0.5, "input_lag.critical_ratio = 0.5: should be a number, at least 1"),
        ("input_silence.after_bars", 0, "input_silence.after_bars = 0: should be a whole number, at least 1"),
        ("input_lag.pending_windows", 0, "input_lag.pending_windows = 0: should be a whole number, at least 1 or null"),
    ],
)
def test_a_threshold_out_of_order(path: str, value: object, said: str, refused: Callable[..., list[str]]) -> None:
    tree = shipped("local")
    put(tree, ("monitoring", "rules", *path.split(".")), value)
    assert refused(tree) == [f"monitoring.rules.{said}"]


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([{"metric": "ic", "clear": 0}], "quality[0]: the rule of ic needs one of below and above; set one, not both"),
        ([{"metric": "ic", "below": 0, "above": 1, "clear": 0}], "quality[0]: the rule of ic needs one of below and above"),
        (
            [{"metric": "ic", "below": 0, "clear": 0}],
            "quality[0]: clear 0.0 is not greater than below 0.0 of ic; an alert clears",
        ),
        ([{"metric": "brier", "above": 0.3, "clear": 0.3}], "quality[0]: clear 0.3 is not below above 0.3; an alert clears"),
        ([{"metric": "rankic", "below": 0, "clear": 1}], "quality[0].metric = 'rankic': should be one of ic, rank_ic, hit_rate,"),
        ([{"metric": "ic", "below": 0, "clear": 1}] * 2, ": quality has two rules for ic below; keep one"),
        ([{"metric": "ic", "below": 0}], "quality[0].clear is missing; it should be a number"),
    ],
)
def test_a_rule_of_quality_that_is_not_right(entries: list[dict[str, Any]], said: str, refused: Callable[..., list[str]]) -> None:
    tree = shipped("local")
    put(tree, ("monitoring", "rules", "quality"), entries)
    [line] = refused(tree)
    assert line.removeprefix("monitoring.rules").removeprefix(".").startswith(said)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("symbol_groups", {"energy": []}, "should be groups with symbols or patterns of them, such as {energy: [XOM, CVX]"),
        ("symbol_groups", {"energy": "XOM"}, "should be groups with symbols or patterns"),
        ("symbol_groups", {" ": ["XOM"]}, "should be groups with symbols or patterns"),
        ("symbol_groups", "energy", "should be groups with symbols or patterns"),
        ("symbol_groups", {"other": ["XOM"]}, "names a group 'other', as the symbols are called that are in no group"),
        ("symbol_groups", {f"g{n}": ["X"] for n in range(101)}, "names 101 groups; use at most 100"),
        ("retrain.on", ["silence"], "should be a list of feature_drift, prediction_drift, multivariate_drift, concept_drift, "),
        ("retrain.on", "quality", "should be a list of feature_drift, "),
    ],
)
def test_what_stands_beside_the_rules(path: str, value: object, said: str, refused: Callable[..., list[str]]) -> None:
    tree = shipped("local")
    put(tree, ("monitoring", *path.split(".")), value)
    [line] = refused(tree)
    assert line.startswith(f"monitoring.{path} = ")
    assert said in line


def test_every_metric_of_a_report_with_a_standard_error_can_be_watched_and_no_other() -> None:
    names = {f.name for f in fields(QualityReport)}
    assert set(get_args(Metric)) == {name for name in names if f"{name}_se" in names}


def test_nothing_needs_to_be_said() -> None:
    found = load_settings(CONFIG / "local.yaml", env={}).monitoring
    assert all(getattr(found.rules, name).enabled for name in AlertRules.model_fields if name != "quality")
    assert [(r.metric, r.below, r.clear) for r in found.rules.quality] == [("rank_ic", 0.0, 0.01), ("skill", -0.1, -0.05)]
    assert (found.symbol_groups, found.log_to_registry, found.retrain.enabled) == ({}, True, True)


def test_a_file_says_only_what_differs(tmp_path: Path) -> None:
    tree = shipped("local")
    own = {"prediction_latency": {"above": "500ms", "clear": "250ms"}, "input_silence": {"enabled": False}, "quality": []}
    tree["monitoring"] |= {"rules": own, "symbol_groups": {"energy": ["XOM", "C*"]}}
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump(tree))
    found = load_settings(file, env={}).monitoring
    assert found.rules.prediction_latency.above.total_seconds() == 0.5
    assert (found.rules.input_silence.enabled, found.rules.input_lag.enabled, found.rules.quality) == (False, True, ())
    assert found.symbol_groups == {"energy": ["XOM", "C*"]}
