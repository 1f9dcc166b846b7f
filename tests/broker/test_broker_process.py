"""The broker as a process: found by its file, ended by signals and with its parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from config import load_settings
from streams.broker_process import BOOTSTRAP_VARIABLE, discover, run_broker, with_embedded_broker
from streams.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.broker

ROOT = Path(__file__).parents[2]
PROGRAM = "import sys, typer; from streams.commands.broker import broker; typer.run(broker)"


@contextmanager
def _running(file: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A broker process and the address it printed."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "--address-file", str(file), *options],
        env={**os.environ, "PYTHONPATH": str(ROOT), "CONFIG_PATH": str(ROOT / "config" / "local.yaml")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())["bootstrap_servers"]
    finally:
        process.kill()
        process.wait(10.0)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_is_found_by_its_file_and_leaves_nothing_on_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    file = tmp_path / "var" / "broker.json"
    with _running(file) as (process, servers):
        assert discover(file) == servers
        process.send_signal(number)
        _, notice = process.communicate(timeout=10.0)
    assert process.returncode == 0
    assert "demo and quick tests only" in notice
    assert not file.exists()


def test_it_ends_when_its_parents_pipe_ends(tmp_path: Path) -> None:
    file = tmp_path / "broker.json"
    with _running(file, "--with-parent") as (process, _):
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10.0) == 0
    assert not file.exists()


def test_a_second_broker_on_the_same_file_is_refused_and_a_killed_one_is_not_found(tmp_path: Path) -> None:
    file = tmp_path / "broker.json"
    with _running(file) as (process, servers):
        with pytest.raises(BrokerError, match=f"already answers at {servers}"):
            run_broker({}, path=file)
        process.kill()
        process.wait(10.0)
        assert file.exists()
        assert discover(file) is None
    with _running(file) as (_, servers):  # what a killed one left behind is in nobody's way
        assert discover(file) == servers


@pytest.mark.parametrize("content", [None, "", "{}", "[]", '{"bootstrap_servers": "x"}', '{"bootstrap_servers": "127.0.0.1:1"}'])
def test_no_file_or_one_that_leads_nowhere_is_no_broker(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "broker.json"
    if content is not None:
        file.write_text(content)
    assert discover(file) is None


def test_local_settings_lead_to_a_running_broker_unless_the_environment_says_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "broker.json"
    local = load_settings(ROOT / "config" / "local.yaml", {})
    dev = load_settings(ROOT / "config" / "dev.yaml", {})
    assert with_embedded_broker(local, {}, file) is local
    with _running(file) as (_, servers):
        assert with_embedded_broker(local, {}, file).kafka.bootstrap_servers == servers
        assert with_embedded_broker(local, {BOOTSTRAP_VARIABLE: "kafka:9092"}, file) is local
        assert with_embedded_broker(dev, {}, file) is dev
