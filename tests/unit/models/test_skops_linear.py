"""Linear models without scikit-learn: the same bits as with it, and any other file is left to skops."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import skops.io
from sklearn import linear_model
from sklearn.svm import LinearSVR

from models.errors import SpecError
from models.native_sklearn import LINEAR, load_skops, native
from models.skops_linear import read_weights

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.models.conftest import Data


def weights_of(file: Path) -> Any:
    with zipfile.ZipFile(file) as archive:
        return read_weights(file, json.loads(archive.read("schema.json")), kinds=LINEAR)


def edited(file: Path, change: dict[str, Any], arrays: bytes | None = None) -> Path:
    """The file with other values at the top of its schema or at one of the estimator's fields, and other arrays."""
    with zipfile.ZipFile(file) as archive:
        members = {n: archive.read(n) for n in archive.namelist()}
    schema = json.loads(members["schema.json"])
    for key, value in change.items():
        (schema["content"]["content"] if key.endswith("_") and not key.startswith("__") else schema)[key] = value
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, json.dumps(schema) if name == "schema.json" else arrays or data)
    return file


@pytest.mark.parametrize("kind", sorted(LINEAR))
def test_every_linear_kind_answers_with_the_bits_it_has_through_scikit_learn(kind: str, data: Data, tmp_path: Path) -> None:
    estimator = LinearSVR() if kind == "LinearSVR" else getattr(linear_model, kind)()
    estimator.fit(*data.train)
    file = tmp_path / "model.skops"
    skops.io.dump(estimator, file)
    assert weights_of(file) is not None
    x = data.x.copy()
    x[3, 1], x[5, 0], x[7, 2] = np.nan, np.inf, 1e308
    found, expected = load_skops(file, columns=3), native(skops.io.load(file), columns=3)
    assert found.predict(x).tobytes() == expected.predict(x).tobytes()
    assert found.accepts_missing is expected.accepts_missing is False
    with pytest.raises(SpecError, match="reads 3 columns; the serving spec has 4"):
        load_skops(file, columns=4)


def test_without_an_intercept_and_in_single_precision_too(data: Data, tmp_path: Path) -> None:
    x, y = data.train
    single = linear_model.LinearRegression().fit(x.astype(np.float32), y.astype(np.float32)[:, None])
    for estimator in (linear_model.Ridge(fit_intercept=False).fit(x, y), single):
        file = tmp_path / "model.skops"
        skops.io.dump(estimator, file)
        assert weights_of(file) is not None
        expected = native(skops.io.load(file), columns=3).predict(data.x)
        assert load_skops(file, columns=3).predict(data.x).tobytes() == expected.tobytes()


def array(values: Any) -> bytes:
    held = io.BytesIO()
    np.save(held, values, allow_pickle=True)
    return held.getvalue()


@pytest.mark.parametrize(
    ("change", "arrays"),
    [
        ({"protocol": 3}, None),
        ({"__class__": "Lasso2"}, None),
        ({"__module__": "sklearn.tree"}, None),
        ({"__loader__": "TypeNode"}, None),
        ({"coef_": {"__loader__": "JsonNode", "content": '"1"'}}, None),
        ({"coef_": {"__loader__": "NdArrayNode", "type": "numpy", "file": "absent.npy"}}, None),
        ({"coef_": {"__loader__": "NdArrayNode", "type": "json", "content": []}}, None),
        ({"n_features_in_": {"__loader__": "JsonNode", "content": "true"}}, None),
        ({}, array(np.array([object()]))),
        ({}, array(np.array([1j]))),
        ({}, array(np.zeros(0))),
        ({}, b"not an array"),
    ],
)
def test_any_other_file_is_left_to_skops(data: Data, tmp_path: Path, change: dict[str, Any], arrays: bytes | None) -> None:
    file = tmp_path / "model.skops"
    skops.io.dump(linear_model.Ridge().fit(*data.train), file)
    assert weights_of(file) is not None
    assert weights_of(edited(file, change, arrays)) is None


def test_a_worker_with_a_linear_model_never_imports_scikit_learn(linear: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from models.folder import load_folder;"
        f"load_folder(Path({str(linear)!r}), name='m', version='1', digest='');"
        "sys.exit(any(m in sys.modules for m in ('lightgbm', 'sklearn', 'skops', 'scipy', 'mlflow')))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
