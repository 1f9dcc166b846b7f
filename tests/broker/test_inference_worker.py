"""The inference worker as users start it, over the embedded broker, judged by a reader that knows only confluent-kafka."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from streams.broker import EmbeddedBroker
from tests.broker import inference_judge as judging
from tests.broker import inference_rows as making
from tests.broker import inference_world as world
from tests.broker.inference_rows import Feeder
from tests.broker.inference_world import Worker, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.broker


class Run:
    """A worker that has been through a few thousand rows and waits for more."""

    def __init__(self, broker: EmbeddedBroker, worker: Worker, folder: Path, rows: int) -> None:
        self.servers = broker.bootstrap_servers
        self.worker = worker
        self.folder = folder
        self.rows = rows


@pytest.fixture(scope="module", name="run")
def fixture_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("worker")
    uri = world.registry()
    with EmbeddedBroker(making.topics_of_the_broker()) as broker:
        feeder = Feeder(broker.bootstrap_servers)
        rows = list(making.stream(11, 130))
        half = len(rows) // 2
        feeder.send(rows[:half])  # it finds these when it starts
        with Worker(folder, broker.bootstrap_servers, MLFLOW__TRACKING_URI=uri) as worker:
            worker.wait_ready()
            for at in range(half, len(rows), 150):
                feeder.send(rows[at : at + 150])
            wait_until(judging.all_committed(broker.bootstrap_servers), alive=worker)
            yield Run(broker, worker, folder, len(rows))


def test_every_trigger_row_has_one_prediction_and_every_vector_is_the_oracles(run: Run) -> None:
    outcome, want = judging.judge(run.servers)
    assert outcome.faults == {}
    assert outcome.repeated == []
    assert {f for f, n in want.fates.items() if n} == {"kept", "duplicate", "conflict", "expired"}
    assert set(want.rejected.values()) == {
        "undecodable", "unknown_feature_set", "key_mismatch", "wrong_partition", "out_of_range", "future", "conflict", "expired",
    }  # fmt: skip
    assert len(want.vectors) > 1500


def test_predictions_are_the_models_own_answers(run: Run) -> None:
    from models.registry import Registry

    registry = Registry(world.registry(), run.folder / "reader-cache", max_concurrent_models=1)
    model = registry.load(making.MODEL, registry.resolve(making.MODEL, "champion"))
    _, want = judging.judge(run.servers)
    bodies = {}
    for r in judging.read_all(run.servers, making.TOPICS.predictions):
        body = json.loads(r.value or b"")
        bodies[body["prediction_id"]] = body
    ids = sorted(want.vectors)
    answers = model.predict(np.array([want.vectors[i] for i in ids]))
    assert [bodies[i]["value"] for i in ids] == answers.tolist()
    assert {b["spec_digest"] for b in bodies.values()} == {model.spec.digest()}
    assert all(b["lower"] < b["value"] < b["upper"] for b in bodies.values())


def test_health_readiness_and_metrics_answer(run: Run) -> None:
    status, body = run.worker.get("/healthz")
    assert (status, json.loads(body)) == (200, {"status": "ok"})
    status, body = run.worker.get("/readyz")
    assert (status, json.loads(body)) == (200, {"ready": True, "group": "inference", "partitions": [0, 1, 2, 3], "lag": 0})
    status, text = run.worker.get("/metrics")
    assert status == 200
    group = {"group": "inference"}
    assert world.metric(text, "trading_ml_rows_total", group) == run.rows
    predictions = len(judging.read_all(run.servers, making.TOPICS.predictions))
    assert world.metric(text, "trading_ml_predictions_total") == predictions
    assert world.metric(text, "trading_ml_lag_records", group) == 0
    assert world.metric(text, "trading_ml_resident_symbols") == len(making.SYMBOLS)
    assert world.metric(text, "trading_ml_model", {"model": making.MODEL, "role": "champion", "version": "1"}) == 1
    assert run.worker.get("/router")[0] == 404
    assert run.worker.get("/table/windows/S00")[0] == 404


@pytest.mark.skipif(sys.platform != "linux", reason="a process's sockets are read as Linux tells them")
def test_it_listens_on_its_own_port_and_nowhere_else(run: Run) -> None:
    """Faust's command line would open a web server of its own on all addresses."""
    assert listening(run.worker.process.pid) == {("0100007F", run.worker.port)}


