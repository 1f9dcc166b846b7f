"""What a LightGBM prediction costs in each runtime, alone and as a share of the pipeline's step.

    python -m benchmarks.runtimes [--quick] [--output FILE]

The standard job's 100 trees of 31 leaves on its 80 columns, on one core and one thread. Answers are compared with
``Booster.predict`` bit for bit, on values that include every threshold and the floats beside it. A step is one tick: a
row of each of the 500 symbols. Rounds go from runtime to runtime, so that a slow minute slows all; figures are medians.

The first three can be named by a serving spec (`models.runtimes`). The others are measured to show why they cannot:
they need a C compiler where the model is served, answer with other bits, or are slower than LightGBM itself.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from benchmarks.job import Consumed, Feed, Job
from benchmarks.served import read_model, trees_text, write_model
from benchmarks.surroundings import cores, machine
from models.errors import RuntimeMissing
from models.forest import parse_trees
from models.handle import ModelHandle
from models.loaders import load_lightgbm
from models.runtimes import load_forest
from streams.pipeline import Pipeline
from streams.records import PartitionRecords

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from models.handle import Predict

SIZES: Final = (1, 10, 100, 1_000)
_ROWS_A_ROUND: Final = {1: 200, 10: 1_000, 100: 3_000, 1_000: 5_000}
_OFF_ROWS: Final = 4_000
OUTPUT: Final = Path(__file__).with_name("runtimes.json")


@dataclass(slots=True)
class Figures:
    """One runtime. `differing`: share of answers with other bits than LightGBM's; `row_independent`: alone as in a batch."""

    served: bool
    load_s: float
    differing: float
    largest_difference: float
    row_independent: bool
    us_per_row: dict[int, float] = field(default_factory=dict)
    step_us_per_row: float = 0.0
    model_us_per_row: float = 0.0
    model_share: float = 0.0


def _native(text: str, columns: int, folder: Path) -> Predict:
    (folder / "model.lgb").write_text(text)
    return load_lightgbm(folder / "model.lgb", columns=columns).predict


def _gtil(text: str, _columns: int, folder: Path) -> Predict:
    import treelite

    (folder / "gtil.lgb").write_text(text)
    model = treelite.frontend.load_lightgbm_model(folder / "gtil.lgb")
    return lambda x: np.asarray(treelite.gtil.predict(model, x, nthread=1)).reshape(-1)


def _tl2cgen(text: str, _columns: int, folder: Path) -> Predict:
    import tl2cgen
    import treelite

    (folder / "tl2cgen.lgb").write_text(text)
    model = treelite.frontend.load_lightgbm_model(folder / "tl2cgen.lgb")
    tl2cgen.export_lib(model, toolchain="gcc", libpath=folder / "trees.so", params={"parallel_comp": 0})
    compiled = tl2cgen.Predictor(folder / "trees.so", nthread=1)
    return lambda x: np.asarray(compiled.predict(tl2cgen.DMatrix(x, dtype="float64"))).reshape(-1)


def _converted(text: str, columns: int, _folder: Path) -> Predict:
    import lightgbm
    import onnxmltools
    import onnxruntime
    from onnxmltools.convert.common.data_types import DoubleTensorType

    types = [("x", DoubleTensorType([None, columns]))]
    model = onnxmltools.convert_lightgbm(lightgbm.Booster(model_str=text), initial_types=types)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda x: np.asarray(session.run(None, {"x": x})[0], dtype=np.float64).reshape(-1)


BUILDERS: Final[dict[str, tuple[Callable[[str, int, Path], Predict], str]]] = {
    "native": (_native, "lightgbm"),
    "onnx": (lambda text, columns, _: load_forest(text, columns=columns, runtime="onnx").predict, "onnxruntime onnx"),
    "lleaves": (
        lambda text, columns, _: load_forest(text, columns=columns, runtime="lleaves").predict,
        "lleaves 'llvmlite<0.45'",
    ),
    "treelite_gtil": (_gtil, "treelite"),
    "treelite_tl2cgen": (_tl2cgen, "treelite tl2cgen"),
    "onnx_converter": (_converted, "onnxruntime onnxmltools"),
}
"""Name to what builds a predict of (text, columns, scratch folder), and the packages to install for it."""


