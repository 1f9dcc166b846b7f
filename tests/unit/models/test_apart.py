"""A challenger's own process: whatever happens in it, the caller has answers or abstentions within its allowance, and goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from models import apart
from models.apart import MOST_FAILURES, Allowance, Apart
from models.errors import ChallengerUnavailable, ModelOutputError
from models.handle import ModelHandle
from models.score import score
from tests.unit.models.apart_actor import COMMAND, Cue, total

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.spec import ServingSpec
    from tests.unit.models.conftest import Store

X = np.array([[1.0, 2.0, np.nan], [-0.0, 5e-324, 1e308], [np.inf, 0.1, 0.2]])
PATIENT_S = 20.0


class World:
    """An actor in a process of its own, the turns of its caller, and what was seen."""

    def __init__(self, folder: Path, spec: ServingSpec, *, budget_s: float = PATIENT_S) -> None:
        self.allowance = Allowance(budget_s)
        self.seen: list[tuple[str, str]] = []
        self.apart = Apart(
            folder,
            name="m",
            version="2",
            digest="",
            allowance=self.allowance,
            command=COMMAND,
            seen=lambda state, why: self.seen.append((state, why)),
        )
        self.handle = ModelHandle(name="m", version="2", digest="", spec=spec, predict=self.apart)

    def cue(self, cue: Cue) -> list[str | None]:
        """The reasons of two rows of a turn of their own."""
        self.allowance.begin()
        return score(self.handle, np.array([[float(cue), 1.0, 1.0], [1.0, 1.0, 1.0]])).reason

    def ready(self, timeout_s: float = 20.0) -> None:
        deadline_s = time.monotonic() + timeout_s
        while self.apart.state != "ready":
            assert time.monotonic() < deadline_s, self.seen
            time.sleep(0.01)


@pytest.fixture(name="world")
def fixture_world(make_world: Callable[..., World]) -> World:
    return make_world()


@pytest.fixture(name="make_world")
def fixture_make_world(
    tmp_path: Path, make_spec: Callable[..., ServingSpec], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., World]]:
    monkeypatch.setattr(apart, "FIRST_REST_S", 0.01)
    (tmp_path / "MLmodel").touch()
    made: list[World] = []

    def make(**more: Any) -> World:
        made.append(World(tmp_path, make_spec(), **more))
        assert made[-1].apart.wait(PATIENT_S) is None
        return made[-1]

    yield make
    for one in made:
        one.apart.close()


def test_answers_are_those_of_predict_bit_for_bit_for_any_number_of_rows(world: World) -> None:
    rng = np.random.default_rng(3)
    for x in (X, rng.normal(size=(1, 3)), rng.normal(size=(70_000, 3)), np.asfortranarray(X), X[::2]):
        world.allowance.begin()
        assert world.apart(x).tobytes() == total(x).tobytes()
    assert world.apart.started == 1


@pytest.mark.parametrize(
    ("cue", "reason"),
    [
        (Cue.RAISE, "model_raised"),
        (Cue.WRITE, "model_raised"),
        (Cue.MEMORY, "model_raised"),
        (Cue.NAN, "model_output_not_finite"),
        (Cue.SHORT, "model_output_length"),
        (Cue.WORDS, "model_output_type"),
        (Cue.CHATTER, None),
    ],
)
def test_what_does_not_end_the_child_abstains_as_it_would_here_and_it_serves_on(
    world: World, cue: Cue, reason: str | None
) -> None:
    assert world.cue(cue) == [reason] * 2
    world.allowance.begin()
    assert world.apart(X).tobytes() == total(X).tobytes()
    assert (world.apart.started, world.seen) == (1, [("ready", "it serves")])


def test_what_the_model_did_is_said_in_words(world: World) -> None:
    with pytest.raises(ModelOutputError, match=r"^ValueError: no$"):
        world.apart(np.full((1, 3), float(Cue.RAISE)))
    details = [score(world.handle, np.full((1, 3), float(c))).detail for c in (Cue.SHORT, Cue.WORDS)]
    assert details == [
        "predict answered with shape (1, 2) for 1 rows; right is (1,)",
        "predict answered with dtype |V1; right is float64",
    ]


@pytest.mark.parametrize(
    ("cue", "why"),
    [
        (Cue.ABORT, "its process was ended by SIGABRT"),
        (Cue.EXIT, "its process ended with exit code 3"),
        (Cue.CLOSE, "its process "),
        (Cue.NONSENSE, "its process answered nonsense"),
    ],
)
def test_a_child_that_ends_or_speaks_out_of_turn_is_started_again_off_to_the_side(world: World, cue: Cue, why: str) -> None:
    assert world.cue(cue) == ["challenger_unavailable"] * 2
    assert world.cue(Cue.NAN) == ["challenger_unavailable"] * 2  # at once: no child is ready so soon
    world.ready()
    assert world.cue(Cue.NAN) == ["model_output_not_finite"] * 2
    assert world.apart.started == 2
    assert [state for state, _ in world.seen] == ["ready", "resting", "ready"]
    assert world.seen[1][1].startswith(why)


def test_a_child_that_hangs_costs_its_budget_once_and_then_nothing(make_world: Callable[..., World]) -> None:
    world = make_world(budget_s=0.2)
    began_s = time.monotonic()
    assert world.cue(Cue.HANG) == ["challenger_unavailable"] * 2
    hung_s = time.monotonic() - began_s
    assert 0.2 <= hung_s < 5
    calls = 0
    began_s = time.monotonic()
    while world.apart.state == "resting":
        assert world.cue(Cue.HANG) == ["challenger_unavailable"] * 2
        calls += 1
        if time.monotonic() - began_s > 0.1:
            break
    assert calls > 10
    world.ready()


def test_the_budget_is_for_all_calls_of_a_turn(make_world: Callable[..., World]) -> None:
    world = make_world(budget_s=3.0)
    world.allowance.begin()
    world.apart(X)
    world.apart._left_s = 0.0
    with pytest.raises(ChallengerUnavailable, match="it did not answer in time; its process is killed"):
        world.apart(np.full((1, 3), float(Cue.HANG)))
    world.ready()
    world.allowance.begin()
    assert world.apart(X).tobytes() == total(X).tobytes()


def test_one_that_fails_again_and_again_stays_off_and_says_so(world: World) -> None:
    for _ in range(MOST_FAILURES):
        world.ready()
        assert world.cue(Cue.ABORT) == ["challenger_unavailable"] * 2
    assert world.apart.state == "off"
    assert world.seen[-1][1].endswith("5 failures in a minute, and it stays off: give its alias to another version")
    assert world.apart.started == MOST_FAILURES
    assert world.cue(Cue.NAN) == ["challenger_unavailable"] * 2


def test_only_a_new_failure_is_told(world: World) -> None:
    world.allowance.begin()
    first, second = (score(world.handle, np.full((1, 3), float(Cue.ABORT))) for _ in range(2))
    assert first.detail == "challenger 'm' version 2: its process was ended by SIGABRT; its process is killed"
    assert (second.detail, second.reason) == (None, ["challenger_unavailable"])


@pytest.mark.skipif(sys.platform != "linux", reason="processes are read as Linux tells them")
def test_its_process_ends_when_it_is_closed_and_leaves_nothing(world: World) -> None:
    assert len(children()) == 1
    world.apart.close()
    until(lambda: children() == [])
    assert world.cue(Cue.NAN) == ["challenger_unavailable"] * 2
    assert world.seen[-1][0] == "closed"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_its_process_hanging_ends_with_ours(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").touch()
    ours = f"""
