"""For Trading ML Training: put a fitted model in the registry together with all a worker needs to serve it. Shell.

>>> import tempfile
>>> import numpy as np
>>> from sklearn.linear_model import Ridge
>>> from models.publish import publish
>>> from models.spec import ColumnSpec, FeatureSetSpec, Lag
>>> columns = [ColumnSpec(name="ret_1", feature_set="bars_1d", feature="ret_1"),
...            ColumnSpec(name="ret_1.lag5", feature_set="bars_1d", feature="ret_1", lag=Lag(bars=5))]
>>> day_us = 86_400_000_000
>>> rng = np.random.default_rng(7)
>>> x = rng.normal(size=(300, 2))  # one row a training example, one column a ColumnSpec, NaN = missing
>>> y = 0.1 * x[:, 0] - 0.05 * x[:, 1] + rng.normal(scale=0.1, size=300)
>>> model = Ridge().fit(x[:200], y[:200])
>>> here = tempfile.TemporaryDirectory()
>>> published = publish(
...     model, name="next-day", columns=columns, trigger="bars_1d", horizon_us=day_us,
...     feature_sets={"bars_1d": FeatureSetSpec(features=("ret_1",), bar_us=day_us, depth_rows=10)},
...     x=x[:200], x_calibration=x[200:], y_calibration=y[200:],  # calibrate on rows the model has not seen
...     tracking_uri=f"sqlite:///{here.name}/var/mlflow.db", artifact_root=f"{here.name}/models")
>>> published.name, published.version, published.alias
('next-day', '1', 'champion')
>>> here.cleanup()
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from models.artifacts import DIGEST_TAG, folder_digest
from models.build_spec import build_spec
from models.code_models import by_name
from models.errors import SpecError
from models.example import check_batches, encode_example, make_example
from models.folder import load_folder
from models.loaders import lightgbm_text
from models.mlflow_client import connect, registry_errors, set_environment
from models.runtimes import check_same_bits, load_forest
from models.saving import as_loaded, save_folder, servable
from models.spec import encode_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from numpy.typing import ArrayLike, NDArray

    from models.handle import Predict
    from models.spec import ColumnSpec, FeatureSetSpec, Runtime, ServingSpec

EXPERIMENT: Final = "trading-ml-inference"


@dataclass(frozen=True, slots=True)
class PublishedVersion:
    """What `publish` registered. `digest` of the files, `spec.digest()` of the spec; `alias` None if none was set."""

    name: str
    version: str
    digest: str
    spec: ServingSpec
    alias: str | None
    run_id: str


def publish(  # noqa: PLR0913 - one keyword for each thing a served version is made of
    model: Any,  # see `models.saving`; the libraries' models have no common type
    *,
    name: str,
    columns: Sequence[ColumnSpec],
    feature_sets: Mapping[str, FeatureSetSpec],
    trigger: str,
    horizon_us: int,
    x: NDArray[np.float64],
    tracking_uri: str,
    groups: NDArray[np.generic] | None = None,
    times: ArrayLike | None = None,
    x_calibration: NDArray[np.float64] | None = None,
    y_calibration: NDArray[np.float64] | None = None,
    groups_calibration: NDArray[np.generic] | None = None,
    times_calibration: ArrayLike | None = None,
    residuals: Sequence[float] | None = None,
    level: float = 0.9,
    min_completeness: float = 0.0,
    bins: int = 10,
    levels: Sequence[str] = (),
    components: int | None = None,
    artifact_root: str | Path | None = None,
    alias: str | None = "champion",
    experiment: str = EXPERIMENT,
    metrics: Mapping[str, float] | None = None,
    runtime: Runtime = "native",
    allow_code: bool = False,
) -> PublishedVersion:
    """Log, register and tag a model version; set `alias` on it, last of all.

    - `model`: a fitted LightGBM or XGBoost Booster or regressor, an ONNX ModelProto, or a scikit-learn regressor that
      `models.native_sklearn` serves; the table in `models.saving`, and docs/publishing.md with an example of each.
    - `columns`, in the order of the model's inputs; `feature_sets` and `trigger` as in `ServingSpec`.
    - `x` float64[rows, columns]: training rows in time order, NaN = missing; the reference bins come from them.
      `groups` [rows]: the symbol of each row, when several are stacked; `times` [rows]: the event time of each row in us, or
      datetime64. From both follows how many independent rows they are worth, which is what drift is judged by; with times
      they need not be in time order. `groups_calibration` and `times_calibration` likewise.
    - calibration: `x_calibration`, `y_calibration` (rows the model has not seen), or `residuals` = outcome minus
      prediction. At level 0.9 at least 9 are needed; some hundreds make `p_up` fine-grained.
      With y_calibration of at least 200 rows the spec also says what errors to expect where (`models.loss_estimate`).
    - `levels`: columns whose numbers are names (a sector code), at most 50 each; columns of 0 and 1 are found unasked.
    - `components`: how many principal components say how the columns hang together (`models.reconstruction`); None takes as
      many as explain 80 % of the variance, at most 8; 0 leaves it out.
    - `artifact_root`: folder or ``gs://`` for a new experiment's files (setting `mlflow.model_registry`); None leaves
      it to the tracking server.
    - `alias`: None registers without serving.
    - `runtime`: what computes a LightGBM model's answers on the workers, which need its extra (`models.runtimes`).
    - `allow_code`: pickle the model (any estimator, or MLflow's PythonModel), which gets a DataFrame of the columns. Only
      workers with the setting `mlflow.allow_code` load such a version.

    The same code that a worker loads with has loaded and checked the files before the registry hears of them, so
    what this refuses was never registered. Raises `SpecError`, `UntrustedModel`, `ModelOutputError`, `RegistryError`,
    `RuntimeMissing`.
    """
    set_environment()
    names = [c.name for c in columns]
    model, flavor = servable(model, names, allow_code=allow_code)
    with tempfile.TemporaryDirectory(prefix="trading-ml-publish-") as scratch:
        if flavor == "pyfunc":
            predict = by_name(_call(model), names).predict
        else:
            predict = as_loaded(model, flavor, Path(scratch), columns=len(columns))
        if runtime != "native":
            predict = _other_than_native(predict, Path(scratch), np.ascontiguousarray(x, dtype=np.float64), runtime)
        spec = build_spec(
            predict,
            name=name,
            columns=columns,
            feature_sets=feature_sets,
            trigger=trigger,
            horizon_us=horizon_us,
            x=x,
            groups=groups,
            times=times,
            x_calibration=x_calibration,
            y_calibration=y_calibration,
            groups_calibration=groups_calibration,
            times_calibration=times_calibration,
            residuals=residuals,
            level=level,
            min_completeness=min_completeness,
            bins=bins,
            levels=levels,
            components=components,
            runtime=runtime,
        )
        extra = [Path(scratch) / "serving_spec.json", Path(scratch) / "example.json"]
        extra[0].write_bytes(encode_spec(spec))
        example = make_example(predict, np.ascontiguousarray(x, dtype=np.float64))
        extra[1].write_bytes(encode_example(example))
        folder = Path(scratch) / "model"
        save_folder(model, flavor, folder, names, extra)
        digest = folder_digest(folder)
        handle = load_folder(folder, name=name, version="(not yet registered)", digest=digest, allow_code=allow_code)
        check_batches(handle.predict, example, what=f"model {name!r}")
        client = connect(tracking_uri)
        with registry_errors(f"publishing model {name!r}"):
            experiment_id = _experiment_id(client, experiment, artifact_root)
            logged = _log(client, experiment_id, folder, spec, metrics or {})
            tags = {DIGEST_TAG: digest, "spec_digest": spec.digest(), "flavor": flavor}
            version = _register(client, name, logged, tags)
            if alias is not None:
                client.set_registered_model_alias(name, alias, version)
    return PublishedVersion(name=name, version=version, digest=digest, spec=spec, alias=alias, run_id=str(logged.source_run_id))


def _call(model: Any) -> Callable[[Any], Any]:
    """What a code model's pyfunc will call, before it is pickled."""
    import mlflow.pyfunc

    return partial(model.predict, None) if isinstance(model, mlflow.pyfunc.PythonModel) else model.predict


def _other_than_native(native: Predict, scratch: Path, x: NDArray[np.float64], runtime: Runtime) -> Predict:
    """The saved model in another runtime, which answers the training rows with the bits of the native one."""
    file = scratch / "model.lgb"
    if not file.exists():
        msg = f"runtime {runtime!r} computes LightGBM models; publish this one with runtime='native'"
        raise SpecError(msg)
    predict = load_forest(lightgbm_text(file), columns=x.shape[-1], runtime=runtime).predict
    check_same_bits(predict, native, x, what=f"runtime {runtime!r}")
    return predict


def _experiment_id(client: MlflowClient, experiment: str, artifact_root: str | Path | None) -> str:
    found = client.get_experiment_by_name(experiment)
    if found is not None:
        return str(found.experiment_id)
    root = None if artifact_root is None else str(artifact_root)
    if root is not None and "://" not in root:
        root = str(Path(root).resolve())
    return str(client.create_experiment(experiment, artifact_location=root))


def _log(client: MlflowClient, experiment_id: str, folder: Path, spec: ServingSpec, metrics: Mapping[str, float]) -> LoggedModel:
    """Upload the folder as a logged model of its own run; MLflow's process-wide tracking URI and active run stay as they are."""
    run_id = client.create_run(experiment_id, run_name=f"publish {spec.model}").info.run_id
    try:
        for key, value in {"horizon_us": spec.horizon_us, "level": spec.level, "columns": len(spec.columns)}.items():
            client.log_param(run_id, key, value)
        for key, metric in metrics.items():
            client.log_metric(run_id, key, metric)
        logged = client.create_logged_model(experiment_id, name="model", source_run_id=run_id)
        client.log_model_artifacts(logged.model_id, str(folder))
        client.finalize_logged_model(logged.model_id, "READY")
    except Exception:
        client.set_terminated(run_id, status="FAILED")
        raise
    client.set_terminated(run_id)
    return logged


def _register(client: MlflowClient, name: str, logged: LoggedModel, tags: dict[str, str]) -> str:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as e:
        if e.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # By location: a source models:/<id> is looked up in MLflow's process-wide tracking store, not in this client's.
    created = client.create_model_version(
        name, logged.artifact_location, run_id=logged.source_run_id, tags=tags, model_id=logged.model_id
    )
    return str(created.version)
