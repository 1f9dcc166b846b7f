"""Kafka's jars are taken from the cache only when they are all there and unchanged, and what is missing is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kafka import artifacts
from tests.kafka.artifacts import Unavailable

if TYPE_CHECKING:
    from pathlib import Path


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (folder / name).chmod(0o755)


def sealed(cache: Path) -> Path:
    place = cache / f"kafka-{artifacts.VERSION}"
    (place / "lib").mkdir(parents=True)
    (place / "lib" / "a.jar").write_bytes(b"jar")
    artifacts.seal(place)
    return place


@pytest.mark.parametrize("harm", ["changed", "missing", "unsealed"])
def test_a_damaged_folder_is_not_used(tmp_path: Path, harm: str) -> None:
    place = sealed(tmp_path)
    assert artifacts.is_whole(place)
    if harm == "changed":
        (place / "lib" / "a.jar").write_bytes(b"rag")
    elif harm == "missing":
        (place / "lib" / "a.jar").unlink()
    else:
        (place / "complete.json").unlink()
    assert not artifacts.is_whole(place)


def test_a_cached_library_needs_no_maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = sealed(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert artifacts.library(tmp_path) == place / "lib"


def test_without_maven_and_cache_the_reason_names_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match=r"no mvn on the PATH .* none of it in "):
        artifacts.library(tmp_path)


def test_a_fetch_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools, cache = tmp_path / "bin", tmp_path / "cache"
    tools.mkdir()
    program(tools, "mvn", "echo '[ERROR] no such host'; exit 1")
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    with pytest.raises(Unavailable, match=r"could not fetch Apache Kafka .* no such host"):
        artifacts.library(cache)
    assert list(cache.iterdir()) == []


def test_a_fetch_fills_the_cache_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools, cache = tmp_path / "bin", tmp_path / "cache"
    tools.mkdir()
    script = f"""
for a in "$@"; do
    case $a in -DoutputDirectory=*) d=${{a#*=}}; mkdir -p "$d"; echo jar > "$d/a.jar";; esac
done
echo x >> {tmp_path}/calls"""
    program(tools, "mvn", script)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    first = artifacts.library(cache)
    assert artifacts.library(cache) == first
    assert (tmp_path / "calls").read_text() == "x\n"
    (first / "a.jar").write_text("damaged")
    assert artifacts.library(cache) == first
    assert (first / "a.jar").read_text() == "jar\n"


@pytest.mark.parametrize(
    ("said", "reason"), [(None, "no java on the PATH"), ('openjdk version "11.0.2"', "17 or newer is needed")]
)
def test_java_that_is_absent_or_old_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str | None, reason: str
) -> None:
    if said is not None:
        program(tmp_path, "java", f"echo '{said}' >&2")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match=reason):
        artifacts.java()


def test_java_of_today_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "java", "echo 'openjdk version \"21.0.1\" 2025-10-21' >&2")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert artifacts.java() == str(tmp_path / "java")
