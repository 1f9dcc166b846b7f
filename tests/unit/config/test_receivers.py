"""The list `monitoring.notify`: what goes together, what is a secret, and where its variables are read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from config import ConfigError, compare_files, explain, load_settings
from config.monitoring import Receiver
from tests.unit.config.trees import CANARY, CONFIG, shipped

if TYPE_CHECKING:
    from pathlib import Path

SLACK = {"name": "desk", "kind": "slack", "url": f"https://hooks.example.com/{CANARY}"}
SIGNED = {"name": "hook", "kind": "webhook", "url": "https://example.com/x", "secret": CANARY}


def told(entries: object) -> dict[str, str]:
    return {"TRADING_ML__MONITORING__NOTIFY": json.dumps(entries)}


def test_what_may_be_left_out() -> None:
    slack, signed = load_settings(CONFIG / "local.yaml", env=told([SLACK, SIGNED])).monitoring.notify
    assert (slack.min_severity, slack.allow_private, slack.resend.total_seconds()) == ("warn", False, 60.0)
    assert load_settings(CONFIG / "local.yaml", env={}).monitoring.notify == ()
    assert CANARY not in f"{slack!r}{signed!r}{signed.model_dump()}{signed.model_dump_json()}"


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ({**SLACK, "url": f"http://hooks.example.com/{CANARY}"}, "url is not https"),
        ({**SLACK, "url": f"https://me:{CANARY}@example.com/"}, "must not hold user or password"),
        ({**SLACK, "url": f"ftp://example.com/{CANARY}"}, "should be https://host/path"),
        ({**SLACK, "url": f"https://[{CANARY}/"}, "should be https://host/path"),
        ({**SLACK, "url": f"https://host/{CANARY}\n"}, "should be https://host/path"),
        ({**SLACK, "url_env": "URL"}, "one of url and url_env"),
        ({"name": "desk", "kind": "slack"}, "one of url and url_env"),
        ({**SLACK, "url_env": "TRADING_ML__X"}, "such variables are settings themselves"),
        ({**SLACK, "secret": CANARY}, "only a webhook is signed"),
        ({**SIGNED, "secret_env": "SECRET"}, "one of secret and secret_env"),
        ({**SLACK, "resend": "10ms"}, "resend is below a second"),
    ],
)
def test_an_entry_that_is_not_right_is_refused_without_its_secrets(entry: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=line) as e:
        load_settings(CONFIG / "local.yaml", env=told([entry]))
    assert CANARY not in str(e.value)


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="notify names 'desk' twice"):
        load_settings(CONFIG / "local.yaml", env=told([SLACK, SLACK]))


def test_urls_and_secrets_are_not_shown() -> None:
    rows = explain(CONFIG / "local.yaml", env=told([SLACK, SIGNED]))
    assert CANARY not in repr(rows)
    assert {row.value for row in rows if row.key in {"monitoring.notify[0].url", "monitoring.notify[1].secret"}} == {"********"}


def test_variables_are_read_when_a_worker_starts() -> None:
    receiver = Receiver(name="hook", kind="webhook", url_env="HOOK_URL", secret_env="HOOK_KEY")  # noqa: S106 - a name, no secret
    found = receiver.resolved({"HOOK_URL": "https://example.com/x", "HOOK_KEY": CANARY})
    assert found.url is not None
    assert found.secret is not None
    assert (found.url.get_secret_value(), found.secret.get_secret_value()) == ("https://example.com/x", CANARY)
    with pytest.raises(ConfigError, match="secret_env names HOOK_KEY, which is not set"):
        receiver.resolved({"HOOK_URL": "https://example.com/x"})
    for wrong in (f"http://host/{CANARY}", f"https://a:{CANARY}@host/", CANARY):
        with pytest.raises(ConfigError, match="HOOK_URL: ") as e:
            receiver.resolved({"HOOK_URL": wrong, "HOOK_KEY": CANARY})
        assert CANARY not in str(e.value)


def test_config_check_finds_one_written_in_a_file(tmp_path: Path) -> None:
    tree = shipped("local")
    plain = {"name": "am", "kind": "alertmanager", "url": "http://alertmanager:9093", "allow_private": True}
    tree["monitoring"]["notify"] = [plain, SLACK, SIGNED, {"name": "b", "kind": "slack", "url_env": "SLACK_URL"}]
    file = tmp_path / "local.yaml"
    file.write_text(yaml.safe_dump(tree))
    problems = compare_files([file])
    places = ["[1].url", "[2].secret", "[2].url"]
    assert [p.split()[1] for p in problems] == [f"monitoring.notify{place}" for place in places]
    assert CANARY not in str(problems)


def test_a_file_may_have_receivers_that_others_have_not(tmp_path: Path) -> None:
    files = []
    for name in ("local", "dev"):
        tree = shipped(name)
        if name == "dev":
            tree["monitoring"]["notify"] = [{"name": "b", "kind": "slack", "url_env": "SLACK_URL"}]
        files.append(tmp_path / f"{name}.yaml")
        files[-1].write_text(yaml.safe_dump(tree))
    assert compare_files(files) == ()
