"""What stands around: the model registry away, the receiver of alerts away, the machine's clock wrong."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from monitoring.notices import told
from streams.demo.processes import _die_with_parent
from tests.broker.inference_world import free_port, registry
from tests.chaos.reading import Following, read_all
from tests.chaos.recount import Outcomes, judge_warehouse
from tests.chaos.workers import environment
from tests.chaos.world import Result, Run
from tests.kafka.proxy import Proxy
from tests.unit.monitoring.receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from tests.chaos.world import Context
    from tests.unit.monitoring.receiver import Mode

CLOCK = Path(__file__).parents[1] / "clock.c"
JUMPS_S = (50 * 60, -6 * 3600, -3 * 86400, 1, 0, 40 * 86400)
"""How far the clock is off after a jump."""
TOO_FAR_S = 3600
"""Kafka takes no records that are dated further ahead (its `message.timestamp.after.max.ms`)."""
ENDS_WITHIN_S = 10.0
WINDOW_US = 60 * 60_000_000
"""A drift window: some five seconds of a run."""
AWAY: tuple[Mode | None, ...] = (None, "hang", "fail", "busy", "then fail", "redirect")
"""Ways of a receiver to be away; None: nobody listens."""


@contextmanager
def _server(folder: Path) -> Iterator[Proxy]:
    """An MLflow server over the tests' registry, and the proxy that everybody reaches it by."""
    port, front = free_port(), free_port()
    env = environment({}) | {"MLFLOW_SERVER_ALLOWED_HOSTS": "*", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (folder / "mlflow.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--backend-store-uri", registry()],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_die_with_parent(),  # noqa: PLW1509 - it makes one system call
        )
    try:
        with Proxy(port=front, target=port) as proxy:
            yield proxy
    finally:
        os.killpg(server.pid, 9)
        server.wait(10)


def registry_away(context: Context) -> Result:
    """Refusing, or silent: scoring goes on with the versions in service, and a worker told to leave does so in time."""
    folder = context.folder / "mlflow"
    folder.mkdir()
    with _server(folder) as proxy:
        settings = {"MLFLOW__TRACKING_URI": f"http://127.0.0.1:{proxy.port}", "INFERENCE__CACHE_TTL": "1s"}
        with Run(context, "registry_away", light=False, settings=settings) as run:
            run.result.title = "the model registry refusing or silent"
            run.crew.wait("the registry", lambda: _answers(proxy.port), 60)
            run.begin("a")
            while run.time_left:
                run.sleep(run.rng.uniform(0.5, 2.0))
                before = run.group.ends()
                proxy.mode = run.rng.choice(["refuse", "swallow"])
                run.result.faults += 1
                run.recover(time.monotonic(), ends=before, timeout_s=20)
                run.sleep(run.rng.uniform(4.0, 8.0))
                run.recover(time.monotonic(), timeout_s=20)  # rows that came while it was away
                if run.rng.random() < 0.5:
                    told = time.monotonic()
                    code = run.crew.stop("a")
                    took = time.monotonic() - told
                    run.result.must("it leaves in time", hold=took <= ENDS_WITHIN_S and code in {0, 75}, found=[code, took])
                    proxy.mode = "open"
                    run.crew.start("a")
                    run.crew.wait_ready()
                proxy.mode = "open"
            return run.finish()


def _answers(port: int) -> bool:
    import urllib.request

    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def webhook_away(context: Context) -> Result:
    """Refusing, silent, failing: scoring and monitoring go on, and once it is back it is told of each incident."""
    with Receiver() as receiver:
        hook = {"name": "hook", "kind": "webhook", "url": receiver.url, "secret": "key", "allow_private": True}
        settings = {
            "MLFLOW__TRACKING_URI": registry(),
            "MONITORING__METRICS_WINDOW": "60m",
            "MONITORING__PANES": "1",
            "MONITORING__PENDING_WINDOWS": "1",
            "MONITORING__COOLDOWN": "1s",
            "MONITORING__ALERT_THRESHOLD": "1.0",
            "MONITORING__NOTIFY": json.dumps([hook]),
        }
        with Run(context, "webhook_away", settings=settings) as run:
            run.result.title = "the receiver of alerts refusing, silent or failing, the monitor killed meanwhile"
            outcomes = Outcomes(run)
            run.rows = _drifting(run.rows)
            run.crew.start("m", "monitor")
            run.begin("a")
            run.crew.wait_ready()
            logs = Following(run.names.servers, run.names.kafka.monitor_group, run.names.topics.inference_log)
            run.crew.wait("a first alert", lambda: bool(receiver.taken), 60)
            while run.time_left:
                run.sleep(run.rng.uniform(1.0, 4.0))
                outcomes.send()
                way = AWAY[run.result.faults % len(AWAY)]
                receiver.close() if way is None else setattr(receiver, "mode", way)
                run.result.faults += 1
                if run.rng.random() < 0.4:  # between raise and resolve as well
                    run.crew.kill("m")
                    run.crew.start("m", "monitor")
                    run.crew.wait_ready("m")
                run.sleep(run.rng.uniform(4.0, 9.0))
                run.crew.wait("scoring goes on", run.group.past(run.group.ends()), 20)
                run.crew.wait("monitoring goes on", logs.past(logs.ends()), 30)
                receiver.mode = "take"
                if way is None:
                    receiver.open()
                since, due = time.monotonic(), _to_tell(run).keys()
                run.crew.wait("it is told", lambda due=due: due <= _keys(receiver), 120)  # type: ignore[misc]  # bound now
                run.result.recoveries_s.append(time.monotonic() - since)
            run.settle()
            run.crew.wait("the monitor took all", logs.past(logs.ends()), 60)
            run.crew.wait("all is told", lambda: _to_tell(run).keys() <= _keys(receiver), 120)
            logs.close()
            result = run.finish()
            judge_warehouse(run)
            _judge_told(run, receiver)
            return result


