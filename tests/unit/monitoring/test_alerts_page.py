"""docs/alerts.md: its example checks signatures, its settings are right, its figures are the code's."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import yaml

from config import load_settings
from monitoring import deliveries, notices, posting

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


def test_the_settings_shown_are_right() -> None:
    [text] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    entries = yaml.safe_load(text)["monitoring"]["notify"]
    found = load_settings(ROOT / "config/local.yaml", env={"TRADING_ML__MONITORING__NOTIFY": json.dumps(entries)})
    assert [r.kind for r in found.monitoring.notify] == ["alertmanager", "slack", "webhook"]


def test_the_figures_are_the_codes() -> None:
    assert f"none within {posting.TIMEOUT_S:g} s" in PAGE
    assert f"up to 1, 2, 4 … {deliveries.LAST_BOUND_S:g} s" in PAGE
    assert f"tried {deliveries.MOST_REFUSALS} times" in PAGE
    assert f"{deliveries.MOST_WAITING:,} events" in PAGE
    assert deliveries.LONGEST_RETRY_AFTER_S == 5 * 60
    assert deliveries.GIVE_UP_S == 24 * 3600
    for name in (notices.TIMESTAMP, notices.SIGNATURE, notices.KEY, notices.ALERTS_PATH):
        assert name in PAGE