def build(text: str, columns: int, folder: Path) -> tuple[dict[str, Predict], dict[str, float], dict[str, str]]:
    """The runtimes there are, the seconds each took, and how to install those there are not."""
    there: dict[str, Predict] = {}
    load_s: dict[str, float] = {}
    absent: dict[str, str] = {}
    for name, (make, packages) in BUILDERS.items():
        begun = time.perf_counter()
        try:
            there[name] = make(text, columns, folder)
        except (ImportError, RuntimeMissing):
            absent[name] = f"pip install {packages}"
        load_s[name] = time.perf_counter() - begun
    return there, load_s, absent


def off_values(text: str, columns: int, rows: int, seed: int) -> NDArray[np.float64]:
    """Values that would show another comparison: thresholds, the floats beside them, missing, infinities. [rows, columns]."""
    thresholds = np.concatenate([t.threshold for t in parse_trees(text, columns=columns)])
    values = np.concatenate([thresholds, [0.0, -0.0, 1e-35, 5e-324, np.inf, -np.inf, 1e308, *[np.nan] * (thresholds.size // 20)]])
    values = np.concatenate([values, np.nextafter(values, np.inf), np.nextafter(values, -np.inf)])
    return np.random.default_rng(seed).choice(values, size=(rows, columns))


def compared(there: Mapping[str, Predict], load_s: Mapping[str, float], x: NDArray[np.float64]) -> dict[str, Figures]:
    """Each runtime held against LightGBM's answers for x."""
    expected = there["native"](x)
    found = {}
    for name, predict in there.items():
        answers = predict(x)
        alone = np.concatenate([predict(x[i : i + 1]) for i in range(min(300, len(x)))])
        found[name] = Figures(
            served=name in {"native", "onnx", "lleaves"},
            load_s=load_s[name],
            differing=float(np.mean(answers.view(np.int64) != expected.view(np.int64))),
            largest_difference=float(np.abs(answers - expected).max()),
            row_independent=alone.tobytes() == answers[: len(alone)].tobytes(),
        )
    return found


def time_calls(there: dict[str, Predict], found: dict[str, Figures], x: NDArray[np.float64], rounds: int) -> None:
    """Microseconds a row by rows in a call."""
    for size in SIZES:
        times: dict[str, list[float]] = {name: [] for name in there}
        starts = range(0, min(len(x), _ROWS_A_ROUND[size]) - size + 1, size)
        for _ in range(rounds):
            for name, predict in there.items():
                begun = time.perf_counter()
                for at in starts:
                    predict(x[at : at + size])
                times[name].append(1e6 * (time.perf_counter() - begun) / (len(starts) * size))
        for name, taken in times.items():
            found[name].us_per_row[size] = statistics.median(taken)


class _Timed:
    """A predict that keeps the time spent in it."""

    def __init__(self, predict: Predict) -> None:
        self._predict = predict
        self.spent_s = 0.0

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        begun = time.perf_counter()
        try:
            return self._predict(values)
        finally:
            self.spent_s += time.perf_counter() - begun


def time_steps(there: dict[str, Predict], found: dict[str, Figures], feed: Feed, handle: ModelHandle) -> None:
    """The step of a chunk of one tick, and the model's part of it; the first ticks fill the windows and are not counted."""
    job = feed.job
    models = {name: _Timed(predict) for name, predict in there.items()}
    lines = {name: _pipeline(handle, model, job) for name, model in models.items()}
    step_s: dict[str, list[float]] = {name: [] for name in there}
    model_s: dict[str, list[float]] = {name: [] for name in there}
    for tick in range(job.ticks):
        chunk = _chunk(feed, tick)
        for name, line in lines.items():
            models[name].spent_s = 0.0
            begun = time.perf_counter()
            out = line.step(chunk, lambda _partition, _symbol: None)
            if tick >= job.window_rows:
                step_s[name].append(time.perf_counter() - begun)
                model_s[name].append(models[name].spent_s)
            if out.counts["predictions"] != job.symbols or out.counts["abstained"]:
                raise RuntimeError(f"{name}: {out.counts} for {job.symbols} rows")
    for name, figures in found.items():
        figures.step_us_per_row = 1e6 * statistics.median(step_s[name]) / job.symbols
        figures.model_us_per_row = 1e6 * statistics.median(model_s[name]) / job.symbols
        figures.model_share = figures.model_us_per_row / figures.step_us_per_row


def _pipeline(handle: ModelHandle, predict: Predict, job: Job) -> Pipeline:
    served = ModelHandle(name=handle.name, version=handle.version, digest="", spec=handle.spec, predict=predict)
    return Pipeline([served], partitions=job.partitions, max_future_us=0, slack_rows=32)


def _chunk(feed: Feed, tick: int) -> list[PartitionRecords]:
    chunk = []
    for p, rows in enumerate(feed.messages):
        n = len(feed.symbols_of[p])
        records = [Consumed(k, 2_000_000_000_000, rows[k]["key"], rows[k]["value"]) for k in range(tick * n, (tick + 1) * n)]
        chunk.append(PartitionRecords("trading.features", p, records))
    return chunk


def measure(job: Job, *, rounds: int) -> tuple[dict[str, Figures], dict[str, str]]:
    """Figures of the runtimes installed, and how to install the others."""
    columns = job.features * len(job.lags_bars)
    text = trees_text(job)
    feed = Feed(job)
    with tempfile.TemporaryDirectory(prefix="trading-ml-runtimes-") as scratch:
        folder = Path(scratch)
        build(text, columns, folder)  # the second time shows what loading costs, not what importing costs
        there, load_s, absent = build(text, columns, folder)
        found = compared(there, load_s, off_values(text, columns, _OFF_ROWS, job.seed))
        x = np.random.default_rng(job.seed).standard_normal((5_000, columns))
        x[np.random.default_rng(job.seed + 1).random(x.shape) < 0.03] = np.nan  # noqa: PLR2004 - three values in a hundred
        time_calls(there, found, x, rounds)
        write_model(job, "lightgbm", folder / "job")
        time_steps(there, found, feed, read_model(folder / "job"))
    return found, absent


def table(found: dict[str, Figures], absent: dict[str, str]) -> str:
    """The figures as a person reads them."""
    head = [*(f"us/row of {s:,}" for s in SIZES), "load s", "bits differ", "by at most", "step us/row", "model's share"]
    lines = [f"{'runtime':<18}" + "".join(f"{h:>16}" for h in head)]
    for name, f in found.items():
        cells = [f"{f.us_per_row[s]:.2f}" for s in SIZES]
        cells += [f"{f.load_s:.2f}", f"{f.differing:.1%}", f"{f.largest_difference:.1e}"]
        cells += [f"{f.step_us_per_row:.2f}", f"{f.model_share:.0%}"]
        lines.append(f"{name:<18}" + "".join(f"{c:>16}" for c in cells))
    return "\n".join([*lines, *(f"{name:<18} not installed: {how}" for name, how in absent.items())])


def main(arguments: Sequence[str]) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runtimes")
    parser.add_argument("--quick", action="store_true", help="once and little: does it work, not how fast")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args(arguments)
    where = cores()
    about = machine(where)
    os.sched_setaffinity(0, {where.contender})
    ticks = 20 if options.quick else 76  # of 500 rows
    job = Job(warm_up_rows=0, rows=ticks * 500, paced=())
    found, absent = measure(job, rounds=1 if options.quick else 9)
    print(table(found, absent))
    content: dict[str, Any] = {
        "runtimes": {name: asdict(f) for name, f in found.items()},
        "not_installed": absent,
        "model": {"trees": 100, "leaves": 31, "columns": job.features * len(job.lags_bars)},
        "step": {"rows": job.symbols, "symbols": job.symbols, "partitions": job.partitions},
        "machine": {k: about[k] for k in ("cpu", "cores", "memory_gb", "system", "python", "load_before")},
    }
    options.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
