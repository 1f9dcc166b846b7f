"""A secret planted in every place that holds one is found nowhere in what the platform shows: text, logs, errors, reprs."""

from __future__ import annotations

import pprint
import time
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from typer.testing import CliRunner

from config import KEYS, load_settings
from models.errors import ModelError
from streams.access import cluster
from streams.cli import app
from streams.clients import Hidden, kafka_client_config, producer_config
from streams.credentials import faust_credentials
from streams.group import Group
from streams.webhook import Webhook
from tests.kafka.certificates import Authority

if TYPE_CHECKING:
    from config import Settings

CONFIG = Path(__file__).parents[3] / "config"
SECRETS = tuple(key for key in KEYS if key.secret)
PLANT = "planted-6b2f"
PREFIX = "TRADING_ML__KAFKA__SECURITY__"


@pytest.fixture(params=["password", "token"])
def planted(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Secrets in the environment as an operator gives them; nobody listens where the settings lead. The dotted keys set."""
    authority = Authority(tmp_path, "ca")
    own = authority.issue("own", password=PLANT)
    login = {"mechanism": "SCRAM-SHA-256", "username": "me", "password": PLANT}
    token = {
        "mechanism": "OAUTHBEARER",
        "oauth_token_url": "https://127.0.0.1:1/token",
        "oauth_client_id": "me",
        "oauth_client_secret": PLANT,
    }
    tls = {"ca_file": authority.file, "certificate_file": own.certificate, "key_file": own.key, "key_password": PLANT}
    said: dict[str, Any] = {"protocol": "SASL_SSL", **tls, **(login if request.param == "password" else token)}
    for name, value in said.items():
        monkeypatch.setenv(f"{PREFIX}{name.upper()}", str(value))
    monkeypatch.setenv("TRADING_ML__KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("TRADING_ML__MLFLOW__TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("TRADING_ML__MLFLOW__WEBHOOK_SECRET", PLANT)
    monkeypatch.setenv("TRADING_ML__STORAGE__STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("CONFIG_PATH", str(CONFIG / "local.yaml"))
    # What other libraries read: MLflow's login, a database's, Google's.
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "PGPASSWORD"):
        monkeypatch.setenv(name, PLANT)
    return {f"kafka.security.{name}" for name, value in said.items() if value == PLANT}


def settings() -> Settings:
    return load_settings()


def test_every_secret_setting_is_planted_by_one_of_the_ways() -> None:
    by_password = {"kafka.security.password", "kafka.security.key_password"}
    by_token = {"kafka.security.oauth_client_secret", "kafka.security.key_password"}
    assert {key.dotted for key in SECRETS} == by_password | by_token | {"mlflow.webhook_secret"}


@pytest.mark.usefixtures("planted")
def test_nothing_that_holds_settings_shows_them() -> None:
    here = settings()
    shown = [repr(here), str(here), pprint.pformat(here.model_dump()), here.model_dump_json(), repr(vars(here.kafka.security))]
    assert here.mlflow.webhook_secret is not None
    shown += [
        repr(here.mlflow),
        repr(vars(here.mlflow)),
        pprint.pformat(vars(Webhook(here.mlflow.webhook_secret.get_secret_value()))),
    ]
    for config in (kafka_client_config(here.kafka), producer_config(here.kafka)):
        shown += [repr(config), pprint.pformat(config), f"{config}"]
    credentials = faust_credentials(here.kafka.security)
    shown += [repr(credentials), str(credentials), pprint.pformat(vars(credentials))]
    faust_app = Group._new_app(cast("Group", SimpleNamespace(settings=here, _fetch_bytes=1)), "group")
    shown += [repr(faust_app), str(faust_app), pprint.pformat(vars(faust_app))]
    # `env` is the process's own environment.
    shown += [pprint.pformat({name: value for name, value in vars(faust_app.conf).items() if name not in {"env", "_env"}})]
    shown += [repr(faust_app.conf.broker), repr(faust_app.conf.broker_consumer), repr(faust_app.conf.broker_credentials)]
    assert [text for text in shown if PLANT in text] == []


def test_client_libraries_get_the_secret_itself(planted: set[str]) -> None:
    config = kafka_client_config(settings().kafka)
    assert str(config["ssl.key.password"]) == PLANT
    if "kafka.security.password" in planted:
        assert str(config["sasl.password"]) == PLANT
        assert str(faust_credentials(settings().kafka.security).password) == PLANT
    assert type(f"{Hidden(PLANT)}") is str


def test_librdkafka_tells_its_whole_configuration_without_them(planted: set[str], capfd: pytest.CaptureFixture[str]) -> None:
    from confluent_kafka import Producer

    config = {**producer_config(settings().kafka), "debug": "conf,security,broker"}
    if "oauth_cb" in config:
        config["oauth_cb"] = lambda _: (f"{PLANT}.x.", time.time() + 100)
    producer = Producer(config)
    producer.flush(0.3)
    del producer
    assert planted
    out, err = capfd.readouterr()
    assert "ssl.key.password" in err
    assert PLANT not in out + err


COMMANDS = (
    ("config", "show"),
    ("config", "show", "--json"),
    ("config", "check", str(CONFIG / "local.yaml")),
    ("topics", "list"),
    ("topics", "create"),
    ("tail", "predictions"),
    ("rejected", "list"),
    ("models", "list"),
    ("models", "timeline"),
    ("models", "show", "m"),
    ("models", "diff", "m", "1", "2"),
    ("models", "promote", "goog_ret_5d", "1"),
    ("models", "rollback", "goog_ret_5d"),
    ("audit", "leaks", "--model", "m", "--demo"),
)


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_command_shows_them(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("streams.topics.cluster", lambda kafka, timeout_s: cluster(kafka, timeout_s=min(timeout_s, 0.2)))
    done = CliRunner().invoke(app, words)
    out, err = capfd.readouterr()
    said = out + err + done.output
    error = done.exception
    if error is not None:
        said += repr(error) + "".join(traceback.format_exception(error)) + "".join(_causes(error))
    assert said
    assert PLANT not in said


@pytest.mark.parametrize("wrong", ["PROTOCOL", "MECHANISM", "CA_FILE"])
@pytest.mark.usefixtures("planted")
def test_settings_that_do_not_go_together_are_told_without_them(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}{wrong}", {"PROTOCOL": "PLAINTEXT", "MECHANISM": "null", "CA_FILE": "gs://b/c"}[wrong])
    done = CliRunner().invoke(app, ["config", "show"])
    assert done.exit_code == 2
    assert "kafka.security" in done.output
    assert PLANT not in done.output


@pytest.mark.parametrize("uri", [f"postgresql://me:{PLANT}@127.0.0.1:1/db", f"http://me:{PLANT}@127.0.0.1:1"])
def test_a_registry_address_with_a_password_given_to_the_library_is_not_repeated(uri: str, tmp_path: Path) -> None:
    from models.registry import Registry

    with pytest.raises(ModelError) as e:
        Registry(uri, tmp_path).resolve("m", "champion")
    assert PLANT not in str(e.value)


def _causes(error: BaseException) -> list[str]:
    """What an error's own attributes hold, and those of its causes."""
    found, at = [], cast("BaseException | None", error)
    while at is not None:
        found.append(repr(at.args) + repr(vars(at)))
        at = at.__cause__ or at.__context__
    return found
