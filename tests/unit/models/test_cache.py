from __future__ import annotations

import os
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
    assert kept.folder.name == digest
    for reader in (cache, ArtifactCache(tmp_path / "cache")):
        held = reader.get(digest, what="m")
        assert held is not None
        assert held.folder == kept.folder


def test_a_corrupt_folder_is_removed_so_that_it_is_downloaded_again(model: Path, tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path / "cache")
    digest = folder_digest(model)
    kept = cache.add(digest, copying(model), what="m")
    (kept.folder / "MLmodel").write_text("tampered")
    assert cache.get(digest, what="m") is None
    assert not kept.folder.exists()
    assert cache.add(digest, copying(model), what="m").folder == kept.folder


def test_the_second_of_two_writers_gets_the_folder_of_the_first(model: Path, tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path / "cache")
    digest = folder_digest(model)

    def late(to: Path) -> Path:
        ArtifactCache(tmp_path / "cache").add(digest, copying(model), what="m").close()
        return copying(model)(to)

    assert cache.add(digest, late, what="m").folder.is_dir()
    assert [entry.name for entry in (tmp_path / "cache" / "artifacts").iterdir()] == [digest]


def test_a_folder_just_added_counts_as_just_used(model: Path, tmp_path: Path) -> None:
    os.utime(model, (1, 1))
    kept = ArtifactCache(tmp_path / "cache").add(folder_digest(model), copying(model), what="m")
    assert kept.folder.stat().st_mtime > 1


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
