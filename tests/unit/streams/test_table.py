"""Damaged RocksDB files are found when they are opened and make room for an empty one; recovery holds the newer value."""

from __future__ import annotations

import os
import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from faust.types import TP
from rocksdict import Options, Rdict

from streams import table

if TYPE_CHECKING:
    from pathlib import Path

ENTRIES = 300


class Store:
    """What `guard` needs of Faust's store."""

    offset_key = b"offset"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.files: dict[int, Rdict] = {}

    def partition_path(self, partition: int) -> Path:
        return self._folder / f"windows-{partition}.db"

    def _open_for_partition(self, partition: int) -> Rdict:
        options = Options(raw_mode=True)
        options.create_if_missing(True)  # noqa: FBT003 - rocksdict's signature
        return Rdict(str(self.partition_path(partition)), options)

    def _db_for_partition(self, partition: int) -> Any:
        if partition not in self.files:
            self.files[partition] = self._open_for_partition(partition)
        return self.files[partition]

    def apply_changelog_batch(self, batch: list[Any]) -> None:
        """As Faust's."""
        if not batch:
            raise OSError("no room")
        for event in batch:
            m = event.message
            self._db_for_partition(m.partition).put(m.key, m.value)
        last = batch[-1].message
        self.set_persisted_offset(last.tp, last.offset)

    def set_persisted_offset(self, tp: TP, offset: int) -> None:
        self._db_for_partition(tp.partition).put(self.offset_key, str(offset).encode())


@pytest.fixture
def store(tmp_path: Path) -> Any:
    """Two files, one with sorted tables, one with a write-ahead log too, as a killed process leaves them."""
    made = Store(tmp_path)
    for _ in range(2):
        db = made._open_for_partition(1)
        for n in range(ENTRIES):
            db.put(b"%05d" % n, os.urandom(500))
        db.flush()
        db.close()
    db = made._open_for_partition(1)
    db.put(b"last", b"1")
    shutil.copytree(made.partition_path(1), tmp_path / "killed")
    db.close()
    shutil.rmtree(made.partition_path(1))
    (tmp_path / "killed").rename(made.partition_path(1))
    table.guard(made)
    return made


