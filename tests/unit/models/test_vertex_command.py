"""`models vertex-deploy` from a registry with a published version: its dry run, a real run against a server, its refusals."""

from __future__ import annotations

import json
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner

from models.mlflow_client import connect
from streams.commands.models_vertex import vertex_deploy, vertex_serve
from tests.unit.models.vertex_server import Issuer, serving

if TYPE_CHECKING:
    from typer.testing import Result

CONFIG = Path(__file__).parents[3] / "config"
IMAGE = ("--image", "us-central1-docker.pkg.dev/p/i/trading-ml-inference:0.1.0")
APP = typer.Typer()
APP.command()(vertex_deploy)
APP.command()(vertex_serve)


@pytest.fixture(name="registered", scope="module")
def fixture_registered(make_store: Any, ridge: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A registry's URI and the digest of version 1 of `m` in it; version 2 was registered by other means."""
    store = make_store(tmp_path_factory.mktemp("registry"))
    digest = store.publish(ridge).digest
    connect(store.tracking_uri).create_model_version("m", str(store.root / "artifacts"))
    return store.tracking_uri, digest


@pytest.fixture(autouse=True)
def _settings(registered: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "CONFIG_PATH": str(CONFIG / "local.yaml"),
        "TRADING_ML__MLFLOW__TRACKING_URI": registered[0],
        "TRADING_ML__VERTEX__PROJECT": "p",
        "TRADING_ML__VERTEX__LOCATION": "us-central1",
        "TRADING_ML__VERTEX__ENDPOINT_ID": "1",
    }.items():
        monkeypatch.setenv(name, value)


def run(*words: str) -> Result:
    return CliRunner().invoke(APP, list(words))


def test_the_dry_run_prints_the_requests_and_makes_none(registered: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    digest = registered[1]
    monkeypatch.setenv("TRADING_ML__VERTEX__API_ENDPOINT", "http://127.0.0.1:1")
    said = run("vertex-deploy", "m@champion", *IMAGE, "--artifact-uri", "gs://b/1", "--replicas", "2-4", "--dry-run")
    assert said.exit_code == 0, said.output
    steps = json.loads(said.output)
    model = next(s["body"]["model"] for s in steps if s["step"] == "upload")
    assert model["labels"] == {"registry-version": "1", "artifact-digest": digest[:60]}
    assert {"name": "TRADING_ML_MODEL_DIGEST", "value": digest} in model["containerSpec"]["env"]
    resources = next(s["body"]["deployedModel"]["dedicatedResources"] for s in steps if s["step"] == "deploy")
    assert (resources["minReplicaCount"], resources["maxReplicaCount"]) == (2, 4)


def test_a_run_deploys_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server:
        monkeypatch.setenv("TRADING_ML__VERTEX__API_ENDPOINT", server.url)
        monkeypatch.setattr("models.vertex_deploy.google_tokens", lambda _: Issuer(life_s=inf))
        server.polls = 0
        said = run("vertex-deploy", "m/1", *IMAGE, "--artifact-uri", "gs://b/1")
        assert said.exit_code == 0, said.output
        last = "m version 1 is projects/p/locations/us-central1/models/m@1 at projects/p/locations/us-central1/endpoints/1"
        assert said.output.splitlines()[-1] == last
        assert [d["displayName"] for d in server.endpoint["deployedModels"]] == ["m-v1"]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["m@champion"], 1, "are not in Cloud Storage; give their gs:// folder"),
        (["m@absent", "--artifact-uri", "gs://b/1"], 1, "absent"),
        (["other/1", "--artifact-uri", "gs://b/1"], 1, "other"),
        (["m"], 2, "right is NAME@ALIAS or NAME/VERSION"),
        (["m@champion", "--replicas", "many"], 2, "--replicas 2-4"),
    ],
)
def test_what_cannot_be_deployed_is_said_in_a_line(words: list[str], code: int, says: str) -> None:
    said = run("vertex-deploy", *words, *IMAGE, "--dry-run")
    assert said.exit_code == code
    assert says in " ".join(said.output.replace("│", " ").split())


def test_a_version_without_a_digest_is_not_deployed() -> None:
    said = run("vertex-deploy", "m/2", *IMAGE, "--artifact-uri", "gs://b/2", "--dry-run")
    assert said.exit_code == 1
    assert "no tag 'artifact_digest'" in said.output


def test_serving_outside_a_container_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIP_STORAGE_URI", raising=False)
    said = run("vertex-serve")
    assert said.exit_code == 1
    assert "AIP_STORAGE_URI" in said.output
    assert "models vertex-deploy" in said.output
