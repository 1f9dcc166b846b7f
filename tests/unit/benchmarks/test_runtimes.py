"""The comparison of runtimes: what it calls equal is equal, what is not installed is said with its remedy."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.job import Job
from benchmarks.runtimes import BUILDERS, SIZES, compared, measure, table

if TYPE_CHECKING:
    import pytest
    from numpy.typing import NDArray

JOB = Job(symbols=12, features=3, warm_up_rows=0, rows=240, paced=())


def test_lightgbm_is_measured_alone_and_in_the_pipelines_step(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("onnxruntime", "lleaves", "treelite", "onnxmltools"):
        monkeypatch.setitem(sys.modules, package, None)
    found, absent = measure(JOB, rounds=1)
    assert list(found) == ["native"]
    assert absent.keys() == BUILDERS.keys() - {"native"}
    native = found["native"]
    assert (native.differing, native.row_independent) == (0.0, True)
    assert sorted(native.us_per_row) == list(SIZES)
    assert 0.0 < native.model_share < 1.0
    shown = table(found, absent)
    assert "not installed: pip install treelite tl2cgen" in shown
    assert json.dumps(absent)


def test_other_bits_and_dependence_on_the_batch_are_seen() -> None:
    def right(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return x[:, 0]

    def rounded(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return x[:, 0].astype(np.float32).astype(np.float64)

    def of_the_batch(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return x[:, 0] + (len(x) - 40)

    x = np.random.default_rng(1).normal(size=(40, 2))
    predicts = {"native": right, "onnx": rounded, "lleaves": of_the_batch}
    found = compared(predicts, dict.fromkeys(predicts, 0.0), x)
    assert (found["native"].differing, found["native"].largest_difference) == (0.0, 0.0)
    assert found["onnx"].differing == 1.0
    assert 0.0 < found["onnx"].largest_difference < 1e-6
    assert [found[n].row_independent for n in predicts] == [True, True, False]
