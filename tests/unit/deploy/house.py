"""What the deployment files may name: where the repository is, the commands of `trading-ml`, and the settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer.main import get_command

from config.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from config.settings import Settings

ROOT = Path(__file__).parents[3]
ENVIRONMENTS = {"dev": "trading-dev", "feature-branch": "trading-feature-branch", "production": "trading-production"}
"""Overlay (and settings file) → namespace."""
PREFIX = "TRADING_ML__"


def commands() -> Iterator[tuple[str, ...]]:
    """Every command of the command line, as its words: `("worker", "inference")`."""
    yield from _below(_root(), ())


def parse(words: list[str]) -> None:
    """Parse a command line without running it. Raises `KeyError` for an unknown command, `UsageError` for a bad option."""
    command = _root()
    rest = list(words)
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    command.make_context(" ".join(words), rest)


def settings(file: str, variables: Mapping[str, str]) -> Settings:
    """The settings of a container that reads `file` of the image and has these variables."""
    return load_settings(ROOT / "config" / Path(file).name, {k: v for k, v in variables.items() if k.startswith(PREFIX)})


def _root() -> Any:  # typer brings its own click, whose names are private
    from streams.cli import app  # only the tests that look at commands need the whole command line

    return get_command(app)


def _below(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if not hasattr(command, "commands"):
        yield words
        return
    for name, child in command.commands.items():
        yield from _below(child, (*words, name))
