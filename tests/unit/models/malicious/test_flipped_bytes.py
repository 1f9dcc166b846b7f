"""Folders with flipped bits and a forged digest: each is refused, ends its trial, or answers its own example."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[4]
COUNT = 30
FLAVORS = ("lightgbm", "sklearn", "xgboost", "onnx", "onnx_trees")


def test_nothing_that_passes_the_trial_harms_the_process_that_loads_it(every_flavor: Path, tmp_path: Path) -> None:
    folders = [str(shutil.copytree(every_flavor / flavor / "model", tmp_path / flavor)) for flavor in FLAVORS]
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
    command = [sys.executable, "-m", "tests.unit.models.malicious.flips", "17", str(COUNT), *folders]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110, check=False, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr[-3000:]
    for found in json.loads(ran.stdout.splitlines()[-1]):  # LightGBM prints too
        assert sum(found.values()) == COUNT
        assert found["refused"] > COUNT // 4
