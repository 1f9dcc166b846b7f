"""SIGKILL between a window's being logged to the registry and its being noted: each step stands there once, as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from monitoring.logged import VERDICT, WINDOW_END
from tests.broker.halting_logger import MARK, POINT
from tests.broker.inference_world import Worker, wait_until
from tests.broker.registry_pages import Windows, history, noted, page, settled
from tests.broker.test_registry_metrics import _looks_often, fixture_client, fixture_tables, logging

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow import MlflowClient

    from config.sections import Kafka

__all__ = ["_looks_often", "fixture_client", "fixture_tables"]
MINUTES = (1, 2, 3)
VERSIONS = (("a", "1"), ("b", "2"))


@pytest.mark.parametrize("point", ["commit", "tag"])
def test_a_kill_after_logging_leaves_each_step_once(
    kafka: Kafka, client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    windows, mark = Windows(kafka), tmp_path / "it stands still"
    with logging(kafka, client):
        pass  # a new group begins at the end of the topic
    monkeypatch.setenv(MARK, str(mark))
    monkeypatch.setenv(POINT, point)
    for minute in MINUTES:
        for version in VERSIONS:
            windows.write(*version, minute, psi=minute / 10, ic=minute / 100)
    windows.write("a", "1", 2, revision=1, ic=0.5)
    settings = {"KAFKA__PARTITIONS": str(kafka.partitions), "MLFLOW__TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    with Worker(tmp_path, kafka.bootstrap_servers, command=("tests.broker.halting_logger",), **settings) as worker:
        wait_until(mark.exists, 30, alive=worker)
        worker.kill()
    assert noted(kafka) == [0] * kafka.partitions
    assert sum(len(history(client, *version, "ic")) for version in VERSIONS) > 0  # it was logged
    with logging(kafka, client):
        wait_until(lambda: settled(kafka))
    assert history(client, "a", "1", "ic") == [(1, 0, 0.01), (2, 0, 0.02), (2, 1, 0.5), (3, 0, 0.03)]
    assert page(client, "a", "1", "ic") == [0.01, 0.02, 0.5, 0.03]
    assert history(client, "b", "2", "ic") == [(1, 0, 0.01), (2, 0, 0.02), (3, 0, 0.03)]
    assert page(client, "b", "2", "ic") == [0.01, 0.02, 0.03]
    for version in VERSIONS:
        assert history(client, *version, "worst_psi") == [(1, 0, 0.1), (2, 0, 0.2), (3, 0, 0.3)]
        tags = client.get_model_version(*version).tags
        assert (tags[VERDICT], tags[WINDOW_END]) == ("warn", "2023-11-14T22:17:00.000000Z")
