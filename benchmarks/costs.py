"""Where a row's microseconds go: `python -m benchmarks.costs` runs our worker on the standard job under a sampling profiler.

py-spy says what each thread was doing, the kernel how much CPU time each thread took; together they are microseconds a row
for each part of the path. Only shares are taken from the profiler, which slows what it looks at.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.contenders import CONTENDERS, Setup
from benchmarks.job import Job
from benchmarks.measure import run_once
from benchmarks.run import encoded, published
from benchmarks.surroundings import ROOT, TICKS_PER_S, BenchmarkFailed, Child, cores, machine

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RESULTS: Final = Path(__file__).with_name("costs.json")
SAMPLES_PER_S: Final = 250
_RDKAFKA: Final = "librdkafka: sockets, batches, acknowledgements"

# The first that stands in a stack, from the innermost frame outwards, names what the time is for.
PARTS: Final[Sequence[tuple[str, str]]] = (
    ("FeatureDecoder.decode", "decode rows (msgspec), check, to columns"),
    ("LagWindows.push", "windows: place rows"),
    ("LagWindows.vectors", "windows: look lags up, gather vectors"),
    ("LagWindows.absent", "windows: place rows"),
    ("StreamTime.advance", "stream time, waiting rows"),
    ("Deadlines", "stream time, waiting rows"),
    ("score", "model: predict, interval, p_up, ood"),
    ("Inputs.hashes", "vector hashes (BLAKE2b)"),
    ("Inputs.identity", "prediction ids"),
    ("Served._add_rows", "prediction records (msgspec)"),
    ("FrameWriter", "prediction frames (Arrow)"),
    ("Served", "inference log (Arrow)"),
    ("log_batch", "inference log (Arrow)"),
    ("Pipeline.take_dirty", "checkpoint: windows packed, written, changelog"),
    ("PackedTable.write", "checkpoint: windows packed, written, changelog"),
    ("Checkpoint", "checkpoint: windows packed, written, changelog"),
    ("Outbox.room", "delivery reports"),
    ("Outbox.confirmed", "delivery reports"),
    ("Outbox", "hand records to librdkafka"),
    ("InferenceHandler._send", "hand records to librdkafka"),
    ("Pipeline", "the chunk's remaining bookkeeping"),
    ("InferenceHandler", "the chunk's remaining bookkeeping"),
    ("FetchedWhole.getall", "aiokafka: records out of fetched batches, CRC"),
    ("AIOKafkaConnection", "aiokafka: sockets, protocol, coordination"),
    ("Fetcher", "aiokafka: sockets, protocol, coordination"),
)
WAITS: Final = frozenset({"EpollSelector.select", "BaseSelectorEventLoop._write_to_self", "Event.wait", "wait", "_wait"})
"""Innermost frames that wait, for a socket, a lock, or the interpreter after waking another thread: no CPU time."""
_OTHER: Final = "Faust and asyncio: hand a chunk over, timers"


def part_of(frames: Sequence[str]) -> str:
    """What a stack, outermost frame first, is for.

    >>> part_of(["run", "Pipeline.step", "FeatureDecoder.decode", "good_batches"])
    'decode rows (msgspec), check, to columns'
    >>> part_of(["run", "select"])
    'Faust and asyncio: hand a chunk over, timers'
    """
    for frame in reversed(frames):
        for begin, name in PARTS:
            if frame == begin or frame.startswith(f"{begin}."):
                return name
    return _OTHER


def shares(raw: Iterable[str]) -> dict[int, Counter[str]]:
    """Samples by thread and part, of py-spy's raw output: ``thread (7): "name";frame (file:line);frame (file:line) 12``.

    >>> shares(['thread (7): "MainThread";step (a.py:1);score (b.py:2) 3'])
    {7: Counter({'model: predict, interval, p_up, ood': 3})}
    """
    found: dict[int, Counter[str]] = defaultdict(Counter)
    for line in raw:
        stack, _, count = line.strip().rpartition(" ")
        thread, *frames = stack.split(";")
        number = int(thread.partition("(")[2].partition(")")[0])
        names = [f.partition(" (")[0] for f in frames]
        if names and names[-1] not in WAITS:
            found[number][part_of(names)] += int(count)
    return dict(found)


class _Watch:
    """The profiler beside one child, and the kernel's account of its threads over the same time."""

    def __init__(self, child: Child, output: Path, seconds: int) -> None:
        self._pid, self._output, self._seconds = child.pid, output, seconds
        self.cpu_s: dict[int, tuple[str, float]] = {}
        self._failure: str | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        before = _threads(self._pid)
        options = ["--pid", str(self._pid), "--duration", str(self._seconds), "--rate", str(SAMPLES_PER_S)]
        command = [_py_spy(), "record", "--threads", "--nonblocking", "--format", "raw", "--output", str(self._output), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own tool and process
        if done.returncode:
            self._failure = done.stderr or done.stdout
        for number, (name, cpu_s) in _threads(self._pid).items():
            self.cpu_s[number] = (name, cpu_s - before.get(number, ("", 0.0))[1])

    def result(self) -> dict[str, float]:
        """Share of the process's CPU time by part."""
        self._thread.join()
        if self._failure is not None:
            raise BenchmarkFailed(f"py-spy: {self._failure} (it needs the right to trace: run as root, or allow ptrace)")
        by_thread = shares(self._output.read_text().splitlines())
        parts: dict[str, float] = defaultdict(float)
        for number, (_, cpu_s) in self.cpu_s.items():
            samples = by_thread.get(number)
            if not samples:
                parts[_RDKAFKA] += cpu_s  # threads without Python; those of RocksDB and Arrow take next to nothing
                continue
            for name, n in samples.items():
                parts[name] += cpu_s * n / samples.total()
        total = sum(parts.values())
        return {name: cpu_s / total for name, cpu_s in sorted(parts.items(), key=lambda p: -p[1])}


def _py_spy() -> str:
    return str(Path(sys.executable).with_name("py-spy"))


def _threads(pid: int) -> dict[int, tuple[str, float]]:
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        head, _, rest = (task / "stat").read_text().rpartition(")")
        fields = rest.split()
        found[int(task.name)] = (head.partition("(")[2], (int(fields[11]) + int(fields[12])) / TICKS_PER_S)
    return found


def main() -> int:
    """Run, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.costs", description=__doc__)
    parser.add_argument(
        "--only", choices=[c for c in CONTENDERS if c.startswith("ours")], help="another of our contenders [ours]"
    )
    parser.add_argument("--seconds", type=int, default=4, help="how long to look [4]")
    args = parser.parse_args()
    contender = CONTENDERS[args.only or "ours"]
    with tempfile.TemporaryDirectory(prefix="trading-ml-costs-") as scratch:
        where = cores()
        about = machine(where)
        os.sched_setaffinity(0, {where.broker})
        job = Job(rows=500_000, paced=())
        setup = Setup(job, Path(scratch), ROOT / "config" / "local.yaml")
        feed = encoded(job, [contender])
        reference = published(setup, feed, contender.model)
        watches: list[_Watch] = []
        figures = run_once(
            contender,
            setup,
            feed,
            reference,
            where=where,
            number=1,
            folder=Path(scratch) / "run",
            watch=lambda child: watches.append(_Watch(child, Path(scratch) / "stacks.txt", args.seconds)),
        )
        found = watches[0].result()
    parts = {name: round(share * figures.us_per_row, 2) for name, share in found.items()}
    for name, us in parts.items():
        print(f"{us:6.2f} us  {name}")
    print(f"{figures.us_per_row:6.2f} us  a row of {contender.name}, all threads")
    if args.only is None:
        RESULTS.write_text(
            json.dumps({"us_per_row": round(figures.us_per_row, 2), "parts": parts, "machine": about}, indent=2) + "\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
