"""`models gate` on a warehouse of synthetic predictions: better, equal, worse, too few; exit codes, text and JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

from monitoring.duckdb import DuckDBWarehouse
from monitoring.warehouse import arrow_rows
from streams.commands.models import app

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

MINUTE_US = 60_000_000
START_US = 1_700_000_040_000_000
SYMBOLS = tuple("ABCDE")


def fill(path: Path, *, champion: float, challenger: float, minutes: int = 150, missing: float = 0.0) -> None:
    """Both predict a target of variance 1 with errors of these standard deviations; a share of the outcomes is missing."""
    rng = np.random.default_rng(5)
    said, known = [], []
    for minute in range(minutes):
        at_us = START_US + minute * MINUTE_US
        for symbol in SYMBOLS:
            target = rng.normal()
            for version, role, noise in (("3", "champion", champion), ("4", "challenger", challenger)):
                value = target + noise * rng.normal()
                half = 1.6448536 * noise
                said.append(
                    {
                        "prediction_id": f"m:{version}:{symbol}:{at_us}:0",
                        "symbol": symbol,
                        "model": "m",
                        "version": version,
                        "role": role,
                        "ts_event_us": at_us,
                        "horizon_us": MINUTE_US,
                        "revision": 0,
                        "value": value,
                        "lower": value - half,
                        "upper": value + half,
                        "level": 0.9,
                        "completeness": 1.0,
                        "abstained": False,
                    }
                )
            if rng.random() >= missing:
                known.append({"symbol": symbol, "ts_event_us": at_us, "horizon_us": MINUTE_US, "value": target, "revision": 0})
    windows = [
        {"performance_id": f"m:4:challenger:{at}", "model": "m", "version": "4", "role": "challenger", "revision": 0}
        | {"window_start_us": at, "window_end_us": at + 30 * MINUTE_US}
        for at in (START_US - MINUTE_US, START_US + 30 * MINUTE_US)
    ]
    warehouse = DuckDBWarehouse(path)
    for table, rows in (("predictions", said), ("outcomes", known), ("performance", windows)):
        warehouse.append(table, arrow_rows(table, rows))
    warehouse.close()


@pytest.fixture(name="path")
def fixture_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "warehouse.duckdb"
    monkeypatch.setenv("TRADING_ML__DATABASE__PATH", str(path))
    monkeypatch.setenv("TRADING_ML__STORAGE__STATE_DIR", str(tmp_path / "state"))
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["gate", "m", "--champion", "3", "--challenger", "4", *arguments])


def said(*arguments: str) -> dict[str, Any]:
    result = run("--json", *arguments)
    told: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == told["exit_code"]
    return told


def test_a_better_challenger_is_to_be_promoted(path: Path) -> None:
    fill(path, champion=0.6, challenger=0.4)
    told = said()
    assert (told["verdict"], told["exit_code"]) == ("promote", 0)
    assert told["command"] == "trading-ml models promote m 4"
    assert told["rows"] == 149 * 5  # of the last minute the outcomes were not due
    assert told["from"] == "2023-11-14T22:14:00.000000Z"
    assert told["paired"]["squared_error"]["champion"] == pytest.approx(0.36, rel=0.2)
    assert told["paired"]["squared_error"]["challenger"] == pytest.approx(0.16, rel=0.2)
    assert {c["name"] for c in told["checks"]} >= {"sample", "loss", "coverage"}
    text = run()
    assert text.exit_code == 0
    assert text.stdout.rstrip().endswith("PROMOTE\n  trading-ml models promote m 4")
    assert "Diebold-Mariano, one-sided" in text.stdout
    assert said("--policy", "not-worse")["exit_code"] == 0


@pytest.mark.parametrize(("champion", "challenger"), [(0.5, 0.5), (0.4, 0.6)])
def test_an_equal_or_a_worse_one_is_not(path: Path, champion: float, challenger: float) -> None:
    fill(path, champion=champion, challenger=challenger)
    told = said()
    assert (told["verdict"], told["exit_code"], told["command"]) == ("keep", 1, None)
    assert [c["name"] for c in told["checks"] if not c["holds"]] == ["loss"]
    assert told["reasons"][0].startswith("The challenger's mean squared error is")
    text = run()
    assert text.exit_code == 1
    assert "FAILS  loss: " in text.stdout
    assert text.stdout.rstrip().endswith("KEEP")
    assert "promote m" not in text.stdout


@pytest.mark.parametrize("how", [{"minutes": 20}, {"missing": 0.5}])
def test_too_little_to_tell_is_neither(path: Path, how: dict[str, Any]) -> None:
    fill(path, champion=0.6, challenger=0.2, **how)
    told = said()
    assert (told["verdict"], told["exit_code"], told["command"]) == ("cannot-tell", 2, None)
    assert "needed" in told["reasons"][0]


def test_the_time_can_be_given(path: Path) -> None:
    fill(path, champion=0.6, challenger=0.4)
    told = said("--from", "2023-11-14T22:34:00", "--to", "2023-11-14T23:54:00+00:00")
    assert (told["from"], told["to"]) == ("2023-11-14T22:35:00.000000Z", "2023-11-14T23:53:00.000000Z")
    none = said("--from", "2030-01-01")
    assert (none["exit_code"], none["rows"]) == (2, 0)
    assert "no predictions of either version" in none["reasons"][0]
    wrong = run("--from", "yesterday")
    assert wrong.exit_code == 2
    assert "no time" in wrong.output


def test_versions_that_share_no_row_cannot_be_compared(path: Path) -> None:
    fill(path, champion=0.6, challenger=0.4, minutes=5)
    result = CliRunner().invoke(app, ["gate", "m", "--champion", "3", "--challenger", "9"])
    assert result.exit_code == 2
    assert "20 of the champion, 0 of the challenger" in result.stdout
    assert CliRunner().invoke(app, ["gate", "m", "--champion", "3", "--challenger", "3"]).exit_code == 2


def test_an_error_is_no_answer(path: Path) -> None:
    result = run()
    assert result.exit_code == 2
    assert f"there is no warehouse at {path}" in result.stderr


def test_aliases_are_those_of_the_settings(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(path, champion=0.6, challenger=0.4)
    asked: list[str] = []

    def version_of_alias(_client: Any, _name: str, alias: str) -> str | None:
        asked.append(alias)
        return {"live": "3", "next": "4"}.get(alias)

    monkeypatch.setattr("models.catalog.version_of_alias", version_of_alias)
    monkeypatch.setattr("models.mlflow_client.connect", lambda _uri: None)
    monkeypatch.setenv("TRADING_ML__MODELS", json.dumps([{"name": "m", "champion_alias": "live", "challenger_alias": "next"}]))
    result = CliRunner().invoke(app, ["gate", "m"])
    assert (result.exit_code, asked) == (0, ["live", "next"])
    other = CliRunner().invoke(app, ["gate", "m", "--challenger", "nobody"])
    assert other.exit_code == 2
    assert "no alias 'nobody'" in other.stderr
