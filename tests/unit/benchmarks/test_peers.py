"""What the other frameworks' jobs share answers as the reference does; their environment is made once."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.contenders import CONTENDERS
from benchmarks.job import Feed, Job
from benchmarks.peers.environment import REQUIREMENTS, environment
from benchmarks.peers.windows import Place, Shared
from benchmarks.reference import Reference
from benchmarks.served import read_model, write_model
from benchmarks.surroundings import ROOT, BenchmarkFailed

if TYPE_CHECKING:
    from pathlib import Path

TOPIC = "trading.features"
JOB = Job(symbols=12, features=3, warm_up_rows=0, rows=480, paced=())


@pytest.mark.parametrize("at_once", [1, 37])
def test_windows_as_lists_answer_as_the_reference_does(tmp_path: Path, at_once: int) -> None:
    write_model(JOB, "linear", tmp_path)
    feed = Feed(JOB)
    reference = Reference(feed, "linear", read_model(tmp_path).spec, features_topic=TOPIC)
    shared = Shared(argparse.Namespace(model=tmp_path, features=TOPIC))
    held: dict[str, list[Any]] = {}
    waiting: list[tuple[Place, list[float]]] = []
    records: list[tuple[int, bytes]] = []
    for p, messages in enumerate(feed.messages):
        for k, message in enumerate(messages):
            symbol, row = shared.decode(message["value"])
            window = held[symbol] = [*held.get(symbol, []), row][-shared.depth :]
            waiting.append((Place(symbol, row[0], p, k), shared.vector(window)))
            if at_once == 1:
                records.append((p, shared.record(*waiting.pop())))
            elif len(waiting) == at_once:
                answered = shared.records([place for place, _ in waiting], [vector for _, vector in waiting])
                records += [(place.partition, record) for (place, _), record in zip(waiting, answered, strict=True)]
                waiting.clear()
    assert reference.check((p, json.loads(value)) for p, value in records) == JOB.rows - len(waiting)


def test_what_the_peers_share_needs_nothing_but_numpy_and_msgspec() -> None:
    # msgspec takes typing_extensions if it is there.
    allowed = {"numpy", "msgspec", "typing_extensions", "benchmarks", "models", "streams"}
    code = (
        "import sys; before = set(sys.modules); import benchmarks.peers.windows, benchmarks.tuned_windows, benchmarks.options;"
        "names = {m.partition('.')[0] for m in set(sys.modules) - before}; print(*names - set(sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    extra = {name for name in done.stdout.split() if not name.startswith("_")} - allowed
    assert extra == set()


def test_every_peer_has_its_file_and_its_framework_is_pinned() -> None:
    pinned = {line.partition("==")[0] for line in REQUIREMENTS.read_text().splitlines() if "==" in line}
    assert {"faust-streaming", "quixstreams", "bytewax", "faststream", "msgspec", "numpy"} <= pinned
    for contender in CONTENDERS.values():
        if contender.peer:
            assert ROOT.joinpath(*contender.module.split(".")).with_suffix(".py").is_file()


def test_the_environment_is_made_once_and_again_when_the_requirements_change(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    uv = tmp_path / "uv"
    uv.write_text(
        f'#!/bin/sh\necho "$1" >> {calls}\n[ "$1" = venv ] || exit 0\nfor last; do :; done\n'
        'mkdir -p "$last/bin" && touch "$last/bin/python"\n'
    )
    uv.chmod(0o755)
    requirements, folder = tmp_path / "requirements.txt", tmp_path / "env"
    said: list[str] = []
    for text in ("a==1\n", "a==1\n", "a==2\n"):
        requirements.write_text(text)
        assert environment(folder, requirements, say=said.append, uv=str(uv)) == folder / "bin" / "python"
    assert calls.read_text().split() == ["venv", "pip", "venv", "pip"]
    assert len(said) == 2


def test_an_environment_that_cannot_be_made_is_said_and_tried_again(tmp_path: Path) -> None:
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\necho no such wheel >&2\nexit 1\n")
    uv.chmod(0o755)
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("a==1\n")
    for _ in range(2):
        with pytest.raises(BenchmarkFailed, match=r"no such wheel[\s\S]*--without-peers"):
            environment(tmp_path / "env", requirements, say=lambda _: None, uv=str(uv))
