"""Deploying a version: the requests as a golden file, and made against a server that speaks the protocol."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from models.errors import EndpointUnavailable, SpecError, UntrustedModel
from models.vertex import Endpoint, served_by_endpoint
from models.vertex_deploy import Outcome, run_deployment
from models.vertex_requests import Deployment, plan
from tests.unit.models.vertex_bench import VALUES, summed
from tests.unit.models.vertex_server import ENDPOINT, PARENT, Issuer, VertexServer, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.handle import ModelHandle

GOLDEN = Path(__file__).parents[2] / "golden" / "vertex_deploy.json"

FIRST = Deployment(
    parent=PARENT,
    name="m",
    version="1",
    digest="ab" * 32,
    artifact_uri="gs://bucket/models/1",
    image_uri="us-central1-docker.pkg.dev/p/images/trading-ml-inference:0.1.0",
    endpoint_id="1",
    args=("models", "vertex-serve"),
    service_account="serve@p.iam.gserviceaccount.com",
)


@pytest.fixture(name="server")
def fixture_server() -> Iterator[VertexServer]:
    with serving() as server:
        yield server


def run(server: VertexServer, deployment: Deployment, **changes: Any) -> Outcome:
    given: dict[str, Any] = {"fetch": Issuer(life_s=inf), "first_poll_s": 0.01}
    return run_deployment(deployment, server.settings(), **(given | changes))


def changed(server: VertexServer) -> list[str]:
    """What was asked to change, by its last word."""
    return [path.rpartition("/")[2].rpartition(":")[2] for method, path, _ in server.calls if method == "POST"]


def test_the_dry_run_is_the_golden_one() -> None:
    plans = {
        "onto an endpoint": plan(FIRST),
        "onto a new one": plan(replace(FIRST, endpoint_id=None, args=(), service_account=None)),
    }
    assert json.loads(GOLDEN.read_text(encoding="utf-8")) == plans


def test_what_is_sent_is_what_the_dry_run_says(server: VertexServer) -> None:
    run(server, FIRST)
    said = {(step["path"], json.dumps(step.get("body"))) for step in plan(FIRST)}
    for _, path, body in server.calls:
        if "/operations/" not in path:
            assert (path, json.dumps(body).replace("m@1", "m@<vertex version>")) in said


def test_a_first_version_then_a_second_that_takes_its_place(
    server: VertexServer, make_handle: Callable[..., ModelHandle]
) -> None:
    said: list[str] = []
    assert run(server, FIRST, say=said.append) == Outcome(ENDPOINT, f"{PARENT}/models/m@1", ())
    assert said == ["upload m version 1", f"deploy {PARENT}/models/m@1, which takes minutes"]
    assert changed(server) == ["upload", "deployModel"]
    second = replace(FIRST, version="2", digest="cd" * 32)
    (old,) = [d["id"] for d in server.endpoint["deployedModels"]]
    assert run(server, second).undeployed == (old,)
    (new,) = [d["id"] for d in server.endpoint["deployedModels"]]
    assert server.endpoint["trafficSplit"] == {new: 100}

    server.predicts[new] = summed
    endpoint = Endpoint(server.settings(fallback="abstain"), fetch=Issuer(life_s=inf))
    handle = replace(make_handle(summed), version="2", digest="cd" * 32)
    assert served_by_endpoint(handle, endpoint).predict(VALUES).tobytes() == summed(VALUES).tobytes()
    endpoint.close()


def test_it_is_safe_to_repeat(server: VertexServer) -> None:
    run(server, FIRST)
    server.calls.clear()
    said: list[str] = []
    run(server, FIRST, say=said.append)
    assert changed(server) == []
    assert [line.rpartition(" is ")[2] for line in said] == ["uploaded already", "deployed already"]


def test_a_run_that_broke_off_after_the_upload_goes_on(server: VertexServer) -> None:
    run(server, FIRST)
    server.undeploy(server.endpoint["deployedModels"][0]["id"])
    server.calls.clear()
    run(server, FIRST)
    assert changed(server) == ["deployModel"]


def test_the_old_one_may_be_kept_without_traffic(server: VertexServer) -> None:
    run(server, FIRST)
    assert run(server, replace(FIRST, version="2"), keep_old=True).undeployed == ()
    assert [d["displayName"] for d in server.endpoint["deployedModels"]] == ["m-v1", "m-v2"]
    assert len(server.endpoint["trafficSplit"]) == 1


def test_an_endpoint_is_made_where_none_is_given(server: VertexServer) -> None:
    server.endpoint["name"] = "none yet"
    assert run(server, replace(FIRST, endpoint_id=None)).endpoint == ENDPOINT
    assert changed(server) == ["upload", "endpoints", "deployModel"]


def test_a_version_uploaded_from_other_files_is_refused(server: VertexServer) -> None:
    run(server, FIRST)
    with pytest.raises(UntrustedModel, match="m@v1 was uploaded from other files"):
        run(server, replace(FIRST, digest="00" * 32))


def test_an_operation_that_fails_says_what_google_says(server: VertexServer) -> None:
    server.operation_error = {"code": 8, "message": "quota of custom_model_serving_cpus exceeded"}
    with pytest.raises(EndpointUnavailable, match="upload m version 1: Vertex AI says quota of"):
        run(server, FIRST)


def test_an_operation_that_does_not_end_is_given_up(server: VertexServer) -> None:
    server.polls = 10_000
    with pytest.raises(EndpointUnavailable, match=r"operation .*/operations/1 is not done after 0.2 s"):
        run(server, FIRST, operation_s=0.2)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"artifact_uri": "mlflow-artifacts:/1"}, "not in Cloud Storage"),
        ({"name": "n" * 64}, "too long"),
        ({"min_replicas": 0}, "1 <= min <= max"),
        ({"min_replicas": 3, "max_replicas": 2}, "1 <= min <= max"),
    ],
)
def test_what_vertex_would_refuse_is_refused_before_any_call(server: VertexServer, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        run(server, replace(FIRST, **changes))
    assert server.calls == []


@pytest.mark.parametrize(("name", "model_id"), [("Ret.5d", "ret_5d"), ("5d", "m_5d"), ("a-b_c", "a-b_c")])
def test_the_vertex_id_of_a_name(name: str, model_id: str) -> None:
    assert replace(FIRST, name=name).model_id == model_id
