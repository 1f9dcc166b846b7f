"""The proof of drift runs, and its page says what it found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.drift import __main__ as command
from docs import drift_page

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from benchmarks.drift.series import Shape


def test_every_number_of_the_page_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With hardly any rows, which proves nothing but that it works."""
    for name in ("null_windows", "null_days", "rows_until_called"):
        monkeypatch.setattr(command, name, on_less(getattr(command, name)))
    output = tmp_path / "drift.json"
    output.write_text(json.dumps(command.measured(0.0, lambda _: None)), encoding="utf-8")
    monkeypatch.setattr(drift_page, "RESULTS", output)
    text = drift_page.page()
    assert "rho 0.9, one symbol, a day" in text
    assert "nan" not in text


def on_less(measure: Callable[..., Any]) -> Callable[..., Any]:
    def measured(shape: Shape, **numbers: Any) -> Any:
        return measure(replace(shape, columns=2, symbols=min(shape.symbols, 2), training=100), **numbers)

    return measured


def test_the_page_is_what_the_benchmark_found() -> None:
    assert (Path(drift_page.__file__).parent / "drift.md").read_text(encoding="utf-8") == drift_page.page(), "run `make docs`"
