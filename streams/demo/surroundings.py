"""Where a run keeps its things and by which settings its processes go. Shell."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streams.demo.errors import DemoFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pandas as pd

FOLDER = Path("var/demo")
"""Relative to the working folder, as everything under var."""
_PREFIX = "TRADING_ML__"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """One run's folder (absolute) and what is in it."""

    folder: Path

    @property
    def tracking_uri(self) -> str:
        """The run's own registry."""
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def models(self) -> Path:
        """Where the registry keeps files."""
        return self.folder / "models"

    @property
    def warehouse(self) -> Path:
        """The DuckDB file with features, predictions, outcomes, alerts and performance."""
        return self.folder / "ml.duckdb"

    @property
    def broker_file(self) -> Path:
        """Where the embedded broker leaves its address."""
        return self.folder / "broker.json"

    @property
    def logs(self) -> Path:
        """One log a process."""
        return self.folder / "logs"

    def keep_rows(self, rows: pd.DataFrame) -> None:
        """Write raw feature rows, in log order, as `features.ndjson` in the wire format."""
        head = ["symbol", "feature_set", "ts_event_us", "ts_known_us", "revision"]
        with (self.folder / "features.ndjson").open("w") as file:
            for record in rows.to_dict("records"):
                values = {name: float(x) for name, x in record.items() if name not in head and x == x}  # noqa: PLR0124 - not NaN
                file.write(json.dumps({name: record[name] for name in head} | {"values": values}) + "\n")

    def env(self, *, model: str, bootstrap_servers: str, worker: str, port: int, extra: Mapping[str, str]) -> dict[str, str]:
        """Return a process's whole environment: ours without any setting, then the run's settings.

        Settings of the shell are left out, because they may point at a real Kafka, registry or warehouse.
        """
        settings = {
            "MLFLOW__TRACKING_URI": self.tracking_uri,
            "MLFLOW__MODEL_REGISTRY": str(self.models),
            "STORAGE__CACHE_DIR": str(self.folder / "cache" / worker),
            "STORAGE__STATE_DIR": str(self.folder / "state"),
            "DATABASE__PATH": str(self.warehouse),
            "KAFKA__BOOTSTRAP_SERVERS": bootstrap_servers,
            "INFERENCE__COMMIT_INTERVAL": "500ms",  # pacing sees progress only at commits
            "MODELS": f'[{{"name": "{model}"}}]',
            "WEB__PORT": str(port),
            **extra,
        }
        ours = {k: v for k, v in os.environ.items() if not k.startswith(_PREFIX)}
        return {**ours, "CONFIG_PATH": "config/local.yaml", **{_PREFIX + k: v for k, v in settings.items()}}


@contextlib.contextmanager
def fresh_surroundings(name: str) -> Iterator[Surroundings]:
    """Empty the folder of the last run of this name and hold it for this one.

    The embedded broker forgets everything, so state of an earlier run would contradict its topics. Raises `DemoFailed` when
    a demo of this name is running here.
    """
    folder = (FOLDER / name).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            raise DemoFailed(f"another demo runs in {folder}; wait for it, or start this one from another folder") from e
        shutil.rmtree(folder)
        folder.mkdir()
        yield Surroundings(folder)
