"""What a soak stands in: the job's model in a registry, the workers' settings, changelogs compacted soon; and what is left."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from benchmarks.served import publish_model, registered_name, write_model
from tests.chaos.state import entries
from tests.soak.sampling import INFERENCE, MONITOR
from tests.soak.watching import MB

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.job import Job

COMPACTION = {"min.compaction.lag.ms": "5000", "segment.ms": "10000", "min.cleanable.dirty.ratio": "0.1"}
"""Of the changelogs, so that half an hour sees many compactions. As created, the windows' keeps every record for an hour."""
LABEL_TIMEOUT = "6h"
"""Event time is 240 times as fast as the clock here, so that what is kept for this long, and a window's hour, is full within two
minutes; the default of 30 days would fill the monitor up to its bound of a million keys for most of the run."""


def settings(folder: Path, job: Job) -> dict[str, Any]:
    """The workers' settings, with a registry of the job's LightGBM model made for them."""
    from models.mlflow_client import connect

    uri = f"sqlite:///{folder}/mlflow.db"
    connect(uri).search_registered_models()  # makes its tables
    write_model(job, "lightgbm", folder / "model")
    publish_model(job, "lightgbm", folder / "model", tracking_uri=uri, artifact_root=folder / "artifacts")
    return {
        "MLFLOW__TRACKING_URI": uri,
        "MLFLOW__MODEL_REGISTRY": str(folder / "artifacts"),
        "MODELS": json.dumps([{"name": registered_name("lightgbm")}]),
        "INFERENCE__BATCH_SIZE": str(job.batch_rows),
        "INFERENCE__COMMIT_INTERVAL": "1s",
        "MONITORING__LABEL_TIMEOUT": LABEL_TIMEOUT,
    }


def compact_soon(servers: str, topics: Sequence[str]) -> None:
    """Set `COMPACTION` on these topics."""
    from confluent_kafka import admin

    made: Any = admin  # it re-exports the classes below without saying so

    def change(topic: str) -> Any:
        entries = [made.ConfigEntry(k, v, incremental_operation=made.AlterConfigOpType.SET) for k, v in COMPACTION.items()]
        return made.ConfigResource(made.ResourceType.TOPIC, topic, incremental_configs=entries)

    client = made.AdminClient({"bootstrap.servers": servers, "log_level": 2})
    for answer in client.incremental_alter_configs([change(t) for t in topics]).values():
        answer.result(30)


def newest(folder: Path, table: str) -> dict[str, Any]:
    """Keys and bytes of a table, from a stopped worker's files: what a changelog without any old record holds."""
    group = INFERENCE if table == "windows" else MONITOR
    held = [pair for part in entries(folder / group, group=group, table=table).values() for pair in part.items()]
    return {"keys": len(held), "newest_mb": round(sum(len(k) + len(v) for k, v in held) / MB, 3)}


def stored(file: Path) -> dict[str, int]:
    """Rows of the warehouse's two largest tables."""
    import duckdb

    with duckdb.connect(str(file), read_only=True) as db:
        counts = {t: db.execute(f"SELECT count(*) FROM {t}").fetchone() for t in ("predictions", "outcomes")}  # noqa: S608 - two names
    return {table: int(n[0]) for table, n in counts.items() if n is not None}
