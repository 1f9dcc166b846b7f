"""From the settings to the endpoint: which handles go behind it, what is counted and logged of its calls."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from structlog.testing import capture_logs

from config import load_settings
from models.handle import ModelHandle
from models.vertex import Scored
from models.vertex_versions import Deployed
from streams import endpoint, metrics
from streams.endpoint import Watch, endpoint_settings, through_endpoint
from tests.unit.streams import wire

if TYPE_CHECKING:
    import pytest

    from config import Settings

CONFIG = Path(__file__).parents[3] / "config"


def production(**vertex: Any) -> Settings:
    """Production's settings, with its endpoint where nobody listens."""
    settings = load_settings(CONFIG / "production.yaml", env={})
    changes = {"api_endpoint": "http://127.0.0.1:1"} | vertex
    return settings.model_copy(update={"vertex": settings.vertex.model_copy(update=changes)})


def loaded() -> ModelHandle:
    return ModelHandle(name="another", version="1", digest="", spec=wire.spec(), predict=wire.answer)


def counted(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(name, labels) or 0.0


def test_without_an_endpoint_the_loaded_handle_scores() -> None:
    handle = loaded()
    assert through_endpoint(production(enabled=False))(handle) is handle


def test_only_the_model_the_endpoint_has_goes_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def serve_one(_: object, handle: ModelHandle) -> ModelHandle:
        asked.append(handle.version)
        return replace(handle)

    monkeypatch.setattr("models.vertex.Endpoint.serve", serve_one)
    settings = production()
    serve = through_endpoint(settings)
    other = loaded()
    mine = replace(other, name=settings.models[0].name, version="7")
    assert serve(other) is other
    assert serve(mine) is not mine
    assert asked == ["7"]


def test_rows_are_scored_while_there_is_no_token_for_the_endpoint(tmp_path: Path) -> None:
    settings = production(timeout=timedelta(seconds=5), credentials_file=tmp_path / "absent.json")
    mine = replace(loaded(), name=settings.models[0].name)
    values = np.array([[0.01], [np.nan]])
    before = counted("trading_ml_endpoint_rows_total", model=mine.name, by="local")
    with capture_logs() as logs:
        answer = through_endpoint(settings)(mine).predict(values)
    assert answer.tobytes() == mine.predict(values).tobytes()
    assert counted("trading_ml_endpoint_rows_total", model=mine.name, by="local") == before + 2
    assert [entry["event"] for entry in logs] == ["the endpoint fails"]
    assert "absent.json" in logs[0]["error"]


def test_the_settings_arrive_whole() -> None:
    given = endpoint_settings(
        production(api_endpoint=None, predict_endpoint="https://7.us-central1-1.prediction.vertexai.goog").vertex
    )
    resource = "projects/production/locations/us-central1/endpoints/1234567890123456789"
    assert given.api + given.resource == f"https://us-central1-aiplatform.googleapis.com/v1/{resource}"
    assert given.predict == f"https://7.us-central1-1.prediction.vertexai.goog/v1/{resource}:predict"
    assert (given.timeout_s, given.fallback, given.max_request_bytes, given.calls_at_once) == (2.0, "local", 1_500_000, 8)
    assert endpoint_settings(production(api_endpoint=None).vertex).predict.startswith("https://us-central1-aiplatform.")


def scored(**changes: Any) -> Scored:
    given: dict[str, Any] = {
        "by": "endpoint",
        "model": "counted",
        "version": "7",
        "rows": 5,
        "seconds": 0.03,
        "deployed_model": Deployed(id="11", model="projects/1/locations/l/models/counted", model_version_id="3"),
        "error": None,
        "breaker": "closed",
    }
    return Scored(**(given | changes))


def test_every_call_is_counted_and_a_change_of_who_scores_is_logged_once() -> None:
    watch = Watch()
    with capture_logs() as logs:
        for _ in range(3):
            watch(scored())
        for _ in range(3):
            watch(scored(by="local", deployed_model=None, error="status 503", breaker="open"))
        watch(scored())
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [
        ("the endpoint scores", "info"),
        ("the endpoint fails", "warning"),
        ("the endpoint scores", "info"),
    ]
    assert (logs[0]["deployed_model_id"], logs[0]["vertex_model"]) == ("11", "projects/1/locations/l/models/counted@3")
    assert (logs[1]["scored_by"], logs[1]["error"]) == ("local", "status 503")
    assert counted("trading_ml_endpoint_rows_total", model="counted", by="endpoint") == 20
    assert counted("trading_ml_endpoint_rows_total", model="counted", by="local") == 15
    assert counted("trading_ml_endpoint_failures_total", model="counted") == 3
    assert counted("trading_ml_endpoint_open", model="counted") == 0
    assert counted("trading_ml_endpoint_seconds_count", model="counted") == 7


def test_the_deployed_model_that_answers_is_told_and_only_that() -> None:
    watch = Watch()
    watch(scored())
    watch(scored(version="8", deployed_model=Deployed(id="12", model="m", model_version_id="4")))
    samples = [s for metric in endpoint.DEPLOYED.collect() for s in metric.samples]
    assert [(s.labels["version"], s.labels["deployed_model_id"], s.labels["vertex_model_version"]) for s in samples] == [
        ("8", "12", "4")
    ]
