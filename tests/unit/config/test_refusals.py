"""A wrong key gives one line: where it stands, its value, what would be right. Mutations come from the model itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from config import KEYS, Settings, load_settings
from tests.unit.config.trees import CANARY, CONFIG, drop, put, shipped

if TYPE_CHECKING:
    from collections.abc import Callable

    from config.keys import Key

REQUIRED = tuple(key for key in KEYS if key.required)
LOGIN = {"protocol": "SASL_SSL", "username": "me"}
TOKEN = {"oauth_token_url": "https://login.example.com/token", "oauth_client_id": "me", "oauth_client_secret": "s"}


def file_for(key: Key) -> dict[str, Any]:
    return shipped("dev" if "bigquery" in key.variants else "local")


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.dotted)
def test_a_value_of_the_wrong_kind(key: Key, refused: Callable[..., list[str]]) -> None:
    tree = file_for(key)
    put(tree, key.path, {"a": CANARY})
    lines = refused(tree)
    assert len(lines) == 1
    hidden = key.secret or any(item.secret for item in key.items)
    shown = "********" if hidden else "{'a': 'canary-7f3a'}"
    if key.items:
        least = "at least one entry" if key.required else "entries"
        assert lines[0].startswith(f"{key.dotted} = {shown}: should be a list with {least} of {key.items[0].dotted}, ")
    else:
        assert lines[0].startswith(f"{key.dotted} = {shown}: should be {key.right.removesuffix(' or null')}")


@pytest.mark.parametrize("key", [key for key in KEYS if not key.optional], ids=lambda key: key.dotted)
def test_null_where_a_value_must_be(key: Key, refused: Callable[..., list[str]]) -> None:
    tree = file_for(key)
    put(tree, key.path, None)
    lines = refused(tree)
    assert len(lines) == 1
    assert lines[0].startswith(f"{key.dotted} ")


@pytest.mark.parametrize("key", REQUIRED, ids=lambda key: key.dotted)
def test_a_key_left_out(key: Key, refused: Callable[..., list[str]]) -> None:
    tree = file_for(key)
    drop(tree, key.path)
    lines = refused(tree)
    assert len(lines) == 1
    assert lines[0].startswith(f"{key.dotted} is missing; it should be {key.right}")


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.dotted)
def test_a_key_misspelt(key: Key, refused: Callable[..., list[str]]) -> None:
    tree = file_for(key)
    put(tree, (*key.path[:-1], key.path[-1] + "x"), CANARY)
    assert refused(tree) == [f"{key.dotted}x is not a setting; did you mean {key.dotted}?"]


@pytest.mark.parametrize("section", ["mlflow", "storage", "database", "inference", "monitoring", "kafka"])
def test_a_section_left_out(section: str, refused: Callable[..., list[str]]) -> None:
    tree = shipped("local")
    del tree[section]
    lines = refused(tree)
    assert len(lines) == 1
    assert lines[0].startswith(f"{section} is missing; it is a section with ")


@pytest.mark.parametrize("section", [("mlflow",), ("database",), ("inference",), ("kafka",), ("kafka", "topics"), ("vertex",)])
def test_a_section_that_is_none(section: tuple[str, ...], refused: Callable[..., list[str]]) -> None:
    tree = shipped("local")
    put(tree, section, CANARY)
    lines = refused(tree)
    assert len(lines) == 1
    assert lines[0].startswith(f"{'.'.join(section)} should be a section with ")
    assert lines[0].endswith(", not str")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("environment", "prod", "'prod': should be one of local, feature-branch, development, production"),
        ("inference.batch_size", 0, "0: should be a whole number, at least 1 and at most 100000"),
        ("inference.batch_size", 1.5, "1.5: should be a whole number"),
        ("inference.batch_size", True, "True: should be a number, not true or false"),
        ("inference.cache_ttl", "5 min", "'5 min': should be a duration such as 250ms, 60s"),
        ("inference.slack_rows", 0, "0: should be a whole number, at least 1"),
        ("monitoring.alert_threshold", 0, "0: should be a number, above 0"),
        ("monitoring.alert_threshold", float("nan"), "nan: should be a number, above 0"),
        ("monitoring.alert_threshold", float("inf"), "inf: should be a number, above 0"),
        ("monitoring.false_discovery_rate", 1, "1: should be a number, above 0 and below 1"),
        ("mlflow.tracking_uri", "./mlruns", "'./mlruns': should be sqlite:///path, http(s)://host:port"),
        ("mlflow.tracking_uri", "http://", "'http://': should be sqlite:///path"),
        ("mlflow.model_registry", "s3://b/p", "'s3://b/p': should be a local folder, gs://bucket/path or mlflow-artifacts:/path"),
        ("storage.cache_dir", "gs://", "'gs://': should be a local folder or gs://bucket/path"),
        ("storage.state_dir", "gs://bucket/state", "'gs://bucket/state': should be a local path"),
        ("kafka.bootstrap_servers", "broker", "'broker': should be host:port, or several separated by commas"),
        ("kafka.bootstrap_servers", "a:1,", "'a:1,': should be host:port"),
        ("kafka.bootstrap_servers", "a:70000", "'a:70000': should be host:port"),
        ("kafka.bootstrap_servers", "kafka://a:1", "'kafka://a:1': should be host:port"),
        ("kafka.topics.alerts", "a b", "'a b': should be 1 to 249 letters, digits, dots, dashes or underscores"),
        ("kafka.topics.alerts", "..", "'..': should be 1 to 249 letters"),
        ("web.port", 65536, "65536: should be a whole number, at least 0 and at most 65535"),
        ("web.host", "", "'': should be text that is not empty"),
        ("vertex.endpoint_id", 5, "5: should be a name of letters"),
        ("vertex.fallback", "none", "'none': should be one of local, abstain"),
        ("vertex.max_request_bytes", 20_000_000, "20000000: should be a whole number, at least 10000 and at most 10000000"),
        ("vertex.max_concurrent_calls", 0, "0: should be a whole number, at least 1"),
        ("vertex.api_endpoint", "http://example.com", "'http://example.com': should be https://host, or http:// to a loopback"),
        ("vertex.api_endpoint", "example.com", "'example.com': should be https://host"),
        ("vertex.api_endpoint", "https://", "'https://': should be https://host"),
        ("vertex.predict_endpoint", "https://h?key=1", "'https://h?key=1': should be https://host"),
    ],
)
def test_a_value_out_of_bounds(path: str, value: object, said: str, refused: Callable[..., list[str]]) -> None:
    tree = shipped("local")
    put(tree, tuple(path.split(".")), value)
    lines = refused(tree)
    assert len(lines) == 1
    assert lines[0].startswith(f"{path} = {said}")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("monitoring.panes", 7, "monitoring: metrics_window does not divide into 7 panes"),
        (
            "kafka.monitor_group",
            "trading-ml-inference",
            "kafka: inference_group and monitor_group are both 'trading-ml-inference'",
        ),
        ("kafka.topics.alerts", "trading.features", "kafka.topics: features and alerts are both 'trading.features'"),
        ("kafka.security.protocol", "SASL_SSL", "kafka.security: protocol SASL_SSL needs mechanism; set it"),
        ("kafka.security.username", "me", "kafka.security: username is set but protocol PLAINTEXT does not log in"),
        ("kafka.security.ca_file", "ca.pem", "kafka.security: ca_file is set but protocol PLAINTEXT does not encrypt"),
        ("kafka.security", {"protocol": "SSL", "key_file": "k"}, "kafka.security: certificate_file and key_file belong together"),
        ("kafka.security.oauth_scope", "s", "kafka.security: oauth_scope is set but protocol PLAINTEXT does not log in"),
        ("kafka.security", {**LOGIN, "mechanism": "PLAIN"}, "kafka.security: mechanism PLAIN needs password; set it"),
        ("kafka.security", {**LOGIN, "mechanism": "OAUTHBEARER"}, "kafka.security: mechanism OAUTHBEARER needs oauth_token_url"),
        (
            "kafka.security",
            {**LOGIN, "mechanism": "OAUTHBEARER", **TOKEN},
            "kafka.security: username is set but mechanism OAUTHBEARER does not use it; remove it",
        ),
        (
            "kafka.security",
            {**LOGIN, "mechanism": "SCRAM-SHA-512", "password": "p", "oauth_scope": "s"},
            "kafka.security: oauth_scope is set but mechanism SCRAM-SHA-512 does not use it; remove it",
        ),
        ("kafka.security", {"protocol": "SSL", "key_password": "k"}, "kafka.security: key_password is set without key_file"),
        ("vertex.enabled", True, "vertex: enabled needs project, location, endpoint_id; set them, or set enabled: false"),
        ("vertex.model", "other", "vertex.model is 'other', which is not served; name one of goog_ret_5d"),
        ("models", [], "models = []: should be a list with at least one entry"),
        ("models", [{"name": "a"}, {"name": "a"}], "models names 'a' twice; list each model once"),
        ("models", [{"name": "a:b"}], "models[0].name = 'a:b': should be letters, digits"),
        ("models", [{"name": "a"}, {}], "models[1].name is missing; it should be a name"),
        ("models", [{"name": "a", "champion": "x"}], "models[0].champion is not a setting; did you mean champion_alias?"),
        ("models", [{"name": "a", "champion_alias": "latest"}], "models[0].champion_alias = 'latest': is reserved by MLflow"),
        ("models", [{"name": "a", "publish": "avro"}], "models[0].publish = 'avro': should be one of rows, frames"),
        ("models", [{"name": "a", "challenger_alias": "champion"}], "models[0]: challenger_alias is the champion's"),
        ("database.type", "postgres", "database.type = 'postgres': should be one of duckdb, bigquery"),
        ("database.project", "p", "database.project is not a setting; database.type is duckdb, and project belongs to bigquery"),
    ],
)
def test_what_does_not_go_together(path: str, value: object, said: str, refused: Callable[..., list[str]]) -> None:
    tree = shipped("local")
    put(tree, tuple(path.split(".")), value)
    lines = refused(tree)
    assert len(lines) == 1
    assert lines[0].startswith(said)


ENDPOINT = {"enabled": True, "project": "p", "location": "l", "endpoint_id": "1"}


@pytest.mark.parametrize(
    ("vertex", "models", "said"),
    [
        ({}, ["a", "b"], "vertex.model is missing; an endpoint has one model: name one of a, b"),
        ({"timeout": "6s"}, ["a"], "vertex.timeout is longer than half of kafka.session_timeout"),
    ],
)
def test_an_endpoint_that_does_not_fit_the_rest(
    vertex: dict[str, object], models: list[str], said: str, refused: Callable[..., list[str]]
) -> None:
    tree = shipped("local")
    put(tree, ("vertex",), ENDPOINT | vertex)
    put(tree, ("models",), [{"name": name} for name in models])
    (line,) = refused(tree)
    assert line.startswith(said)


def test_a_wrong_override_names_its_variable(refused: Callable[..., list[str]]) -> None:
    env = {"TRADING_ML__WEB__PORT": "http", "TRADING_ML__MODELS": "[{}]", "TRADING_ML__KAFKA__SECURITY__PROTOCOL": "SASL_SSL"}
    security, models, web = refused(shipped("local"), env)
    assert security.startswith(
        "FILE with TRADING_ML__KAFKA__SECURITY__PROTOCOL: kafka.security: protocol SASL_SSL needs mechanism"
    )
    assert models.startswith("TRADING_ML__MODELS: models[0].name is missing")
    assert web.startswith("TRADING_ML__WEB__PORT: web.port = 'http': should be a whole number")


def test_every_wrong_key_has_its_line(refused: Callable[..., list[str]]) -> None:
    tree = shipped("local")
    put(tree, ("web", "port"), "x")
    put(tree, ("inference", "batch_size"), 0)
    put(tree, ("extra",), 1)
    assert [line.partition(" ")[0] for line in refused(tree)] == ["inference.batch_size", "web.port", "extra"]


def test_a_long_value_is_cut(refused: Callable[..., list[str]]) -> None:
    tree = shipped("local")
    put(tree, ("environment",), "x" * 1000)
    (line,) = refused(tree)
    assert len(line) < 200
    assert "xxx...: should be one of" in line


def test_settings_are_frozen() -> None:
    settings = load_settings(CONFIG / "local.yaml", env={})
    for section, name in ((settings, "environment"), (settings.web, "port"), (settings.kafka.topics, "alerts")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, name, "x")


def test_settings_built_by_hand_read_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADING_ML__ENVIRONMENT", "production")
    monkeypatch.setenv("ENVIRONMENT", "production")
    assert Settings(**shipped("local")).environment == "local"
