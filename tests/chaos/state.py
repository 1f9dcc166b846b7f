"""A worker's table on disk, and what the changelog says it must be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.chaos.reading import read_all

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.names import Names

OFFSET_KEY = b"__faust\0offset__"
State = dict[int, dict[bytes, bytes]]
"""Partition → key → value."""


def entries(folder: Path, *, group: str = "inference", table: str = "windows") -> State:
    """Every entry of a stopped worker's table, from its RocksDB files; partitions without any are left out."""
    from rocksdict import AccessType, Options, Rdict

    found: State = {}
    for place in sorted((folder / group).rglob(f"{table}-*.db")):
        db = Rdict(str(place), Options(raw_mode=True), access_type=AccessType.read_only())
        pairs: Any = db.items()  # raw bytes in raw mode, whatever its types say
        held = {k: v for k, v in pairs if k != OFFSET_KEY}
        db.close()
        if held:
            found[int(place.stem.rsplit("-", 1)[1])] = held
    return found


def newest_of_changelog(names: Names, topic: str | None = None) -> State:
    """The newest value of each key in a changelog, the windows' unless said otherwise."""
    found: State = {}
    for r in read_all(names.servers, topic or names.windows):
        if r.key is not None:
            found.setdefault(r.partition, {})[r.key] = r.value or b""
    return found


def differences(one: State, other: State) -> list[str]:
    """Which entries of two states are not the same, by partition and key."""
    places = {(partition, key) for state in (one, other) for partition, held in state.items() for key in held}
    return sorted(f"{p}: {k!r}" for p, k in places if one.get(p, {}).get(k) != other.get(p, {}).get(k))
