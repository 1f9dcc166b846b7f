"""The commands a stranger types: they are listed, they exist, and set-up says in one line what a machine lacks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TARGETS = ("demo", "test", "check", "audit", "sbom", "bench", "chaos", "fmt", "docs", "clean")


def bare_machine(folder: Path, *, python: str | None = None) -> dict[str, str]:
    """An environment whose PATH has the tools set-up uses, and no Python but this script."""
    for tool in ("sh", "dirname", "uname"):
        where = shutil.which(tool)
        assert where is not None
        (folder / tool).symlink_to(where)
    if python is not None:
        (folder / "python3").write_text(f"#!/bin/sh\n{python}\n", encoding="utf-8")
        (folder / "python3").chmod(0o755)
    return {"PATH": str(folder)}


def set_up(env: dict[str, str]) -> tuple[int, str]:
    done = subprocess.run([ROOT / ".ci" / "setup"], env=env, check=False, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def test_make_alone_lists_every_target() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60).stdout
    assert re.findall(r"^  make (\w+) +\S", listed, re.MULTILINE) == ["help", *TARGETS]


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_has_something_to_do(target: str) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    planned = subprocess.run(
        ["make", "-n", target], cwd=ROOT, check=True, capture_output=True, text=True, env=env, timeout=60
    ).stdout
    assert planned.strip()


def test_ci_runs_what_a_person_runs() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text(encoding="utf-8")
    assert "set -euo pipefail" in text
    assert "make check" in text


@pytest.mark.parametrize("python", [None, "exit 1"], ids=["absent", "too old"])
def test_set_up_without_a_fit_python(tmp_path: Path, python: str | None) -> None:
    code, said = set_up(bare_machine(tmp_path, python=python))
    assert (code, said) == (1, "setup: Python 3.11 or newer is missing; install it, so that python3 or python3.11 is found\n")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the library has another name, and LightGBM's wheel says so itself")
def test_set_up_without_openmp(tmp_path: Path) -> None:
    code, said = set_up(bare_machine(tmp_path, python='case "$*" in *libgomp*) exit 1;; esac'))
    assert code == 1
    assert said.startswith("setup: the OpenMP library libgomp.so.1 is missing; install it (Debian, Ubuntu: apt install libgomp1")
    assert said.count("\n") == 1
