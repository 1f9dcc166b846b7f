"""docs/alerts.md: its example checks signatures, its settings are right, its figures are the code's."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import yaml

from config import load_settings
from monitoring import deliveries, notices, posting
from monitoring.rules import AlertRules

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
RECORD = {
    "event_id": "0123456789abcdef",
    "incident_id": "0123456789abcdef",
    "fingerprint": "0123456789abcdef",
    "state": "firing",
    "updated_us": 1,
}


def test_the_example_tells_a_signed_request_from_any_other() -> None:
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    scope: dict[str, Any] = {}
    exec(compile(code, "docs/alerts.md", "exec"), scope)  # noqa: S102 - our own page
    is_ours, now_us = scope["is_ours"], time.time_ns() // 1000
    made = notices.notice(RECORD, kind="webhook", source="/g", secret=b"key", now_us=now_us, resend_us=1)
    assert is_ours(made.headers, made.body, b"key")
    assert not is_ours(made.headers, made.body + b" ", b"key")
    assert not is_ours(made.headers, made.body, b"other")
    assert not is_ours({}, made.body, b"key")
    later = {**made.headers, notices.TIMESTAMP: str(now_us // 1_000_000 + 1)}
    assert not is_ours(later, made.body, b"key")
    old = notices.notice(RECORD, kind="webhook", source="/g", secret=b"key", now_us=now_us - 400_000_000, resend_us=1)
    assert not is_ours(old.headers, old.body, b"key")


def test_the_settings_shown_are_right(tmp_path: Path) -> None:
    local = yaml.safe_load((ROOT / "config/local.yaml").read_text(encoding="utf-8"))
    found = []
    for n, text in enumerate(re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)):
        local["monitoring"] |= yaml.safe_load(text)["monitoring"]
        file = tmp_path / f"{n}.yaml"
        file.write_text(yaml.safe_dump(local), encoding="utf-8")
        found.append(load_settings(file, env={}).monitoring)
    rules, told = found
    assert [r.kind for r in told.notify] == ["alertmanager", "slack", "webhook"]
    assert [r.metric for r in rules.rules.quality] == ["rank_ic", "hit_rate", "calibration_error"]
    assert not rules.rules.label_coverage.enabled


def test_every_rule_stands_in_the_table_with_its_numbers() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE))
    rules = AlertRules()
    assert set(AlertRules.__dataclass_fields__) | {"version_refused"} <= rows.keys()
    coverage, labels, concept = rules.interval_coverage, rules.label_coverage, rules.concept_drift
    sets, silence, lag = rules.feature_set_silence, rules.input_silence, rules.input_lag
    latency, rejected, drift = rules.prediction_latency, rules.rejected_share, rules.feature_drift
    assert coverage and labels and concept and sets and silence and lag and latency and rejected and drift  # noqa: PT018 - for mypy
    numbers = {
        "feature_drift": f"critical from {drift.critical_ratio} times) and significant | below {drift.clear_ratio} times",
        "concept_drift": f"rose by {concept.rise} (critical {concept.critical}) | below {concept.clear}",
        "interval_coverage": f"{coverage.tolerance} off (critical {coverage.critical}), by three standard errors | "
        f"less than {coverage.clear} off",
        "label_coverage": f"below {labels.below:.0%} | above {labels.clear:.0%}".replace("%", " %"),
        "feature_set_silence": f"from {sets.missing_rate} | below {sets.clear}",
        "input_silence": f"{silence.after_bars} bars of its trigger set, a minute at least",
        "input_lag": f"over a minute (critical {lag.critical_ratio:g} times) | below {lag.clear_ratio} times",
        "prediction_latency": f"over {latency.above_us / 1e6:g} s (critical 2 min) | below {latency.clear_us / 1e6:g} s",
        "rejected_share": f"over 1 %, and {rejected.min_rejected} records (critical 10 %) | below 0.5 %",
    }
    for name, text in numbers.items():
        assert text in rows[name]
    for rule in rules.quality:
        assert f"`{rule.metric}` " in rows["quality"]
        assert f"below {rule.bound:g}" in rows["quality"]
        assert f"above {rule.clear:g}" in rows["quality"]
    assert (lag.quantile, latency.quantile, lag.min_rows, latency.critical_ratio) == (0.95, 0.95, 20, 4.0)
    assert (rejected.above, rejected.clear, rejected.critical_ratio) == (0.01, 0.005, 10.0)


def test_the_figures_are_the_codes() -> None:
    assert f"none within {posting.TIMEOUT_S:g} s" in PAGE
    assert f"up to 1, 2, 4 … {deliveries.LAST_BOUND_S:g} s" in PAGE
    assert f"tried {deliveries.MOST_REFUSALS} times" in PAGE
    assert f"{deliveries.MOST_WAITING:,} events" in PAGE
    assert deliveries.LONGEST_RETRY_AFTER_S == 5 * 60
    assert deliveries.GIVE_UP_S == 24 * 3600
    for name in (notices.TIMESTAMP, notices.SIGNATURE, notices.KEY, notices.ALERTS_PATH):
        assert name in PAGE
