"""The index in the bucket goes from answer to later answer, whoever writes it and however late."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from models.index import Answer, decode
from tests.unit.models.shared_world import INDEX, World, world_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("google.cloud.storage", reason="the extra gcp is not installed")


@pytest.fixture(name="world")
def fixture_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with world_in(tmp_path, monkeypatch) as world:
        yield world


def test_the_buckets_index_follows_the_alias_back_and_forth(world: World) -> None:
    cache = world.worker("a")
    for version in ("1", "2", "1"):
        world.alias = version
        world.note(cache)
        assert world.index().aliases == {"champion": version}


def test_a_worker_that_was_asleep_does_not_write_its_older_answer_over_a_newer_one(world: World) -> None:
    """It was answered 1; then the alias moved and another wrote 2; then it comes to write."""
    sleeper, other = world.worker("sleeper"), world.worker("other")
    world.note(other)

    def move(_: object) -> None:
        world.storage.before.clear()
        world.alias = "2"
        world.note(other)

    world.storage.before["meta"] = move  # the sleeper's first look at the bucket, after its answer
    world.note(sleeper)
    assert world.index().aliases == {"champion": "2"}


def test_an_answer_long_on_its_way_to_the_bucket_is_not_taken_for_a_later_one(world: World) -> None:
    """The background asks, is answered 1, and while that is on its way the alias moves and this machine notes 2."""
    cache = world.worker("a")
    ask = world.ask

    def slow(name: str, alias: str) -> Answer:
        answer = ask(name, alias)
        world.alias = "2"
        cache._index.note("m", ask)
        return answer

    cache._ask_alias = slow
    world.note(cache)
    assert world.index().aliases == {"champion": "1"}
    world.down = True
    assert world.worker("a").version_of("m", "champion") == "2"


def test_a_write_between_reading_and_writing_is_not_lost(world: World) -> None:
    """The precondition fails; the registry is asked again, and the other name is still there."""
    cache = world.worker("a")

    def move(_: object) -> None:
        world.storage.before.clear()
        world.alias = "2"
        world.storage.put(INDEX, b'{"n": {"aliases": {"champion": "7"}}, "m": {"aliases": {"champion": "2"}}}')

    world.storage.before["multipart"] = move
    world.note(cache)
    index = decode(world.storage.objects[INDEX].data)
    assert index["m"].aliases == {"champion": "2"}
    assert index["n"].aliases == {"champion": "7"}


def test_an_index_fought_over_is_given_up_and_tried_again_later(world: World) -> None:
    world.storage.status["multipart"] = 412
    cache = world.worker("a")
    world.note(cache)
    assert cache.counts["bucket_failures"] == 1
    world.storage.status.clear()
    world.note(cache)
    assert world.index().aliases == {"champion": "1"}


def test_many_workers_at_once_leave_one_index_with_all_names(world: World) -> None:
    caches = [world.worker(f"w{i}") for i in range(4)]
    for i, cache in enumerate(caches):
        cache.note(f"m{i}", lambda i=i: Answer("1", digest=f"d{i}"))  # type: ignore[misc]  # i is bound now
    assert all(cache.flush(20) for cache in caches)
    for i, cache in enumerate(caches):
        cache.note(f"m{i}", lambda i=i: Answer("1", digest=f"d{i}"))  # type: ignore[misc]  # a poll later, who lost before
        assert cache.flush(10)
    index = decode(world.storage.objects[INDEX].data)
    assert {name: known.versions for name, known in index.items()} == {f"m{i}": {"1": f"d{i}"} for i in range(4)}


def test_with_the_registry_down_a_restarted_worker_takes_what_others_learned_later(world: World) -> None:
    old, other = world.worker("old"), world.worker("other")
    world.note(old)
    world.alias = "2"
    world.note(other)
    world.down = True
    assert world.worker("old").version_of("m", "champion") == "2"


def test_with_the_registry_down_what_never_reached_the_bucket_is_not_undone_by_it(world: World) -> None:
    cache = world.worker("a")
    world.note(cache)
    world.storage.status = dict.fromkeys(("meta", "multipart"), 403)
    world.alias = "2"
    world.note(cache)
    world.storage.status.clear()
    world.down = True
    assert world.worker("a").version_of("m", "champion") == "2"
