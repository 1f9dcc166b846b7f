"""A real Alertmanager (Debian's `prometheus-alertmanager`, or `alertmanager` in PATH), told from the alerts topic.

Without one, the same bodies are held against the rules of its API (OpenAPI of `POST /api/v2/alerts`, v0.25) by hand.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import urllib.request
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

import pytest
from pydantic import SecretStr

from config.monitoring import Receiver as Told
from tests.broker.alert_events import Alerts
from tests.broker.inference_world import free_port
from tests.broker.test_telling import settled, telling
from tests.unit.monitoring.receiver import Receiver, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from config.sections import Kafka

BINARY = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
ROUTES = """
route: {receiver: hook, group_by: ['...'], group_wait: 10ms, group_interval: 100ms, repeat_interval: 1h}
receivers: [{name: hook, webhook_configs: [{url: 'URL', send_resolved: true}]}]
"""


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.telling.PAUSE_S", 0.02)


class Alertmanager:
    """One process on loopback; may be ended and started again on its folder."""

    def __init__(self, folder: Path, hook: str) -> None:
        self.port = free_port()
        self._folder = folder
        (folder / "am.yml").write_text(ROUTES.replace("URL", hook))
        self.start()

    def start(self) -> None:
        assert BINARY is not None
        places = [f"--config.file={self._folder}/am.yml", f"--storage.path={self._folder}/am"]
        listen = [f"--web.listen-address=127.0.0.1:{self.port}", "--cluster.listen-address="]
        with (self._folder / "am.log").open("ab") as log:
            self._process = subprocess.Popen([BINARY, *places, *listen], stdout=log, stderr=log)
        wait_until(lambda: self.firing() is not None)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(10)

    def firing(self) -> set[tuple[str, str]] | None:
        """(column, severity) of what it holds for firing; None while it does not answer."""
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v2/alerts", timeout=2) as answer:
            return {(a["labels"]["column"], a["labels"]["severity"]) for a in json.load(answer)}
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(10)


def passed_on(hook: Receiver) -> list[tuple[str, str, str]]:
    """What it told people: (column, severity, status), sorted."""
    groups = [json.loads(body) for _, _, body in hook.taken]
    return sorted((a["labels"]["column"], a["labels"]["severity"], a["status"]) for g in groups for a in g["alerts"])


@pytest.mark.skipif(BINARY is None, reason="no Alertmanager here (Debian: prometheus-alertmanager)")
def test_each_incident_fires_once_and_ends_once_though_alertmanager_and_couriers_die(kafka: Kafka, tmp_path: Path) -> None:
    with Receiver() as hook, Alertmanager(tmp_path, hook.url) as am:
        url = SecretStr(f"http://127.0.0.1:{am.port}/")
        told = Told(name="am", kind="alertmanager", url=url, allow_private=True, resend="1s")
        with telling(kafka, told):
            wait_until(lambda: settled(kafka, "am"))
            alerts = Alerts(kafka)
            alerts.window(a=0.5, b=0.5, c=0.0)
            wait_until(lambda: am.firing() == {("a", "warn"), ("b", "warn")} and len(passed_on(hook)) == 2)
            alerts.window(b=2.0)
            wait_until(lambda: am.firing() == {("a", "warn"), ("b", "critical")} and len(passed_on(hook)) == 4)
            am.stop()
            alerts.window(a=0.0, c=0.5)
        am.start()
        with telling(kafka, told):  # another worker: it says again what fires, though that was told before
            wait_until(lambda: am.firing() == {("b", "critical"), ("c", "warn")})
            wait_until(lambda: ("c", "warn", "firing") in passed_on(hook) and settled(kafka, "am"))
            alerts.window(b=0.0, c=0.0)
            wait_until(lambda: am.firing() == set())
            wanted = [
                (c, s, status)
                for c, s in (("a", "warn"), ("b", "critical"), ("b", "warn"), ("c", "warn"))
                for status in ("firing", "resolved")
            ]
            wait_until(lambda: passed_on(hook) == wanted)


def test_bodies_keep_the_rules_of_its_api(kafka: Kafka) -> None:
    with Receiver() as receiver:
        told = Told(name="am", kind="alertmanager", url=SecretStr(receiver.url), allow_private=True)
        with telling(kafka, told):
            wait_until(lambda: settled(kafka, "am"))
            alerts = Alerts(kafka)
            for value in (0.5, 2.0, 0.0):
                alerts.window(a=value)
            wait_until(lambda: len(receiver.taken) == 3)
        for path, headers, body in receiver.taken:
            assert path == "/hook/api/v2/alerts"
            assert headers["content-type"] == "application/json"
            _keeps_the_rules(json.loads(body))


def _keeps_the_rules(alerts: list[dict[str, Any]]) -> None:
    for alert in alerts:
        assert alert.keys() <= {"labels", "annotations", "startsAt", "endsAt", "generatorURL"}
        for name, value in [*alert["labels"].items(), *alert["annotations"].items()]:
            assert re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name)
            assert isinstance(value, str)
        starts, ends = (datetime.fromisoformat(alert[key]) for key in ("startsAt", "endsAt"))
        assert starts <= ends
        assert alert["labels"]["alertname"]
