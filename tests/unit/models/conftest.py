"""A migrated registry to copy (migrations take seconds, a copy takes none), and small real models."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from models.handle import ModelHandle, Predict
from models.mlflow_client import connect
from models.publish import PublishedVersion, publish
from models.registry import Registry
from models.spec import ColumnReference, ColumnSpec, FeatureSetSpec, ServingSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

MINUTE_US = 60_000_000
NAMES = ("a", "b", "c")


def columns() -> tuple[ColumnSpec, ...]:
    return tuple(ColumnSpec(name=n, feature_set="bars", feature=n) for n in NAMES)


def feature_sets() -> dict[str, FeatureSetSpec]:
    return {"bars": FeatureSetSpec(features=NAMES, bar_us=MINUTE_US, depth_rows=4)}


@pytest.fixture(name="make_spec")
def fixture_make_spec() -> Callable[..., ServingSpec]:
    def make(**changes: Any) -> ServingSpec:
        reference = {n: ColumnReference(edges=(0.0,), counts=(5, 5, 0), low=-1.0, high=1.0) for n in NAMES}
        given: dict[str, Any] = {
            "model": "m",
            "trigger": "bars",
            "horizon_us": MINUTE_US,
            "columns": columns(),
            "feature_sets": feature_sets(),
            "residuals": tuple(np.linspace(-1.0, 1.0, 21).tolist()),
            "reference": reference,
        }
        return ServingSpec(**(given | changes)).check()

    return make


@pytest.fixture(name="make_handle")
def fixture_make_handle(make_spec: Callable[..., ServingSpec]) -> Callable[..., ModelHandle]:
    def make(predict: Predict, **changes: Any) -> ModelHandle:
        return ModelHandle(name="m", version="1", digest="", spec=make_spec(**changes), predict=predict)

    return make


@dataclass(frozen=True)
class Data:
    """Rows of three columns with a known linear target; the first 200 to train on, the rest to calibrate."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]

    @property
    def train(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return self.x[:200], self.y[:200]


@pytest.fixture(scope="session", name="data")
def fixture_data() -> Data:
    rng = np.random.default_rng(11)
    x = rng.normal(size=(300, 3))
    return Data(x, x @ np.array([0.5, -0.25, 0.1]) + rng.normal(scale=0.1, size=300))


@pytest.fixture(scope="session", name="template")
def fixture_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty registry with its tables made."""
    file = tmp_path_factory.mktemp("registry") / "mlflow.db"
    connect(f"sqlite:///{file}").search_registered_models()
    return file


@dataclass(frozen=True)
class Store:
    """An empty registry of one test."""

    root: Path
    data: Data

    @property
    def tracking_uri(self) -> str:
        return f"sqlite:///{self.root}/mlflow.db"

    def registry(self, **changes: Any) -> Registry:
        given: dict[str, Any] = {"tracking_uri": self.tracking_uri, "cache_dir": self.root / "cache", "trial": False}
        return Registry(**(given | changes))

    def publish(self, model: Any, **changes: Any) -> PublishedVersion:
        given: dict[str, Any] = {
            "name": "m",
            "columns": columns(),
            "feature_sets": feature_sets(),
            "trigger": "bars",
            "horizon_us": MINUTE_US,
            "x": self.data.train[0],
            "tracking_uri": self.tracking_uri,
            "artifact_root": self.root / "artifacts",
        }
        if "residuals" not in changes:
            given |= {"x_calibration": self.data.x[200:], "y_calibration": self.data.y[200:]}
        return publish(model, **(given | changes))


@pytest.fixture(scope="session", name="make_store")
def fixture_make_store(template: Path, data: Data) -> Callable[[Path], Store]:
    def make(root: Path) -> Store:
        shutil.copy(template, root / "mlflow.db")
        return Store(root, data)

    return make


@pytest.fixture(name="store")
def fixture_store(make_store: Callable[[Path], Store], tmp_path: Path) -> Store:
    return make_store(tmp_path)


@pytest.fixture(scope="session", name="booster")
def fixture_booster(data: Data) -> Any:
    import lightgbm

    parameters = {"verbose": -1, "num_leaves": 4, "num_threads": 1, "min_data_in_leaf": 5}
    return lightgbm.train(parameters, lightgbm.Dataset(*data.train), num_boost_round=8)


@pytest.fixture(scope="session", name="ridge")
def fixture_ridge(data: Data) -> Any:
    from sklearn.linear_model import Ridge

    return Ridge().fit(*data.train)


@pytest.fixture(name="sentinel")
def fixture_sentinel(tmp_path: Path) -> Path:
    return tmp_path / "sentinel"


@pytest.fixture(scope="session", name="published")
def fixture_published(
    make_store: Callable[[Path], Store], ridge: Any, booster: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with the files of two good versions, `linear` and `boosted`."""
    root = tmp_path_factory.mktemp("published")
    for name, model in (("linear", ridge), ("boosted", booster)):
        (root / name).mkdir()
        make_store(root / name).publish(model)
        (mlmodel,) = (root / name / "artifacts").rglob("MLmodel")
        mlmodel.parent.rename(root / name / "model")
    return root


@pytest.fixture(name="linear")
def fixture_linear(published: Path, tmp_path: Path) -> Path:
    return shutil.copytree(published / "linear" / "model", tmp_path / "victim")


@pytest.fixture(name="boosted")
def fixture_boosted(published: Path, tmp_path: Path) -> Path:
    return shutil.copytree(published / "boosted" / "model", tmp_path / "victim")
