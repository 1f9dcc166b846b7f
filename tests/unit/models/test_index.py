from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from models.errors import RegistryError, RegistryUnreachable
from models.index import Answer, Known, LocalIndex

if TYPE_CHECKING:
    from pathlib import Path

CHAMPION = "champion"


def said(version: str | None, digest: str | None = None) -> Answer:
    return Answer(version, CHAMPION, digest, refusal=RegistryError("no") if version is None else None)


def test_the_index_remembers_what_the_registry_said(tmp_path: Path) -> None:
    index = LocalIndex(tmp_path)
    index.note("m", lambda: said("1", "d1"))
    index.note("m", lambda: said("2", "d2"))
    index.note("n", lambda: Answer("1", digest="e1"))
    again = LocalIndex(tmp_path)
    assert again.known("m").aliases == {CHAMPION: "2"}
    assert again.known("m").versions == {"1": "d1", "2": "d2"}
    assert (again.known("n").aliases, again.known("n").versions) == ({}, {"1": "e1"})
    assert again.served_digests() == {"d2"}


@pytest.mark.parametrize("data", [b"{half", b"\xff\xfe", b"[]", b'{"m": 1}'])
def test_an_unreadable_index_is_an_empty_one(tmp_path: Path, data: bytes) -> None:
    index = LocalIndex(tmp_path)
    (tmp_path / "index.json").write_bytes(data)
    assert index.known("m") == Known()
    index.note("m", lambda: said("1"))
    assert index.known("m").aliases == {CHAMPION: "1"}


def test_an_index_of_the_release_before_is_read(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text('{"m": {"aliases": {"champion": "3"}, "versions": {"3": "d"}}}')
    assert LocalIndex(tmp_path).known("m").aliases == {CHAMPION: "3"}


def test_an_alias_the_registry_no_longer_has_is_not_remembered_as_it_was(tmp_path: Path) -> None:
    index = LocalIndex(tmp_path)
    assert index.note("m", lambda: said(None)).refusal is not None
    assert index.known("m").aliases == {}  # a name mistyped leaves nothing
    index.note("m", lambda: said("1", "d1"))
    index.note("m", lambda: said(None))
    assert index.known("m").aliases == {CHAMPION: None}
    assert index.served_digests() == frozenset()


def test_a_slow_process_does_not_write_its_older_answer_over_a_newer_one(tmp_path: Path) -> None:
    """The alias moves 3 → 4 after the slow one was answered; the fast one notes 4 first."""
    slow, fast = LocalIndex(tmp_path), LocalIndex(tmp_path)
    asked: list[str] = []

    def answer() -> Answer:
        asked.append("3" if not asked else "4")
        if len(asked) == 1:
            fast.note("m", lambda: said("4"))
        return said(asked[-1])

    assert slow.note("m", answer).version == "4"
    assert asked == ["3", "4"]
    assert slow.known("m").aliases == {CHAMPION: "4"}


def test_whoever_is_always_overtaken_answers_and_writes_nothing(tmp_path: Path) -> None:
    slow, fast = LocalIndex(tmp_path), LocalIndex(tmp_path)
    moves = iter(range(100))

    def answer() -> Answer:
        fast.note("m", lambda: said(f"{next(moves)}"))
        return said("old")

    assert slow.note("m", answer).version == "old"
    assert slow.known("m").aliases[CHAMPION] != "old"


def test_a_registry_that_does_not_answer_changes_nothing(tmp_path: Path) -> None:
    index = LocalIndex(tmp_path)
    index.note("m", lambda: said("1"))
    before = (tmp_path / "index.json").read_bytes()

    def away() -> Answer:
        raise RegistryUnreachable("away")

    with pytest.raises(RegistryUnreachable):
        index.note("m", away)
    assert (tmp_path / "index.json").read_bytes() == before


def test_of_two_indexes_the_later_word_stands_and_agreement_takes_over_the_stamp() -> None:
    ours = Known(aliases={"a": "1", "b": "1", "c": "1"}, said_us={"a": 50, "b": 50, "c": 50}, versions={"1": "d1"})
    theirs = Known(
        aliases={"a": "2", "b": "2", "c": "1", "d": None},
        said_us={"a": 60, "b": 40, "c": 20, "d": 1},
        versions={"1": "x", "2": "d2"},
    )
    ours.adopt(theirs)
    assert ours.aliases == {"a": "2", "b": "1", "c": "1", "d": None}
    assert ours.said_us == {"a": 60, "b": 50, "c": 20, "d": 1}
    assert ours.versions == {"1": "d1", "2": "d2"}


def test_stamps_grow_even_where_the_clock_goes_back() -> None:
    known = Known()
    for version, asked_us in (("1", 1_000), ("2", 10), ("3", 2_000)):
        known.note(said(version), asked_us=asked_us)
        assert known.said_us[CHAMPION] == {"1": 1_000, "2": 1_001, "3": 2_000}[version]


def test_an_answer_long_on_its_way_has_the_stamp_of_its_question(tmp_path: Path) -> None:
    index = LocalIndex(tmp_path)
    times_us: list[int] = []

    def slow() -> Answer:
        times_us.append(time.time_ns() // 1_000)
        return said("1")

    index.note("m", slow)
    assert index.known("m").said_us[CHAMPION] <= times_us[0]


def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    def write(i: int) -> None:
        index = LocalIndex(tmp_path)
        for v in range(20):
            index.note(f"m{i}", lambda v=v: Answer(str(v), digest=str(v)))  # type: ignore[misc]  # v is bound now

    threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all(LocalIndex(tmp_path).known(f"m{i}").versions == {str(v): str(v) for v in range(20)} for i in range(4))
