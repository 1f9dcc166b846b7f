"""Two levels: what one worker got from the registry, the next one has without it; a bucket that fails costs one bound."""

from __future__ import annotations

import shutil
import threading
import time
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from models import bucket as bucket_module
from models.packed import pack
from models.shared import SharedCache
from tests.unit.models.gcs_server import Stored
from tests.unit.models.shared_world import INDEX, World, world_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytest.importorskip("google.cloud.storage", reason="the extra gcp is not installed")


@pytest.fixture(name="world")
def fixture_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with world_in(tmp_path, monkeypatch) as world:
        yield world


def test_a_new_worker_with_an_empty_disk_starts_while_the_registry_is_down(world: World) -> None:
    first = world.worker("first")
    world.note(first)
    world.load(first)
    assert first.flush(10)
    world.down = True
    fresh = world.worker("fresh")
    assert (fresh.version_of("m", "champion"), fresh.digest_of("m", "1")) == ("1", world.digest)
    world.load(fresh)
    assert fresh.counts == {"bucket": 1}
    world.storage.status = dict.fromkeys(("meta", "media"), 503)  # from now on its own disk is enough
    again = world.worker("fresh")
    assert (again.version_of("m", "champion"), again.digest_of("m", "1")) == ("1", world.digest)
    world.load(again)
    assert again.counts["local"] == 1


def test_the_bucket_spares_the_registry_a_download(world: World) -> None:
    for name in ("a", "b", "c"):
        cache = world.worker(name)
        world.load(cache)
        assert cache.flush(10)
    assert world.asked["download"] == 1


def test_two_writers_at_once_end_with_one_valid_artifact(world: World) -> None:
    together = threading.Barrier(2, timeout=10)
    world.storage.before["multipart"] = lambda _: together.wait()
    caches = [world.worker("a"), world.worker("b")]
    for cache in caches:
        cache.add(world.digest, world.download, what="m").close()
    assert all(cache.flush(10) for cache in caches)
    assert world.storage.objects[world.object].data == world.packed()
    assert world.storage.kinds()["multipart"] == 2
    assert [cache.counts["bucket_failures"] for cache in caches] == [0, 0]


@pytest.mark.parametrize("harm", ["flipped", "truncated", "empty", "another model", "not an archive"])
def test_what_does_not_verify_is_ignored_and_written_over_by_what_does(world: World, harm: str) -> None:
    good = world.packed()
    flipped = bytearray(good)
    flipped[600] ^= 1
    other = world.folder / "other"
    other.mkdir()
    (other / "MLmodel").write_bytes(b"evil")
    with (world.folder / "evil").open("wb") as to:
        pack(other, to)
    bad = {
        "flipped": bytes(flipped),
        "truncated": good[:1000],
        "empty": b"",
        "another model": (world.folder / "evil").read_bytes(),
        "not an archive": b"PK\x03\x04" * 500,
    }[harm]
    world.storage.put(world.object, bad)
    cache = world.worker("a")
    with capture_logs() as logs:
        world.load(cache)
    assert [line["event"] for line in logs] == ["artifact in the bucket ignored: it does not verify"]
    assert cache.flush(10)
    assert cache.counts == {"unverified": 1, "registry": 1}
    assert world.storage.objects[world.object].data == good
    assert [entry.name for entry in (world.folder / "a" / "artifacts").iterdir()] == [world.digest]


def test_an_artifact_repaired_meanwhile_is_left_alone(world: World) -> None:
    world.storage.put(world.object, b"bad")
    cache = world.worker("a")
    assert cache.get(world.digest, what="m") is None
    repaired = world.storage.put(world.object, world.packed())
    world.load(cache)
    assert cache.flush(10)
    assert world.storage.objects[world.object] == Stored(world.packed(), repaired)


def test_an_upload_cut_off_leaves_nothing_and_is_made_up_for_at_the_next_poll(world: World) -> None:
    world.storage.cut_bytes["multipart"] = 100
    cache = world.worker("a")
    with capture_logs() as logs:
        world.load(cache)
        assert cache.flush(10)
        world.note(cache)
    assert world.storage.objects == {}
    assert [(line["event"], line["what"]) for line in logs] == [
        ("cache bucket fails, work goes on without it", "writing artifact"),
        ("cache bucket fails, work goes on without it", "writing index"),
    ]
    world.storage.cut_bytes.clear()
    world.note(cache)
    assert set(world.storage.objects) == {world.object, INDEX}


@pytest.mark.parametrize("harm", ["silent", "denied", "unavailable"])
def test_a_bucket_that_fails_costs_a_start_one_bound_whatever_the_number_of_models(
    world: World, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_module, "_TIMEOUT_S", (1.0, 0.5))
    if harm == "silent":
        world.storage.silent |= {"meta", "media", "multipart"}
    else:
        world.storage.status = dict.fromkeys(("meta", "media", "multipart"), {"denied": 403, "unavailable": 503}[harm])
    cache = world.worker("a", artifact_bound_s=0.5, index_bound_s=0.5)
    before_s = time.monotonic()
    with capture_logs() as logs:
        for _ in range(20):
            cache.note("m", world.ask)
            shutil.rmtree(world.folder / "a" / "artifacts" / world.digest, ignore_errors=True)
            world.load(cache)
    assert time.monotonic() - before_s < 8  # a bound for each would be 10 s and more
    assert cache.counts["registry"] == 20
    assert cache.flush(20)
    said = [line["what"] for line in logs if line["log_level"] == "warning"]
    assert len(said) == len(set(said)) <= 3


def test_a_slow_bucket_is_waited_for_where_there_is_nothing_else(world: World) -> None:
    world.storage.put(world.object, world.packed())
    world.storage.before["media"] = lambda _: world.storage.release.wait(1)
    cache = world.worker("a", artifact_bound_s=0.3)
    assert cache.get(world.digest, what="m") is None
    held = cache.get(world.digest, what="m", patient=True)
    assert held is not None
    held.close()


def test_a_corrupt_local_copy_is_replaced_from_the_bucket(world: World) -> None:
    cache = world.worker("a")
    world.load(cache)
    assert cache.flush(10)
    world.down = True
    (world.folder / "a" / "artifacts" / world.digest / "MLmodel").write_bytes(b"x")
    world.load(cache)
    assert cache.counts["bucket"] == 1


def test_without_a_bucket_nothing_is_written_elsewhere(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(*_: object, **__: object) -> Callable[[], None]:
        raise AssertionError

    monkeypatch.setattr(threading, "Thread", no_thread)
    cache = SharedCache(world.folder / "a", ask_alias=world.ask)
    cache.note("m", world.ask)
    world.load(cache)
    assert cache.flush(0)
    assert cache.version_of("m", "champion") == "1"
