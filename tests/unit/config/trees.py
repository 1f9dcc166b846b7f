"""Settings files as trees, to be changed and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

CONFIG = Path(__file__).parents[3] / "config"
CANARY = "canary-7f3a"


def shipped(name: str) -> dict[str, Any]:
    tree = yaml.safe_load((CONFIG / f"{name}.yaml").read_text(encoding="utf-8"))
    assert isinstance(tree, dict)
    return tree


def put(tree: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value


def drop(tree: dict[str, Any], path: tuple[str, ...]) -> None:
    for name in path[:-1]:
        tree = tree[name]
    del tree[path[-1]]
