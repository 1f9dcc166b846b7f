"""What calls itself core is held to it: the import contract in pyproject.toml lists it."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("config", "models", "monitoring", "streams")


def contract() -> set[str]:
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return {module for one in tables["tool"]["importlinter"]["contracts"] for module in one.get("source_modules", [])}


def core_modules() -> set[str]:
    """Modules whose docstring says that they are core. The demo stands outside: it computes with data frames."""
    found = set()
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            if "demo" in file.parts:
                continue
            docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
            if re.search(r"\bCore[:;.]", docstring):
                found.add(".".join(file.relative_to(ROOT).with_suffix("").parts))
    return found


def test_the_contract_lists_exactly_the_modules_that_say_they_are_core() -> None:
    assert contract() == core_modules()


def test_the_heart_of_the_house_is_core() -> None:
    heart = {"models.spec", "models.score", "models.confidence", "models.timeline", "models.handle"}
    heart |= {"monitoring.reference", "monitoring.drift", "monitoring.quality", "monitoring.alerts"}
    heart |= {"streams.records", "streams.windows", "streams.state", "streams.pipeline"}
    assert heart - contract() == set()