import os, numpy as np
from pathlib import Path
from models.apart import Allowance, Apart
from tests.unit.models.apart_actor import COMMAND, Cue
one = Apart(Path({str(tmp_path)!r}), name="m", version="2", digest="", allowance=Allowance(60.0), command=COMMAND)
assert one.wait(20) is None
print(one._child._process.pid, flush=True)
one._allowance.begin()
one(np.full((1, 3), float(Cue.HANG)))
"""
    root = Path(apart.__file__).parents[1]
    with subprocess.Popen([sys.executable, "-c", ours], cwd=root, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        parent.kill()
    until(lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2])


def test_a_registered_version_is_loaded_and_scored_there_as_here(store: Store, booster: Any) -> None:
    store.publish(booster)
    registry = store.registry()
    handle = registry.load("m", "1")
    ready = registry.folder("m", "1")
    one = Apart(ready.held.folder, name="m", version="1", digest=ready.digest, allowance=Allowance(PATIENT_S))
    try:
        assert one.wait(PATIENT_S) is None
        x = np.random.default_rng(1).normal(size=(50, 3))
        one._allowance.begin()
        assert one(x).tobytes() == handle.predict(x).tobytes()
        wrong = Apart(ready.held.folder, name="m", version="1", digest="0" * 64, allowance=Allowance(PATIENT_S))
        why = wrong.wait(PATIENT_S)
        wrong.close()
        assert why is not None
        assert "its files have digest" in why
    finally:
        one.close()


def children() -> list[int]:
    """Our child processes that run."""
    found = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return [int(pid) for file in found for pid in file.read_text().split()]


def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_a_folder_that_is_none_is_a_failure_as_another(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    one = Apart(tmp_path, name="m", version="1", digest="", allowance=Allowance(1.0))
    why = one.wait(PATIENT_S)
    one.close()
    assert why is not None
    assert why.startswith("it could not be started: ")
