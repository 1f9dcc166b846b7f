"""The worker with a model at hand instead of a registry, so that it starts in a second or two; all else is the real one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from config import load_settings
from models.handle import ModelHandle
from streams import app
from streams.clients import producer_config
from streams.group import Group
from streams.inference import InferenceHandler
from streams.outbox import Outbox
from streams.pipeline import Pipeline
from streams.topics import WINDOWS_TABLE
from tests.broker.inference_world import MODEL, SPEC, VERSION

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from config import Settings


def _sum(x: NDArray[np.float64]) -> NDArray[np.float64]:
    total: NDArray[np.float64] = np.nan_to_num(x).sum(axis=1)
    return total


def group_of(settings: Settings) -> Group:
    handle = ModelHandle(name=MODEL, version=VERSION, digest="", spec=SPEC, predict=_sum)
    pipeline = Pipeline(
        [handle],
        partitions=settings.kafka.partitions,
        max_future_us=int(settings.inference.max_future.total_seconds() * 1_000_000),
        slack_rows=settings.inference.slack_rows,
    )
    outbox = Outbox(producer_config(settings.kafka))
    return Group(
        settings,
        app_id=settings.kafka.inference_group,
        topics=[settings.kafka.topics.features],
        table=WINDOWS_TABLE,
        handler=InferenceHandler(pipeline, outbox, settings.kafka.topics),
        outbox=outbox,
    )


if __name__ == "__main__":
    settings = load_settings()
    app._configure_logging()
    lock = app.lock_state_folder(settings.storage.state_dir)
    app.wait_for_kafka(settings)
    app._execute(group_of(settings), "inference", settings)
