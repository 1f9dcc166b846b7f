"""A local server that speaks the documented part of Vertex AI's REST API that is used: predict, endpoints, models, operations."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from aiohttp import web

from models.vertex_auth import Token
from models.vertex_settings import EndpointSettings
from models.vertex_versions import description, display_name, labels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.handle import ModelHandle, Predict

PARENT = "projects/p/locations/us-central1"
ENDPOINT = f"{PARENT}/endpoints/1"


@dataclass(frozen=True)
class Fault:
    """How one predict request is answered instead of rightly; one with nothing set is answered rightly."""

    status: int = 200
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    drop: bool = False
    deployed_id: str | None = None


@dataclass
class VertexServer:
    """One endpoint with deployed models; the last `deploy` gets the traffic."""

    port: int = 0
    accepted: set[str] = field(default_factory=lambda: {"token-1"})
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    endpoint: dict[str, Any] = field(default_factory=lambda: {"name": ENDPOINT, "displayName": "e", "deployedModels": []})
    predicts: dict[str, Predict] = field(default_factory=dict)
    faults: deque[Fault] = field(default_factory=deque)
    always: Fault | None = None
    limit_bytes: int = 1_500_000
    bodies: list[bytes] = field(default_factory=list)
    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    now: int = 0
    most_at_once: int = 0
    polls: int = 2
    operation_error: dict[str, Any] | None = None
    operations: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def settings(self, **changes: Any) -> EndpointSettings:
        given: dict[str, Any] = {"project": "p", "location": "us-central1", "endpoint_id": "1", "api_url": self.url}
        return EndpointSettings(**(given | changes))

    def deploy(self, handle: ModelHandle, *, deployed_id: str, vertex_version: str, **changes: Any) -> None:
        """Deploy a version, described as the deploy helper does."""
        name = f"{PARENT}/models/{handle.name}"
        model = {
            "name": name,
            "versionId": vertex_version,
            "displayName": handle.name,
            "versionDescription": description(handle.name, handle.version, handle.digest),
            "labels": labels("of the model", "they may win when they are merged"),
        }
        self.models[f"{name}@{vertex_version}"] = model | changes
        shown = display_name(handle.name, handle.version)
        deployed = {"id": deployed_id, "model": name, "modelVersionId": vertex_version, "displayName": shown}
        self.endpoint["deployedModels"].append(deployed)
        self.endpoint["trafficSplit"] = {deployed_id: 100}
        self.predicts[deployed_id] = handle.predict

    def undeploy(self, deployed_id: str) -> None:
        self.endpoint["deployedModels"] = [d for d in self.endpoint["deployedModels"] if d["id"] != deployed_id]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix("/v1/")
        body = await request.read()
        predicts = path == f"{ENDPOINT}:predict"
        if not predicts:
            self.calls.append((request.method, path, json.loads(body) if body else None))
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.accepted:
            return _error(401, "Request had invalid authentication credentials.")
        if predicts and request.method == "POST":
            self.now += 1
            self.most_at_once = max(self.most_at_once, self.now)
            try:
                return await self._predict(request, body)
            finally:
                self.now -= 1
        return self._resource(request.method, path, json.loads(body) if body else None)

    async def _predict(self, request: web.Request, body: bytes) -> web.StreamResponse:
        self.bodies.append(body)
        fault = self.faults.popleft() if self.faults else self.always or Fault()
        await asyncio.sleep(fault.delay_s)
        if fault.drop:
            assert request.transport is not None
            request.transport.close()
        if fault.status != 200:
            response = _error(fault.status, "as told")
            response.headers.update(fault.headers)
            return response
        if fault.body is not None:
            return web.Response(body=fault.body, content_type="application/json")
        if len(body) > self.limit_bytes:
            return _error(400, "Request payload size exceeds the limit.")
        deployed_id = fault.deployed_id or next(iter(self.endpoint["trafficSplit"]))
        deployed = next(d for d in self.endpoint["deployedModels"] if d["id"] == deployed_id)
        instances = np.array(json.loads(body)["instances"], dtype=np.float64)
        values = self.predicts[deployed_id](instances).tolist()
        answer = {
            "predictions": [v if np.isfinite(v) else None for v in values],
            "deployedModelId": deployed_id,
            "model": deployed["model"],
            "modelDisplayName": deployed["displayName"],
            "modelVersionId": deployed["modelVersionId"],
        }
        return web.json_response(answer)

    def _resource(self, method: str, path: str, body: Any) -> web.Response:
        match method, path:
            case "GET", p if p == self.endpoint["name"]:
                return web.json_response(self.endpoint)
            case "GET", p if "/operations/" in p:
                return web.json_response(self._polled(p))
            case "GET", p:
                by_alias = [m for k, m in self.models.items() if _aliased(k, m, p)]
                found = self.models.get(p) or next(iter(by_alias), None)
                return _error(404, f"{p} is not found.") if found is None else web.json_response(found)
            case "POST", p if p == f"{PARENT}/models:upload":
                return self._operation(self._upload(body))
            case "POST", p if p == f"{PARENT}/endpoints":
                self.endpoint = {"name": ENDPOINT, "deployedModels": [], **body}
                return self._operation({"name": ENDPOINT})
            case "POST", p if p == f"{ENDPOINT}:deployModel":
                return self._operation(self._deploy(body))
            case "POST", p if p == f"{ENDPOINT}:undeployModel":
                assert self.endpoint["trafficSplit"].get(body["deployedModelId"], 0) == 0, "it still has traffic"
                self.undeploy(body["deployedModelId"])
                return self._operation({})
        return _error(404, f"{method} {path} is not part of this server")

    def _upload(self, body: Any) -> dict[str, Any]:
        name = body.get("parentModel") or f"{PARENT}/models/{body['modelId']}"
        earlier = [k for k in self.models if k.startswith(f"{name}@")]
        assert ("parentModel" in body) == bool(earlier), "a first version has a modelId, a later one its parentModel"
        version = str(len(earlier) + 1)
        of_model = {k: self.models[earlier[0]][k] for k in ("displayName", "labels")} if earlier else {}
        self.models[f"{name}@{version}"] = {"name": name, "versionId": version, **body["model"], **of_model}
        return {"model": f"{name}@{version}", "modelVersionId": version}

    def _deploy(self, body: Any) -> dict[str, Any]:
        name, _, version = body["deployedModel"]["model"].partition("@")
        new_id = str(100 + len(self.calls))
        deployed = {**body["deployedModel"], "id": new_id, "model": name, "modelVersionId": version}
        self.endpoint["deployedModels"].append(deployed)
        self.endpoint["trafficSplit"] = {new_id if k == "0" else k: v for k, v in body["trafficSplit"].items()}
        return {"deployedModel": deployed}

    def _operation(self, response: dict[str, Any]) -> web.Response:
        name = f"{PARENT}/operations/{len(self.operations) + 1}"
        if self.polls == 0:
            return web.json_response({"name": name, "done": True, "response": response})
        self.operations[name] = [self.polls, response]
        return web.json_response({"name": name, "done": False})

    def _polled(self, name: str) -> dict[str, Any]:
        left, response = self.operations[name]
        self.operations[name][0] = left - 1
        if left > 1:
            return {"name": name, "done": False}
        if self.operation_error is not None:
            return {"name": name, "done": True, "error": self.operation_error}
        return {"name": name, "done": True, "response": response}


@contextlib.contextmanager
def serving() -> Iterator[VertexServer]:
    """A server on a free loopback port, in a thread of its own."""
    server, ready, loop = VertexServer(), threading.Event(), asyncio.new_event_loop()
    runner: list[web.AppRunner] = []

    async def start() -> None:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{tail:.*}", server.handle)
        runner.append(web.AppRunner(app, shutdown_timeout=0.1))
        await runner[0].setup()
        site = web.TCPSite(runner[0], "127.0.0.1", 0)
        await site.start()
        server.port = runner[0].addresses[0][1]
        ready.set()

    def run() -> None:
        loop.create_task(start())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(runner[0].cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@dataclass
class Issuer:
    """A source of tokens: token-1, token-2, …; each valid for `life_s` of `clock_s`."""

    life_s: float = 3600.0
    clock_s: float = 1000.0
    issued: int = 0
    error: Exception | None = None

    def __call__(self) -> Token:
        if self.error is not None:
            raise self.error
        self.issued += 1
        return Token(f"token-{self.issued}", self.clock_s + self.life_s)

    def clock(self) -> float:
        return self.clock_s


def _aliased(key: str, model: dict[str, Any], path: str) -> bool:
    name, _, alias = path.partition("@")
    return key.partition("@")[0] == name and (not alias or alias in model.get("versionAliases", ()))


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"code": status, "message": message}}, status=status)
