"""Good folders of every flavor, and what a load must not change."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
import xgboost

from tests.unit.models import graphs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.models.conftest import Data, Store


@pytest.fixture(scope="session", name="every_flavor")
def fixture_every_flavor(
    make_store: Callable[[Path], Store], data: Data, ridge: Any, booster: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with one good model folder of each flavor, by name."""
    root = tmp_path_factory.mktemp("flavors")
    made = {
        "lightgbm": booster,
        "sklearn": ridge,
        "xgboost": xgboost.train({"nthread": 1, "max_depth": 3}, xgboost.DMatrix(*data.train), 4),
        "onnx": graphs.network(hidden=4),
        "onnx_trees": graphs.tree(),
    }
    for name, model in made.items():
        (root / name).mkdir()
        make_store(root / name).publish(model)
        (mlmodel,) = (root / name / "artifacts").rglob("MLmodel")
        mlmodel.parent.rename(root / name / "model")
    return root


@pytest.fixture(name="victim")
def fixture_victim(every_flavor: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Makes a copy of a flavor's folder, anew each time."""

    def copy(flavor: str) -> Path:
        shutil.rmtree(tmp_path / "victim", ignore_errors=True)
        return shutil.copytree(every_flavor / flavor / "model", tmp_path / "victim")

    return copy
