"""A Vertex AI endpoint behind the same `Predict` as a loaded model: float64[rows, columns] to float64[rows]. Shell.

Vectors go out as JSON, NaN as null (`models.vertex_payload`); a null answer comes back as NaN, so that row abstains.
`predict` blocks like any model's, at most `timeout_s`: the calls run on an event loop of their own, in a thread.

An answer counts only if it is this version's. The endpoint's resource says which deployed models there are, their
Vertex models' versions say which registry version each is (`models.vertex_versions`); it is read at load, and again, at
most every `REREAD_S`, when the version is not there or an unknown deployed model answers. Every batch of a call must
come from a deployed model that is this version. Before its first rows, the endpoint must give the local copy's answers to
`probe_rows`, bit for bit. All else is `EndpointUnavailable`, and after some in a row the endpoint is left alone for a while.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from models.errors import EndpointMismatch, EndpointUnavailable
from models.loop_thread import LoopThread
from models.vertex_auth import Tokens, google_tokens
from models.vertex_client import Client
from models.vertex_payload import read_answer, request_batches
from models.vertex_rules import Breaker, State
from models.vertex_versions import Deployed, VertexModel, check_answers, display_name, is_version, probe_rows, read_resource
from models.vertex_versions import Endpoint as EndpointResource

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from models.handle import ModelHandle
    from models.vertex_auth import Token
    from models.vertex_payload import Answer, Batch
    from models.vertex_settings import EndpointSettings

REREAD_S: Final = 30.0
_LOAD_S: Final = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One call of a handle's predict, told to whoever counts: who answered, and if not the endpoint, why not."""

    by: Literal["endpoint", "local", "nobody"]
    model: str
    version: str
    rows: int
    seconds: float
    deployed_model: Deployed | None
    error: str | None
    breaker: State


@dataclass(slots=True)
class _Known:
    """What is known of a version on the endpoint: its deployed models by id, when that was read, whether its answers agree.

    Each version has its own breaker: while the endpoint still answers as the one before, the next must not be left alone.
    """

    handle: ModelHandle
    breaker: Breaker = field(default_factory=Breaker)
    last_failure: str = ""
    deployed: dict[str, Deployed] = field(default_factory=dict)
    read_s: float | None = None
    agrees: bool = False


