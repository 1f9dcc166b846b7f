"""Files held against each other: what would mix two deployments is named, with both files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from config import compare_files

CONFIG = Path(__file__).parents[3] / "config"


class Files:
    """The four files that ship, in a folder of their own, to be changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths = [folder / file.name for file in sorted(CONFIG.glob("*.yaml"))]
        for path in self.paths:
            path.write_text((CONFIG / path.name).read_text(encoding="utf-8"), encoding="utf-8")

    def change(self, name: str, key: str, value: object) -> None:
        path = self.folder / f"{name}.yaml"
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        *above, last = key.split(".")
        section: Any = tree
        for part in above:
            section = section.setdefault(part, {})
        if value is None:
            del section[last]
        else:
            section[last] = value
        path.write_text(yaml.safe_dump(tree), encoding="utf-8")

    def problems(self) -> list[str]:
        return [problem.replace(f"{self.folder}/", "") for problem in compare_files(self.paths)]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_unchanged_nothing_is_wrong(files: Files) -> None:
    assert files.problems() == []


def test_what_the_environment_overrides_does_not_matter(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADING_ML__ENVIRONMENT", "local")
    assert files.problems() == []


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("environment", "development", "environment 'development'"),
        ("mlflow.model_registry", "gs://trading-system-dev/other", "bucket 'trading-system-dev'"),
        ("storage.cache_dir", "gs://trading-system-dev/cache-2", "bucket 'trading-system-dev'"),
        (
            "mlflow.tracking_uri",
            "http://mlflow.dev.svc.cluster.local:5000/",
            "mlflow.tracking_uri 'http://mlflow.dev.svc.cluster.local:5000'",
        ),
        ("database.dataset", "ml_inference", "BigQuery dataset 'development.ml_inference'"),
    ],
)
def test_what_only_one_may_use(files: Files, key: str, value: str, said: str) -> None:
    files.change("feature-branch", key, value)
    assert files.problems() == [f"dev.yaml and feature-branch.yaml: {said} is used by 2 files; give each its own"]


def test_the_same_broker_needs_other_topics_and_groups(files: Files) -> None:
    files.change("feature-branch", "kafka.bootstrap_servers", "elsewhere:9092,kafka.dev.svc.cluster.local:9092")
    problems = files.problems()
    assert len(problems) == 2 + 9
    assert all(problem.startswith("dev.yaml and feature-branch.yaml: Kafka ") for problem in problems)
    assert any("'trading.features at kafka.dev.svc.cluster.local:9092'" in problem for problem in problems)


def test_the_same_broker_with_other_topics_and_groups_is_well(files: Files) -> None:
    files.change("feature-branch", "kafka.bootstrap_servers", "kafka.dev.svc.cluster.local:9092")
    topics = ("features", "predictions", "predictions_shadow", "inference_log", "outcomes")
    for name in ("dev", "feature-branch", "local", "production"):
        for key in ("inference_group", "monitor_group"):
            files.change(name, f"kafka.{key}", f"{name}-{key}")
        for topic in (*topics, "alerts", "performance", "model_timeline", "features_rejected"):
            files.change(name, f"kafka.topics.{topic}", f"{name}.{topic}")
    assert files.problems() == []


def test_the_same_vertex_endpoint(files: Files) -> None:
    vertex = {"enabled": True, "project": "production", "location": "us-central1", "endpoint_id": "1234567890123456789"}
    files.change("dev", "vertex", vertex)
    (problem,) = files.problems()
    assert problem.startswith("dev.yaml and production.yaml: Vertex AI endpoint 'production/us-central1/1234567890123456789'")


def test_a_key_stated_in_some_files_only(files: Files) -> None:
    files.change("production", "inference.commit_interval", "2s")
    (problem,) = files.problems()
    assert problem == (
        "dev.yaml, feature-branch.yaml, local.yaml: inference.commit_interval is missing, but stated in production.yaml; "
        "state it in all or in none"
    )


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("storage.cache_dir", "./var/cache", "storage.cache_dir = './var/cache': should be gs://bucket/path"),
        ("mlflow.model_registry", "./var/models", "mlflow.model_registry = './var/models': should be gs://bucket/path"),
        ("mlflow.tracking_uri", "sqlite:///var/mlflow.db", "mlflow.tracking_uri is a local file: should be a server"),
        ("database", {"type": "duckdb", "path": "x"}, "database.type = 'duckdb': should be bigquery"),
        ("kafka.bootstrap_servers", "localhost:9092", "kafka.bootstrap_servers = 'localhost:9092': should not be loopback"),
    ],
)
def test_a_deployment_shares_its_stores(files: Files, key: str, value: object, said: str) -> None:
    files.change("production", key, value)
    (problem,) = files.problems()
    assert problem.startswith(f"production.yaml: {said}")
    assert problem.endswith("(environment production)")


def test_a_secret_written_in_a_file(files: Files) -> None:
    files.change("dev", "kafka.security", {"protocol": "SASL_SSL", "mechanism": "PLAIN", "username": "me", "password": "canary"})
    assert files.problems() == [
        "dev.yaml: kafka.security.password is a secret written in a file; remove it and set TRADING_ML__KAFKA__SECURITY__PASSWORD"
    ]


def test_every_file_is_checked_even_if_one_is_wrong(files: Files) -> None:
    files.change("dev", "web.port", "x")
    files.change("local", "inference.batch_size", 0)
    files.change("production", "environment", "feature-branch")
    problems = files.problems()
    assert [problem.partition(":")[0] for problem in problems] == [
        "dev.yaml",
        "local.yaml",
        "feature-branch.yaml and production.yaml",
    ]
