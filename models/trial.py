"""A model folder loaded, scored and timed in a process of its own, with limits. Shell: `models.trials` starts it.

    python -m models.trial '{"folder": ..., "name": ..., ...}'     writes verdict.json into its working folder, exits 0

The native parsers (LightGBM, XGBoost, ONNX Runtime, scikit-learn's trees) can end or hang the process that reads a file
that no library wrote; here that process is this one. It is no wall against a model that takes the process over: the
formats are chosen so that none should, and the limits keep what runs wild small.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from models.errors import Check, ModelError, UntrustedModel
from models.example import Example, check_batches
from models.folder import load_folder, read_example

if TYPE_CHECKING:
    from models.handle import Predict

TIMED_ROWS: Final = 100
"""Rows of the batch whose time counts."""

RUNS: Final = 7
HOPELESS: Final = 20
"""Times the budget at which the example alone decides, so that a slow model is not run seven times."""

_PR_SET_PDEATHSIG: Final = 1


class Limits(msgspec.Struct, frozen=True):
    """What the process may take: bytes of address space, seconds of processor and of wall clock, bytes of any file.

    `threads`: whether it may start threads and processes; the system does not hold a privileged user to that.
    """

    memory_bytes: int
    deadline_s: int
    file_bytes: int = 1 << 26
    open_files: int = 256
    threads: bool = False


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A folder to try, as which version, and how long a row may take (microseconds). `parent`: the process that waits."""

    folder: str
    name: str
    version: str
    digest: str
    allow_code: bool
    row_budget_us: float
    limits: Limits
    parent: int


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """The time of a row, and SHA-256 of the example's answers; or which error (`ModelError`'s name) of which check."""

    row_us: float = 0.0
    answers: str = ""
    error: str = ""
    check: Check | None = None
    message: str = ""


def examine(task: Task) -> Verdict:
    """Load the folder as a worker does, and check what takes long to check. Raises `ModelError`."""
    what = f"model {task.name!r} version {task.version}"
    handle = load_folder(Path(task.folder), name=task.name, version=task.version, digest=task.digest, allow_code=task.allow_code)
    example = read_example(Path(task.folder), handle.spec)
    row_us = row_time_us(handle.predict, example, budget_us=task.row_budget_us)
    if row_us > task.row_budget_us:
        msg = (
            f"{what} takes {row_us:.1f} us a row; inference.row_budget is {task.row_budget_us:g} us: publish a smaller model, "
            "or a faster runtime"
        )
        raise UntrustedModel(msg, check="time")
    check_batches(handle.predict, example, what=what)
    return Verdict(row_us=row_us, answers=answers_digest(example))


def row_time_us(predict: Predict, example: Example, *, budget_us: float) -> float:
    """Microseconds a row of a batch of `TIMED_ROWS` takes: the median of processor time, or the least wall time if more.

    So a busy machine does not make a model slow, and one that waits is slow all the same.
    """
    values = example.values()
    rough = min(_run(predict, values)[1] for _ in range(2)) / len(values)
    if rough > HOPELESS * budget_us:
        return rough
    values = np.resize(values, (TIMED_ROWS, values.shape[1]))
    runs = [_run(predict, values) for _ in range(RUNS)]
    return float(max(np.median([cpu for cpu, _ in runs]), min(wall for _, wall in runs)) / TIMED_ROWS)


def _run(predict: Predict, values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, float]:
    """Microseconds of (processor, wall) of one call."""
    cpu, wall = time.process_time(), time.perf_counter()
    predict(values)
    return (time.process_time() - cpu) * 1e6, (time.perf_counter() - wall) * 1e6


def answers_digest(example: Example) -> str:
    """SHA-256 of the logged answers' bits, in hex."""
    return hashlib.sha256(np.array(example.answers, dtype=np.float64).tobytes()).hexdigest()


def bind(limits: Limits, *, parent: int, lasting: bool = False) -> None:
    """Bind this process before it reads a byte of the folder; what the system does not have is left out.

    `lasting`: it is to serve and not to be tried, so neither time ends it nor others go before it.
    """
    bounds = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
    ]
    if not limits.threads:
        bounds.append((resource.RLIMIT_NPROC, 0))
    if not lasting:
        bounds.append((resource.RLIMIT_CPU, limits.deadline_s))
    for kind, value in bounds:
        hard = resource.getrlimit(kind)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (bound, bound))
    if not lasting:
        signal.alarm(limits.deadline_s + 1)  # ends this process in native code too, were the parent gone
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")  # of the two, this one is to go
    if os.getppid() != parent:
        os._exit(1)
    if not lasting:
        os.nice(5)


def main() -> None:
    """Try the folder named in the first argument."""
    task = msgspec.json.decode(sys.argv[1], type=Task)
    bind(task.limits, parent=task.parent)
    try:
        verdict = examine(task)
    except ModelError as e:
        verdict = Verdict(error=type(e).__name__, check=e.check, message=str(e)[:4000])
    Path("verdict.json").write_bytes(msgspec.json.encode(verdict))
    sys.stdout.flush()
    os._exit(0)  # past the libraries' own farewells, which a broken model may upset


if __name__ == "__main__":
    main()
