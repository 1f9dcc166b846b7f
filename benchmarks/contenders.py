"""Who runs: our worker as it is deployed, and the tuned loop in its two ways of keeping state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from benchmarks.job import MODEL
from config import load_settings
from streams.topics import WINDOWS_TABLE, changelog

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.job import Job
    from config.sections import Kafka

OURS: Final = "ours"
PER_BATCH: Final = "tuned_loop"
WRITE_BEHIND: Final = "tuned_loop_write_behind"
NAMES: Final = (OURS, PER_BATCH, WRITE_BEHIND)


@dataclass(frozen=True, slots=True)
class Setup:
    """What all runs share: the job, its model in a registry and as files, and a folder to work in."""

    job: Job
    folder: Path
    config: Path

    @property
    def tracking_uri(self) -> str:
        """The registry."""
        return f"sqlite:///{self.folder}/mlflow.db"

    @property
    def model_folder(self) -> Path:
        """Spec and weights for the loop."""
        return self.folder / "model"

    def env(self, state: Path, servers: str = "127.0.0.1:1") -> dict[str, str]:
        """Settings of our programs, as environment variables over the local file."""
        values: dict[str, Any] = {
            "MLFLOW__TRACKING_URI": self.tracking_uri,
            "MLFLOW__MODEL_REGISTRY": str(self.folder / "artifacts"),
            "STORAGE__CACHE_DIR": str(self.folder / "cache"),
            "STORAGE__STATE_DIR": str(state),
            "INFERENCE__BATCH_SIZE": self.job.batch_rows,
            "KAFKA__BOOTSTRAP_SERVERS": servers,
            "KAFKA__PARTITIONS": self.job.partitions,
            "KAFKA__FETCH_MAX_WAIT": f"{self.job.fetch_max_wait_ms}ms",
            "MODELS": msgspec.json.encode([{"name": MODEL}]).decode(),
            "WEB__PORT": 0,
        }
        return {"CONFIG_PATH": str(self.config), **{f"TRADING_ML__{name}": str(value) for name, value in values.items()}}

    def kafka(self) -> Kafka:
        """Topics and groups, the same for all contenders."""
        return load_settings(self.config, self.env(self.folder)).kafka


def command(name: str, setup: Setup, *, state: Path, servers: str) -> list[str]:
    """Module and arguments that start a contender."""
    if name == OURS:
        return ["streams.cli", "worker", "inference"]
    kafka = setup.kafka()
    options = {
        "servers": servers,
        "group": kafka.inference_group,
        "features": kafka.topics.features,
        "predictions": kafka.topics.predictions,
        "log": kafka.topics.inference_log,
        "changelog": changelog(kafka.inference_group, WINDOWS_TABLE),
        "model": setup.model_folder,
        "state": state,
        "partitions": setup.job.partitions,
        "batch-rows": setup.job.batch_rows,
        "fetch-max-wait-ms": setup.job.fetch_max_wait_ms,
    }
    arguments = [part for option, value in options.items() for part in (f"--{option}", str(value))]
    return ["benchmarks.tuned_loop", *arguments, *(["--write-behind"] if name == WRITE_BEHIND else [])]
