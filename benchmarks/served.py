"""The models of the standard job: a linear one and 100 LightGBM trees, in a registry for our worker, as files for the others.

The same seed makes the same models, bit for bit. What they predict has no meaning; what they cost is what counts.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import msgspec
import numpy as np

from benchmarks.job import BAR_US, FEATURE_SET
from models.build_spec import build_spec
from models.handle import ModelHandle
from models.loaders import load_lightgbm
from models.native_sklearn import linear_predict
from models.spec import ColumnSpec, FeatureSetSpec, Lag, decode_spec, encode_spec

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow import MlflowClient
    from numpy.typing import NDArray

    from benchmarks.job import Job
    from models.handle import Predict

Model: TypeAlias = Literal["linear", "lightgbm"]

MODELS: Final[tuple[Model, ...]] = ("linear", "lightgbm")
VERSION: Final = "1"
INTERCEPT: Final = 0.01
TREES: Final = 100
_SPEC, _WEIGHTS, _TREES = "serving_spec.json", "weights.json", "model.lgb"


def registered_name(model: Model) -> str:
    """What it is called in the registry.

    >>> registered_name("linear")
    'bench_linear'
    """
    return f"bench_{model}"


def model_weights(job: Job) -> NDArray[np.float64]:
    """Weights of the linear model, float64 (columns,)."""
    weights: NDArray[np.float64] = np.random.default_rng(job.seed + 1).normal(scale=0.1, size=job.features * len(job.lags_bars))
    return weights


@cache
def trees_text(job: Job) -> str:
    """The 100 trees of 31 leaves as LightGBM's text, trained on noise around the linear model."""
    import lightgbm

    rng = np.random.default_rng(job.seed + 3)
    weights = model_weights(job)
    x = rng.standard_normal((4_000, len(weights)))
    y = x @ weights + rng.normal(scale=0.1, size=len(x))
    rules = {"objective": "l2", "num_leaves": 31, "seed": job.seed, "deterministic": True, "force_row_wise": True}
    quiet = {"num_threads": 1, "verbose": -1}
    booster = lightgbm.train({**rules, **quiet}, lightgbm.Dataset(x, y), num_boost_round=TREES)
    return str(booster.model_to_string())


def write_model(job: Job, model: Model, folder: Path) -> None:
    """Leave spec and weights where `read_model` finds them."""
    folder.mkdir(parents=True, exist_ok=True)
    if model == "linear":
        (folder / _WEIGHTS).write_bytes(msgspec.json.encode(model_weights(job).tolist()))
    else:
        (folder / _TREES).write_text(trees_text(job))
    predict = _predict(folder, columns=job.features * len(job.lags_bars))
    spec = build_spec(predict, name=registered_name(model), **_spec_parts(job))
    (folder / _SPEC).write_bytes(encode_spec(spec))


def read_model(folder: Path) -> ModelHandle:
    """The model `write_model` left, as a worker has it after loading."""
    spec = decode_spec((folder / _SPEC).read_bytes())
    predict = _predict(folder, columns=len(spec.columns))
    return ModelHandle(name=spec.model, version=VERSION, digest="", spec=spec, predict=predict)


def read_weights(folder: Path) -> list[float]:
    """The weights of a linear model that `write_model` left."""
    return msgspec.json.decode((folder / _WEIGHTS).read_bytes(), type=list[float])


def publish_model(job: Job, model: Model, folder: Path, *, tracking_uri: str, artifact_root: Path) -> None:
    """Put the model in a registry for our worker: the same weights, and the same spec as in `folder`."""
    from lightgbm import Booster
    from sklearn.linear_model import LinearRegression

    from models.publish import publish

    fitted: Any
    if model == "linear":
        fitted = LinearRegression()
        fitted.coef_, fitted.intercept_, fitted.n_features_in_ = model_weights(job), INTERCEPT, len(model_weights(job))
    else:
        fitted = Booster(model_str=trees_text(job))
    parts = _spec_parts(job)
    name = registered_name(model)
    published = publish(fitted, name=name, tracking_uri=tracking_uri, artifact_root=artifact_root, **parts)
    if (published.version, published.spec.digest()) != (VERSION, read_model(folder).spec.digest()):
        found = f"{published.name}:{published.version}"
        raise RuntimeError(f"published {found} is not the job's model; publish into an empty registry")


def publish_versions(job: Job, versions: int, *, tracking_uri: str, artifact_root: Path) -> MlflowClient:
    """Versions of the linear model, the first of them champion, each with weights of its own; the registry's client.

    Of each four the last two read a feature from further back, so every second promotion changes what windows keep.
    """
    from sklearn.linear_model import LinearRegression

    from models.mlflow_client import connect
    from models.publish import publish

    deep = replace(job, lags_bars=(*job.lags_bars[:-1], job.lags_bars[-1] + 5), window_rows=job.window_rows + 5)
    for number in range(1, versions + 1):
        shape = deep if number % 4 in (3, 0) else job
        fitted: Any = LinearRegression()
        fitted.coef_, fitted.intercept_ = model_weights(shape) * (1 + number / 1_000), INTERCEPT
        fitted.n_features_in_ = len(fitted.coef_)
        alias = "champion" if number == 1 else None
        name = registered_name("linear")
        publish(fitted, name=name, tracking_uri=tracking_uri, artifact_root=artifact_root, alias=alias, **_spec_parts(shape))
    return connect(tracking_uri)


def _predict(folder: Path, *, columns: int) -> Predict:
    if (folder / _TREES).exists():
        return load_lightgbm(folder / _TREES, columns=columns).predict
    return linear_predict(np.array(read_weights(folder)), INTERCEPT, width=columns)


def _spec_parts(job: Job) -> dict[str, Any]:
    """What `build_spec` and `publish` both take; columns stand lag by lag, each with all features."""
    names = tuple(f"f{i:02d}" for i in range(job.features))
    columns = [
        ColumnSpec(name=f"{f}.lag{lag}", feature_set=FEATURE_SET, feature=f, lag=0 if lag == 0 else Lag(bars=lag))
        for lag in job.lags_bars
        for f in names
    ]
    rng = np.random.default_rng(job.seed + 2)
    return {
        "columns": columns,
        "feature_sets": {FEATURE_SET: FeatureSetSpec(features=names, bar_us=BAR_US, depth_rows=job.window_rows)},
        "trigger": FEATURE_SET,
        "horizon_us": BAR_US,
        "x": rng.standard_normal((2_000, len(columns))),
        "residuals": rng.normal(scale=0.5, size=500).tolist(),
    }
