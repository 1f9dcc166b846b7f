"""Workers with a disk each over one bucket and one registry with one alias."""

from __future__ import annotations

import shutil
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from models import bucket as bucket_module
from models.artifacts import folder_digest
from models.errors import RegistryUnreachable
from models.index import Answer, Known, decode
from models.packed import pack
from models.shared import SharedCache
from tests.unit.models.gcs_server import FakeStorage, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

INDEX = "cache/index.json"


class World:
    """A registry with one alias, a bucket, and workers with a disk each."""

    def __init__(self, folder: Path, storage: FakeStorage) -> None:
        self.folder = folder
        self.storage = storage
        self.alias = "1"
        self.down = False
        self.asked: Counter[str] = Counter()
        self.model = folder / "model"
        self.model.mkdir()
        (self.model / "MLmodel").write_bytes(b"m" * 2_000)
        self.digest = folder_digest(self.model)
        self.object = f"cache/artifacts/{self.digest}.tar"

    def ask(self, name: str = "m", alias: str = "champion") -> Answer:
        self.asked[name] += 1
        if self.down:
            raise RegistryUnreachable("the registry is down")
        return Answer(self.alias, alias, self.digest)

    def worker(self, name: str, **changes: float) -> SharedCache:
        return SharedCache(self.folder / name, ask_alias=self.ask, bucket="gs://bucket/cache", **changes)  # type: ignore[arg-type]  # each its own type

    def note(self, cache: SharedCache) -> None:
        cache.note("m", self.ask)
        assert cache.flush(10)

    def download(self, to: Path) -> Path:
        self.asked["download"] += 1
        if self.down:
            raise RegistryUnreachable("the registry is down")
        return shutil.copytree(self.model, to / "model")

    def load(self, cache: SharedCache) -> None:
        """As the registry does."""
        held = cache.get(self.digest, what="m") or cache.add(self.digest, self.download, what="m")
        assert folder_digest(held.folder) == self.digest
        held.close()

    def index(self) -> Known:
        return decode(self.storage.objects[INDEX].data)["m"]

    def packed(self) -> bytes:
        with (self.folder / "packed").open("wb") as to:
            pack(self.model, to)
        return (self.folder / "packed").read_bytes()


@contextmanager
def world_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A world whose bucket answers, and is given up soon when it does not."""
    storage = FakeStorage()
    with serving(storage) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        monkeypatch.setattr(bucket_module, "_RETRY_S", 0.2)
        monkeypatch.setattr(bucket_module, "_TIMEOUT_S", (2.0, 2.0))
        yield World(folder, storage)
