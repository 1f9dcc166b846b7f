"""Every key can be overridden by its variable; a variable that names no key is refused. Cases come from the model itself."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from config import KEYS, BigqueryDatabase, ConfigError, explain, load_settings
from config.keys import sections_of

if TYPE_CHECKING:
    from config import Settings
    from config.keys import Key

CONFIG = Path(__file__).parents[3] / "config"
SASL = {
    "TRADING_ML__KAFKA__SECURITY__PROTOCOL": "SASL_SSL",
    "TRADING_ML__KAFKA__SECURITY__MECHANISM": "PLAIN",
    "TRADING_ML__KAFKA__SECURITY__USERNAME": "someone",
    "TRADING_ML__KAFKA__SECURITY__PASSWORD": "canary",
    "TRADING_ML__KAFKA__SECURITY__CERTIFICATE_FILE": "own.pem",
    "TRADING_ML__KAFKA__SECURITY__KEY_FILE": "own.key",
    "TRADING_ML__KAFKA__SECURITY__KEY_PASSWORD": "canary",
}
"""Keys that only make sense together."""

TOKEN = {
    "TRADING_ML__KAFKA__SECURITY__PROTOCOL": "SASL_SSL",
    "TRADING_ML__KAFKA__SECURITY__MECHANISM": "OAUTHBEARER",
    "TRADING_ML__KAFKA__SECURITY__OAUTH_TOKEN_URL": "https://login.example.com/token",
    "TRADING_ML__KAFKA__SECURITY__OAUTH_CLIENT_ID": "someone",
    "TRADING_ML__KAFKA__SECURITY__OAUTH_CLIENT_SECRET": "canary",
}
"""The same, for the other way to log in."""

OTHERS: dict[str, tuple[str, object]] = {
    "environment": ("production", "production"),
    "mlflow.tracking_uri": ("https://elsewhere:1", "https://elsewhere:1"),
    "mlflow.allow_code": ("true", True),
    "database.type": ("bigquery", "bigquery"),
    "inference.batch_size": ("77", 77),
    "monitoring.panes": ("6", 6),
    "monitoring.alert_threshold": ("0.25", 0.25),
    "monitoring.false_discovery_rate": ("0.2", 0.2),
    "monitoring.symbol_groups": ('{"energy": ["XOM", "C*"]}', {"energy": ["XOM", "C*"]}),
    "monitoring.retrain.on": ('["quality"]', ["quality"]),
    "monitoring.rules.prediction_latency.clear": ("7s", timedelta(seconds=7)),
    "kafka.bootstrap_servers": ("a:1,[::1]:2", "a:1,[::1]:2"),
    "kafka.security.protocol": ("SASL_PLAINTEXT", "SASL_PLAINTEXT"),
    "kafka.security.mechanism": ("SCRAM-SHA-512", "SCRAM-SHA-512"),
    "kafka.security.oauth_token_url": ("https://elsewhere/token", "https://elsewhere/token"),
    "vertex.enabled": ("false", False),
    "vertex.model": ("goog_ret_5d", "goog_ret_5d"),
    "vertex.fallback": ("abstain", "abstain"),
    "vertex.max_request_bytes": ("10000", 10_000),
    "vertex.api_endpoint": ("http://127.0.0.1:9", "http://127.0.0.1:9"),
    "vertex.predict_endpoint": ("https://elsewhere", "https://elsewhere"),
}
"""Another value for the keys that take only certain ones; the rest goes by kind."""


LISTS = {
    "models": '[{"name": "other", "challenger_alias": "next"}]',
    "monitoring.notify": '[{"name": "other", "kind": "slack", "url_env": "SLACK_URL"}]',
    "monitoring.rules.quality": '[{"metric": "ic", "below": 0, "clear": 0.1}]',
}
"""One entry for each list of sections."""


def value_at(settings: Settings, key: Key) -> Any:
    node: Any = settings
    for name in key.path:
        node = getattr(node, name)
    return node


def other_value(key: Key) -> tuple[str, object]:
    """A right value that no file and no default holds: as written, and as read."""
    if key.dotted in OTHERS:
        return OTHERS[key.dotted]
    if key.items:
        first = key.items[0].dotted
        return LISTS[key.dotted], json.loads(LISTS[key.dotted])[0].get(first, key.items[0].default)
    if key.secret:
        return "hunter2", SecretStr("hunter2")
    if isinstance(key.default, bool):
        return str(not key.default).lower(), not key.default
    if key.right.startswith("a number") and isinstance(key.default, float | int):
        return str(1.05 * key.default), 1.05 * key.default  # a little more keeps to every order of thresholds
    kinds: dict[str, tuple[str, object]] = {
        "one of warn, critical": ("critical", "critical"),
        "a duration": ("90s", timedelta(seconds=90)),
        "a whole number": ("9", 9),
        "a local path": ("./else/where", Path("./else/where")),
        "a local folder": ("gs://elsewhere/x", "gs://elsewhere/x"),
    }
    return next((value for kind, value in kinds.items() if key.right.startswith(kind)), ("elsewhere", "elsewhere"))


def base_for(key: Key) -> tuple[Path, dict[str, str]]:
    """File and other variables among which overriding this key alone gives right settings."""
    if key.dotted == "database.type":
        return CONFIG / "local.yaml", {"TRADING_ML__DATABASE__PROJECT": "p", "TRADING_ML__DATABASE__DATASET": "d"}
    if key.path[-1].startswith("oauth_"):
        return CONFIG / "local.yaml", dict(TOKEN)
    if key.path[:2] == ("kafka", "security"):
        login = key.dotted == "kafka.security.protocol"
        return CONFIG / "local.yaml", {
            name: value for name, value in SASL.items() if not login or ("KEY" not in name and "CERT" not in name)
        }
    return (CONFIG / "dev.yaml" if "bigquery" in key.variants else CONFIG / "local.yaml"), {}


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.dotted)
def test_its_variable_overrides_every_key(key: Key) -> None:
    file, others = base_for(key)
    written, meant = other_value(key)
    settings = load_settings(file, env={**others, key.variable: written})
    found = value_at(settings, key)
    assert (getattr(found[0], key.items[0].dotted) if key.items else found) == meant
    rows = {row.key: row for row in explain(file, env={**others, key.variable: written})}
    row = rows[f"{key.dotted}[0].{next(iter(json.loads(written)[0]))}" if key.items else key.dotted]
    assert (row.source, row.origin) == ("env", key.variable)


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.dotted)
def test_a_misspelt_variable_is_refused_naming_the_right_one(key: Key) -> None:
    with pytest.raises(ConfigError) as e:
        load_settings(CONFIG / "local.yaml", env={key.variable + "X": "1"})
    assert str(e.value) == f"{key.variable}X names no setting; did you mean {key.variable}?"


@pytest.mark.parametrize("section", sorted(sections_of(KEYS) - {()}), ids=".".join)
def test_a_section_is_not_a_setting(section: tuple[str, ...]) -> None:
    variable = "TRADING_ML__" + "__".join(section).upper()
    with pytest.raises(ConfigError, match=f"{variable} names a section; set one of its keys, such as {variable}__"):
        load_settings(CONFIG / "local.yaml", env={variable: "{}"})


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("TRADING_ML__", "docs/settings.md lists them all"),
        ("TRADING_ML__QQQ", "docs/settings.md lists them all"),
        ("trading_ml__web__port", "did you mean TRADING_ML__WEB__PORT?"),
        ("TRADING_ML__web__port", "did you mean TRADING_ML__WEB__PORT?"),
        ("TRADING_ML__WEB_PORT", "did you mean TRADING_ML__WEB__PORT?"),
        ("TRADING_ML__MODELS__0__NAME", "set the whole list as JSON in TRADING_ML__MODELS"),
    ],
)
def test_a_variable_that_names_no_setting_is_refused(variable: str, said: str) -> None:
    with pytest.raises(ConfigError) as e:
        load_settings(CONFIG / "local.yaml", env={variable: "1"})
    assert str(e.value).startswith(variable)
    assert str(e.value).endswith(said)


def test_every_wrong_variable_has_its_line() -> None:
    with pytest.raises(ConfigError) as e:
        load_settings(CONFIG / "local.yaml", env={"TRADING_ML__A": "", "TRADING_ML__B": "", "TRADING_ML__MODELS": "["})
    assert [line.partition(" ")[0] for line in e.value.problems] == ["TRADING_ML__A", "TRADING_ML__B", "TRADING_ML__MODELS:"]


def test_variables_that_clusters_set_by_themselves_are_left_alone() -> None:
    env = {
        "TRADING_ML_INFERENCE_SERVICE_HOST": "10.0.0.1",
        "TRADING_ML_INFERENCE_PORT_8000_TCP": "tcp://10.0.0.1:8000",
        "PATH": "/bin",
    }
    assert load_settings(CONFIG / "local.yaml", env=env) == load_settings(CONFIG / "local.yaml", env={})


def test_the_other_database_drops_the_files_keys() -> None:
    env = {f"TRADING_ML__DATABASE__{k}": v for k, v in {"TYPE": "bigquery", "PROJECT": "p", "DATASET": "d"}.items()}
    assert load_settings(CONFIG / "local.yaml", env=env).database == BigqueryDatabase(type="bigquery", project="p", dataset="d")


def test_null_unsets_what_may_be_null_and_nothing_else() -> None:
    file = CONFIG / "production.yaml"
    env = {"TRADING_ML__VERTEX__ENABLED": "false", "TRADING_ML__VERTEX__PROJECT": "null", "TRADING_ML__KAFKA__CLIENT_ID": "null"}
    settings = load_settings(file, env=env)
    assert settings.vertex.project is None
    assert settings.kafka.client_id == "null"


@given(st.lists(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True), min_size=1, max_size=5, unique=True))
def test_a_list_is_json(names: list[str]) -> None:
    env = {"TRADING_ML__MODELS": json.dumps([{"name": name} for name in names])}
    assert [model.name for model in load_settings(CONFIG / "local.yaml", env=env).models] == names


@given(st.sampled_from(KEYS), st.text(max_size=20))
def test_any_text_gives_settings_or_a_line_that_names_the_variable(key: Key, text: str) -> None:
    file, others = base_for(key)
    try:
        load_settings(file, env={**others, key.variable: text})
    except ConfigError as e:
        assert all(key.variable in line or key.path[0] in line for line in e.problems)  # noqa: PT017 - either outcome is right
