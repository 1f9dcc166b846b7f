"""The REST requests that bring a registry version onto a Vertex AI endpoint. Core: values in, JSON-ready values out.

    look          GET    models/<id>@v<version>        is it uploaded already?
    look          GET    models/<id>                   is there an earlier version?
    upload        POST   models:upload                 container, artifacts, and which version it is
    endpoint      POST   endpoints                     only where none is given
    look          GET    endpoints/<e>                 what is deployed there?
    deploy        POST   endpoints/<e>:deployModel     with all of the traffic
    undeploy      POST   endpoints/<e>:undeployModel   each that was there before

What is only known when an earlier step has answered stands in angle brackets, as in ``<endpoint>``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from models.errors import SpecError
from models.vertex_versions import description, display_name, labels

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTAINER_PORT: Final = 8080
PREDICT_ROUTE: Final = "/predict"
HEALTH_ROUTE: Final = "/healthz"
_LONGEST_NAME: Final = 128
_LONGEST_ID: Final = 63
_ALL: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A version (`name`, `version`, `digest`, its files at `artifact_uri`) and how it is to be served.

    `parent`: ``projects/<p>/locations/<l>``. `endpoint_id`: None makes an endpoint. `image_uri`: a container that answers
    `PREDICT_ROUTE` as docs/vertex.md says, started with `args` (none: its own command). `service_account`: what the
    container runs as; None is Vertex AI's own.
    """

    parent: str
    name: str
    version: str
    digest: str
    artifact_uri: str
    image_uri: str
    endpoint_id: str | None
    args: tuple[str, ...] = ()
    machine_type: str = "n1-standard-2"
    min_replicas: int = 1
    max_replicas: int = 1
    service_account: str | None = None

    @property
    def model_id(self) -> str:
        """The Vertex model of all versions of this name: lower case, with underscores for what an id may not hold."""
        plain = re.sub(r"[^a-z0-9_-]", "_", self.name.lower())
        return plain if plain[0] in "abcdefghijklmnopqrstuvwxyz_" else f"m_{plain}"

    @property
    def model(self) -> str:
        """Its resource name."""
        return f"{self.parent}/models/{self.model_id}"

    @property
    def aliased(self) -> str:
        """The resource name of this version, by its alias."""
        return f"{self.model}@v{self.version}"

    def check(self) -> None:
        """Raise `SpecError` for what Vertex AI would refuse."""
        problems = []
        if not self.artifact_uri.startswith("gs://"):
            problems.append(f"artifacts at {self.artifact_uri!r} are not in Cloud Storage; give their gs:// folder")
        if len(display_name(self.name, self.version)) > _LONGEST_NAME or len(self.model_id) > _LONGEST_ID:
            problems.append(f"the name {self.name!r} is too long for Vertex AI; {_LONGEST_ID} characters are right")
        if not 1 <= self.min_replicas <= self.max_replicas:
            problems.append(f"{self.min_replicas} to {self.max_replicas} replicas; 1 <= min <= max is right")
        if problems:
            raise SpecError(f"model {self.name!r} version {self.version}: {'; '.join(problems)}")


@dataclass(frozen=True, slots=True)
class Request:
    """One call of the API: `path` follows ``https://<location>-aiplatform.googleapis.com/v1/``."""

    method: Literal["GET", "POST"]
    path: str
    body: Mapping[str, Any] | None = None


def upload(d: Deployment, *, first: bool) -> Request:
    """Upload the version: as a new model when it is the `first` of its name, else as the next version of that model."""
    container: dict[str, Any] = {
        "imageUri": d.image_uri,
        "env": [
            {"name": "TRADING_ML_MODEL", "value": d.name},
            {"name": "TRADING_ML_MODEL_VERSION", "value": d.version},
            {"name": "TRADING_ML_MODEL_DIGEST", "value": d.digest},
        ],
        "ports": [{"containerPort": CONTAINER_PORT}],
        "predictRoute": PREDICT_ROUTE,
        "healthRoute": HEALTH_ROUTE,
    }
    if d.args:
        container["args"] = list(d.args)
    model = {
        "displayName": d.name,
        "versionAliases": [f"v{d.version}"],
        "versionDescription": description(d.name, d.version, d.digest),
        "labels": labels(d.version, d.digest),
        "artifactUri": d.artifact_uri,
        "containerSpec": container,
    }
    place = {"modelId": d.model_id} if first else {"parentModel": d.model}
    return Request("POST", f"{d.parent}/models:upload", {**place, "model": model})


def create_endpoint(d: Deployment) -> Request:
    """Make an endpoint for the model."""
    return Request("POST", f"{d.parent}/endpoints", {"displayName": f"trading-ml-{d.model_id}"})


def deploy(d: Deployment, *, endpoint: str, model: str) -> Request:
    """Deploy Vertex model version `model` (``…/models/<id>@<version>``) with all traffic: "0" is the one being deployed."""
    deployed: dict[str, Any] = {
        "model": model,
        "displayName": display_name(d.name, d.version),
        "dedicatedResources": {
            "machineSpec": {"machineType": d.machine_type},
            "minReplicaCount": d.min_replicas,
            "maxReplicaCount": d.max_replicas,
        },
    }
    if d.service_account is not None:
        deployed["serviceAccount"] = d.service_account
    return Request("POST", f"{endpoint}:deployModel", {"deployedModel": deployed, "trafficSplit": {"0": _ALL}})


def undeploy(*, endpoint: str, deployed_id: str) -> Request:
    """Take a deployed model off; it has no traffic any more."""
    return Request("POST", f"{endpoint}:undeployModel", {"deployedModelId": deployed_id})


def plan(d: Deployment) -> list[dict[str, Any]]:
    """All requests in their order, each with what it is for and when it is made, ready for JSON: the dry run."""
    endpoint = "<endpoint>" if d.endpoint_id is None else f"{d.parent}/endpoints/{d.endpoint_id}"
    steps: list[tuple[str, str, Request]] = [
        ("is the version uploaded already?", "always", Request("GET", d.aliased)),
        ("is there an earlier version?", "if it is not uploaded", Request("GET", d.model)),
        ("upload", "if it is not uploaded, and it is the first version", upload(d, first=True)),
        ("upload", "if it is not uploaded, and it is a later version", upload(d, first=False)),
    ]
    if d.endpoint_id is None:
        steps.append(("make the endpoint", "always", create_endpoint(d)))
    steps += [
        ("what is deployed there?", "always", Request("GET", endpoint)),
        ("deploy", "if it is not deployed", deploy(d, endpoint=endpoint, model=f"{d.model}@<vertex version>")),
        (
            "undeploy",
            "for each deployed model that was there before, unless they are kept",
            undeploy(endpoint=endpoint, deployed_id="<id>"),
        ),
    ]
    return [
        {"step": what, "when": when, "method": r.method, "path": r.path, **({} if r.body is None else {"body": r.body})}
        for what, when, r in steps
    ]
