"""The docs keep in step: every setting, error, topic and command stands in them as the code has it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer.main

from config import KEYS
from config.sections import Topics
from docs import pages, performance_page, sizing_page

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The words of every command below one of typer's; groups only hold them."""
    below = getattr(command, "commands", None)
    if below is None:
        yield words
        return
    for name, inner in below.items():
        yield from commands(inner, (*words, name))


def test_the_settings_page_is_what_the_settings_say() -> None:
    assert page("settings.md") == pages.settings_page(), "run `make docs`"


def test_every_setting_has_a_meaning_and_stands_on_the_page() -> None:
    text = page("settings.md")
    for key in KEYS:
        assert key.description, f"{key.dotted} needs a description"
        assert key.variable in text
        for item in key.items:
            assert item.description, f"{key.dotted}[].{item.dotted} needs a description"
            assert f"`{key.dotted}[].{item.dotted}`" in text


def test_the_errors_page_is_what_the_error_classes_say() -> None:
    assert page("errors.md") == pages.errors_page(), "run `make docs`"


def test_the_performance_page_is_what_the_benchmarks_found() -> None:
    assert page("performance.md") == performance_page.page(), "run `make docs`"


def test_the_sizing_page_is_what_the_workers_benchmark_found_and_the_model_makes_of_it() -> None:
    assert page("sizing.md") == sizing_page.page(), "run `make docs`"


def test_every_error_says_what_to_do() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \|$", page("errors.md"), re.MULTILINE)
    assert {"ConfigError", "ModelError", "MonitoringError", "StreamsError"} <= {name for name, _, _ in rows}
    without = [name for name, happened, action in rows if not action and not happened.startswith("Base of")]
    assert without == [], "end the first paragraph of the docstring with `Action: ...`"


@pytest.mark.parametrize("role", Topics.model_fields)
def test_every_topic_has_its_row_and_its_record_described(role: str) -> None:
    text = page("topics.md")
    default = Topics.model_fields[role].default
    assert f"| `{role}` | `{default}` |" in text
    if role != "predictions_shadow":  # the same record as predictions
        assert f"\n## {role}\n" in text


def test_every_command_is_described() -> None:
    from streams.cli import app

    text = page("commands.md")
    names = [" ".join(("trading-ml", *words)) for words in commands(typer.main.get_command(app), ())]
    assert names
    assert [name for name in names if f"`{name}`" not in text] == []


def test_no_command_is_described_that_does_not_exist() -> None:
    from streams.cli import app

    real = {" ".join(("trading-ml", *words)) for words in commands(typer.main.get_command(app), ())}
    described = set(re.findall(r"^#+ `(trading-ml[a-z -]*)", page("commands.md"), re.MULTILINE))
    assert {name.strip() for name in described} <= real


def test_pages_link_only_to_what_exists() -> None:
    links = [
        (file, target)
        for file in (*(ROOT / "docs").rglob("*.md"), ROOT / "README.md")
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", file.read_text(encoding="utf-8"))
    ]
    assert [f"{file.relative_to(ROOT)}: {target}" for file, target in links if not (file.parent / target).exists()] == []