def _drifting(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every other two windows the features lie four standard deviations off."""
    for r in rows:
        if any(name == "expect" for name, _ in r["headers"]):
            yield r
            continue
        body = json.loads(r["value"])
        if body["ts_event_us"] // (2 * WINDOW_US) % 2:
            body["values"] = {name: None if x is None else x + 4.0 for name, x in body["values"].items()}
        yield {**r, "value": json.dumps(body).encode()}


def _to_tell(run: Run) -> dict[str, dict[str, Any]]:
    """The events of the alerts topic that a receiver is to be told of, by id."""
    found = [json.loads(r.value or b"") for r in read_all(run.names.servers, run.names.topics.alerts)]
    return {event["event_id"]: event for event in found if told(event) is not None}


def _keys(receiver: Receiver) -> set[str]:
    return {headers["idempotency-key"] for _, headers, _ in list(receiver.taken)}


def _judge_told(run: Run, receiver: Receiver) -> None:
    events, incidents = _to_tell(run), receiver.incidents()
    run.result.must("what is told is what the topic says", hold=_keys(receiver) == events.keys(), found=len(events))
    ends = {incident: keys for (incident, state), keys in incidents.items() if state == "resolved"}
    run.result.must("alerts fire and end", hold=bool(ends), found=len(incidents))
    unfired = sorted(i for i in ends if (i, "firing") not in incidents)
    run.result.must("what ended has fired", hold=not unfired, found=unfired)
    twice = sorted(i for i, keys in ends.items() if len(keys) > 1)
    run.result.must("an incident ends once", hold=not twice, found=twice)
    open_ = {
        i: e for (i, state) in incidents if state == "firing" and i not in ends for e in events.values() if e["incident_id"] == i
    }
    newest = {e["fingerprint"]: e for e in sorted(events.values(), key=lambda e: int(e["updated_us"]))}
    left = sorted(i for i, e in open_.items() if newest[e["fingerprint"]]["incident_id"] != i)
    run.result.must("no incident is left open by a later one", hold=not left, found=left)
    repeated = len(receiver.taken) - len(events)
    run.result.note(f"{len(events)} events of {len({i for i, _ in incidents})} incidents told, {repeated} of them more than once")


def clock_jumps(context: Context) -> Result:
    """The worker's wall clock jumps by hours, forwards and back, while it runs. Nothing it writes may depend on it."""
    title = "the machine's clock jumps by hours and days"
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return Result("clock_jumps", context.seed, title=title, skipped="not run: no C compiler here, or not Linux")
    with Run(context, "clock_jumps") as run:
        run.result.title = title
        shim, clock = run.folder / "clock.so", run.folder / "clock"
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", str(shim), str(CLOCK), "-ldl", "-lpthread"], check=True)
        _set(clock, 0)
        run.crew.extra = {"LD_PRELOAD": str(shim), "CHAOS_CLOCK": str(clock)}
        run.begin("a", "b")
        while run.time_left:
            run.sleep(run.rng.uniform(1.0, 3.0))
            ends, since = run.group.ends(), time.monotonic()
            jump = run.rng.choice(JUMPS_S)
            before = len(run.crew.exits)
            _set(clock, jump)
            run.result.faults += 1
            if jump > TOO_FAR_S:
                run.crew.wait("Kafka refuses what is dated so far ahead", lambda before=before: len(run.crew.exits) > before)  # type: ignore[misc]  # bound now
                codes = {e.code for e in run.crew.exits[before:]}
                run.result.must("who cannot write leaves", hold=codes == {75}, found=sorted(codes))
                _set(clock, 0)
                since = time.monotonic()
            run.recover(since, ends=ends)
            if run.rng.random() < 0.3:
                name = run.rng.choice(["a", "b"])
                run.crew.kill(name)
                run.crew.start(name)
                run.crew.wait_ready()
        return run.finish()


def _set(clock: Path, seconds: int) -> None:
    """How far the workers' clock is off from now on; the file is mapped by them, so it is written in place."""
    with clock.open("r+b" if clock.exists() else "wb") as f:
        f.write(struct.pack("=q", seconds))
