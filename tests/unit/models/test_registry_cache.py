"""A registry over both kinds of cache, and which loaded versions stay."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from models import folder as folder_module
from models import registry as registry_module
from models.errors import RegistryError, RegistryUnreachable
from models.mlflow_client import connect
from models.registry import Resolution
from tests.unit.models.gcs_server import FakeStorage, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.unit.models.conftest import Data, Store

AWAY = "http://127.0.0.1:1"


@pytest.fixture(name="kind", params=["folder", "bucket"])
def fixture_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What a `Registry` is told about its bucket, if it has one."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    if request.param == "folder":
        yield {}
        return
    pytest.importorskip("google.cloud.storage", reason="the extra gcp is not installed")
    with serving(FakeStorage()) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        yield {"bucket": "gs://bucket/cache"}


@pytest.fixture(scope="module", name="four")
def fixture_four(make_store: Callable[[Path], Store], ridge: Any, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A registry with four versions, only read here."""
    store = make_store(tmp_path_factory.mktemp("four"))
    for _ in range(4):
        store.publish(ridge)
    return store


def test_a_worker_starts_from_cache_when_the_registry_is_down(
    store: Store, ridge: Any, data: Data, kind: dict[str, Any], tmp_path: Path
) -> None:
    """On the disk it had; with a bucket on an empty one, too."""
    store.publish(ridge)
    seen = store.registry(**kind)
    answer = seen.load("m", seen.resolve("m", "champion")).predict(data.x).tolist()
    assert seen.flush_cache(10)
    again = store.registry(tracking_uri=AWAY, **kind)
    assert again.lookup("m", "champion") == Resolution("1", from_cache=True)
    assert again.load("m", "1").predict(data.x).tolist() == answer
    fresh = store.registry(tracking_uri=AWAY, cache_dir=tmp_path / "empty", **kind)
    if kind:
        assert fresh.lookup("m", "champion") == Resolution("1", from_cache=True)
        assert fresh.load("m", "1").predict(data.x).tolist() == answer
        assert fresh.cache_counts() == {"bucket": 1}
    else:
        with pytest.raises(RegistryUnreachable):
            fresh.lookup("m", "champion")


def test_a_bucket_that_failed_is_asked_once_more_when_the_registry_is_down_too(
    store: Store, ridge: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("google.cloud.storage", reason="the extra gcp is not installed")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    storage = FakeStorage()
    store.publish(ridge)
    with serving(storage) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        seen = store.registry(bucket="gs://bucket")
        seen.load("m", seen.resolve("m", "champion"))
        assert seen.flush_cache(10)
        fresh = store.registry(tracking_uri=AWAY, cache_dir=tmp_path / "empty", bucket="gs://bucket")
        version = fresh.resolve("m", "champion")
        storage.status["media"], storage.times["media"] = 404, 3  # as if it were replaced again and again
        assert fresh.load("m", version).version == "1"
        assert fresh.cache_counts() == {"bucket": 1, "bucket_failures": 1}


def test_an_alias_taken_away_is_not_served_from_cache(store: Store, ridge: Any, kind: dict[str, Any]) -> None:
    store.publish(ridge)
    registry = store.registry(**kind)
    registry.resolve("m", "champion")
    connect(store.tracking_uri).delete_registered_model_alias("m", "champion")
    with pytest.raises(RegistryError, match="check the name, the version and the alias"):
        registry.resolve("m", "champion")
    with pytest.raises(RegistryUnreachable):
        store.registry(tracking_uri=AWAY, **kind).resolve("m", "champion")


def test_the_cache_is_trimmed_to_its_bytes_but_for_what_is_loaded_or_named(store: Store, data: Data, tmp_path: Path) -> None:
    from sklearn.linear_model import Ridge

    digests = [store.publish(Ridge(alpha=alpha).fit(*data.train), alias=None).digest for alpha in (1.0, 2.0, 3.0)]
    registry = store.registry(cache_max_bytes=0, max_concurrent_models=1)
    for version, there in (("1", [0]), ("2", [0, 1]), ("3", [1, 2])):
        # While a version is added, the one loaded before is still held; it goes with the next.
        registry.load("m", version)
        assert {entry.name for entry in (tmp_path / "cache" / "artifacts").iterdir()} == {digests[i] for i in there}


def test_a_pinned_version_never_goes_and_one_line_says_that_there_are_too_many(four: Store) -> None:
    registry = four.registry(max_concurrent_models=2)
    first = registry.load("m", "1")
    with capture_logs() as logs:
        for version in ("1", "2", "3"):
            registry.pin("m", version)
            registry.load("m", version)
        registry.load("m", "4")
    assert registry.loaded() == [("m", "1"), ("m", "2"), ("m", "3"), ("m", "4")]
    assert [line["max_concurrent_models"] for line in logs] == [2]
    assert registry.load("m", "1") is first


def test_what_is_unpinned_goes_in_the_order_of_use(four: Store) -> None:
    registry = four.registry(max_concurrent_models=1)
    for version in ("1", "2", "3"):
        registry.pin("m", version)
        registry.load("m", version)
    registry.pin("m", "1")
    registry.unpin("m", "1")
    assert len(registry.loaded()) == 3  # pinned twice, unpinned once
    registry.unpin("m", "1")
    assert registry.loaded() == [("m", "2"), ("m", "3")]
    registry.unpin("m", "3")
    assert registry.loaded() == [("m", "2")]
    registry.unpin("m", "2")
    registry.unpin("m", "2")  # one too many changes nothing
    registry.pin("m", "2")
    registry.load("m", "1")
    assert registry.loaded() == [("m", "2"), ("m", "1")]
    registry.load("m", "3")
    assert registry.loaded() == [("m", "2"), ("m", "3")]


def test_pinning_and_what_is_loaded_never_wait_for_a_load(four: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = four.registry()
    first = registry.load("m", "1")
    loading, go_on = threading.Event(), threading.Event()
    load_folder = folder_module.load_folder

    def slow(*args: Any, **changes: Any) -> Any:
        loading.set()
        assert go_on.wait(20)
        return load_folder(*args, **changes)

    monkeypatch.setattr(registry_module, "load_folder", slow)
    thread = threading.Thread(target=registry.load, args=("m", "2"))
    thread.start()
    assert loading.wait(10)
    before_s = time.monotonic()
    registry.pin("m", "2")
    registry.unpin("m", "2")
    assert registry.load("m", "1") is first
    assert registry.loaded() == [("m", "1")]
    assert time.monotonic() - before_s < 9
    go_on.set()
    thread.join()
    assert registry.loaded() == [("m", "1"), ("m", "2")]
