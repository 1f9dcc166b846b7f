"""What is shown as in effect: every key, with its source, and no secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from typer.testing import CliRunner

from config import KEYS, explain, load_settings
from streams.commands.config import app

if TYPE_CHECKING:
    import pytest

CONFIG = Path(__file__).parents[3] / "config"
CANARY = "canary-7f3a"
SASL = {
    "TRADING_ML__KAFKA__SECURITY__PROTOCOL": "SASL_SSL",
    "TRADING_ML__KAFKA__SECURITY__MECHANISM": "PLAIN",
    "TRADING_ML__KAFKA__SECURITY__USERNAME": "someone",
    "TRADING_ML__KAFKA__SECURITY__PASSWORD": CANARY,
    "TRADING_ML__KAFKA__SECURITY__CERTIFICATE_FILE": "own.pem",
    "TRADING_ML__KAFKA__SECURITY__KEY_FILE": "own.key",
    "TRADING_ML__KAFKA__SECURITY__KEY_PASSWORD": CANARY,
}


def test_every_key_stands_once_in_the_order_of_the_tree() -> None:
    shown = [row.key for row in explain(CONFIG / "local.yaml", env={})]
    wanted = []
    for key in KEYS:
        if not key.variants or "duckdb" in key.variants:
            entries = {"models": 1, "monitoring.rules.quality": 2}.get(key.dotted, 0)  # the list of receivers is empty
            wanted += [f"{key.dotted}[{n}].{item.dotted}" for n in range(entries) for item in key.items] or [key.dotted]
    assert shown == wanted


def test_sources_are_default_file_and_env() -> None:
    file = CONFIG / "local.yaml"
    rows = {row.key: row for row in explain(file, env={"TRADING_ML__WEB__PORT": "9000"})}
    assert (rows["web.port"].value, rows["web.port"].source, rows["web.port"].origin) == ("9000", "env", "TRADING_ML__WEB__PORT")
    assert (rows["inference.cache_ttl"].value, rows["inference.cache_ttl"].source) == ("1m", "file")
    assert rows["inference.cache_ttl"].origin == str(file)
    assert (rows["monitoring.cooldown"].value, rows["monitoring.cooldown"].source) == ("1h", "default")
    assert (rows["models[0].name"].source, rows["models[0].champion_alias"].source) == ("file", "default")


def test_secrets_are_masked_everywhere() -> None:
    rows = explain(CONFIG / "local.yaml", env=SASL)
    settings = load_settings(CONFIG / "local.yaml", env=SASL)
    assert CANARY not in repr(rows)
    assert {row.value for row in rows if row.key.endswith("password")} == {"********"}
    assert CANARY not in repr(settings)
    assert CANARY not in str(settings.model_dump())
    assert CANARY not in settings.model_dump_json()
    password = settings.kafka.security.password
    assert password is not None
    assert password.get_secret_value() == CANARY


def test_show_prints_key_value_and_source(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SASL.items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(app, ["show", "--file", str(CONFIG / "dev.yaml")])
    assert done.exit_code == 0
    lines = {line.split()[0]: line.split()[1:] for line in done.output.splitlines()}
    assert lines["environment"] == ["development", "file", str(CONFIG / "dev.yaml")]
    assert lines["kafka.security.password"] == ["********", "env", "TRADING_ML__KAFKA__SECURITY__PASSWORD"]
    assert lines["monitoring.panes"] == ["12", "default"]
    assert CANARY not in done.output


def test_show_as_json_is_for_programs() -> None:
    done = CliRunner().invoke(app, ["show", "--file", str(CONFIG / "dev.yaml"), "--json"])
    rows = json.loads(done.output)
    assert {"key": "monitoring.panes", "value": "12", "source": "default", "origin": ""} in rows


def test_show_says_what_is_wrong_and_exits_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADING_ML__WEB__PRT", "1")
    done = CliRunner().invoke(app, ["show"])
    assert done.exit_code == 2
    assert done.output == "TRADING_ML__WEB__PRT names no setting; did you mean TRADING_ML__WEB__PORT?\n"


def test_check_of_all_files() -> None:
    done = CliRunner().invoke(app, ["check", *(str(file) for file in sorted(CONFIG.glob("*.yaml")))])
    assert (done.exit_code, done.output) == (0, "4 files checked, nothing wrong\n")


def test_check_says_what_is_wrong_and_exits_2() -> None:
    done = CliRunner().invoke(app, ["check", str(CONFIG / "dev.yaml"), str(CONFIG / "dev.yaml")])
    assert done.exit_code == 2
    assert "environment 'development' is used by 2 files; give each its own" in done.output
