"""Who runs: our worker as it is deployed, the tuned loop in its two ways of keeping state, other stream frameworks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from benchmarks.options import arguments
from benchmarks.served import registered_name
from config import load_settings
from streams.topics import WINDOWS_TABLE, changelog

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.job import Job
    from benchmarks.served import Model
    from config.sections import Kafka

OURS: Final = "ours"
PER_BATCH: Final = "tuned_loop"
WRITE_BEHIND: Final = "tuned_loop_write_behind"
_LOOP: Final = "benchmarks.tuned_loop"
_BEHIND: Final = ("--write-behind",)


@dataclass(frozen=True, slots=True)
class Contender:
    """One program with one way of being used.

    `module` runs in the peers' environment when `peer`. `baseline` is the contender that stands above it in its ratios,
    or below where that is ours. `share` of the job's rows is what it takes in some 10 seconds; `every` which rounds it
    runs in. `paced`: whether latency is measured. `commits`: whether it commits its offsets to the broker. `durable`:
    whether its windows outlive the process. `extra`: arguments of its own.
    """

    name: str
    module: str
    model: Model = "linear"
    peer: bool = False
    baseline: str = OURS
    share: float = 1.0
    every: int = 1
    wire_in: Literal["rows", "frames"] = "rows"
    wire_out: Literal["rows", "frames"] = "rows"
    paced: bool = True
    commits: bool = True
    durable: bool = True
    logs: bool = True
    extra: tuple[str, ...] = ()

    def sized(self, job: Job) -> tuple[int, int]:
        """(rows until the measured part begins, all rows of the throughput part: whole ticks).

        However small the share, the windows are full before anything is measured, if they are at all in this job.
        """
        share = job.frames_times if self.wire_in == "frames" else self.share
        full = job.symbols * job.window_rows
        warm_up = max(min(full, job.warm_up_rows), round(job.warm_up_rows * min(share, 1.0)))
        rows = max(min(full, job.rows), round(job.rows * share))
        return warm_up, job.symbols * job.ticks_of(warm_up + rows)

    @property
    def ratio(self) -> tuple[str, str]:
        """(over, under) of its ratios: ours stands above the others, a variant of ours above our standard."""
        return (self.name, self.baseline) if self.name.startswith(OURS) else (self.baseline, self.name)


def _peer(name: str, *, share: float, commits: bool = True, durable: bool = True) -> Contender:
    module = f"benchmarks.peers.{name}"
    return Contender(name, module, peer=True, share=share, every=2, commits=commits, durable=durable, logs=False)


_OURS = Contender(OURS, "streams.cli")
_TREES: Final[dict[str, Any]] = {"model": "lightgbm", "paced": False, "share": 0.7}
CONTENDERS: Final[dict[str, Contender]] = {
    c.name: c
    for c in (
        _OURS,
        Contender(PER_BATCH, _LOOP),
        Contender(WRITE_BEHIND, _LOOP, extra=_BEHIND),
        replace(_OURS, name="ours_frames", wire_in="frames", paced=False),
        replace(_OURS, name="ours_frames_out", wire_in="frames", wire_out="frames", paced=False),
        replace(_OURS, name="ours_lightgbm", baseline="tuned_loop_lightgbm", **_TREES),
        Contender("tuned_loop_lightgbm", _LOOP, baseline="ours_lightgbm", **_TREES),
        Contender("tuned_loop_write_behind_lightgbm", _LOOP, baseline="ours_lightgbm", extra=_BEHIND, **_TREES),
        _peer("faust_event", share=0.08),
        _peer("faust_take", share=0.2),
        _peer("quix", share=0.6),
        # Its offsets are kept in its recovery store, beside the state they belong to.
        _peer("bytewax", share=0.7, commits=False),
        _peer("faststream", share=0.8, durable=False),
    )
}
NAMES: Final = tuple(CONTENDERS)


@dataclass(frozen=True, slots=True)
class Setup:
    """What all runs share: the job, its models in a registry and as files, and a folder to work in."""

    job: Job
    folder: Path
    config: Path

    @property
    def tracking_uri(self) -> str:
        """The registry."""
        return f"sqlite:///{self.folder}/mlflow.db"

    def model_folder(self, model: Model) -> Path:
        """Spec and weights for those that read files."""
        return self.folder / model

    def env(self, state: Path, servers: str = "127.0.0.1:1", contender: Contender = _OURS) -> dict[str, str]:
        """Settings of our programs, as environment variables over the local file."""
        served = {"name": registered_name(contender.model)}
        if contender.wire_out == "frames":
            served["publish"] = "frames"
        values: dict[str, Any] = {
            "MLFLOW__TRACKING_URI": self.tracking_uri,
            "MLFLOW__MODEL_REGISTRY": str(self.folder / "artifacts"),
            "STORAGE__CACHE_DIR": str(self.folder / "cache"),
            "STORAGE__STATE_DIR": str(state),
            "INFERENCE__BATCH_SIZE": self.job.batch_rows,
            "KAFKA__BOOTSTRAP_SERVERS": servers,
            "KAFKA__PARTITIONS": self.job.partitions,
            "KAFKA__FETCH_MAX_WAIT": f"{self.job.fetch_max_wait_ms}ms",
            "MODELS": msgspec.json.encode([served]).decode(),
            "WEB__PORT": 0,
        }
        return {"CONFIG_PATH": str(self.config), **{f"TRADING_ML__{name}": str(value) for name, value in values.items()}}

    def kafka(self) -> Kafka:
        """Topics and groups, the same for all contenders."""
        return load_settings(self.config, self.env(self.folder)).kafka


def command(contender: Contender, setup: Setup, *, state: Path, servers: str) -> list[str]:
    """Module and arguments that start a contender."""
    if contender.module == _OURS.module:
        return [contender.module, "worker", "inference"]
    kafka = setup.kafka()
    options = {
        "servers": servers,
        "group": kafka.inference_group,
        "features": kafka.topics.features,
        "predictions": kafka.topics.predictions,
        "log": kafka.topics.inference_log,
        "changelog": changelog(kafka.inference_group, WINDOWS_TABLE),
        "model": setup.model_folder(contender.model),
        "state": state,
        "partitions": setup.job.partitions,
        "batch-rows": setup.job.batch_rows,
        "fetch-max-wait-ms": setup.job.fetch_max_wait_ms,
    }
    return [contender.module, *arguments(options), *contender.extra]
