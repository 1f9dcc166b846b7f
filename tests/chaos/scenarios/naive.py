"""The same kills on a Faust worker written the ordinary way: if nothing breaks here, the rig proves nothing elsewhere."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter, defaultdict, deque
from typing import TYPE_CHECKING

from streams.demo.processes import _die_with_parent
from tests.broker.inference_rows import PARTITIONS
from tests.chaos.naive import DEPTH, value_of
from tests.chaos.reading import Following, read_all
from tests.chaos.scenarios.kills import INFERENCE, moments
from tests.chaos.workers import environment
from tests.chaos.world import Run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from tests.chaos.names import Names
    from tests.chaos.world import Context, Result


def run(context: Context) -> Result:
    """Two of them, under the schedule of `kills`; what is lost, wrong or contradictory is reported as found."""
    with Run(context, "naive") as run:
        run.rng = context.rng("kills")
        run.result.title = "the same kills on a Faust worker written the ordinary way (agent, table, sink)"
        run.rows = _sound(run.rows)
        run.group.close()
        run.group = Following(run.names.servers, f"{run.names.prefix}-naive", run.names.topics.features)
        crew: dict[str, subprocess.Popen[bytes]] = {}
        try:
            for name in INFERENCE:
                crew[name] = _start(run, name)
            run.begin()
            while run.time_left:
                victims, wait_s, early, wiped = moments(run.rng)
                if not early:
                    run.crew.wait("rows at both", lambda: all((run.folder / n / "ready").exists() for n in INFERENCE), 90)
                run.sleep(wait_s)
                for name in set(victims) & set(INFERENCE):
                    crew[name].kill()
                    crew[name].wait(10)
                    if name in wiped:
                        shutil.rmtree(run.folder / name)
                    crew[name] = _start(run, name)
                    run.result.faults += 1
            run.settle()
        finally:
            for process in crew.values():
                process.kill()
                process.wait(10)
        _judge(run.names, run.result)
        run.result.seconds = run.elapsed
        return run.result


def _sound(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Without poison: that alone would stop it."""
    return (r for r in rows if not any(name == "expect" for name, _ in r["headers"]))


def _start(run: Run, name: str) -> subprocess.Popen[bytes]:
    folder = run.folder / name
    folder.mkdir(exist_ok=True)
    (folder / "ready").unlink(missing_ok=True)
    env = environment({}) | {
        "NAIVE_PREFIX": run.names.prefix,
        "NAIVE_FOLDER": str(folder),
        "NAIVE_SERVERS": run.names.servers,
        "NAIVE_PARTITIONS": str(PARTITIONS),
    }
    with (run.folder / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.naive"],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=_die_with_parent(),  # noqa: PLW1509 - it makes one system call
        )


def _judge(names: Names, result: Result) -> None:
    want: dict[str, float] = {}
    windows: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=DEPTH))
    for r in read_all(names.servers, names.topics.features):
        row = json.loads(r.value or b"")
        window = windows[row["symbol"]]
        window.append(value_of(row))
        want[f"{r.partition}:{r.offset}"] = sum(window)
    answers: defaultdict[str, Counter[float]] = defaultdict(Counter)
    for r in read_all(names.servers, names.topics.predictions):
        d = json.loads(r.value or b"")
        answers[d["id"]][d["value"]] += 1
    result.rows = len(want)
    result.lost = len(want.keys() - answers.keys())
    result.wrong = sum(1 for pid, values in answers.items() if set(values) != {want[pid]})
    result.contradictory = sum(1 for values in answers.values() if len(values) > 1)
    result.repeated = sum(values.total() - 1 for values in answers.values())
    damage = result.lost + result.wrong + result.contradictory
    result.must("kills do damage where nothing is done against it", hold=damage > 0, found=damage)
