"""What the commands about models share: roles and their aliases, log lines on standard error, durations as text."""

from __future__ import annotations

import contextlib
import sys
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from config import Settings
    from config.sections import ServedModel

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


class Part(StrEnum):
    """The roles a version may have."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"
    CANARY = "canary"


def alias_of(model: ServedModel, role: Part) -> str | None:
    """The alias of a role in the settings."""
    if role is Part.CANARY:
        return None if model.canary is None else model.canary.alias
    return model.champion_alias if role is Part.CHAMPION else model.challenger_alias


def served(settings: Settings, name: str) -> ServedModel:
    """The model of this name in the settings."""
    for model in settings.models:
        if model.name == name:
            return model
    raise typer.BadParameter(f"model {name!r} is not served; the settings name {', '.join(m.name for m in settings.models)}")


@contextlib.contextmanager
def logs_apart() -> Iterator[None]:
    """Log lines go to standard error while this lasts, for standard output is what was asked for."""
    import structlog

    before = structlog.get_config()
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    try:
        yield
    finally:
        structlog.configure(**before)


def span(us: int) -> str:
    """Microseconds as the settings write a duration.

    >>> span(432_000_000_000), span(0)
    ('5d', '0s')
    """
    from config.durations import format_duration

    return format_duration(timedelta(microseconds=us)) if us else "0s"
