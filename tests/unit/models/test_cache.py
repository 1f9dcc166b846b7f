from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from models.artifacts import folder_digest
from models.cache import ArtifactCache
from models.errors import UntrustedModel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(name="model")
def fixture_model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "extra_files").mkdir(parents=True)
    (folder / "MLmodel").write_text("a")
    (folder / "extra_files" / "serving_spec.json").write_text("b")
    return folder


def copying(model: Path) -> Callable[[Path], Path]:
    def download(to: Path) -> Path:
        import shutil

        return shutil.copytree(model, to / "model")

    return download


def test_a_folder_is_kept_under_its_digest_and_verified_when_read(model: Path, tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path / "cache")
    digest = folder_digest(model)
    assert cache.get(digest, what="m") is None
    kept = cache.add(digest, copying(model), what="m")
    assert kept.name == digest
    assert cache.get(digest, what="m") == kept
    assert ArtifactCache(tmp_path / "cache").get(digest, what="m") == kept


def test_a_corrupt_folder_is_removed_so_that_it_is_downloaded_again(model: Path, tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path / "cache")
    digest = folder_digest(model)
    kept = cache.add(digest, copying(model), what="m")
    (kept / "MLmodel").write_text("tampered")
    assert cache.get(digest, what="m") is None
    assert not kept.exists()
    assert cache.add(digest, copying(model), what="m") == kept


def test_other_bytes_than_registered_leave_nothing_behind(model: Path, tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path / "cache")
    with pytest.raises(UntrustedModel, match=r"m: its files have digest .* registered is 0000"):
        cache.add("0" * 64, copying(model), what="m")
    assert list((tmp_path / "cache" / "artifacts").iterdir()) == []


def test_a_download_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def fails(to: Path) -> Path:
        (to / "half").write_text("x")
        raise ConnectionError

    with pytest.raises(ConnectionError):
        ArtifactCache(tmp_path).add("0" * 64, fails, what="m")
    assert list((tmp_path / "artifacts").iterdir()) == []


@pytest.mark.parametrize("digest", ["../../etc", "", "A" * 64, "0" * 63])
def test_a_digest_that_is_no_digest_never_becomes_a_path(digest: str, tmp_path: Path) -> None:
    with pytest.raises(UntrustedModel, match="is not a SHA-256"):
        ArtifactCache(tmp_path).get(digest, what="m")


def test_the_index_remembers_what_the_registry_said(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path)
    cache.remember("m", version="1", digest="d1", alias="champion")
    cache.remember("m", version="2", digest="d2", alias="champion")
    cache.remember("n", version="1", digest="e1")
    again = ArtifactCache(tmp_path)
    assert (again.version_of("m", "champion"), again.digest_of("m", "1"), again.digest_of("n", "1")) == ("2", "d1", "e1")
    assert again.version_of("n", "champion") is None


def test_an_unreadable_index_is_an_empty_one(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path)
    (tmp_path / "index.json").write_text("{half")
    assert cache.version_of("m", "champion") is None
    cache.remember("m", version="1", alias="champion")
    assert cache.version_of("m", "champion") == "1"


def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    caches = [ArtifactCache(tmp_path) for _ in range(4)]
    threads = [
        threading.Thread(target=lambda c=c, i=i: [c.remember(f"m{i}", version=str(v), digest=str(v)) for v in range(20)])
        for i, c in enumerate(caches)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all(caches[0].digest_of(f"m{i}", str(v)) == str(v) for i in range(4) for v in range(20))
