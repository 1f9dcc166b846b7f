"""README, docs/commands.md and the decisions: in step with the files and commands they show."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import pytest

from tests.unit.deploy.house import ROOT, commands, parse

if TYPE_CHECKING:
    from pathlib import Path

README = (ROOT / "README.md").read_text()
COMMANDS = (ROOT / "docs/commands.md").read_text()
DECISIONS = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))


def command_lines(text: str) -> list[list[str]]:
    """Every `trading-ml …` of the shell blocks, as words; variables set before it and comments are left out."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if "trading-ml" in words:
                found.append(words[words.index("trading-ml") + 1 :])
    return found


@pytest.mark.parametrize("name", ["produce_features.py", "read_predictions.py"])
def test_the_readme_shows_the_examples_as_they_are(name: str) -> None:
    blocks = re.findall(r"`examples/(\S+)`:\n\n```python\n(.*?)```", README, re.DOTALL)
    assert dict(blocks)[name] == (ROOT / "examples" / name).read_text()


@pytest.mark.parametrize("text", [README, COMMANDS], ids=["README.md", "docs/commands.md"])
def test_every_command_line_shown_is_understood(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows.parquet").touch()
    (tmp_path / "config").symlink_to(ROOT / "config")
    monkeypatch.chdir(tmp_path)
    shown = command_lines(text)
    assert shown
    for words in shown:
        parse(words)


def test_every_command_is_explained_and_shown_and_no_other() -> None:
    explained = re.findall(r"^### `trading-ml (.*)`$", COMMANDS, re.MULTILINE)
    assert sorted(explained) == sorted(" ".join(words) for words in commands())
    sections = re.split(r"^### ", COMMANDS, flags=re.MULTILINE)[1:]
    for name, section in zip(explained, sections, strict=True):
        assert any(" ".join(words).startswith(name) for words in command_lines(section)), f"{name} has no example"


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_house_table_names_what_is_there() -> None:
    table = README.partition("## The house")[2].partition("##")[0]
    for name in re.findall(r"`([^`]+)`", table.replace("| where", "")):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", DECISIONS, ids=lambda p: p.stem)
def test_a_decision_is_short_and_of_one_form(page: Path) -> None:
    lines = page.read_text().splitlines()
    assert len(lines) <= 25
    assert lines[0].startswith(f"# {page.name[:4]}. ")
    assert lines[2].startswith("Status: ")
    assert [line for line in lines if line.startswith("## ")] == ["## Why", "## What", "## So"]


def test_decisions_are_numbered_without_a_gap() -> None:
    assert [int(page.name[:4]) for page in DECISIONS] == list(range(1, len(DECISIONS) + 1))
