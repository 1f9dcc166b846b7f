"""Folders with flipped bits and a forged digest: each is refused, ends its trial, or answers its own example."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[4]
COUNT = 40


@pytest.mark.parametrize("flavor", ["lightgbm", "sklearn", "xgboost", "onnx", "onnx_trees"])
def test_nothing_that_passes_the_trial_harms_the_process_that_loads_it(victim: Callable[[str], Path], flavor: str) -> None:
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
    command = [sys.executable, "-m", "tests.unit.models.malicious.flips", str(victim(flavor)), "17", str(COUNT)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads(ran.stdout.splitlines()[-1])  # LightGBM prints too
    assert sum(found.values()) == COUNT
    assert found["refused"] > COUNT // 4
