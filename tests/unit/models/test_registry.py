"""Publish, resolve, load, keep; and what happens when the registry is away or its files have changed."""

from __future__ import annotations

import http.server
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor

from models.artifacts import DIGEST_TAG
from models.errors import ModelOutputError, RegistryError, RegistryUnreachable, SpecError, UntrustedModel
from models.mlflow_client import connect
from models.registry import Resolution
from models.score import score

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.models.conftest import Data, Store


def test_a_published_booster_serves_with_its_own_answers(store: Store, booster: Any, data: Data) -> None:
    published = store.publish(booster)
    registry = store.registry()
    version = registry.resolve("m", "champion")
    handle = registry.load("m", version)
    assert (handle.name, handle.version, handle.digest) == ("m", published.version, published.digest)
    assert handle.spec == published.spec == registry.load_spec("m", version)
    scores = score(handle, data.x[:50])
    assert scores.value.tolist() == booster.predict(data.x[:50]).tolist()
    with_gap = data.x[:1].copy()
    with_gap[0, 0] = np.nan
    assert not score(handle, with_gap).abstained[0]


def test_the_spec_holds_reference_bins_and_residuals_of_the_data_given(store: Store, booster: Any, data: Data) -> None:
    spec = store.publish(booster, bins=5).spec
    assert spec.residuals == tuple((data.y[200:] - booster.predict(data.x[200:])).tolist())
    assert spec.reference["a"].counts == (40,) * 5 + (0,)
    assert spec.prediction_reference is not None
    assert sum(spec.prediction_reference.counts) == 100  # of the calibration rows: those the model has not seen


def test_scikit_learn_and_lgbm_regressors_are_published_too(store: Store, ridge: Any, data: Data) -> None:
    regressor = LGBMRegressor(n_estimators=3, verbose=-1, num_leaves=4).fit(*data.train)
    for name, model in (("linear", ridge), ("boosted", regressor)):
        store.publish(model, name=name)
        handle = store.registry().load(name, "1")
        assert score(handle, data.x).value == pytest.approx(model.predict(data.x), rel=1e-12, abs=1e-12)


def test_the_alias_moves_to_the_new_version_or_stays(store: Store, ridge: Any) -> None:
    registry = store.registry()
    assert store.publish(ridge).alias == "champion"
    assert store.publish(ridge, alias=None).version == "2"
    assert registry.resolve("m", "champion") == "1"
    store.publish(ridge, alias="champion")
    assert registry.resolve("m", "champion") == "3"


def test_nothing_of_mlflows_process_wide_state_changes(store: Store, ridge: Any) -> None:
    import mlflow

    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    store.publish(ridge)
    store.registry().load("m", "1")
    assert (mlflow.get_tracking_uri(), mlflow.get_registry_uri()) == before
    assert mlflow.active_run() is None


def test_the_published_folder_is_one_mlflow_can_load_itself(store: Store, ridge: Any, data: Data, tmp_path: Path) -> None:
    import mlflow.pyfunc

    store.publish(ridge)
    store.registry().load("m", "1")
    (folder,) = (tmp_path / "cache" / "artifacts").iterdir()
    assert mlflow.pyfunc.load_model(str(folder)).predict(data.x[:3]) == pytest.approx(ridge.predict(data.x[:3]))


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"residuals": [0.1] * 8}, "8 calibration residuals cannot give an interval at level 0.9; give at least 9"),
        ({"x": np.ones((5, 2))}, r"x has shape \(5, 2\); right is \(rows, 3\)"),
        ({"trigger": "bras"}, "trigger 'bras' is not one of its feature sets"),
        ({"y_calibration": None}, "give residuals, or x_calibration with y_calibration"),
        ({"x": np.full((5, 3), np.nan)}, "'a' has no value in the training rows"),
    ],
)
def test_what_is_wrong_with_the_parts_is_said_before_anything_is_registered(
    store: Store, ridge: Any, changes: dict[str, Any], wrong: str
) -> None:
    with pytest.raises(SpecError, match=wrong):
        store.publish(ridge, **changes)
    with pytest.raises(RegistryError):
        store.registry().resolve("m", "champion")


def test_columns_in_another_order_than_trained_are_refused(store: Store, data: Data) -> None:
    import pandas as pd
    from sklearn.linear_model import Ridge

    x, y = data.train
    trained = Ridge().fit(pd.DataFrame(x, columns=["b", "a", "c"]), y)
    with pytest.raises(
        SpecError, match=r"trained on columns \['b', 'a', 'c'\], the spec has them in the order \['a', 'b', 'c'\]"
    ):
        store.publish(trained)


def test_a_classifier_is_refused(store: Store, data: Data) -> None:
    x, y = data.train
    with pytest.raises(SpecError, match="LGBMClassifier does not forecast a number"):
        store.publish(LGBMClassifier(n_estimators=2, verbose=-1).fit(x, y > 0))