def harm(folder: Path, pattern: str, how: str) -> None:
    file = max(folder.glob(pattern))
    data = file.read_bytes()
    if how == "removed":
        file.unlink()
    elif how == "shortened":
        file.write_bytes(data[: len(data) // 2])
    elif how == "emptied":
        file.write_bytes(b"")
    elif how == "garbage":
        file.write_bytes(bytes(b ^ 0x5A for b in data))
    else:
        file.write_bytes(data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 0xFF]) + data[len(data) // 2 + 1 :])


def count(db: Rdict) -> int:
    return len(list(db.items()))


def test_whole_files_are_opened_as_they_are(store: Any) -> None:
    db = store._open_for_partition(1)
    assert count(db) == ENTRIES + 1
    db.close()
    assert not store.partition_path(1).with_name("windows-1.db.damaged").exists()


@pytest.mark.parametrize("how", ["removed", "shortened", "emptied", "garbage", "one byte"])
@pytest.mark.parametrize("pattern", ["CURRENT", "MANIFEST-*", "*.sst"])
def test_damaged_files_make_room_for_an_empty_one(store: Any, pattern: str, how: str) -> None:
    place = store.partition_path(1)
    harm(place, pattern, how)
    db = store._open_for_partition(1)
    assert count(db) == 0
    db.put(b"k", b"v")
    db.close()
    assert place.with_name("windows-1.db.damaged").is_dir()
    again = store._open_for_partition(1)
    assert count(again) == 1
    again.close()


def test_one_damaged_byte_is_what_rocksdict_itself_passes_over_in_silence(store: Any) -> None:
    """Why files are read through; when this fails, `items` of the library has learned to say so."""
    harm(store.partition_path(1), "*.sst", "one byte")
    db = Rdict(str(store.partition_path(1)), Options(raw_mode=True))
    assert count(db) < ENTRIES + 1
    db.close()


@pytest.mark.parametrize("how", ["removed", "shortened", "emptied", "garbage", "one byte"])
def test_a_damaged_write_ahead_log_leaves_what_was_there_before(store: Any, how: str) -> None:
    """Entries and the changelog offset they hold up to are written together, so what is left is a whole older state."""
    harm(store.partition_path(1), "*.log", how)
    db = store._open_for_partition(1)
    assert count(db) in {ENTRIES, ENTRIES + 1}
    db.close()


def test_damage_a_second_time_replaces_what_was_moved_aside(store: Any) -> None:
    for _ in range(2):
        harm(store.partition_path(1), "CURRENT", "garbage")
        store._open_for_partition(1).close()
    assert [p.name for p in sorted(store.partition_path(1).parent.iterdir())] == ["windows-1.db", "windows-1.db.damaged"]


def test_a_file_that_another_holds_is_not_damage(store: Any) -> None:
    held = store._open_for_partition(1)
    with pytest.raises(Exception, match="lock"):
        store._open_for_partition(1)
    held.close()
    assert not store.partition_path(1).with_name("windows-1.db.damaged").exists()


@pytest.fixture
def recovering(tmp_path: Path) -> Any:
    """An empty store under a rule: the longer value stands, of two that are as long the later one."""
    made: Any = Store(tmp_path)
    table.guard(made, lambda _key, held, came: came if len(came) >= len(held) else held)
    return made


def read(store: Any, first: int, *records: tuple[bytes, bytes]) -> dict[bytes, bytes]:
    events = [
        SimpleNamespace(message=SimpleNamespace(tp=TP("log", 1), partition=1, offset=first + n, key=key, value=value))
        for n, (key, value) in enumerate(records)
    ]
    store.apply_changelog_batch(events)
    return dict(store._db_for_partition(1).items())


def test_recovery_holds_what_the_rule_says_within_a_batch_and_across(recovering: Any) -> None:
    assert read(recovering, 0, (b"A", b"22"), (b"B", b"1"), (b"A", b"23")) == {b"A": b"23", b"B": b"1", b"offset": b"2"}
    held = read(recovering, 3, (b"B", b"333"), (b"A", b"1"), (b"B", b"22"))
    assert (held[b"A"], held[b"B"]) == (b"23", b"333")


def test_a_file_holds_only_up_to_the_first_record_passed_over_until_a_checkpoint_writes(recovering: Any) -> None:
    packed = table.PackedTable(SimpleNamespace(data=recovering, changelog_topic=SimpleNamespace(get_topic_name=lambda: "log")))
    assert packed.offset(1) is None
    read(recovering, 0, (b"A", b"22"))
    assert packed.offset(1) == 0
    read(recovering, 1, (b"B", b"22"), (b"A", b"1"), (b"A", b"22"))
    assert packed.offset(1) == 1
    read(recovering, 4, (b"A", b"333"))
    assert packed.offset(1) == 1  # the record at 2 is still to be repaired
    packed.write([(1, b"A", b"333")], {("log", 1): 5})
    assert packed.offset(1) == 5
    read(recovering, 6, (b"A", b"4444"))
    assert packed.offset(1) == 6


def test_without_a_rule_the_later_record_stands(tmp_path: Path) -> None:
    made: Any = Store(tmp_path)
    table.guard(made)
    assert read(made, 0, (b"A", b"22"), (b"A", b"1")) == {b"A": b"1", b"offset": b"1"}


def test_a_changelog_that_cannot_be_applied_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[tuple[int, str]] = []
    monkeypatch.setattr(table, "leave", lambda code, message: left.append((code, message)))
    made: Any = Store(tmp_path)
    table.guard(made)
    read(made, 0, (b"A", b"1"))
    assert left == []
    made.apply_changelog_batch([])
    assert left == [(75, "state could not be recovered from the changelog: no room")]
