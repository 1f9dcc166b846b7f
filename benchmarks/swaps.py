"""Latency while new versions come into force, against the same without, in one run of one worker.

    python -m benchmarks.swaps [--quick] [--output FILE]

The standard job's linear model at 2,000 rows a second, as `benchmarks.measure` paces and times it. In every other part of
the run the champion's alias is moved every few seconds to a version that the worker has never seen: it is downloaded, tried in
a process of its own, verified, ordered and switched to in each partition. Every second swap changes what windows keep. Parts
with and without go in turn, the first of a round alternating, so that a slow minute slows both; `ratio` is the median over
rounds of p99 with swaps over p99 without. The bar is 1.5. A run counts only if every row was answered once and every swap
came into force in every partition.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from benchmarks.contenders import CONTENDERS, OURS, Setup, command
from benchmarks.job import Feed, Job
from benchmarks.sending import Sender
from benchmarks.served import publish_versions, registered_name
from benchmarks.surroundings import ROOT, BenchmarkFailed, Child, broker_process, cores, machine
from benchmarks.watch import Answered, Log
from streams.switches import SWITCH

OUTPUT: Final = Path(__file__).with_name("swaps.json")
RATE: Final = 2_000
BAR: Final = 1.5
_EVERY_S: Final = 4.0
_SWAPS: Final = 3
"""In a part: with more rows the embedded broker would drop the oldest predictions before they are read."""
_SETTINGS: Final = {"INFERENCE__CACHE_TTL": "0.5s", "INFERENCE__SWITCH_AHEAD": "120s"}
"""120 s of event time pass in half a second."""
_WARM_UP_ROWS: Final = 20_000
_WAIT_S: Final = 30.0
_FIRST_MS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the run. `swaps`: promotions in it; latency in ms of its rows, those of its first second left out."""

    round: int
    swaps: int
    rows: int
    p50_ms: float
    p99_ms: float
    max_ms: float


def measure(*, rounds: int, swaps: int) -> tuple[list[Part], dict[str, Any]]:
    """All parts of a run with so many swaps in every other one."""
    rows = int(RATE * _EVERY_S * swaps)
    job = Job(warm_up_rows=_WARM_UP_ROWS, rows=0, paced=tuple((RATE, rows) for _ in range(2 * rounds)))
    where = cores()
    about = machine(where)
    os.sched_setaffinity(0, {where.broker})  # the producer is this process
    feed = Feed(job)
    with tempfile.TemporaryDirectory(prefix="trading-ml-bench-") as scratch:
        setup = Setup(job, Path(scratch), ROOT / "config" / "local.yaml")
        client = publish_versions(
            job, 1 + rounds * swaps, tracking_uri=setup.tracking_uri, artifact_root=setup.folder / "artifacts"
        )
        state = setup.folder / "state"
        with broker_process(setup.folder, core=where.broker, env=setup.env(state)) as servers:
            env = setup.env(state, servers) | {f"TRADING_ML__{k}": v for k, v in _SETTINGS.items()}
            arguments = command(CONTENDERS[OURS], setup, state=state, servers=servers)
            with Child(arguments, core=where.contender, log=setup.folder / "worker.log", env=env) as child:
                run = _Run(setup, feed, child, servers, client)
                run.warm_up()
                parts = []
                for number in range(1, rounds + 1):
                    for promoted in (0, swaps) if number % 2 else (swaps, 0):
                        parts.append(run.part(number, rows, promoted))
                        print(parts[-1], flush=True)
                run.close()
    return parts, {**about, "load_after": round(os.getloadavg()[0], 2)}


