"""The pages of docs/ that say again what the code says: written by `make docs`, compared by a test.

settings.md from the descriptions of the settings, errors.md from the docstrings of the error classes, performance.md and
sizing.md from the results of the benchmarks.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import TYPE_CHECKING

from config.effective import show
from config.settings import KEYS
from docs import drift_page, performance_page, sizing_page

if TYPE_CHECKING:
    from config.keys import Key

ROOT = Path(__file__).parent.parent
PACKAGES = ("config", "models", "monitoring", "streams")

_SETTINGS = """# Settings

The file is the one `CONFIG_PATH` names (default `config/local.yaml`). Every key can be overridden by the environment
variable beside it; lists are JSON, and `null` unsets a key that may be null. Unknown keys and unknown `TRADING_ML__`
variables are refused. Durations are written `250ms`, `60s`, `5m`, `1h`, `7d`, or as plain seconds. Setting
`database.type` by its variable drops the file's keys of the other type.
`trading-ml config show` prints the effective values with their source; `trading-ml config check FILE...` checks files
against each other.

This page is made from the sections in `config/` by `make docs`.
"""

_ERRORS = """# Errors

Every error that is raised on purpose, and what to do. The message itself says what is wrong in this case and what would
be right. Commands print it in one line and end with exit code 1, or 2 when settings or the command line are wrong.

This page is made from the docstrings in each package's `errors.py` by `make docs`.
"""

_SETTINGS_TABLE = ("", "| key | right values | default | override | meaning |", "|---|---|---|---|---|")
_ERRORS_TABLE = ("", "| error | what happened | action |", "|---|---|---|")


def settings_page() -> str:
    """The text of docs/settings.md: each section's keys with what is right, default, variable and meaning."""
    lines = [_SETTINGS]
    section: tuple[str, ...] | None = None
    for key in KEYS:
        if key.items:
            section = key.path
            lines += [f"\n## {key.dotted}", "", f"{key.description} Override: `{key.variable}`, a JSON list.", *_SETTINGS_TABLE]
            lines += [_setting(item, f"{key.dotted}[].{item.dotted}", "") for item in key.items]
            continue
        if key.path[:-1] != section:
            section = key.path[:-1]
            lines += [f"\n## {'.'.join(section) or 'the deployment'}", *_SETTINGS_TABLE]
        lines.append(_setting(key, key.dotted, f"`{key.variable}`"))
    return _text(lines)


def errors_page() -> str:
    """The text of docs/errors.md: each error class with what happened and the operator's action."""
    lines = [_ERRORS]
    for file in sorted(file for package in PACKAGES for file in (ROOT / package).rglob("errors.py")):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        lines += [f"\n## {module.removesuffix('.errors')}", *_ERRORS_TABLE]
        lines += [_error(kind) for kind in vars(importlib.import_module(module)).values() if _made_in(module, kind)]
    return _text(lines)


def _setting(key: Key, name: str, variable: str) -> str:
    default = "required" if key.required else f"`{show(key.default)}`"
    kinds = f" (type {', '.join(key.variants)})" if key.variants else ""
    return f"| `{name}` | {key.right}{kinds} | {default} | {variable} | {key.description} |"


def _made_in(module: str, kind: object) -> bool:
    return inspect.isclass(kind) and issubclass(kind, Exception) and kind.__module__ == module


def _error(kind: type[Exception]) -> str:
    first = " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())
    happened, _, action = first.partition(" Action: ")
    above = "" if kind.__base__ in {Exception, None} else f" A `{kind.__base__.__name__}`."
    return f"| `{kind.__name__}` | {happened}{above} | {action[:1].upper()}{action[1:]} |"


def _text(lines: list[str]) -> str:
    return "\n".join(lines).replace("\n\n\n", "\n\n").rstrip() + "\n"


def main() -> None:
    """Write the pages."""
    pages = {"settings.md": settings_page(), "errors.md": errors_page(), "performance.md": performance_page.page()}
    pages["sizing.md"] = sizing_page.page()
    pages["drift.md"] = drift_page.page()
    for name, text in pages.items():
        (ROOT / "docs" / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
