"""The last thing the registry said, so that a worker can start while the registry is down. Shell.

    index.json   {"<name>": {"aliases": {"champion": "3"}, "versions": {"3": "<digest>"},
                             "said_us": {"champion": 1767225600000000}, "revision": 7}}

MLflow numbers neither its answers nor the moves of an alias, and a rollback makes a smaller version the newer one. So
what an answer says does not tell which of two is newer; when the registry was asked does:

| two answers                              | which stands                                                           |
|------------------------------------------|------------------------------------------------------------------------|
| in one index                             | a new one is written only over the index that was read BEFORE the      |
|                                          | registry was asked (compare and swap), else the registry is asked      |
|                                          | again: an older answer never replaces a newer one. No clock is needed  |
| this machine's index, the bucket's index | the one asked for later (`said_us`). Stamps only grow along one index, |
|                                          | and an index that agrees takes over the other's, so clocks matter only |
|                                          | for an answer that did not reach the bucket: there their skew counts   |

An alias the registry says it does not have is kept as null: it was taken away, and must not come back from an index.
The digest of a version is set once, when it is published, so digests are only added.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from models.errors import RegistryError

ROUNDS: Final = 4
"""How often the registry is asked again because another process noted an answer in between."""


class Known(msgspec.Struct):
    """What the registry last said about one model name. `said_us`: per alias, microseconds; `revision`: changes so far."""

    aliases: dict[str, str | None] = {}
    versions: dict[str, str] = {}
    said_us: dict[str, int] = {}
    revision: int = 0

    def note(self, answer: Answer, *, asked_us: int) -> None:
        """Take over an answer that is newer than everything here. `asked_us`: before the registry was asked."""
        if answer.version is not None and answer.digest is not None:
            self.versions[answer.version] = answer.digest
        if answer.alias is not None and (answer.version is not None or answer.alias in self.aliases):
            self.aliases[answer.alias] = answer.version
            self.said_us[answer.alias] = max(asked_us, self.said_us.get(answer.alias, 0) + 1)
        self.revision += 1

    def agrees(self, answer: Answer) -> bool:
        """Whether this says nothing else than the answer."""
        digest = answer.digest is None or (answer.version is not None and self.versions.get(answer.version) == answer.digest)
        alias = answer.alias is None or self.aliases.get(answer.alias) == answer.version
        return digest and alias

    def adopt(self, other: Known) -> None:
        """Take over from another index what it knows later, the stamps of what both say, and the digests missing here."""
        self.versions = other.versions | self.versions
        for alias, version in other.aliases.items():
            stamp_us = other.said_us.get(alias, 0)
            same = alias in self.aliases and self.aliases[alias] == version
            if same or stamp_us > self.said_us.get(alias, -1):
                self.revision += not same
                self.aliases[alias] = version
                self.said_us[alias] = stamp_us


class Answer(NamedTuple):
    """What the registry just said: the version an alias names, a version's digest, or (no version) a refusal."""

    version: str | None
    alias: str | None = None
    digest: str | None = None
    refusal: RegistryError | None = None


Index = dict[str, Known]


def now_us() -> int:
    """The stamp of an answer: taken before asking, so that an answer that was long on its way is not taken for a late one."""
    return time.time_ns() // 1_000


def decode(data: bytes) -> Index:
    """An index from its bytes. Raises `msgspec.MsgspecError`, and `UnicodeDecodeError` for bytes that are no text."""
    return msgspec.json.decode(data, type=Index)


def encode(index: Index) -> bytes:
    """The bytes of an index."""
    return msgspec.json.encode(index)


class LocalIndex:
    """The index in one folder, shared by threads and processes."""

    def __init__(self, root: Path) -> None:
        self._file = root / "index.json"
        self._lock = root / "index.lock"

    def known(self, name: str) -> Known:
        """What is known about a model name; empty if nothing."""
        return self.read().get(name, Known())

    def read(self) -> Index:
        """All of it; empty if absent or unreadable, since the registry can always tell it again."""
        try:
            return decode(self._file.read_bytes())
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return {}

    def note(self, name: str, ask: Callable[[], Answer]) -> Answer:
        """Ask the registry and keep its answer, unless another process keeps noting others; whatever `ask` raises goes on."""
        for _ in range(ROUNDS - 1):
            before = self.known(name).revision
            asked_us = now_us()
            answer = ask()
            with self._changing() as index:
                known = index.setdefault(name, Known())
                if known.revision == before or known.agrees(answer):
                    known.note(answer, asked_us=asked_us)
                    return answer
        return ask()

    def adopt(self, name: str, other: Known) -> None:
        """Take over what another index says later than this one."""
        with self._changing() as index:
            index.setdefault(name, Known()).adopt(other)

    def served_digests(self) -> frozenset[str]:
        """Digests of the versions that aliases name."""
        known = self.read().values()
        return frozenset(k.versions[v] for k in known for v in k.aliases.values() if v is not None and v in k.versions)

    @contextmanager
    def _changing(self) -> Iterator[Index]:
        """The index, alone; written back whole if it is changed."""
        with self._lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            index = self.read()
            before = encode(index)
            yield index
            after = encode(index)
            if after == before:
                return
            fresh = self._file.with_suffix(".new")
            with fresh.open("wb") as file:
                file.write(after)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._file)
