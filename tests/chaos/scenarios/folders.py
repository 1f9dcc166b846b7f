"""What lies on disk: a full disk, damaged files, a folder or a warehouse that another process holds."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from tests.broker.inference_world import registry
from tests.chaos.disk import may_not_grow, small_disk
from tests.chaos.reading import Following
from tests.chaos.recount import Outcomes, close_windows, judge_monitor, monitor_settings
from tests.chaos.state import differences, entries, newest_of_changelog
from tests.chaos.world import Run

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

    from tests.chaos.world import Context, Result

FULL_S = 5.0


def wiped(context: Context) -> Result:
    """Killed, and its folder emptied each time; in the end the folder rebuilt is held against the one it had."""
    with Run(context, "wiped") as run:
        run.result.title = "kill -9 and an emptied state folder, each time"
        run.begin("a")
        while run.time_left:
            run.sleep(run.rng.uniform(0.2, 2.0))
            ends, since = run.group.ends(), time.monotonic()
            run.crew.kill("a")
            run.crew.start("a", wipe=True)
            run.result.faults += 1
            run.recover(since, ends=ends)
        for _ in range(2):  # what the last one killed had begun to write is then out of use in every partition
            run.crew.wait("a commit of every partition", run.group.moved())
        run.settle()
        code = run.crew.stop("a")
        live = entries(run.folder / "a")
        run.crew.start("a", wipe=True)
        run.crew.wait_ready("a")
        result = run.finish()
        rebuilt = entries(run.folder / "a")
        other = differences(live, rebuilt)
        result.must(
            "the rebuilt folder is the live one, byte for byte", hold=bool(live) and not other and code == 0, found=[code, other]
        )
        lacking = differences(live, newest_of_changelog(run.names))
        result.must("the live folder is what the changelog says", hold=not lacking, found=lacking)
        if not other:
            result.note(f"rebuilt state of {sum(map(len, live.values()))} entries equals the live one byte for byte")
        return result


def disk_full(context: Context) -> Result:
    """No room for state: the worker says so and leaves; with room again it goes on where it was."""
    with Run(context, "disk_full") as run, small_disk(run.folder / "a") as disk:
        run.result.title = "disk full on the state folder"
        if disk is None:
            run.result.note("no right to mount: files that may not grow stood for a full disk")
        run.begin("a")
        while run.time_left:
            run.sleep(run.rng.uniform(0.5, 2.0))
            worker = run.crew.workers["a"]
            if disk is None:
                may_not_grow(worker.process.pid, worker.state)
            else:
                disk.fill()
            run.result.faults += 1
            begun = time.monotonic()
            while time.monotonic() < begun + FULL_S and not worker.ended:
                time.sleep(0.05)
            run.result.must("it leaves when its state cannot be written", hold=worker.ended, found="still there")
            if disk is not None:
                disk.free()
            if not worker.ended:  # it may hold unwritten state for good: nothing less than a restart is a cure
                run.crew.kill("a")
                run.crew.start("a")
            run.recover(time.monotonic())
        return run.finish()


def damaged(context: Context) -> Result:
    """Files of the state folder overwritten, shortened or removed between two lives of a worker."""
    with Run(context, "damaged") as run:
        run.result.title = "damaged RocksDB files"
        run.begin("a")
        ways = ["MANIFEST-*", "*.sst", "CURRENT", "*.log"]
        while run.time_left:
            run.sleep(run.rng.uniform(0.5, 2.0))
            ends, since = run.group.ends(), time.monotonic()
            run.crew.kill("a")
            told = _damage(run.folder / "a", ways[run.result.faults % len(ways)], run.rng)
            run.result.note(told)
            run.crew.start("a")
            run.result.faults += 1
            try:
                run.recover(since, ends=ends, timeout_s=45)
            except AssertionError:
                run.result.must(f"it recovers from {told}", hold=False, found=run.crew.exits[-1:])
                run.crew.kill("a")
                run.crew.start("a", wipe=True)
                run.recover(since, ends=ends)
        return run.finish()


def _damage(folder: Path, pattern: str, rng: Random) -> str:
    """Harm one file of each partition; says what was done."""
    how = rng.choice(["garbage", "shortened", "removed", "one byte"])
    for table in sorted((folder / "inference").rglob("windows-*.db")):
        for file in sorted(table.glob(pattern))[-1:]:
            size = file.stat().st_size
            if how == "removed":
                file.unlink()
            elif how == "shortened":
                os.truncate(file, size // 2)
            elif how == "one byte":
                data = bytearray(file.read_bytes()) or bytearray(1)
                data[size // 2] ^= 0xFF
                file.write_bytes(data)
            else:
                file.write_bytes(rng.randbytes(max(1, size)))
    return f"{pattern} {how}"


def refused(context: Context) -> Result:
    """A second worker on a folder that is in use: it leaves with one line, and the first does not notice."""
    with Run(context, "refused") as run:
        run.result.title = "a second worker on the same state folder"
        first = run.crew.start("a")
        run.begin()
        run.crew.wait_ready()
        for _ in range(3):
            run.sleep(run.rng.uniform(0.2, 1.0))
            run.crew.workers.pop("a")
            second = run.crew.start("a")
            run.result.faults += 1
            run.crew.wait("the second left", lambda second=second: second.ended, tend=False)  # type: ignore[misc]  # bound now
            line = second.log.strip().splitlines()[-1]
            run.result.must("it is refused", hold="is in use by process" in line and second.process.returncode == 1, found=line)
            run.crew.workers["a"] = first
        run.result.must("the first goes on", hold=not first.ended, found=first.process.poll())
        return run.finish()


def warehouse_held(context: Context) -> Result:
    """Another process has the DuckDB file when the monitor starts; scoring goes on, the monitor catches up."""
    settings = {"MLFLOW__TRACKING_URI": registry(), **monitor_settings()}
    with Run(context, "warehouse_held", settings=settings) as run:
        run.result.title = "the warehouse file held by another process"
        outcomes = Outcomes(run)
        run.crew.start("m", "monitor")
        run.begin("a")
        run.crew.wait_ready()
        log = Following(run.names.servers, run.names.kafka.monitor_group, run.names.topics.inference_log)
        while run.time_left:
            run.sleep(run.rng.uniform(0.5, 2.0))
            outcomes.send()
            run.crew.kill("m")
            holder = _hold(run.folder / "m.duckdb")
            run.crew.start("m", "monitor")
            run.result.faults += 1
            before = run.group.committed()
            run.sleep(6.0)
            after = run.group.committed()
            run.result.must("scoring goes on", hold=all(after[p] > before[p] for p in before), found=[before, after])
            ends = log.ends()
            holder.kill()
            holder.wait(10)
            since = time.monotonic()
            run.crew.wait("the monitor caught up", log.past(ends), 90)
            run.result.recoveries_s.append(time.monotonic() - since)
        run.settle()
        close_windows(run, outcomes)
        result = run.finish()
        judge_monitor(run)
        log.close()
        return result


def _hold(file: Path) -> subprocess.Popen[str]:
    program = f"import duckdb, time; c = duckdb.connect({str(file)!r}); print('held', flush=True); time.sleep(600)"
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    if holder.stdout is None or holder.stdout.readline() != "held\n":
        raise RuntimeError("the warehouse could not be held")
    return holder
