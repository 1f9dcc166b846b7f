"""The other end of an endpoint: one model version served inside a Vertex AI container, computed as a worker computes it. Shell.

Vertex AI copies the artifacts to a bucket of its own and starts the container with variables; `vertex-deploy` adds those
that say which version it is. The files must have the registered digest, and the model pass every check of a worker:

| variable                                | from             | meaning                                            |
|-----------------------------------------|------------------|----------------------------------------------------|
| `AIP_STORAGE_URI`                       | Vertex AI        | gs:// folder with the version's files              |
| `AIP_HTTP_PORT`                         | Vertex AI        | port to listen on                                  |
| `AIP_PREDICT_ROUTE`, `AIP_HEALTH_ROUTE` | Vertex AI        | where it asks for predictions, and whether we live |
| `TRADING_ML_MODEL`, `_VERSION`, `_DIGEST` | `vertex-deploy` | the registered version and the digest of its files |
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from models.artifacts import MAX_BYTES, MAX_FILES, verify_digest
from models.errors import RegistryUnreachable, RuntimeMissing, SpecError, UntrustedModel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp import web

    from models.handle import ModelHandle

_LONGEST_REQUEST: Final = 16 << 20
_NEEDED: Final = (
    "AIP_STORAGE_URI",
    "AIP_HTTP_PORT",
    "AIP_PREDICT_ROUTE",
    "AIP_HEALTH_ROUTE",
    "TRADING_ML_MODEL",
    "TRADING_ML_MODEL_VERSION",
    "TRADING_ML_MODEL_DIGEST",
)


class _Instances(msgspec.Struct, frozen=True):
    instances: list[list[float | None]]


def serve(env: Mapping[str, str]) -> None:
    """Load what the variables name and serve it until the process is ended. Raises `ModelError` before it listens."""
    from aiohttp import web

    handle = load_from(env, download)
    app = container_app(handle, predict_route=env["AIP_PREDICT_ROUTE"], health_route=env["AIP_HEALTH_ROUTE"])
    web.run_app(app, host="0.0.0.0", port=int(env["AIP_HTTP_PORT"]), print=None)  # noqa: S104 - Vertex AI reaches it from outside the container


def load_from(env: Mapping[str, str], fetch: Callable[[str, Path], None]) -> ModelHandle:
    """The handle of the version that the variables name; `fetch` brings a gs:// folder's files into an empty local one."""
    from models.folder import load_folder
    from models.trials import Trials

    missing = [name for name in _NEEDED if not env.get(name)]
    if missing:
        raise SpecError(f"{', '.join(missing)} not set: this command runs in a container that models vertex-deploy deployed")
    name, version, digest = env["TRADING_ML_MODEL"], env["TRADING_ML_MODEL_VERSION"], env["TRADING_ML_MODEL_DIGEST"]
    with tempfile.TemporaryDirectory(prefix="trading-ml-vertex-") as scratch:
        folder = Path(scratch)
        fetch(env["AIP_STORAGE_URI"], folder)
        verify_digest(folder, expected=digest, what=f"model {name!r} version {version}")
        return load_folder(
            folder, name=name, version=version, digest=digest, trials=Trials(folder.with_name(f"{folder.name}-trials"))
        )


def container_app(handle: ModelHandle, *, predict_route: str, health_route: str) -> web.Application:
    """The HTTP server of one version: predictions for ``{"instances": [[…], …]}``, null = missing, and its health."""
    from aiohttp import web

    width = len(handle.spec.columns)

    async def predict(request: web.Request) -> web.Response:
        try:
            instances = msgspec.json.decode(await request.read(), type=_Instances).instances
        except (msgspec.MsgspecError, UnicodeDecodeError) as e:
            return _refused(400, f"{e}; right is instances, a list of numbers or null for each row")
        if any(len(row) != width for row in instances):
            return _refused(400, f"every instance needs the {width} values of the model's columns")
        values = np.array(instances, dtype=np.float64).reshape(len(instances), width)
        try:
            answer = np.asarray(await asyncio.to_thread(handle.predict, values), dtype=np.float64)
        except Exception as e:  # noqa: BLE001 - whatever a model raises is an answer of this server
            return _refused(500, f"predict raised {type(e).__name__}: {e}")
        said = [v if np.isfinite(v) else None for v in answer.tolist()]
        return web.Response(body=msgspec.json.encode({"predictions": said}), content_type="application/json")

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"model": handle.name, "version": handle.version, "digest": handle.digest})

    app = web.Application(client_max_size=_LONGEST_REQUEST)
    app.add_routes([web.post(predict_route, predict), web.get(health_route, health)])
    return app


def download(uri: str, to: Path) -> None:
    """Bring the files below a gs:// folder into `to`; their names may not lead out of it. Raises `ModelError`."""
    try:
        from google.api_core.exceptions import GoogleAPIError
        from google.auth.exceptions import GoogleAuthError
        from google.cloud.storage import Client  # type: ignore[import-untyped]  # it ships no types
    except ImportError as e:
        raise RuntimeMissing("serving in a container needs the extra gcp: install trading-ml-inference[gcp]") from e
    bucket, _, prefix = uri.removeprefix("gs://").strip("/").partition("/")
    prefix = f"{prefix}/" if prefix else ""
    length = 0
    try:
        blobs = [b for b in Client().list_blobs(bucket, prefix=prefix, max_results=MAX_FILES + 1) if b.name != prefix]
        for blob in blobs:
            file = (to / str(blob.name).removeprefix(prefix)).resolve()
            length += int(blob.size)
            if not file.is_relative_to(to.resolve()) or length > MAX_BYTES or len(blobs) > MAX_FILES:
                raise UntrustedModel(f"{uri} has {blob.name!r}: not the files of one model folder, or too many")
            file.parent.mkdir(parents=True, exist_ok=True)
            blob.download_to_filename(str(file))
    except (GoogleAPIError, GoogleAuthError, OSError) as e:
        raise RegistryUnreachable(f"{uri} cannot be read: {type(e).__name__}: {e}; check the container's service account") from e


def _refused(status: int, message: str) -> web.Response:
    from aiohttp import web

    return web.json_response({"error": message}, status=status)