def test_an_unknown_model_alias_or_version_is_named(store: Store, ridge: Any) -> None:
    store.publish(ridge)
    registry = store.registry()
    for call in (
        lambda: registry.resolve("nobody", "champion"),
        lambda: registry.resolve("m", "challenger"),
        lambda: registry.load("m", "7"),
    ):
        with pytest.raises(RegistryError, match="check the name, the version and the alias") as caught:
            call()
        assert not isinstance(caught.value, RegistryUnreachable)


def test_the_least_recently_used_handle_goes_first(store: Store, ridge: Any) -> None:
    for _ in range(3):
        store.publish(ridge)
    registry = store.registry(max_concurrent_models=2)
    first = registry.load("m", "1")
    registry.load("m", "2")
    assert registry.load("m", "1") is first
    registry.load("m", "3")
    assert registry.loaded() == [("m", "1"), ("m", "3")]
    assert registry.load("m", "1") is first


def test_a_version_without_a_digest_is_not_trusted(store: Store, ridge: Any) -> None:
    store.publish(ridge)
    connect(store.tracking_uri).delete_model_version_tag("m", "1", DIGEST_TAG)
    with pytest.raises(UntrustedModel, match="no tag 'artifact_digest'"):
        store.registry().load("m", "1")


def test_a_spec_written_for_another_name_is_refused(store: Store, ridge: Any) -> None:
    store.publish(ridge, name="other")
    client = connect(store.tracking_uri)
    version = client.get_model_version("other", "1")
    client.create_registered_model("m")
    client.create_model_version("m", str(version.source), tags=version.tags)
    with pytest.raises(SpecError, match="'m' has a serving spec written for 'other'"):
        store.registry().load("m", "1")


@pytest.mark.parametrize("file", ["model.skops", "MLmodel", "extra_files/serving_spec.json", "extra_files/example.json"])
def test_a_flipped_byte_in_the_store_is_refused_and_not_cached(store: Store, ridge: Any, tmp_path: Path, file: str) -> None:
    store.publish(ridge)
    (stored,) = (tmp_path / "artifacts").rglob(file)
    data = bytearray(stored.read_bytes())
    data[len(data) // 2] ^= 1
    stored.write_bytes(data)
    with pytest.raises(UntrustedModel, match="its files have digest"):
        store.registry().load("m", "1")
    assert list((tmp_path / "cache" / "artifacts").iterdir()) == []


def test_a_corrupt_cache_is_downloaded_again(store: Store, ridge: Any, tmp_path: Path) -> None:
    store.publish(ridge)
    store.registry().load("m", "1")
    (cached,) = (tmp_path / "cache").rglob("model.skops")
    cached.write_bytes(b"")
    assert store.registry().load("m", "1").version == "1"
    assert cached.stat().st_size > 0


def test_an_example_the_model_does_not_answer_is_refused(store: Store, ridge: Any, tmp_path: Path) -> None:
    from models.artifacts import folder_digest

    store.publish(ridge)
    (example,) = (tmp_path / "artifacts").rglob("example.json")
    example.write_bytes(
        example.read_bytes().replace(b'"answers":[', b'"answers":[1.0,').replace(b'"vectors":[', b'"vectors":[[1,1,1],')
    )
    digest = folder_digest(example.parents[1])
    connect(store.tracking_uri).set_model_version_tag("m", "1", DIGEST_TAG, digest)
    with pytest.raises(ModelOutputError, match="model 'm' version 1: its example scores"):
        store.registry().load("m", "1")


@pytest.fixture(name="away", params=["refused", "500", "silent"])
def fixture_away(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a registry that is away in one of three ways."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    release = threading.Event()

    class Broken(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if request.param == "silent":
                release.wait(30)
            with suppress(OSError):  # the client has given up
                self.send_error(500)

        def log_message(self, *_: object) -> None:
            """Keep the test's output quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
        server.daemon_threads = True
        address = f"http://127.0.0.1:{server.server_port}"
        if request.param == "refused":
            server.server_close()
            yield address
            return
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield address
        release.set()
        server.shutdown()
        thread.join()


def test_a_worker_starts_from_cache_when_the_registry_is_away(store: Store, ridge: Any, data: Data, away: str) -> None:
    store.publish(ridge)
    seen = store.registry()
    answer = seen.load("m", seen.resolve("m", "champion")).predict(data.x)
    registry = store.registry(tracking_uri=away)
    before = time.monotonic()
    assert registry.lookup("m", "champion") == Resolution("1", from_cache=True)
    assert registry.load("m", "1").predict(data.x).tolist() == answer.tolist()
    assert time.monotonic() - before < 8
    with pytest.raises(RegistryUnreachable, match="did not answer"):
        registry.resolve("m", "challenger")
