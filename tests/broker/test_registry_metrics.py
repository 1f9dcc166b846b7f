"""Windows on the pages of their versions, over the embedded broker and MLflow on SQLite: away, killed in between, new, gone."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaException
from mlflow.exceptions import MlflowException

from models.mlflow_client import connect
from models.version_metrics import MOST_AT_ONCE, VersionMetrics
from monitoring.logged import metrics_of
from monitoring.record import encode
from streams import metrics
from streams.registry_metrics import RegistryMetrics
from streams.unlogged import MOST_WAITING, Unlogged
from tests.broker.registry_pages import Away, Windows, history, noted, page, run_of, settled
from tests.unit.monitoring import a_record
from tests.unit.monitoring.receiver import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlflow import MlflowClient

    from config.sections import Kafka


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.registry_metrics.PAUSE_S", 0.02)
    monkeypatch.setattr("streams.registry_metrics.LEAST_WAIT_S", 0.0)


@pytest.fixture(scope="module", name="tables")
def fixture_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty registry with its tables made, which takes a second."""
    file = tmp_path_factory.mktemp("registry") / "mlflow.db"
    connect(f"sqlite:///{file}").search_registered_models()
    return file


@pytest.fixture(name="client")
def fixture_client(tables: Path, tmp_path: Path) -> MlflowClient:
    """A registry with versions 1 and 2 of the models `a` and `b`, each of a logged model of its own run."""
    shutil.copy(tables, tmp_path / "mlflow.db")
    client = connect(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.create_experiment("of the test", artifact_location=str(tmp_path / "artifacts"))
    for name in ("a", "a", "b", "b"):
        run = client.create_run(experiment).info.run_id
        logged = client.create_logged_model(experiment, name="model", source_run_id=run)
        client.finalize_logged_model(logged.model_id, "READY")
        client.set_terminated(run)
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        client.create_model_version(name, logged.artifact_location, run_id=run, model_id=logged.model_id)
    return client


@contextmanager
def logging(kafka: Kafka, client: Any) -> Iterator[RegistryMetrics]:
    """On duty within the block, once it has looked at the topic; afterwards nothing goes on."""
    found = RegistryMetrics(kafka, "unused:", open_registry=lambda: VersionMetrics(client), rng=lambda: 0.001)
    found.start()
    found.duty(on=True)
    try:
        wait_until(lambda: all(offset >= 0 for offset in noted(kafka)))
        yield found
    finally:
        found.close(10)


def count(outcome: str) -> float:
    return metrics.REGISTRY.get_sample_value("trading_ml_registry_metrics_total", {"outcome": outcome}) or 0.0


def test_each_window_is_logged_on_the_run_the_model_and_the_version(kafka: Kafka, client: MlflowClient) -> None:
    windows = Windows(kafka)
    with logging(kafka, client):
        for minute in (1, 2, 3):
            windows.write("a", "1", minute, psi=minute / 10)
            windows.write("b", "2", minute)
        windows.put("a", b'{"schema_version":1,"request_id":"0123456789abcdef"}')
        windows.write("a", "1", 2, revision=1, ic=0.02)
        windows.write("a", "1", 3, revision=1, ic=-0.1)
        wait_until(lambda: settled(kafka))
    assert history(client, "a", "1", "worst_psi") == [(1, 0, 0.1), (2, 0, 0.2), (3, 0, 0.3)]
    assert history(client, "a", "1", "ic") == [(1, 0, 0.1), (2, 0, 0.1), (2, 1, 0.02), (3, 0, 0.1), (3, 1, -0.1)]
    assert page(client, "a", "1", "ic") == [0.1, 0.1, 0.02, 0.1, -0.1]
    assert history(client, "b", "2", "drift_verdict") == [(1, 0, 2.0), (2, 0, 2.0), (3, 0, 2.0)]
    assert history(client, "a", "2", "ic") == []
    run = client.get_run(run_of(client, "a", "1"))
    assert run.data.metrics["monitor.champion.ic"] == -0.1  # the last revision of the newest window, though it is less
    assert "monitor.champion.rank_ic" not in run.data.metrics
    tags = client.get_model_version("a", "1").tags
    assert (tags["monitor.verdict"], tags["monitor.window_end"]) == ("warn", "2023-11-14T22:17:00.000000Z")


def test_a_registry_that_was_away_has_every_window_once(kafka: Kafka, client: MlflowClient) -> None:
    away, windows = Away(client), Windows(kafka)
    with logging(kafka, away):
        windows.write("a", "1", 1)
        wait_until(lambda: settled(kafka))
        away.away, before = True, away.calls
        failed = count("away")
        for minute in range(2, 121):
            windows.write("a", "1", minute)
        wait_until(lambda: away.calls > before + 5)
        assert count("away") > failed
        assert not settled(kafka)
        away.away = False
        windows.write("a", "1", 121)
        wait_until(lambda: settled(kafka))
    assert [step for step, _, _ in history(client, "a", "1", "ic")] == list(range(1, 122))
    # What was being logged in the moment the registry came back may be with the run alone.
    on_page = page(client, "a", "1", "ic")
    assert set(on_page) == {0.1}
    assert 121 - MOST_WAITING <= len(on_page) <= 121


def test_one_that_is_killed_between_log_and_commit_changes_nothing(
    kafka: Kafka, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = Windows(kafka)
    many = a_record.window() | {"model": "b", "version": "1", "role": "champion"}
    last = list(metrics_of(many))[-1].removeprefix("monitor.champion.")
    assert len(metrics_of(many)) > MOST_AT_ONCE
    with logging(kafka, client):
        pass
    commit = Unlogged.commit

    def killed(self: Unlogged) -> None:
        if any(offset > 0 for offset in self._next.values()):
            raise KafkaException("killed")
        commit(self)

    monkeypatch.setattr(Unlogged, "commit", killed)
    with logging(kafka, client):
        windows.write("a", "1", 1)
        windows.write("a", "1", 2)
        windows.put("b", encode(many))
        wait_until(lambda: len(history(client, "a", "1", "ic")) == 2 and len(page(client, "b", "1", last)) == 1)
    assert noted(kafka) == [0] * 4
    monkeypatch.setattr(Unlogged, "commit", commit)
    away = count("away")
    with logging(kafka, client):
        wait_until(lambda: settled(kafka))
    assert count("away") == away
    assert history(client, "a", "1", "ic") == [(1, 0, 0.1), (2, 0, 0.1)]
    assert page(client, "a", "1", "ic") == [0.1, 0.1]
    assert len(page(client, "b", "1", last)) == 1


def test_a_new_group_begins_at_the_end_and_loses_nothing_from_there(kafka: Kafka, client: MlflowClient) -> None:
    windows = Windows(kafka)
    windows.write("a", "1", 1)
    with logging(kafka, client):
        assert settled(kafka)
    windows.write("a", "1", 2)
    with logging(kafka, client):
        wait_until(lambda: settled(kafka))
    assert [step for step, _, _ in history(client, "a", "1", "ic")] == [2]


def test_what_was_noted_is_noted_again_while_the_registry_is_away(
    kafka: Kafka, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    again: list[dict[int, int]] = []
    note = Unlogged._note

    def noting(self: Unlogged, offsets: Any) -> None:
        again.append(dict(offsets))
        note(self, offsets)

    away, windows = Away(client), Windows(kafka)
    with logging(kafka, away):
        windows.write("a", "1", 1)
        wait_until(lambda: settled(kafka))
        before = noted(kafka)
        away.away = True
        windows.write("a", "1", 2)
        monkeypatch.setattr(Unlogged, "_note", noting)
        monkeypatch.setattr("streams.unlogged.RECOMMIT_S", 0.0)
        wait_until(lambda: len(again) > 2)
    assert [list(offsets.values()) for offsets in again] == [before] * len(again)
    assert noted(kafka) == before


def test_versions_that_are_gone_are_passed_over_with_one_line(
    kafka: Kafka, client: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    windows, before = Windows(kafka), count("gone")
    client.delete_run(run_of(client, "b", "1"))
    with logging(kafka, client):
        windows.write("a", "1", 1)
        wait_until(lambda: settled(kafka))
        client.delete_model_version("a", "1")
        for minute in (2, 3):
            windows.write("a", "1", minute)
            windows.write("a", "9", minute)
            windows.write("b", "1", minute)
            windows.write("b", "2", minute)
            wait_until(lambda: settled(kafka))
    assert [step for step, _, _ in history(client, "b", "2", "ic")] == [2, 3]
    assert count("gone") - before == 6
    assert capsys.readouterr().out.count("that the registry has no more are passed over") == 3


def test_what_is_no_record_is_passed_over(kafka: Kafka, client: MlflowClient) -> None:
    windows = Windows(kafka)
    with logging(kafka, client):
        for value in (b"", b"no JSON", b"{}", b'{"schema_version": 99}', b"\xff", b"[1]", b'{"window_end_us": "x"}'):
            windows.put("a", value)
        windows.write("a", "1", 1)
        wait_until(lambda: settled(kafka))
    assert len(history(client, "a", "1", "ic")) == 1


def test_where_the_models_page_refuses_the_run_has_it(kafka: Kafka, client: MlflowClient) -> None:
    class Refuses(Away):
        def __getattr__(self, name: str) -> Any:
            def log_batch(run_id: str, metrics: Any) -> None:
                self.calls += 1
                if any(m.model_id for m in metrics):
                    raise MlflowException("UNIQUE constraint failed")
                client.log_batch(run_id, metrics)

            return log_batch if name == "log_batch" else super().__getattr__(name)

    windows = Windows(kafka)
    with logging(kafka, Refuses(client)):
        windows.write("a", "1", 1)
        wait_until(lambda: settled(kafka))
    assert (len(history(client, "a", "1", "ic")), page(client, "a", "1", "ic")) == (1, [])


def test_who_is_not_on_duty_logs_nothing(kafka: Kafka, client: MlflowClient) -> None:
    windows, idle = Windows(kafka), Away(client)
    other = kafka.model_copy(update={"monitor_group": "witness"})
    with logging(kafka, idle) as found, logging(other, client):
        found.duty(on=False)
        wait_until(lambda: found.idle)
        windows.write("a", "1", 1)
        wait_until(lambda: settled(other))
        assert idle.calls == 0
        found.duty(on=True)
        wait_until(lambda: settled(kafka))
        assert idle.calls > 0
    assert len(history(client, "a", "1", "ic")) == 1
