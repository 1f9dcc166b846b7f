"""What is in effect and where it came from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from pydantic import SecretStr

from config import sources
from config.durations import format_duration
from config.problems import MASK
from config.settings import KEYS, Settings, build

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from config.keys import Key

Source = Literal["default", "file", "env"]


@dataclass(frozen=True, slots=True)
class Effective:
    """One setting in effect: its key, its value as text (secrets masked), its source and the file or variable itself."""

    key: str
    value: str
    source: Source
    origin: str


def explain(path: Path | None = None, env: Mapping[str, str] | None = None) -> tuple[Effective, ...]:
    """Every effective key of what `load_settings(path, env)` would return, in the order of the tree. Raises `ConfigError`."""
    layers = sources.read(KEYS, path, os.environ if env is None else env)
    settings = build(layers)
    rows: list[Effective] = []
    for key in KEYS:
        if not key.variants or settings.database.type in key.variants:
            rows.extend(_rows(key, settings, layers))
    return tuple(rows)


def _rows(key: Key, settings: Settings, layers: sources.Layers) -> list[Effective]:
    value: Any = settings
    for name in key.path:
        value = getattr(value, name)
    source, origin = _origin(key, layers)
    if not key.items or not value:
        return [Effective(key.dotted, "[]" if key.items else show(value), source, origin)]
    return [
        Effective(
            f"{key.dotted}[{n}].{item.dotted}", show(getattr(entry, item.path[0])), *_item_origin(entry, item, (source, origin))
        )
        for n, entry in enumerate(value)
        for item in key.items
    ]


def _origin(key: Key, layers: sources.Layers) -> tuple[Source, str]:
    if key.path in layers.overrides:
        return "env", key.variable
    if layers.stated(key.path):
        return "file", str(layers.path)
    return "default", ""


def _item_origin(entry: Any, item: Key, listed: tuple[Source, str]) -> tuple[Source, str]:
    return listed if item.path[0] in entry.model_fields_set else ("default", "")


def show(value: object) -> str:
    """A value as a settings file would hold it; a secret only says that it is set.

    >>> show(timedelta(hours=1)), show(None), show(SecretStr("hunter2")), show(True)
    ('1h', 'null', '********', 'true')
    """
    match value:
        case SecretStr():
            return MASK
        case timedelta():
            return format_duration(value)
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case _:
            return str(value)
