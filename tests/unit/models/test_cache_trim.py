"""The cache stays within its bytes, and what somebody uses stays in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from models.artifacts import folder_digest
from models.cache import ArtifactCache

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIZE_BYTES = 1_000

HOLDER = """
import sys
from pathlib import Path
from models.cache import ArtifactCache
held = ArtifactCache(Path(sys.argv[1])).get(sys.argv[2], what="m")
print(held is not None, flush=True)
sys.stdin.read()
"""


@pytest.fixture(name="adding")
def fixture_adding(tmp_path: Path) -> Callable[[ArtifactCache, int], str]:
    """Add the i-th of many models of 1,000 bytes, used at second i; answers its digest. Nobody holds it."""

    def add(cache: ArtifactCache, i: int) -> str:
        made = tmp_path / "made" / f"{i}"
        made.mkdir(parents=True)
        (made / "MLmodel").write_bytes(f"{i:04}".encode() * (SIZE_BYTES // 4))
        digest = folder_digest(made)

        def download(to: Path) -> Path:
            return made.rename(to / "model")

        held = cache.add(digest, download, what="m")
        os.utime(held.folder, (i, i))
        held.close()
        return digest

    return add


def kept(root: Path) -> set[str]:
    return {entry.name for entry in (root / "artifacts").iterdir()}


def test_the_least_recently_used_go_first_until_it_fits(tmp_path: Path, adding: Callable[[ArtifactCache, int], str]) -> None:
    cache = ArtifactCache(tmp_path, max_bytes=3 * SIZE_BYTES)
    digests = [adding(cache, i) for i in range(3)]
    assert kept(tmp_path) == set(digests)
    used = cache.get(digests[0], what="m")
    assert used is not None
    used.close()
    newest = adding(cache, 3)
    assert kept(tmp_path) == {digests[0], digests[2], newest}


def test_what_is_held_stays_and_goes_when_it_is_let_go(tmp_path: Path, adding: Callable[[ArtifactCache, int], str]) -> None:
    cache = ArtifactCache(tmp_path, max_bytes=SIZE_BYTES)
    oldest = adding(cache, 0)
    held = cache.get(oldest, what="m")
    assert held is not None
    os.utime(held.folder, (0, 0))
    adding(cache, 1)
    assert oldest in kept(tmp_path)
    held.close()
    os.utime(tmp_path / "artifacts" / oldest, (0, 0))
    newest = adding(cache, 2)
    assert kept(tmp_path) == {newest}


def test_what_another_process_holds_stays_until_it_ends(tmp_path: Path, adding: Callable[[ArtifactCache, int], str]) -> None:
    cache = ArtifactCache(tmp_path, max_bytes=SIZE_BYTES)
    oldest = adding(cache, 0)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path), oldest], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        os.utime(tmp_path / "artifacts" / oldest, (0, 0))
        adding(cache, 1)
        assert oldest in kept(tmp_path)
        other.kill()
    newest = adding(cache, 2)
    assert kept(tmp_path) == {newest}


def test_what_an_alias_names_stays_and_one_line_says_that_it_is_too_much(
    tmp_path: Path, adding: Callable[[ArtifactCache, int], str]
) -> None:
    named: set[str] = set()
    cache = ArtifactCache(tmp_path, max_bytes=SIZE_BYTES, keep=lambda: named)
    for i in range(2):
        named.add(adding(ArtifactCache(tmp_path), i))
    with capture_logs() as logs:
        last = adding(cache, 2)
    assert kept(tmp_path) == named | {last}  # the one just added is held while its adding trims
    assert [line["bytes"] for line in logs] == [3 * SIZE_BYTES]


@pytest.mark.parametrize("put_back", [False, True])
def test_a_folder_removed_while_one_takes_hold_of_it_is_not_there_or_the_one_put_back_is_held(
    tmp_path: Path, adding: Callable[[ArtifactCache, int], str], monkeypatch: pytest.MonkeyPatch, *, put_back: bool
) -> None:
    import fcntl

    cache = ArtifactCache(tmp_path, max_bytes=0)
    digest = adding(ArtifactCache(tmp_path), 0)
    copy = shutil.copytree(tmp_path / "artifacts" / digest, tmp_path / "copy")
    lock = fcntl.flock

    def slow(file: int, operation: int) -> None:
        if operation == fcntl.LOCK_SH:
            monkeypatch.setattr(fcntl, "flock", lock)
            cache.trim()
            if put_back:
                copy.rename(tmp_path / "artifacts" / digest)
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", slow)
    held = cache.get(digest, what="m")
    assert (held is not None) == put_back
    cache.trim()
    assert kept(tmp_path) == ({digest} if put_back else set())


def test_what_killed_processes_left_is_swept_up_when_it_is_old(
    tmp_path: Path, adding: Callable[[ArtifactCache, int], str]
) -> None:
    cache = ArtifactCache(tmp_path, max_bytes=SIZE_BYTES)
    for name, age_s in ((".scratch-old", 7200), (".gone-old", 7200), (".scratch-new", 0)):
        (tmp_path / "artifacts" / name).mkdir()
        os.utime(tmp_path / "artifacts" / name, (time.time() - age_s,) * 2)
    digest = adding(cache, 0)
    assert kept(tmp_path) == {digest, ".scratch-new"}


def test_without_a_bound_nothing_goes(tmp_path: Path, adding: Callable[[ArtifactCache, int], str]) -> None:
    cache = ArtifactCache(tmp_path)
    digests = {adding(cache, i) for i in range(5)}
    assert kept(tmp_path) == digests