class _Run:
    def __init__(self, setup: Setup, feed: Feed, child: Child, servers: str, client: Any) -> None:
        kafka = setup.kafka()
        self._topics = kafka.topics
        self._partitions = setup.job.partitions
        self._child = child
        self._client = client
        self._log = Log(servers, kafka.inference_group, self._partitions)
        self._sender = Sender(feed, self._topics.features, servers=servers, in_frames=False)
        self._answered = Answered(
            self._log, self._topics.predictions, servers=servers, partitions=self._partitions, in_frames=False
        )
        self._version = 1

    def warm_up(self) -> None:
        """Fill the windows."""
        while sum(self._sender.rows) < _WARM_UP_ROWS:
            self._sender.top_up(self._answered.rows(), rows=_WARM_UP_ROWS)
            self._child.check()
            time.sleep(0.01)
        self._wait()

    def part(self, number: int, rows: int, swaps: int) -> Part:
        """Rows at the pace; so many promotions meanwhile."""
        features, predictions = self._log.ends(self._topics.features), self._log.ends(self._topics.predictions)
        first = self._version
        over = threading.Event()
        promoting = threading.Thread(target=self._promote, args=(swaps, over))
        promoting.start()
        try:
            self._sender.paced(rows_per_s=RATE, rows=rows)
        finally:
            over.set()
            promoting.join()
        self._wait()
        self._switched(features, swaps)
        records = self._log.read(self._topics.features, features)
        sent = {(m.partition(), m.offset()): m.timestamp()[1] for m in records if not _is_switch(m)}
        answered: dict[tuple[int, int], int] = {}
        versions: Counter[str] = Counter()
        for m in self._log.read(self._topics.predictions, predictions):
            body = msgspec.json.decode(m.value())
            answered[body["source"]["partition"], body["source"]["offset"]] = m.timestamp()[1]
            versions[body["version"]] += 1
        wanted = {str(v) for v in range(first, self._version + 1)}
        if sent.keys() != answered.keys() or sum(versions.values()) != rows or set(versions) != wanted:
            raise BenchmarkFailed(
                f"{len(sent)} rows, {sum(versions.values())} answers, of versions {dict(versions)}, not {wanted}"
            )
        begun = min(sent.values())
        late = [answered[at] - ms for at, ms in sent.items() if ms >= begun + _FIRST_MS]
        p50_ms, p99_ms = np.percentile(late, [50, 99]).tolist()
        return Part(number, swaps, rows, p50_ms, p99_ms, float(max(late)))

    def close(self) -> None:
        """Let go of connections."""
        self._answered.close()
        self._log.close()

    def _promote(self, swaps: int, over: threading.Event) -> None:
        """A second after the first row, then every `_EVERY_S`: the last has `_EVERY_S` less that second to come into force."""
        for n in range(swaps):
            if over.wait(1.0 if n == 0 else _EVERY_S):
                return
            self._version += 1
            self._client.set_registered_model_alias(registered_name("linear"), "champion", str(self._version))

    def _switched(self, features: list[int], swaps: int) -> None:
        """Whether every swap stands in every partition, once."""
        found = sum(map(_is_switch, self._log.read(self._topics.features, features)))
        if found != swaps * self._partitions:
            raise BenchmarkFailed(
                f"{swaps} promotions led to {found} switches in {self._partitions} partitions:\n{self._child.output()[-2_000:]}"
            )

    def _wait(self) -> None:
        deadline = time.monotonic() + _WAIT_S
        while self._answered.rows() != self._sender.rows:
            self._child.check()
            if time.monotonic() > deadline:
                raise BenchmarkFailed(
                    f"answered {self._answered.rows()} of {self._sender.rows}:\n{self._child.output()[-2_000:]}"
                )
            time.sleep(0.02)


def _is_switch(message: Any) -> bool:
    return any(value == SWITCH for _, value in message.headers() or [])


def summary(parts: list[Part], where: dict[str, Any]) -> dict[str, Any]:
    """The run as the results file has it."""
    by_round: dict[int, dict[bool, Part]] = {}
    for p in parts:
        by_round.setdefault(p.round, {})[p.swaps > 0] = p
    ratios = [found[True].p99_ms / found[False].p99_ms for found in by_round.values()]

    def median(figure: str, *, swaps: bool) -> float:
        values: list[float] = [getattr(p, figure) for p in parts if (p.swaps > 0) is swaps]
        return statistics.median(values)

    return {
        "machine": where,
        "rows_per_s": RATE,
        "seconds_between_swaps": _EVERY_S,
        "swaps": sum(p.swaps for p in parts),
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "bar": BAR,
        **{
            name: {f: median(f, swaps=swaps) for f in ("p50_ms", "p99_ms", "max_ms")}
            for name, swaps in (("without", False), ("with", True))
        },
        "parts": [asdict(p) for p in parts],
    }


def main() -> int:
    """Run the benchmark; 1 when a run failed or the ratio is above the bar."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.swaps", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round with one swap: does it work, not how fast")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, help=f"where to write the results [{OUTPUT.name}; with --quick nowhere]")
    options = parser.parse_args()
    try:
        found = summary(*measure(rounds=1 if options.quick else options.rounds, swaps=1 if options.quick else _SWAPS))
    except BenchmarkFailed as e:
        print(f"benchmark failed: {e}", file=sys.stderr)
        return 1
    print(f"p99 {found['without']['p99_ms']:.0f} ms without, {found['with']['p99_ms']:.0f} ms with {found['swaps']} swaps")
    print(f"ratio {found['ratio']:.2f} ({' to '.join(f'{r:.2f}' for r in found['ratio_range'])}), at most {BAR} is right")
    output = options.output if options.quick else options.output or OUTPUT
    if output is not None:
        output.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if options.quick or found["ratio"] <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
