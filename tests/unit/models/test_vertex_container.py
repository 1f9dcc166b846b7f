"""The container's side: the version that was registered, and no other, answers with a worker's bits."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer

from models.artifacts import folder_digest
from models.errors import SpecError, UntrustedModel
from models.folder import load_folder
from models.vertex_container import container_app, load_from
from models.vertex_payload import read_answer, request_batches

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from models.handle import ModelHandle


def variables(digest: str) -> dict[str, str]:
    """As Vertex AI and the deployment set them."""
    return {
        "AIP_STORAGE_URI": "gs://copied/models/1",
        "AIP_HTTP_PORT": "8080",
        "AIP_PREDICT_ROUTE": "/predict",
        "AIP_HEALTH_ROUTE": "/healthz",
        "TRADING_ML_MODEL": "m",
        "TRADING_ML_MODEL_VERSION": "1",
        "TRADING_ML_MODEL_DIGEST": digest,
    }


def fetching(folder: Path) -> Callable[[str, Path], None]:
    def fetch(uri: str, to: Path) -> None:
        assert uri == "gs://copied/models/1"
        shutil.copytree(folder, to, dirs_exist_ok=True)

    return fetch


async def test_it_answers_a_workers_requests_with_a_workers_bits(boosted: Path, data: Any) -> None:
    digest = folder_digest(boosted)
    handle = load_from(variables(digest), fetching(boosted))
    worker = load_folder(boosted, name="m", version="1", digest=digest)
    values = data.x.copy()
    values[::5, 2] = np.nan
    async with TestClient(TestServer(container_app(handle, predict_route="/predict", health_route="/healthz"))) as client:
        health = await client.get("/healthz")
        assert (health.status, await health.json()) == (200, {"model": "m", "version": "1", "digest": digest})
        for batch in request_batches(values, max_bytes=10_000):
            said = json.loads(await (await client.post("/predict", data=batch.body)).read())
            # What Vertex AI adds on the way.
            answer = read_answer(json.dumps(said | {"deployedModelId": "1"}).encode(), rows=batch.stop - batch.start)
            assert answer.values().tobytes() == worker.predict(values[batch.start : batch.stop]).tobytes()


def test_files_other_than_those_registered_are_not_served(boosted: Path) -> None:
    with pytest.raises(UntrustedModel, match="digest"):
        load_from(variables("00" * 32), fetching(boosted))


@pytest.mark.parametrize("name", sorted(variables("")))
def test_a_variable_that_is_missing_is_named(name: str, boosted: Path) -> None:
    given = variables(folder_digest(boosted))
    del given[name]
    with pytest.raises(SpecError, match=f"^{name} not set"):
        load_from(given, fetching(boosted))


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "right is instances"),
        (b'{"instances": [[1, 2]]}', 400, "the 3 values of the model's columns"),
        (b'{"instances": [["1", 2, 3]]}', 400, "right is instances"),
        (b'{"instances": [[NaN, 2, 3]]}', 400, "right is instances"),
        (b'{"instances": [[1, 2, 3]]}', 500, "predict raised ZeroDivisionError"),
        (b'{"instances": []}', 500, "predict raised ZeroDivisionError"),
    ],
)
async def test_what_cannot_be_answered_is_said(
    body: bytes, status: int, says: str, make_handle: Callable[..., ModelHandle]
) -> None:
    handle = make_handle(lambda _: np.zeros(1) * (1 // 0))
    async with TestClient(TestServer(container_app(handle, predict_route="/p", health_route="/h"))) as client:
        response = await client.post("/p", data=body)
        assert response.status == status
        assert says in (await response.json())["error"]


async def test_an_answer_that_is_no_number_is_null(make_handle: Callable[..., ModelHandle]) -> None:
    handle = replace(make_handle(lambda x: np.array([np.nan, np.inf, 0.1])[: len(x)]))
    async with TestClient(TestServer(container_app(handle, predict_route="/p", health_route="/h"))) as client:
        response = await client.post("/p", data=b'{"instances": [[1, 2, 3], [1, 2, 3], [1, null, 3]]}')
        assert await response.json() == {"predictions": [None, None, 0.1]}
