"""`trading-ml topics`, `produce` and `tail` against the embedded broker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner, Result

from streams.broker_process import BOOTSTRAP_VARIABLE
from streams.clients import kafka_client_config
from streams.commands import topics
from streams.commands.produce import produce
from streams.commands.tail import Stream, tail, topic_of
from streams.pacing import PacedProducer

if TYPE_CHECKING:
    from config.sections import Kafka

pytestmark = pytest.mark.broker

ROOT = Path(__file__).parents[2]
CSV = "symbol,ts_event_us,ret\nA,1000000,0.5\nB,2000000,\nA,3000000,1.5\n"

TAIL = "import typer; from streams.commands.tail import tail; typer.run(tail)"

app = typer.Typer()
app.command()(produce)
app.command()(tail)
app.add_typer(topics.app, name="topics")


@pytest.fixture(autouse=True)
def _settings(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BOOTSTRAP_VARIABLE, kafka.bootstrap_servers)
    monkeypatch.setenv("TRADING_ML__KAFKA__PARTITIONS", "4")


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_what_was_produced_is_printed(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(CSV)
    sent = _run("produce", str(file), "--feature-set", "bars_1d")
    assert (sent.exit_code, sent.output) == (0, "3 of 3 rows delivered to trading.features\n")
    printed = _run("tail", "features", "--from-beginning", "--no-follow", "--json")
    rows = [json.loads(line) for line in printed.output.splitlines()]
    assert sorted((r["symbol"], r["values"]["ret"]) for r in rows if r["symbol"] == "A") == [("A", 0.5), ("A", 1.5)]
    assert [r["values"] for r in rows if r["symbol"] == "B"] == [{"ret": None}]


def test_outcomes_go_to_their_topic(tmp_path: Path) -> None:
    file = tmp_path / "outcomes.csv"
    file.write_text("symbol,ts_event_us,horizon_us,value,ts_known_us,revision\nA,1,5,0.25,6,0\n")
    assert _run("produce", str(file), "--topic", "outcomes").exit_code == 0
    printed = _run("tail", "outcomes", "--from-beginning", "--max", "1")
    assert printed.output.rstrip().endswith('"horizon_us":5,"value":0.25}')
    assert ":0 A {" in printed.output


def test_a_rejected_record_is_printed_with_its_reason(kafka: Kafka) -> None:
    with PacedProducer(kafka_client_config(kafka), kafka.topics.features_rejected) as producer:
        producer.send(b"A", b"{broken", headers=[("__connect.errors.exception.message", b"not a feature row")])
    printed = _run("tail", "rejected", "--from-beginning", "--max", "1", "--json")
    assert json.loads(printed.output) == {"exception.message": "not a feature row", "value": "{broken"}


def test_a_file_that_is_wrong_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    file = tmp_path / "rows.ndjson"
    file.write_text("nonsense\n")
    result = _run("produce", str(file))
    assert result.exit_code == 1
    assert result.output.startswith(f"RowFileError: {file} line 1: not a row of features")


def test_topics_are_listed_with_their_state(monkeypatch: pytest.MonkeyPatch) -> None:
    fine = _run("topics", "list")
    assert fine.exit_code == 0
    assert fine.output.count(" ok") == len(fine.output.splitlines()) == 11
    assert _run("topics", "create").output.count("exists") == 11
    monkeypatch.setenv("TRADING_ML__KAFKA__PARTITIONS", "8")
    other = _run("topics", "list")
    assert other.exit_code == 1
    assert other.output.count("has 4 partitions") == 11
    refused = _run("topics", "create")
    assert refused.exit_code == 1
    assert "TopicError: kafka.partitions is 8" in refused.output


def test_wrong_settings_are_exit_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADING_ML__KAFKA__PARTITIONS", "none")
    assert _run("topics", "list").exit_code == 2


def test_every_stream_has_its_topic(kafka: Kafka) -> None:
    names = {topic_of(stream, kafka.topics) for stream in Stream}
    assert names == {name for _, name in kafka.topics}


def test_ctrl_c_ends_tail_without_noise(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(CSV)
    assert _run("produce", str(file), "--feature-set", "bars_1d").exit_code == 0
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", TAIL, "features", "--from-beginning"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(3)]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10.0)
    assert all("bars_1d" in line for line in lines)
    assert (process.returncode, errors) == (0, "")
