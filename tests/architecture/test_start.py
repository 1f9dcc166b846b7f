"""The command line starts at once: nothing heavy is imported before a command needs it."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("mlflow", "lightgbm", "sklearn", "faust", "aiokafka", "pandas", "duckdb", "matplotlib", "pyarrow", "scipy")
PROGRAM = "import sys, {module}; print(*sorted(set({heavy}) & set(sys.modules)))"


@pytest.mark.parametrize("module", ["config", "streams.cli"])
def test_importing_it_imports_nothing_heavy(module: str) -> None:
    program = PROGRAM.format(module=module, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
