"""The inference worker as a process, and the registry it asks."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from tests.broker.inference_rows import BAR_US, COLUMNS, FEATURE_SETS, MODEL, PARTITIONS, VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

COMMAND = ("streams.cli", "worker", "inference")
LIGHT = ("tests.broker.light_worker",)
"""The same worker with a model at hand: it starts without MLflow, which takes seconds to import."""
ROOT = Path(__file__).parents[2]


@cache
def registry() -> str:
    """Address of a registry with one small LightGBM champion, made once for all tests of this process."""
    import lightgbm

    from models.mlflow_client import connect
    from models.publish import publish

    root = Path(tempfile.mkdtemp(prefix="trading-ml-tests-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    uri = f"sqlite:///{root}/mlflow.db"
    connect(uri).search_registered_models()  # makes its tables
    rng = np.random.default_rng(5)
    x = rng.normal(size=(300, len(COLUMNS)))
    y = x @ np.array([0.5, -0.2, 0.1, 0.3, 0.2, 0.1]) + rng.normal(scale=0.1, size=300)
    parameters = {"verbose": -1, "num_leaves": 4, "num_threads": 1, "min_data_in_leaf": 5}
    booster = lightgbm.train(parameters, lightgbm.Dataset(x[:200], y[:200]), num_boost_round=8)
    published = publish(
        booster,
        name=MODEL,
        columns=COLUMNS,
        feature_sets=FEATURE_SETS,
        trigger="bars",
        horizon_us=BAR_US,
        x=x[:200],
        x_calibration=x[200:],
        y_calibration=y[200:],
        tracking_uri=uri,
        artifact_root=root / "artifacts",
    )
    assert published.version == VERSION
    return uri


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
    return port


class Worker:
    """`trading-ml worker inference` in a process of its own; what it says on standard error is in `log`.

    `command` replaces it by another program with the same settings.
    """

    def __init__(
        self, folder: Path, servers: str, *, state: str = "state", command: Sequence[str] = COMMAND, **settings: str
    ) -> None:
        self.port = free_port()
        self.state = folder / state
        self._err = folder / f"{state}-{self.port}.log"
        changes = {
            "KAFKA__BOOTSTRAP_SERVERS": servers,
            "KAFKA__PARTITIONS": str(PARTITIONS),
            "KAFKA__SESSION_TIMEOUT": "2s",
            "MODELS": json.dumps([{"name": MODEL}]),
            "STORAGE__STATE_DIR": str(self.state),
            "STORAGE__CACHE_DIR": str(folder / "cache"),
            "INFERENCE__BATCH_SIZE": "100",
            "INFERENCE__COMMIT_INTERVAL": "0.3s",
            "WEB__PORT": str(self.port),
            **settings,
        }
        env = {**os.environ, "CONFIG_PATH": str(ROOT / "config" / "local.yaml"), "PYTHONPATH": str(ROOT)}
        env |= {f"TRADING_ML__{k}": v for k, v in changes.items()}
        with self._err.open("wb") as err:
            self.process = subprocess.Popen([sys.executable, "-m", *command], cwd=folder, env=env, stderr=err, stdout=err)

    @property
    def log(self) -> str:
        return self._err.read_text(errors="replace")

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()
        except OSError:
            return 0, ""

    def rows(self) -> float:
        """Records taken so far."""
        return metric(self.get("/metrics")[1], "trading_ml_rows_total", {"group": "inference"})

    def partitions(self) -> list[int]:
        """Source partitions this worker serves; none while it is not ready."""
        status, body = self.get("/readyz")
        found: list[int] = json.loads(body)["partitions"] if status == 200 else []
        return found

    def wait_ready(self, timeout_s: float = 40) -> None:
        wait_until(lambda: self.get("/readyz")[0] == 200, timeout_s, alive=self)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()


def wait_until(condition: Callable[[], bool], timeout_s: float = 30, *, alive: Worker | None = None) -> None:
    """Wait for a condition; fails when the worker that should bring it about has ended."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if alive is not None and alive.process.poll() is not None:
            raise AssertionError(f"the worker left with {alive.process.returncode}:\n{alive.log[-4000:]}")
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s\n{alive.log[-4000:] if alive else ''}")
        time.sleep(0.05)


def metric(text: str, name: str, labels: Mapping[str, str] | None = None) -> float:
    """One sample of a Prometheus page, 0 where there is none yet."""
    want = "{" + ",".join(f'{k}="{v}"' for k, v in (labels or {}).items()) + "}" if labels else ""
    for line in text.splitlines():
        if line.startswith(f"{name}{want} "):
            return float(line.rsplit(" ", 1)[1])
    return 0.0
