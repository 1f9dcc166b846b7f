"""The examples of docs/publishing.md run as they stand, and print what the page says they print."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from models.errors import Check
from models.registry import Registry

if TYPE_CHECKING:
    import pytest

    from tests.unit.models.conftest import Store

PAGE = Path(__file__).parents[3] / "docs" / "publishing.md"


def test_the_examples_publish_versions_that_load(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(store.root)
    (store.root / "var").mkdir()
    (store.root / "mlflow.db").rename(store.root / "var" / "mlflow.db")
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
    scope: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), scope)  # noqa: S102 - our own page
    assert capsys.readouterr().out.splitlines() == re.findall(r"(?m)^print\(.*\)  # (.*)$", code)
    registry = Registry("sqlite:///var/mlflow.db", store.root / "cache", trial=False)
    for name, version in (("next-day", "1"), ("next-day", "2"), ("next-day-xgb", "1"), ("next-day-onnx", "1")):
        handle = registry.load(name, version)
        assert handle.predict(scope["x_fresh"]).shape == (150,)
        assert sum(handle.spec.reference["ret_1"].counts) == 250
    assert registry.load("panel", "1").predict(scope["panel"]).shape == (1_200,)


def test_the_page_names_every_check() -> None:
    assert set(re.findall(r"(?m)^\| `(\w+)` +\|", PAGE.read_text(encoding="utf-8"))) - {"check"} == set(get_args(Check))
