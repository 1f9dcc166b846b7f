"""Where settings come from: one YAML file, and overrides in the environment. Each value keeps its origin."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from config.errors import ConfigError
from config.keys import ENV_NESTING, ENV_PREFIX, sections_of
from config.problems import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from config.keys import Key

PATH_VARIABLE = "CONFIG_PATH"
DEFAULT_PATH = Path("config/local.yaml")
_PACKAGE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Layers:
    """What was read, before checking: the file's tree, and the overrides by key."""

    path: Path
    file: Mapping[str, Any]
    overrides: Mapping[tuple[str, ...], Any]

    def merged(self) -> dict[str, Any]:
        """One tree, overrides over the file. Overriding `database.type` drops the other type's keys from the file."""
        tree = deepcopy(dict(self.file))
        database, kind = tree.get("database"), self.overrides.get(("database", "type"))
        if kind is not None and isinstance(database, dict) and database.get("type") != kind:
            del tree["database"]
        for path, value in self.overrides.items():
            section = tree
            for name in path[:-1]:
                if not isinstance(section.get(name), dict):
                    section[name] = {}
                section = section[name]
            section[path[-1]] = value
        return tree

    def stated(self, path: tuple[str, ...]) -> bool:
        """Whether the file states this key."""
        node: Any = self.file
        for name in path:
            if not isinstance(node, dict) or name not in node:
                return False
            node = node[name]
        return True


def read(keys: tuple[Key, ...], path: Path | None, env: Mapping[str, str]) -> Layers:
    """Read file and overrides; raises `ConfigError` when the file cannot be read or a variable names no setting."""
    found = find_file(path, env)
    return Layers(path=found, file=read_file(found), overrides=read_overrides(keys, env))


def find_file(path: Path | None, env: Mapping[str, str]) -> Path:
    """The settings file: `path`, else CONFIG_PATH, else config/local.yaml; relative to here, else beside this package."""
    if path is None:
        named = env.get(PATH_VARIABLE)
        if named is not None and not named.strip():
            raise ConfigError(f"{PATH_VARIABLE} is empty; name a YAML file such as {DEFAULT_PATH}, or unset it")
        path = DEFAULT_PATH if named is None else Path(named)
    if path.is_file():
        return path
    shipped = _PACKAGE / path.name
    if not path.is_absolute() and path.parent.name in {"", "config"} and shipped.is_file():
        return shipped
    choices = ", ".join(sorted(file.name for file in _PACKAGE.glob("*.yaml")))
    raise ConfigError(f"{path} is not a file; name a YAML file in {PATH_VARIABLE}, such as config/ with one of {choices}")


def read_file(path: Path) -> dict[str, Any]:
    """The tree of a YAML file, refusing anything but sections with text keys, each once."""
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_OnceLoader)  # noqa: S506 - a SafeLoader, stricter
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path} cannot be read: {getattr(e, 'strerror', None) or 'it is not UTF-8 text'}") from e
    except yaml.MarkedYAMLError as e:
        line = "" if e.problem_mark is None else f" line {e.problem_mark.line + 1}"
        raise ConfigError(f"{path}{line}: is not valid YAML: {e.problem}") from None
    except yaml.YAMLError:
        raise ConfigError(f"{path}: is not valid YAML: it holds characters YAML does not allow") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: should hold sections such as `kafka:` with keys below, not {type(tree).__name__}")
    return tree


def read_overrides(keys: tuple[Key, ...], env: Mapping[str, str]) -> dict[tuple[str, ...], Any]:
    """The settings that variables TRADING_ML__... override; one that names no setting is an error naming the nearest.

    Lists are JSON. `null` unsets a key that may be null.
    """
    by_variable = {key.variable: key for key in keys}
    overrides: dict[tuple[str, ...], Any] = {}
    wrong: list[str] = []
    for variable in sorted(name for name in env if name.upper().startswith(ENV_PREFIX)):
        key = by_variable.get(variable)
        if key is None:
            wrong.append(_no_such(variable, keys))
            continue
        text = env[variable]
        if key.items:
            try:
                overrides[key.path] = json.loads(text)
            except json.JSONDecodeError as e:
                wrong.append(f"{variable}: should be a JSON list ({e.msg} at character {e.pos})")
        else:
            overrides[key.path] = None if key.optional and text == "null" else text
    if wrong:
        raise ConfigError(*wrong)
    return overrides


def _no_such(variable: str, keys: tuple[Key, ...]) -> str:
    path = tuple(variable.upper().removeprefix(ENV_PREFIX).lower().split(ENV_NESTING))
    below = [key for key in keys if key.path[: len(path)] == path]
    lists = [key for key in keys if key.items and key.path == path[: len(key.path)]]
    if path in sections_of(keys):
        return f"{variable} names a section; set one of its keys, such as {below[0].variable}"
    if lists and len(path) > len(lists[0].path):
        return f"{variable} names an entry of a list; set the whole list as JSON in {lists[0].variable}"
    known = {key.variable.removeprefix(ENV_PREFIX): key.variable for key in keys}
    return f"{variable} names no setting; {nearest(variable.upper().removeprefix(ENV_PREFIX), known)}"


class _OnceLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice (YAML would keep the last) and keys that are not text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = key_node.value
            if not isinstance(key, str) or key_node.tag not in {"tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"}:
                problem = f"key {key!r} is not text; put it in quotes or correct it"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice; keep one", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)
