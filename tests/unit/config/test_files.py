"""The four files that ship carry the values agreed, and pass their own check."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from config import BigqueryDatabase, ConfigError, DuckdbDatabase, compare_files, load_settings
from config.sources import find_file

ROOT = Path(__file__).parents[3]
FILES = {name: ROOT / "config" / f"{name}.yaml" for name in ("local", "feature-branch", "dev", "production")}

# file: environment, tracking, registry, cache, database, batch, ttl in seconds, models
AGREED = {
    "local": (
        "local",
        "sqlite:///var/mlflow.db",
        "./var/models",
        "./var/cache",
        DuckdbDatabase(type="duckdb", path=Path("./var/ml.duckdb")),
        (1000, 60, 4),
    ),
    "feature-branch": (
        "feature-branch",
        "http://mlflow.feature-branch.svc.cluster.local:5000",
        "gs://trading-system-feature-branch/models",
        "gs://trading-system-feature-branch/cache",
        BigqueryDatabase(type="bigquery", project="development", dataset="feature_branch"),
        (1000, 300, 8),
    ),
    "dev": (
        "development",
        "http://mlflow.dev.svc.cluster.local:5000",
        "gs://trading-system-dev/models",
        "gs://trading-system-dev/cache",
        BigqueryDatabase(type="bigquery", project="development", dataset="ml_inference"),
        (2000, 300, 16),
    ),
    "production": (
        "production",
        "http://mlflow.production.svc.cluster.local:5000",
        "gs://trading-system-production/models",
        "gs://trading-system-production/cache",
        BigqueryDatabase(type="bigquery", project="production", dataset="ml_inference"),
        (2000, 300, 32),
    ),
}


@pytest.mark.parametrize("name", AGREED)
def test_a_file_carries_the_values_agreed(name: str) -> None:
    s = load_settings(FILES[name], env={})
    inference = (s.inference.batch_size, s.inference.cache_ttl.total_seconds(), s.inference.max_concurrent_models)
    assert (s.environment, s.mlflow.tracking_uri, s.mlflow.model_registry, s.storage.cache_dir, s.database, inference) == AGREED[
        name
    ]
    assert (s.monitoring.metrics_window, s.monitoring.alert_threshold) == (timedelta(hours=1), 0.1)
    assert s.web.host == ("127.0.0.1" if name == "local" else "0.0.0.0")  # noqa: S104 - in a pod, probes come from outside


def test_every_file_that_ships_is_one_of_the_four() -> None:
    assert {file.stem for file in (ROOT / "config").glob("*.yaml")} == set(FILES)


def test_the_four_pass_the_check_together() -> None:
    assert compare_files(list(FILES.values())) == ()


def test_config_path_names_the_file_and_local_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert load_settings(env={}).environment == "local"
    assert load_settings(env={"CONFIG_PATH": "config/dev.yaml"}).environment == "development"
    assert load_settings(Path("config/production.yaml"), env={"CONFIG_PATH": "config/dev.yaml"}).environment == "production"
    monkeypatch.setenv("CONFIG_PATH", str(FILES["feature-branch"]))
    assert load_settings().environment == "feature-branch"


def test_elsewhere_the_copy_that_ships_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(env={}).environment == "local"
    assert load_settings(env={"CONFIG_PATH": "config/dev.yaml"}).environment == "development"


def test_a_file_here_goes_before_the_copy_that_ships(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "local.yaml").write_text(FILES["dev"].read_text(encoding="utf-8"), encoding="utf-8")
    assert load_settings(env={}).environment == "development"


@pytest.mark.parametrize("named", ["config/staging.yaml", "/config/dev.yaml", "other/dev.yaml", "config"])
def test_a_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as e:
        find_file(None, {"CONFIG_PATH": named})
    assert str(e.value).startswith(f"{named} is not a file; name a YAML file in CONFIG_PATH")
    assert "production.yaml" in str(e.value)


def test_an_empty_config_path_is_an_error() -> None:
    with pytest.raises(ConfigError, match="CONFIG_PATH is empty; name a YAML file"):
        load_settings(env={"CONFIG_PATH": ""})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "should hold sections such as `kafka:` with keys below, not NoneType"),
        ("- a\n- b\n", "should hold sections such as `kafka:` with keys below, not list"),
        ("web: {port: 1\n", "line 2: is not valid YAML"),
        ("web:\n  port: 1\n  port: 2\n", "line 3: is not valid YAML: key 'port' is given twice; keep one"),
        ("1: a\n", "line 1: is not valid YAML: key '1' is not text"),
        ("? [a]\n: b\n", "is not text"),
        ("a: !!python/object/apply:os.getcwd []\n", "line 1: is not valid YAML: could not determine a constructor"),
        ("a: \x00\n", "it holds characters YAML does not allow"),
    ],
)
def test_what_is_not_yaml_of_ours_is_said_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as e:
        load_settings(file, env={})
    assert said in str(e.value)
    assert str(e.value).startswith(str(file))
    assert "\n" not in str(e.value)


def test_a_file_of_other_bytes_is_said_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read: it is not UTF-8 text"):
        load_settings(file, env={})
