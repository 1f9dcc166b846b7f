"""docker-compose.yml: valid, and naming only what exists."""

from __future__ import annotations

import base64
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.unit.deploy.house import ROOT, parse, settings

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if service["image"].startswith("trading-ml-inference:"))
COMMANDS = sorted(set(OURS) - {"mlflow"})


def test_it_is_valid() -> None:
    spec = find_spec("check_jsonschema")
    assert spec is not None
    assert spec.origin is not None
    # Read as a file: the package's own command line does not start beside the click that Faust pins.
    schema = json.loads((Path(spec.origin).parent / "builtin_schemas/vendor/compose-spec.json").read_text())
    jsonschema.validate(COMPOSE, schema)


def test_it_has_what_it_promises() -> None:
    assert set(SERVICES) == {"kafka", "topics", "mlflow", "inference", "monitor", "train-demo", "generate"}
    assert {name for name, service in SERVICES.items() if "profiles" in service} == {"train-demo", "generate"}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_and_settings_exist(name: str) -> None:
    service = SERVICES[name]
    parse(service["command"])
    env = service["environment"]
    assert (ROOT / "config" / Path(env["CONFIG_PATH"]).name).is_file()
    effective = settings(env["CONFIG_PATH"], env)
    advertised = SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(",")
    assert f"CONTAINERS://{effective.kafka.bootstrap_servers}" in advertised
    assert effective.mlflow.tracking_uri == "http://mlflow:5000"
    assert "--port=5000" in SERVICES["mlflow"]["command"]


@pytest.mark.parametrize("name", ["inference", "monitor"])
def test_a_worker_listens_where_it_is_published_and_writes_where_it_may(name: str) -> None:
    service = SERVICES[name]
    effective = settings("local.yaml", service["environment"])
    assert effective.web.host == "0.0.0.0"  # noqa: S104 - in a container; what is published is on loopback
    assert service["ports"][0].endswith(f":{effective.web.port}")
    own, models = service["volumes"]
    folder = own.partition(":")[2]
    assert effective.storage.state_dir.is_relative_to(folder)
    assert Path(effective.storage.cache_dir).is_relative_to(folder)
    assert effective.database.type == "duckdb"
    assert effective.database.path.is_relative_to(folder)
    assert models == f"models:{effective.mlflow.model_registry}:ro"
    assert SERVICES["train-demo"]["volumes"] == [models.removesuffix(":ro")]
    grace_s = float(service["stop_grace_period"].removesuffix("s"))
    assert grace_s >= effective.inference.drain_deadline.total_seconds() + 10


def test_the_host_finds_kafka_where_the_local_settings_look_for_it() -> None:
    kafka = SERVICES["kafka"]
    local = settings("local.yaml", {}).kafka.bootstrap_servers
    assert f"HOST://{local}" in kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(",")
    assert kafka["ports"] == [f"{local}:{local.rpartition(':')[2]}"]


def test_kafka_listeners_are_of_one_piece() -> None:
    env = SERVICES["kafka"]["environment"]
    listeners = [listener.partition("://")[0] for listener in env["KAFKA_LISTENERS"].split(",")]
    advertised = [listener.partition("://")[0] for listener in env["KAFKA_ADVERTISED_LISTENERS"].split(",")]
    protocols = dict(entry.split(":") for entry in env["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))
    assert sorted(protocols) == sorted(listeners)
    assert [*advertised, env["KAFKA_CONTROLLER_LISTENER_NAMES"]] == listeners
    assert env["KAFKA_INTER_BROKER_LISTENER_NAME"] in advertised
    assert env["KAFKA_CONTROLLER_QUORUM_VOTERS"] == f"{env['KAFKA_NODE_ID']}@kafka:9093"
    assert len(base64.urlsafe_b64decode(env["CLUSTER_ID"] + "==")) == 16, "a cluster id is a UUID in base64"
    assert env["KAFKA_LOG_DIRS"] == SERVICES["kafka"]["volumes"][0].partition(":")[2]


def test_the_mlflow_server_answers_its_clients_only_and_runs_no_jobs() -> None:
    env = SERVICES["mlflow"]["environment"]
    hosts = env["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert {"mlflow:5000", "localhost:5000", "localhost"} <= set(hosts)
    assert "*" not in hosts
    assert env["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert env["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_images_are_pinned_and_ports_are_on_loopback() -> None:
    for name, service in SERVICES.items():
        _, _, tag = service["image"].partition(":")
        assert tag.count(".") == 2, f"{name}: {service['image']} should name a full version"
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


@pytest.mark.parametrize("name", OURS)
def test_our_containers_have_no_rights_they_do_not_need(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]  # noqa: S108 - the container's own
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_each_waits_for_the_state_its_needs_can_reach() -> None:
    for name, service in SERVICES.items():
        for needed, how in service.get("depends_on", {}).items():
            other = SERVICES[needed]
            ends = other.get("restart") is None and needed != "mlflow"
            assert how["condition"] == ("service_completed_successfully" if ends else "service_healthy"), f"{name} → {needed}"
            if how["condition"] == "service_healthy":
                assert not other.get("healthcheck", {}).get("disable"), f"{name} → {needed}"
            if "profiles" in other and "profiles" not in service:
                assert how["required"] is False, f"{name} → {needed}: it is not there without its profile"


def test_every_volume_is_declared() -> None:
    used = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert used == set(COMPOSE["volumes"])
