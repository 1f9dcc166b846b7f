"""docs/training.md says what is there: the fields of a request, the names of metrics, commands a shell takes."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from monitoring.logged import metrics_of
from tests.unit.monitoring import a_record

PAGE = (Path(__file__).parents[3] / "docs" / "training.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_request_shown_has_the_fields_of_one() -> None:
    shown, made = json.loads(block("json")), a_record.request()
    assert list(shown) == list(made)
    for part in ("evidence", "links"):
        assert list(shown[part]) == list(made[part])
    assert set(shown["evidence"]["columns"][0]) - {"..."} <= set(made["evidence"]["columns"][0])
    assert shown["evidence"]["alerts"][0].keys() == made["evidence"]["alerts"][0].keys()
    for name in ("request_id", "requested_us", "reasons", "links", "asked", "suppressed"):
        assert shown[name] == made[name]


def test_the_metrics_named_are_logged() -> None:
    listed = re.search(r"`monitor\.<role>\.<name>`: (.*?) and the rest of quality", PAGE, re.DOTALL)
    assert listed is not None
    names = re.findall(r"`(\w+)`", listed[1])
    logged = metrics_of(a_record.window())
    assert len(names) > 8
    assert [name for name in names if f"monitor.challenger.{name}" not in logged] == []
    for part in ("estimate", "concept", "paired"):
        assert f"`{part}.*`" in PAGE
        assert any(name.startswith(f"monitor.challenger.{part}.") for name in logged)


def test_a_shell_takes_the_job() -> None:
    subprocess.run(["sh", "-n"], input=block("sh"), text=True, check=True)
