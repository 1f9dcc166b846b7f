"""One demo from start to exit: train, publish, start real processes, replay, watch, settle the books, tell. Shell."""

from __future__ import annotations

import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from streams.demo.ledger import Ledger
from streams.demo.listening import handlers
from streams.demo.processes import Processes, answers, free_port
from streams.demo.progress import Display, Snapshot
from streams.demo.reader import Reader
from streams.demo.replay import Replay
from streams.demo.rows import FeatureRows, Outcomes, concatenate
from streams.demo.signals import Signals
from streams.demo.summary import Summary, judge
from streams.demo.surroundings import Surroundings, fresh_surroundings
from streams.demo.training import log_order, publish_champion
from streams.demo.verify import verify_vectors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from config import Settings
    from streams.demo.scenarios import Scenario

_START_S = 60.0
_STALL_S = 30.0
_TICK_S = 0.1
_AHEAD_PER_PARTITION = 3_000
"""Rows of about 600 bytes that may wait in one partition of the embedded broker, which keeps 5 MiB."""
_LOGS_PER_PARTITION = 60
"""The same for batches of the inference log, which are larger."""


@dataclass(slots=True)
class _Run:
    """What the threads of one run share."""

    scenario: Scenario
    ledger: Ledger
    signals: Signals = field(default_factory=Signals)
    outcomes: list[Outcomes] = field(default_factory=list)
    checked: dict[str, list[FeatureRows]] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None
    undelivered: list[str] = field(default_factory=list)

    def blocks(self) -> Iterator[FeatureRows | Outcomes]:
        """Yield the scenario's blocks, keeping what the summary will need."""
        only = self.scenario.checked_symbols
        for block in self.scenario.blocks():
            if isinstance(block, Outcomes):
                self.outcomes.append(block)
            else:
                kept = block if only is None else block.only(only)
                self.checked.setdefault(block.feature_set, []).append(kept)
            yield block


def run_demo(scenario: Scenario, console: Console) -> int:
    """Run it and print the summary; the exit code, 1 if a row is unaccounted for or a promise was broken.

    Raises `StreamsError` when it cannot come to a summary. Ctrl-C and SIGTERM end it and all it started.
    """
    began_s = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with fresh_surroundings(scenario.name) as place:
        _say(console, f"{scenario.title}: training, publishing as champion")
        publish_champion(scenario.train(), tracking_uri=place.tracking_uri, artifact_root=place.models)
        run = _Run(scenario, Ledger(trigger=scenario.spec.trigger))
        with Processes(place.logs) as processes:
            _say(console, "starting the embedded broker, the inference worker and the monitor worker")
            settings = _start(processes, place, scenario)
            problems = _stream(run, processes, settings, console)
        _say(console, "workers stopped; settling the books")
        summary = _summary(run, place, problems, seconds=time.monotonic() - began_s)
    console.print(summary.text(), markup=False, highlight=False, soft_wrap=True)
    return 1 if summary.problems else 0


def _start(processes: Processes, place: Surroundings, scenario: Scenario) -> Settings:
    """Start broker and workers, wait until they are ready, and return the settings they run by."""
    from config import load_settings
    from streams.broker_process import discover

    def env(worker: str, port: int, servers: str = "127.0.0.1:9092") -> dict[str, str]:
        model = scenario.spec.model
        return place.env(model=model, bootstrap_servers=servers, worker=worker, port=port, extra=scenario.settings)

    processes.start("broker", ["broker", "--address-file", str(place.broker_file)], env("broker", 0))
    processes.wait("the broker", lambda: discover(place.broker_file) is not None, timeout_s=_START_S)
    servers = discover(place.broker_file) or ""
    ports = {worker: free_port() for worker in ("inference", "monitor")}
    for worker, port in ports.items():
        processes.start(worker, ["worker", worker], env(worker, port, servers))
    for worker, port in ports.items():
        url = f"http://127.0.0.1:{port}/readyz"
        processes.wait(f"the {worker} worker to be ready", lambda url=url: answers(url), timeout_s=_START_S)  # type: ignore[misc]
    return load_settings(env=env("demo", 0, servers))