def listening(pid: int) -> set[tuple[str, int]]:
    """Addresses, as the kernel writes them, and ports on which a process listens."""
    own = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
            own.add(str(file.readlink()).removeprefix("socket:[").removesuffix("]"))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and rest[5] in own:
                address, port = local.split(":")
                found.add((address, int(port, 16)))
    return found


def test_a_second_worker_on_the_same_state_folder_is_refused(run: Run) -> None:
    with Worker(run.folder, run.servers) as second:
        assert second.process.wait(30) == 1
        (line,) = second.log.splitlines()
    owner = run.worker.process.pid
    assert line == (
        f"StateFolderInUse: state folder {run.folder / 'state' / 'inference'} is in use by process {owner}; "
        "stop it, or give this worker its own storage.state_dir"
    )
    assert run.worker.get("/readyz")[0] == 200


def test_a_port_in_use_is_one_clear_line(run: Run, tmp_path: Path) -> None:
    port = str(run.worker.port)
    with Worker(tmp_path, run.servers, MLFLOW__TRACKING_URI=world.registry(), WEB__PORT=port) as second:
        assert second.process.wait(30) == 78
    assert f"trading-ml: cannot listen on 127.0.0.1:{port}" in second.log
    assert "Traceback" not in second.log


def test_it_leaves_at_once_when_told_to(run: Run) -> None:
    """The last test of this module's worker."""
    started = time.monotonic()
    assert run.worker.stop() == 0
    assert time.monotonic() - started < 10
    assert judging.committed(run.servers) == judging.ends(run.servers)
    assert "Traceback" not in run.worker.log


def test_absent_topics_are_one_clear_line(tmp_path: Path) -> None:
    with EmbeddedBroker({making.TOPICS.features: 4}) as broker, Worker(tmp_path, broker.bootstrap_servers) as worker:
        assert worker.process.wait(30) == 1
        (line,) = worker.log.splitlines()
    assert line.startswith(f"TopicError: topics missing at {broker_address(line)}: trading.predictions, ")
    assert line.endswith("; run `trading-ml topics create`")


def broker_address(line: str) -> str:
    return line.split(" at ", 1)[1].split(": ", 1)[0]


def test_a_wrong_partition_count_is_one_clear_line(tmp_path: Path) -> None:
    topics = making.topics_of_the_broker() | {making.TOPICS.predictions: 3}
    with EmbeddedBroker(topics) as broker, Worker(tmp_path, broker.bootstrap_servers) as worker:
        assert worker.process.wait(30) == 1
        (line,) = worker.log.splitlines()
    assert line.startswith("TopicError: kafka.partitions is 4, but trading.predictions has 3: ")


def test_no_champion_is_one_clear_line(tmp_path: Path) -> None:
    with (
        EmbeddedBroker(making.topics_of_the_broker()) as broker,
        Worker(
            tmp_path, broker.bootstrap_servers, MLFLOW__TRACKING_URI=world.registry(), MODELS='[{"name": "nobody"}]'
        ) as worker,
    ):
        assert worker.process.wait(60) == 1
        (line,) = worker.log.splitlines()
    assert line.startswith("RegistryError: ")
    assert "'nobody'" in line


class Door:
    """A port that hangs up on whoever comes, until `open` lets them through to another."""

    def __init__(self, target: str) -> None:
        host, port = target.split(":")
        self._target = host, int(port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self.refused = 0
        self.open = False
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                caller, _ = self._server.accept()
            except OSError:
                return
            if not self.open:
                self.refused += 1
                caller.close()
                continue
            there = socket.create_connection(self._target)
            for a, b in ((caller, there), (there, caller)):
                threading.Thread(target=self._pump, args=(a, b), daemon=True).start()

    @staticmethod
    def _pump(a: socket.socket, b: socket.socket) -> None:
        try:
            while data := a.recv(65536):
                b.sendall(data)
        except OSError:
            pass
        b.close()

    def close(self) -> None:
        self._server.close()


def test_a_broker_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    with EmbeddedBroker(making.topics_of_the_broker()) as broker:
        door = Door(broker.bootstrap_servers)
        Feeder(broker.bootstrap_servers).send(list(making.stream(5, 4)))
        with Worker(tmp_path, door.address, command=world.LIGHT) as worker:
            wait_until(lambda: door.refused > 1, alive=worker)
            assert worker.process.poll() is None
            door.open = True
            worker.wait_ready()
            wait_until(judging.all_committed(broker.bootstrap_servers), alive=worker)
        door.close()
        assert judging.judge(broker.bootstrap_servers)[0].faults == {}
