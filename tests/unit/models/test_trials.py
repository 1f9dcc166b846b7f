"""The trial: in a process of its own, once for a digest, with limits; whatever happens there, this process goes on."""

from __future__ import annotations

import json
import os
import resource
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle  # type: ignore[import-untyped]  # ships no types
import pytest

import models.trials
from models.errors import ModelOutputError, RuntimeMissing, SpecError, UntrustedModel
from models.folder import load_folder
from models.trial import Verdict
from models.trials import Trials
from tests.unit.models import graphs
from tests.unit.models.malicious import misbehaving

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.models.conftest import Store


@pytest.fixture(scope="session", name="graph_folder")
def fixture_graph_folder(make_store: Callable[[Path], Store], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good ONNX version's folder: its trial is the quickest."""
    root = tmp_path_factory.mktemp("graph")
    make_store(root).publish(graphs.linear())
    (mlmodel,) = (root / "artifacts").rglob("MLmodel")
    return mlmodel.parent


def require(trials: Trials, folder: Path, **changes: Any) -> None:
    trials.require(folder, **({"name": "m", "version": "1", "digest": "d"} | changes))


def test_a_digest_is_tried_once_and_a_restart_costs_nothing(graph_folder: Path, tmp_path: Path) -> None:
    trials = Trials(tmp_path / "trials")
    for _ in range(2):
        load_folder(graph_folder, name="m", version="1", digest="d", trials=trials)
    assert trials.started == 1
    again = Trials(tmp_path / "trials")
    require(again, graph_folder)
    assert again.started == 0


def test_another_library_version_or_a_spoilt_verdict_is_tried_again(
    graph_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = Trials(tmp_path / "trials")
    require(trials, graph_folder)
    (verdict,) = (tmp_path / "trials").iterdir()
    assert verdict.stat().st_size < 200
    verdict.write_bytes(b"\x00")
    require(trials, graph_folder)
    monkeypatch.setattr(models.trials, "_surroundings", lambda: ("numpy==0",))
    require(trials, graph_folder)
    assert trials.started == 3


def test_a_row_that_takes_longer_than_its_budget_is_refused_by_name_and_not_tried_again_at_once(
    graph_folder: Path, tmp_path: Path
) -> None:
    trials = Trials(tmp_path / "trials", row_budget_us=1e-6)
    for _ in range(2):
        with pytest.raises(UntrustedModel, match=r"takes [0-9.]+ us a row; inference.row_budget is 1e-06 us") as caught:
            require(trials, graph_folder)
        assert caught.value.check == "time"
    assert trials.started == 1
    assert not (tmp_path / "trials").exists()


def test_a_kept_verdict_of_a_slower_row_than_now_allowed_does_not_count(graph_folder: Path, tmp_path: Path) -> None:
    require(Trials(tmp_path / "trials"), graph_folder)
    strict = Trials(tmp_path / "trials", row_budget_us=1e-6)
    with pytest.raises(UntrustedModel, match="us a row"):
        require(strict, graph_folder)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("SpecError", SpecError),
        ("RuntimeMissing", RuntimeMissing),
        ("ModelOutputError", ModelOutputError),
        ("Odd", UntrustedModel),
    ],
)
def test_what_the_trial_found_is_raised_here_as_what_it_was(error: str, kind: type[Exception]) -> None:
    verdict = Verdict(error=error, check="example", message="m is wrong")
    with pytest.raises(kind, match=r"^m is wrong$"):
        models.trials._raise(verdict)


@pytest.fixture(scope="session", name="code_folder")
def fixture_code_folder(make_store: Callable[[Path], Store], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A code version's folder, good until somebody replaces its pickle."""
    root = tmp_path_factory.mktemp("code")
    cloudpickle.register_pickle_by_value(misbehaving)
    make_store(root).publish(misbehaving.Misbehaving("", root / "armed", root / "report"), allow_code=True)
    (mlmodel,) = (root / "artifacts").rglob("MLmodel")
    return mlmodel.parent


def alive(group: int) -> list[str]:
    """The processes of a group, those that have ended and wait to be noticed left out."""
    stats = [s for p in Path("/proc").glob("[0-9]*/stat") for s in [_text(p)] if s]
    rest = [s.rpartition(")")[2].split() for s in stats]
    return [s for s, (state, _, of, *_) in zip(stats, rest, strict=True) if int(of) == group and state != "Z"]


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def harmful(code_folder: Path, tmp_path: Path, how: str) -> Path:
    folder = shutil.copytree(code_folder, tmp_path / "victim")
    (tmp_path / "armed").touch()
    model = misbehaving.Misbehaving(how, tmp_path / "armed", tmp_path / "report")
    (folder / "python_model.pkl").write_bytes(cloudpickle.dumps(model))
    return folder


def test_a_crash_is_survived_and_named_and_the_trial_had_limits_and_no_secrets(
    code_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADING_ML__KAFKA__SECURITY__SASL__PASSWORD", "canary")
    folder = harmful(code_folder, tmp_path, "abort")
    trials = Trials(tmp_path / "trials")
    with pytest.raises(UntrustedModel, match="model 'm' version 1 is not loaded: its trial was ended by SIGSEGV") as caught:
        require(trials, folder, allow_code=True)
    assert caught.value.check == "trial"
    report = json.loads((tmp_path / "report").read_text())
    assert "canary" not in json.dumps(report["environment"])
    assert set(report["environment"]) & set(os.environ) <= set(models.trials._PASSED_ON) | {
        "HOME", "LANG", "LC_CTYPE", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "TMPDIR", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS", "ORT_DISABLE_TELEMETRY", "MLFLOW_LOGGING_LEVEL", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK",
        *(k for k in os.environ if k.startswith("MLFLOW_") or k == "TZ"),
    }  # fmt: skip
    limits = report["limits"]
    assert limits["CORE"] == 0
    assert all(limits[n] not in {resource.RLIM_INFINITY, -1} for n in limits)
    give_up = time.monotonic() + 10.0
    while alive(report["group"]):  # the process it left behind has been killed too; on a busy machine it may be a while dying
        assert time.monotonic() < give_up
        time.sleep(0.01)
    assert not (tmp_path / "trials").exists()


def test_a_hang_ends_at_the_deadline(code_folder: Path, tmp_path: Path) -> None:
    folder = harmful(code_folder, tmp_path, "hang")
    began = time.monotonic()
    with pytest.raises(UntrustedModel, match=r"its trial (did not end within 4 s|was ended by SIGALRM)") as caught:
        require(Trials(tmp_path / "trials", deadline_s=4), folder, allow_code=True)
    assert caught.value.check == "trial"
    assert time.monotonic() - began < 15.0


def test_a_model_that_wants_all_memory_gets_none_of_it(code_folder: Path, tmp_path: Path) -> None:
    folder = harmful(code_folder, tmp_path, "memory")
    with pytest.raises((UntrustedModel, ModelOutputError), match="MemoryError"):
        require(Trials(tmp_path / "trials"), folder, allow_code=True)


def test_a_registry_tries_by_default_and_names_the_version(store: Store) -> None:
    store.publish(graphs.linear())
    registry = store.registry(trial=True, row_budget_us=1e-6)
    with pytest.raises(UntrustedModel, match="model 'm' version 1 takes"):
        registry.load("m", "1")
    store.registry(trial=True).load("m", "1")
    assert len(list((store.root / "cache" / "trials").iterdir())) == 1
