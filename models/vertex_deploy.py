"""Brings a registry version onto a Vertex AI endpoint: the requests of `models.vertex_requests`, made and waited for. Shell.

Safe to repeat after it broke off: what is uploaded or deployed already is found by what it says of itself and left as it is. No
request that changes something is sent twice.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from models.errors import EndpointMismatch, EndpointUnavailable, UntrustedModel
from models.vertex_auth import Tokens, google_tokens
from models.vertex_client import Client
from models.vertex_requests import Request, create_endpoint, deploy, undeploy, upload
from models.vertex_versions import Endpoint, VertexModel, is_version, read_resource

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.vertex_auth import Token
    from models.vertex_requests import Deployment
    from models.vertex_settings import EndpointSettings

_CALL_S: Final = 60.0
_FIRST_POLL_S: Final = 1.0
_LAST_POLL_S: Final = 15.0


class _Operation(msgspec.Struct, frozen=True):
    name: str = ""
    done: bool = False
    error: dict[str, Any] | None = None
    response: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The endpoint's resource name, the Vertex model version on it, and the deployed models taken off."""

    endpoint: str
    model: str
    undeployed: tuple[str, ...]


def run_deployment(
    d: Deployment,
    settings: EndpointSettings,
    *,
    keep_old: bool = False,
    say: Callable[[str], None] = lambda _: None,
    fetch: Callable[[], Token] | None = None,
    operation_s: float = 3600.0,
    first_poll_s: float = _FIRST_POLL_S,
) -> Outcome:
    """Upload, deploy with all traffic, take off what was there (unless `keep_old`). Blocks for minutes.

    `say` is told each step in words. An operation is waited for at most `operation_s`. Raises `SpecError` for what Vertex
    AI would refuse, `UntrustedModel` when the version was uploaded with other files, `EndpointUnavailable` for the rest.
    """
    d.check()

    async def run() -> Outcome:
        tokens = Tokens(google_tokens(settings.credentials_file) if fetch is None else fetch)
        async with Client(tokens, calls_at_once=1) as client:
            return await _Run(client, settings.api, say, operation_s, first_poll_s).deployment(d, keep_old=keep_old)

    return asyncio.run(run())


@dataclass(frozen=True, slots=True)
class _Run:
    client: Client
    api: str
    say: Callable[[str], None]
    operation_s: float
    first_poll_s: float

    async def deployment(self, d: Deployment, *, keep_old: bool) -> Outcome:
        model = await self._uploaded(d)
        endpoint = f"{d.parent}/endpoints/{d.endpoint_id}"
        if d.endpoint_id is None:
            endpoint = str((await self._operation(create_endpoint(d), "make the endpoint"))["name"])
        before = read_resource(await self._get(endpoint), Endpoint)
        mine = [one.id for one in before.deployed_models if _same_version(one.model_name, model)]
        if mine and any(before.traffic_split.get(i) for i in mine):
            self.say(f"{model} is deployed already")
        else:
            await self._operation(deploy(d, endpoint=endpoint, model=model), f"deploy {model}, which takes minutes")
        after = read_resource(await self._get(endpoint), Endpoint)
        old = [one.id for one in after.deployed_models if not _same_version(one.model_name, model)]
        if keep_old:
            old = []
        for one in old:
            await self._operation(undeploy(endpoint=endpoint, deployed_id=one), f"undeploy {one}")
        return Outcome(endpoint, model, tuple(old))

    async def _uploaded(self, d: Deployment) -> str:
        """The resource name of the version, uploaded now or before."""
        found = await self._found(d.aliased)
        if found is not None:
            if not is_version(found, name=d.name, version=d.version, digest=d.digest):
                raise UntrustedModel(f"{d.aliased} was uploaded from other files than the registry has; delete it there")
            self.say(f"{d.aliased} is uploaded already")
            return f"{d.model}@{found.version_id}"
        first = await self._found(d.model) is None
        response = await self._operation(upload(d, first=first), f"upload {d.name} version {d.version}")
        return f"{d.model}@{response['modelVersionId']}"

    async def _found(self, path: str) -> VertexModel | None:
        try:
            return read_resource(await self._get(path), VertexModel)
        except EndpointMismatch:
            return None

    async def _get(self, path: str) -> bytes:
        return await self.client.call("GET", self.api + path, timeout_s=_CALL_S)

    async def _operation(self, request: Request, what: str) -> dict[str, Any]:
        """Make the request once, and ask after its long-running operation until that is done."""
        self.say(what)
        body = None if request.body is None else json.dumps(request.body).encode()
        said = await self.client.call(request.method, self.api + request.path, body, timeout_s=_CALL_S, tries=1)
        operation = read_resource(said, _Operation)
        now_s = asyncio.get_running_loop().time
        until_s, pause_s = now_s() + self.operation_s, self.first_poll_s
        while not operation.done:
            if now_s() + pause_s > until_s:
                raise EndpointUnavailable(f"{what}: operation {operation.name} is not done after {self.operation_s:g} s")
            await asyncio.sleep(pause_s)
            pause_s = min(1.5 * pause_s, _LAST_POLL_S)
            operation = read_resource(await self._get(operation.name), _Operation)
        if operation.error is not None:
            raise EndpointUnavailable(f"{what}: Vertex AI says {operation.error.get('message', operation.error)}")
        return operation.response


def _same_version(one: str, other: str) -> bool:
    """Whether two resource names are one model version; Google answers with the project's number where we wrote its id."""
    return one.partition("/locations/")[2] == other.partition("/locations/")[2]
