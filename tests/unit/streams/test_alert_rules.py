"""The rules of the settings as numbers: with nothing said they are the core's own, and each key arrives."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from config import KEYS, load_settings
from monitoring.alerts import AlertPolicy
from monitoring.rules import AlertRules, QualityRule
from streams.alert_rules import alert_rules
from tests.unit.config.trees import CONFIG

if TYPE_CHECKING:
    from config.keys import Key


def rules(**env: str) -> AlertRules:
    named = {f"TRADING_ML__MONITORING__{name}": value for name, value in env.items()}
    return alert_rules(load_settings(CONFIG / "local.yaml", env=named))


def test_the_defaults_of_the_settings_are_those_of_the_core() -> None:
    assert rules() == AlertRules()


@pytest.mark.parametrize("name", [name for name in AlertRules.__dataclass_fields__ if name != "quality"])
def test_each_rule_can_be_left_out(name: str) -> None:
    without: dict[str, Any] = {name: None}
    assert rules(**{f"RULES__{name.upper()}__ENABLED": "false"}) == replace(AlertRules(), **without)


OWN: dict[str, tuple[str, tuple[str, ...], object]] = {
    "cooldown": ("90s", ("policy", "cooldown_us"), 90_000_000),
    "pending_windows": ("9", ("policy", "pending_windows"), 9),
    "at_least": ("90s", ("at_least_us",), 90_000_000),
    "above": ("90s", ("above_us",), 90_000_000),
    "clear": ("7s", ("clear_us",), 7_000_000),
    "severity": ("critical", ("severity",), "critical"),
}
"""Of keys that are no plain numbers: as written, where they arrive, as what."""
NUMBERED = [key for key in KEYS if key.path[:2] == ("monitoring", "rules") and not key.items and key.path[3] != "enabled"]


def other(key: Key) -> tuple[str, tuple[str, ...], object]:
    name = key.path[3]
    if name == "pending_windows" or not isinstance(key.default, float | int):
        return OWN[name]
    value = key.default + 1 if key.right.startswith("a whole number") else 1.05 * key.default
    return str(value), (name,), value


@pytest.mark.parametrize("key", NUMBERED, ids=lambda key: ".".join(key.path[2:]))
def test_each_number_arrives(key: Key) -> None:
    written, where, meant = other(key)
    found = getattr(rules(**{"__".join(key.path[1:]).upper(): written}), key.path[2])
    for name in where:
        found = getattr(found, name)
    assert found == meant


def test_what_a_rule_leaves_open_is_as_usual() -> None:
    found = rules(
        PENDING_WINDOWS="5", COOLDOWN="3h", RULES__QUALITY=json.dumps([{"metric": "brier", "above": 0.3, "clear": 0.2}])
    )
    usual = AlertPolicy(pending_windows=5, cooldown_us=3 * 3_600_000_000)
    assert found.feature_drift is not None
    assert found.feature_drift.policy == usual
    assert found.quality == (QualityRule(policy=usual, metric="brier", bound=0.3, clear=0.2, low=False),)
    assert found.input_lag == AlertRules().input_lag
    off = rules(RULES__QUALITY=json.dumps([{"metric": "brier", "above": 0.3, "clear": 0.2, "enabled": False}]))
    assert off.quality == ()


def test_labels_are_waited_for_as_long_as_they_may_change_a_window() -> None:
    for env, days in ({"REVISE_WITHIN": "2d"}, 2), ({"REVISE_WITHIN": "9d", "LABEL_TIMEOUT": "3d"}, 3):
        found = rules(**env).label_coverage
        assert found is not None
        assert found.after_us == days * 86_400_000_000