class Endpoint:
    """One endpoint: its session and its token. Thread-safe. Nothing is contacted until it is asked."""

    def __init__(
        self,
        settings: EndpointSettings,
        *,
        fetch: Callable[[], Token] | None = None,
        seen: Callable[[Scored], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`fetch`: another source of tokens than Google's; `seen` is told of every call, on the caller's thread."""
        self.settings = settings
        self._tokens = Tokens(google_tokens(settings.credentials_file) if fetch is None else fetch, clock=wall)
        self._seen = seen
        self._clock = clock
        self._draw = draw
        self._lock = threading.Lock()
        self._thread = LoopThread("vertex-endpoint")
        self._client: Client | None = None

    def serve(self, handle: ModelHandle) -> ModelHandle:
        """The handle with the endpoint's predict; see `served_by_endpoint`."""
        known = _Known(handle)
        local = handle.predict
        self._look(known)

        def predict(values: NDArray[np.float64]) -> NDArray[np.float64]:
            if len(values) == 0:
                return np.empty(0)
            began_s = self._clock()
            deployed: Deployed | None = None
            error: str | None = None
            by: Literal["endpoint", "local", "nobody"] = "endpoint"
            try:
                answer, deployed = self._score(known, values)
            except EndpointUnavailable as e:
                error, by = str(e), "local" if self.settings.fallback == "local" else "nobody"
                if by == "nobody":
                    raise
                answer = local(values)
            finally:
                self._seen(
                    Scored(
                        by=by,
                        model=handle.name,
                        version=handle.version,
                        rows=len(values),
                        seconds=self._clock() - began_s,
                        deployed_model=deployed,
                        error=error,
                        breaker=known.breaker.state(now_s=self._clock()),
                    )
                )
            return answer

        return replace(handle, predict=predict)

    def close(self) -> None:
        """Close the session and end the thread."""
        if self._client is not None:
            self._thread.run(self._client.close(), timeout_s=5.0)
        self._thread.close()

    def _look(self, known: _Known) -> None:
        """Read what is deployed and compare answers, at load: an absent endpoint is no reason not to load, a wrong one may be."""
        try:
            self._thread.run(self._vouched(known, _LOAD_S), timeout_s=_LOAD_S)
        except EndpointMismatch:
            if self.settings.fallback == "abstain":
                raise
        except EndpointUnavailable:
            pass  # the first rows find out, and say so

    def _score(self, known: _Known, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], Deployed]:
        batches = request_batches(values, max_bytes=self.settings.max_request_bytes)
        with self._lock:
            known.breaker, may = known.breaker.ask(now_s=self._clock())
            if not may:
                raise EndpointUnavailable(f"the endpoint is left alone after repeated failures, the last: {known.last_failure}")
        try:
            found = self._thread.run(self._ask(known, batches), timeout_s=self.settings.timeout_s)
        except EndpointUnavailable as e:
            with self._lock:
                known.breaker, known.last_failure = known.breaker.failed(now_s=self._clock()), str(e)
            raise
        with self._lock:
            known.breaker = known.breaker.succeeded()
        return found

    async def _ask(self, known: _Known, batches: list[Batch]) -> tuple[NDArray[np.float64], Deployed]:
        timeout_s = self.settings.timeout_s
        await self._vouched(known, timeout_s)
        answers = await self._answers(batches, timeout_s)
        if any(a.deployed_model_id not in known.deployed for a in answers) and self._may_read(known):
            await self._read(known, timeout_s)
            await self._vouched(known, timeout_s)
        told = check_answers(answers, known.deployed, what=_what(known.handle))
        return np.concatenate([a.values() for a in answers]), known.deployed[told]

    async def _vouched(self, known: _Known, timeout_s: float) -> None:
        """Return when the version is deployed and has given the local copy's answers; raise `EndpointUnavailable` if not."""
        if not known.deployed and self._may_read(known):
            await self._read(known, timeout_s)
        if not known.deployed:
            raise EndpointMismatch(f"{_what(known.handle)} is not deployed on the endpoint; run models vertex-deploy")
        if known.agrees:
            return
        probe = probe_rows(known.handle.spec)
        expected = np.asarray(known.handle.predict(probe), dtype=np.float64)
        probe, expected = probe[np.isfinite(expected)], expected[np.isfinite(expected)]
        answers = await self._answers(request_batches(probe, max_bytes=self.settings.max_request_bytes), timeout_s)
        check_answers(answers, known.deployed, what=_what(known.handle))
        found = np.concatenate([a.values() for a in answers])
        if found.tobytes() != expected.tobytes():
            raise EndpointMismatch(
                f"{_what(known.handle)}: the endpoint computes {found.tolist()} where the registry's copy gives "
                f"{expected.tolist()}; serve it with the libraries it was published with"
            )
        known.agrees = True

    def _may_read(self, known: _Known) -> bool:
        return known.read_s is None or self._clock() - known.read_s >= REREAD_S

    async def _read(self, known: _Known, timeout_s: float) -> None:
        """Find the deployed models that are the handle's version."""
        client, handle, settings = self._opened(), known.handle, self.settings
        there = await client.call("GET", settings.api + settings.resource, timeout_s=timeout_s)
        found: dict[str, Deployed] = {}
        for one in read_resource(there, EndpointResource).deployed_models:
            try:
                said = await client.call("GET", settings.api + one.model_name, timeout_s=timeout_s)
            except EndpointMismatch:
                continue  # its model was deleted, so it is none of ours
            model = read_resource(said, VertexModel)
            if is_version(model, name=handle.name, version=handle.version, digest=handle.digest):
                found[one.id] = one
        known.agrees = known.agrees and found.keys() == known.deployed.keys()
        known.deployed, known.read_s = found, self._clock()

    async def _answers(self, batches: list[Batch], timeout_s: float) -> list[Answer]:
        """The answers to all batches, or the first failure, with the others called off."""
        client, url = self._opened(), self.settings.predict

        async def one(batch: Batch) -> Answer:
            return read_answer(await client.call("POST", url, batch.body, timeout_s=timeout_s), rows=batch.stop - batch.start)

        tasks = [asyncio.create_task(one(batch)) for batch in batches]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _opened(self) -> Client:
        if self._client is None:
            self._client = Client(self._tokens, calls_at_once=self.settings.calls_at_once, draw=self._draw)
        return self._client


def served_by_endpoint(handle: ModelHandle, endpoint: Endpoint) -> ModelHandle:
    """The handle of a loaded version, scored by the endpoint that has the same version deployed. Blocks: call it in a thread.

    Where the endpoint fails, the handle's own copy scores (`fallback` "local"), or the rows abstain ("abstain"). With
    "abstain" this raises `EndpointUnavailable` when the endpoint answers and has not this version, or computes otherwise;
    one that does not answer is tried again with the first rows.
    """
    return endpoint.serve(handle)


def _what(handle: ModelHandle) -> str:
    return f"model {handle.name!r} version {handle.version} ({display_name(handle.name, handle.version)})"