def _stream(run: _Run, processes: Processes, settings: Settings, console: Console) -> list[str]:
    """Replay while reading along; return what went wrong short of an error."""
    from streams.clients import kafka_client_config
    from streams.pacing import Follower, PacedProducer, Progress

    kafka, topics = settings.kafka, settings.kafka.topics
    config = kafka_client_config(kafka)
    taken = handlers(topics, run.ledger, run.signals)
    reader = Reader(kafka.bootstrap_servers, taken, partitions=kafka.partitions, on_gap=run.ledger.fault)
    log = Follower(kafka.monitor_group, topics.inference_log, _LOGS_PER_PARTITION)
    features = PacedProducer(config, topics.features, group=kafka.inference_group, max_ahead=_AHEAD_PER_PARTITION, also=[log])
    outcomes = PacedProducer(config, topics.outcomes, group=kafka.monitor_group, max_ahead=_AHEAD_PER_PARTITION)
    replay = Replay(features, outcomes, run.scenario.rate, run.stop.is_set)

    def produce() -> None:
        try:
            replay.run(run.blocks())
            for producer in (features, outcomes):
                if (delivery := producer.flush()).failed:
                    run.undelivered.append(f"{delivery.failed} of {delivery.sent} records sent: {delivery.first_error}")
        except BaseException as e:  # noqa: BLE001 - raised in the main thread
            run.error = e

    sender = threading.Thread(target=produce, name="demo-replay", daemon=True)
    progress = Progress(config)

    def check() -> None:
        processes.check()
        reader.check()
        if run.error is not None:
            raise run.error

    def monitor_is_behind() -> int:
        return sum(progress.behind(kafka.monitor_group, topic) for topic in (topics.inference_log, topics.outcomes))

    reader.start()
    try:
        with Display(console) as display:
            sender.start()
            _watch(run, replay, display, check, "replay", lambda: run.ledger.open + sender.is_alive())
            _watch(run, replay, display, check, "monitor catching up", monitor_is_behind)
            _watch(run, replay, display, check, "reading the rest", reader.behind)
        sent = replay.progress.rows
        lost = [f"{sent:,} feature rows were sent and {run.ledger.rows:,} are in the topic"] if sent != run.ledger.rows else []
        return [*run.undelivered, *lost]
    finally:
        run.stop.set()
        reader.close()
        progress.close()


def _watch(
    run: _Run, replay: Replay, display: Display, check: Callable[[], None], stage: str, remaining: Callable[[], int]
) -> None:
    """Show progress until nothing remains; give up waiting, leaving the books to name what is missing, when nothing moves."""
    moved_s, last = time.monotonic(), (-1, -1, -1)
    while True:
        check()
        display.show(_snapshot(run, replay, stage))
        left = remaining()
        now = (left, replay.progress.rows, run.ledger.settled)
        if now != last:
            moved_s, last = time.monotonic(), now
        if left == 0 and (stage != "replay" or run.ledger.rows == replay.progress.rows):
            return
        if time.monotonic() - moved_s > _STALL_S:
            run.ledger.fault(f"nothing moved for {_STALL_S:.0f} s while {left} remained ({stage}); see the logs")
            return
        time.sleep(_TICK_S)


def _snapshot(run: _Run, replay: Replay, stage: str) -> Snapshot:
    worst = run.signals.most_drifted(1)
    return Snapshot(
        stage=stage,
        rows=replay.progress.rows,
        rows_total=run.scenario.rows,
        predictions=run.ledger.settled - run.ledger.rejected,
        waiting=run.ledger.open,
        rejected=run.ledger.rejected,
        version=f"{run.scenario.spec.model}:{run.ledger.version}",
        drift=run.signals.latest_verdict,
        worst=f"{worst[0].column} PSI {worst[0].psi:.2f}" if worst else "",
        firing=run.signals.firing,
        alerts=len(run.signals.incidents),
        stream_time_us=replay.progress.stream_time_us,
    )


def _summary(run: _Run, place: Surroundings, problems: list[str], *, seconds: float) -> Summary:
    scenario, spec = run.scenario, run.scenario.spec
    rows = log_order(*(concatenate(run.checked[name]) for name in sorted(run.checked, key=lambda n: n == spec.trigger)))
    place.keep_rows(rows)
    verified = verify_vectors(rows, run.ledger.predictions, spec)
    differing = [] if verified.differing is None else [f"the vector of {verified.differing} is not what brute force finds"]
    return Summary(
        title=scenario.title,
        seconds=seconds,
        outcomes=sum(len(o) for o in run.outcomes),
        ledger=run.ledger,
        signals=run.signals,
        quality=judge(run.ledger, run.outcomes, bar_us=spec.feature_sets[spec.trigger].bar_us),
        level=spec.level,
        verified=verified,
        truth=scenario.truth,
        folder=place.folder,
        notes=scenario.notes,
        next_steps=[_look_inside(place), *scenario.next_steps],
        problems=[*problems, *run.ledger.close(), *differing],
    )


def _look_inside(place: Surroundings) -> str:
    """A command that shows the alerts in the warehouse."""
    here = Path.cwd()
    python, file = (p.relative_to(here) if p.is_relative_to(here) else p for p in (Path(sys.executable), place.warehouse))
    return f"{python} -c \"import duckdb; duckdb.connect('{file}').sql('from alerts').show()\""


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, style="dim")
