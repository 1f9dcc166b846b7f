"""Who waits for a trial: starts `models.trial` for an artifact not tried before, and remembers the verdict. Shell.

    <cache_dir>/trials/<key>.json      key = SHA-256 of the artifact digest and the versions of all that computed

A good verdict is kept on disk, so that a restart costs nothing; another version of a library is another key. A bad one
is kept in memory for `RETRY_S`, so that a worker that polls the alias does not try a bad version again every minute,
and one that was refused by a machine too busy gets another chance.
"""

from __future__ import annotations

import hashlib
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from typing import Final, NoReturn

import msgspec

import models.errors
from models.artifacts import model_files
from models.errors import ModelError, ModelOutputError, RuntimeMissing, SpecError, UntrustedModel
from models.folder import read_example, read_spec
from models.trial import Limits, Task, Verdict, answers_digest

DEADLINE_S: Final = 60
RETRY_S: Final = 600.0
_MEMORY_BYTES: Final = 2 << 30
_CODE_MEMORY_BYTES: Final = 8 << 30
_PACKAGES: Final = (
    "lightgbm lleaves llvmlite mlflow numpy onnx onnxruntime pandas scikit-learn scipy skops trading-ml-inference xgboost "
    "xgboost-cpu"
).split()
_PASSED_ON: Final = ("LD_LIBRARY_PATH", "SYSTEMROOT", "TZ")
_MOST_READ: Final = 1 << 16


class Trials:
    """Trials with verdicts kept in `verdicts`; a row may take `row_budget_us` in a batch of 100."""

    def __init__(self, verdicts: Path, *, row_budget_us: float = 1000.0, deadline_s: int = DEADLINE_S) -> None:
        self._verdicts = verdicts
        self._row_budget_us = row_budget_us
        self._deadline_s = deadline_s
        self._refused: dict[str, tuple[float, ModelError]] = {}
        self.started = 0
        """Processes started so far."""

    def require(self, folder: Path, *, name: str, version: str, digest: str, allow_code: bool = False) -> None:
        """Return once the inspected folder has passed its trial, now or before.

        Raises `UntrustedModel` with check "trial" if the process did not come back with a verdict, else what it found.
        """
        key = hashlib.sha256(repr((digest, name, allow_code, _surroundings())).encode()).hexdigest()
        answers = answers_digest(read_example(folder, read_spec(folder, name)))
        file = self._verdicts / f"{key}.json"
        known = _read(file)
        if known is not None and known.answers == answers and known.row_us <= self._row_budget_us:
            return
        since, refusal = self._refused.get(key, (0.0, None))
        if refusal is not None and time.monotonic() - since < RETRY_S:
            raise refusal
        task = Task(
            folder=str(folder.resolve()),
            name=name,
            version=version,
            digest=digest,
            allow_code=allow_code,
            row_budget_us=self._row_budget_us,
            limits=limits_for(folder, allow_code=allow_code, deadline_s=self._deadline_s),
            parent=os.getpid(),
        )
        self.started += 1
        try:
            verdict = run(task)
            if verdict.answers != answers:
                raise _untrusted(task, "its trial scored another example")
        except ModelError as e:
            self._refused[key] = (time.monotonic(), e)
            raise
        self._refused.pop(key, None)
        self._verdicts.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = file.with_suffix(f".{os.getpid()}.new")
        fresh.write_bytes(msgspec.json.encode(verdict))
        fresh.replace(file)


def limits_for(folder: Path, *, allow_code: bool, deadline_s: int = DEADLINE_S) -> Limits:
    """What a process may take that loads this folder."""
    size_bytes = sum(f.stat().st_size for f in model_files(folder).values())
    memory_bytes = (_CODE_MEMORY_BYTES if allow_code else _MEMORY_BYTES) + 8 * size_bytes
    return Limits(memory_bytes=memory_bytes, deadline_s=deadline_s, threads=allow_code)


def run(task: Task) -> Verdict:
    """Try the folder in a process of its own and answer its verdict. Raises the `ModelError` it names."""
    with tempfile.TemporaryDirectory(prefix="trading-ml-trial-", ignore_cleanup_errors=True) as scratch:
        ended = _child(task, Path(scratch))
        if ended != 0:
            raise _untrusted(task, f"its trial {ended}{last_words(Path(scratch))}")
        verdict = _read(Path(scratch) / "verdict.json")
    if verdict is None:
        raise _untrusted(task, "its trial left no verdict")
    if verdict.error:
        _raise(verdict)
    return verdict


def clean_environment(scratch: Path) -> dict[str, str]:
    """What a child that loads a model knows of its surroundings: a folder to write in, and none of our secrets."""
    return {k: os.environ[k] for k in _PASSED_ON if k in os.environ} | {
        "PYTHONPATH": str(Path(models.errors.__file__).parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "ORT_DISABLE_TELEMETRY": "1",
    }


def _child(task: Task, scratch: Path) -> str | int:
    """0, or how the process ended otherwise. It has no standard input."""
    with (scratch / "output").open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module; the argument is data, not a command
            [sys.executable, "-P", "-s", "-m", "models.trial", msgspec.json.encode(task).decode()],
            cwd=scratch,
            env=clean_environment(scratch),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            code = process.wait(task.limits.deadline_s)
        except subprocess.TimeoutExpired:
            return f"did not end within {task.limits.deadline_s} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # itself, and whatever it may have started
            process.wait()
    return 0 if code == 0 else how_ended(code)


def how_ended(code: int) -> str:
    """A process's exit code in words.

    >>> how_ended(-6), how_ended(3)
    ('was ended by SIGABRT', 'ended with exit code 3')
    """
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return f"was ended by {name}"
    return f"ended with exit code {code}"


def _untrusted(task: Task, why: str) -> UntrustedModel:
    msg = f"model {task.name!r} version {task.version} is not loaded: {why}; publish it again, or find out who changed it"
    return UntrustedModel(msg, check="trial")


def _raise(verdict: Verdict) -> NoReturn:
    check = verdict.check or "trial"
    if verdict.error == "SpecError":
        raise SpecError(verdict.message)
    if verdict.error == "RuntimeMissing":
        raise RuntimeMissing(verdict.message)
    if verdict.error == "ModelOutputError":
        raise ModelOutputError(verdict.message, check=check)
    raise UntrustedModel(verdict.message, check=check)


def last_words(scratch: Path) -> str:
    """The last line the process printed, if any, in brackets; only what can be shown."""
    with suppress(OSError), (scratch / "output").open("rb") as output:
        output.seek(max(0, output.seek(0, os.SEEK_END) - 2000))
        lines = output.read().decode(errors="replace").strip().splitlines()
        words = "".join(c for c in (lines or [""])[-1][:300] if c.isprintable())
        return f" ({words})" if words else ""
    return ""


def _read(file: Path) -> Verdict | None:
    try:
        with file.open("rb") as opened:
            return msgspec.json.decode(opened.read(_MOST_READ), type=Verdict)
    except (OSError, msgspec.MsgspecError):
        return None


@cache
def _surroundings() -> tuple[str, ...]:
    """The versions of whatever can change an answer or a parser."""
    found = [platform.python_version(), platform.machine()]
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found.append(f"{package}=={installed(package)}")
    return tuple(found)
