"""Turns what pydantic found wrong into one line per key: where it stands, its value, what would be right."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

from config.keys import variable_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from config.keys import Key
    from config.sources import Layers

MASK = "********"
_SHOWN_CHARACTERS = 80
_BEFORE_AT = re.compile(r"""^(['"]?[a-z][a-z0-9+.-]*://)?.*@""", re.DOTALL)
_PARAMETER = re.compile(r"""(\b\w*(?:pass|pwd|token|secret|credential)\w*=)[^&'"\s]*""", re.IGNORECASE)


def explain(error: ValidationError, tree: Mapping[str, Any], keys: tuple[Key, ...], layers: Layers) -> list[str]:
    """One line per wrong key. Values of secrets are masked."""
    by_path = {key.path: key for key in keys}
    lines: list[str] = []
    for detail in error.errors(include_url=False, include_input=False):
        path = _path(detail["loc"], by_path, tree)
        if detail["type"] == "too_short" and _value(path, tree):
            continue  # pydantic counts only right entries; the wrong ones have lines of their own
        line = f"{_where(path, layers)}{_problem(detail, path, tree, keys)}"
        if line not in lines:
            lines.append(line)
    return lines


def nearest(name: str, known: Mapping[str, str]) -> str:
    """A hint: what the known name most like this one stands for, or where they are all listed.

    >>> nearest("kafka.partition", {"kafka.partitions": "kafka.partitions", "web.port": "web.port"})
    'did you mean kafka.partitions?'
    """
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.55)
    return f"did you mean {known[close[0]]}?" if close else "docs/settings.md lists them all"


def _path(
    location: tuple[int | str, ...], by_path: Mapping[tuple[str, ...], Key], tree: Mapping[str, Any]
) -> tuple[int | str, ...]:
    """The key's path: pydantic's location without the name of the union branch it took."""
    section = location[:1]
    kinds = {kind for path, key in by_path.items() if path[:1] == section for kind in key.variants}
    chosen = tree.get(str(section[0]), {}) if section else {}
    if len(location) > 1 and location[1] in kinds and isinstance(chosen, dict) and chosen.get("type") == location[1]:
        return (*section, *location[2:])
    return location


def _where(path: tuple[int | str, ...], layers: Layers) -> str:
    """The variable or file a value stands in, or all a section came from: `config/dev.yaml: `, `TRADING_ML__WEB__PORT: `."""
    for depth in range(len(path), 0, -1):
        named = tuple(str(part) for part in path[:depth])
        if named in layers.overrides:
            return f"{variable_of(named)}: "
    below = [variable_of(key) for key in layers.overrides if key[: len(path)] == path]
    return f"{layers.path} with {', '.join(below)}: " if below else f"{layers.path}: "


def _problem(detail: ErrorDetails, path: tuple[int | str, ...], tree: Mapping[str, Any], keys: tuple[Key, ...]) -> str:
    name, value, key = _dotted(path), _value(path, tree), _key(path, keys)
    names = tuple(str(part) for part in path)
    own_words = str(detail["ctx"]["error"]) if detail["type"] == "value_error" and "ctx" in detail else None
    match detail["type"]:
        case "extra_forbidden":
            return f"{name} is not a setting; {_instead(path, tree, keys)}"
        case "union_tag_not_found" | "union_tag_invalid":
            kind = next(k for k in keys if k.path == (*names, "type"))
            given = value.get("type") if isinstance(value, dict) else None
            return f"{kind.dotted} {'is missing; it' if given is None else f'= {show(given)}:'} should be {kind.right}"
        case "missing" if key is not None:
            return f"{name} is missing; it should be {key.right}. {key.description}"
        case "missing":
            return f"{name} is missing; it is a section with {_inside(names, keys)}"
        case _ if key is None and own_words is not None:  # what a section's own check says
            return f"{name}: {own_words}" if name else own_words
        case _ if key is None:
            return f"{name} should be a section with {_inside(names, keys)}, not {type(value).__name__}"
        case _ if key.items:
            shown = MASK if any(item.secret for item in key.items) else show(value)
            least = "a list with at least one entry" if key.required else "a list with entries"
            return f"{name} = {shown}: should be {least} of {', '.join(i.dotted for i in key.items)}"
        case _:
            return f"{name} = {MASK if key.secret else show(value)}: {own_words or 'should be ' + key.right}"


def _inside(section: tuple[str, ...], keys: tuple[Key, ...]) -> str:
    """The names directly in a section."""
    depth = len(section)
    return ", ".join(dict.fromkeys(key.path[depth] for key in keys if key.path[:depth] == section and len(key.path) > depth))


def _instead(path: tuple[int | str, ...], tree: Mapping[str, Any], keys: tuple[Key, ...]) -> str:
    """What an unknown key was probably meant to be."""
    own = next((key for key in keys if key.path == path), None)
    if own is not None:  # a key of another type of this section
        given = _value((*path[:-1], "type"), tree)
        section = ".".join(own.path[:-1])
        return f"{section}.type is {given}, and {own.path[-1]} belongs to {' or '.join(own.variants)}"
    items = next((key.items for key in keys if key.items and key.path == path[: len(key.path)]), ())
    if items:
        return nearest(str(path[-1]), {item.dotted: item.dotted for item in items})
    return nearest(_dotted(path), {key.dotted: key.dotted for key in keys})


def _key(path: tuple[int | str, ...], keys: tuple[Key, ...]) -> Key | None:
    """The key at a path, looking into lists: `models.0.name` is the item `name` of `models`."""
    for key in keys:
        if key.path == path:
            return key
        depth = len(key.path)
        if key.items and key.path == path[:depth]:
            return next((item for item in key.items if item.path == path[depth + 1 :]), None)
    return None


def _value(path: tuple[int | str, ...], tree: Mapping[str, Any]) -> Any:
    node: Any = tree
    for part in path:
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            return None
    return node


def _dotted(path: tuple[int | str, ...]) -> str:
    """`models[0].name` for ("models", 0, "name")."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def show(value: object) -> str:
    """A value as a message may show it: short, and without what may be a password: before an @, or in a query's parameter.

    >>> show("postgresql://me:p/a,ss@host/db?password=x&sslmode=require")
    "'postgresql://********@host/db?password=********&sslmode=require'"
    """
    text = "null" if value is None else _BEFORE_AT.sub(rf"\1{MASK}@", repr(value))
    text = _PARAMETER.sub(rf"\1{MASK}", text)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."
