"""MLflow's client as this project uses it: short timeouts, no telemetry, quiet logs, our errors. Shell.

Left alone the client retries seven times with growing pauses, for about four minutes, and blocks; so call it from a
thread, never from an event loop. Environment variables that the operator has set stand.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from models.errors import ModelError, RegistryError, RegistryUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow import MlflowClient

_ENVIRONMENT: Final = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_UV_AUTO_DETECT": "false",  # or a pyfunc carries the pyproject.toml and uv.lock of the folder it was saved from
    "MLFLOW_LOG_UV_FILES": "false",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
_ANSWERED: Final = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"})
"""Error codes by which a registry that is up says it does not hold what was asked for."""


def set_environment() -> None:
    """Set what MLflow reads from the environment, where the operator has not. Before the first import of MLflow."""
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)


def connect(tracking_uri: str) -> MlflowClient:
    """A client of the registry at `tracking_uri`; for ``sqlite:///var/mlflow.db`` the folder is made first."""
    set_environment()
    if tracking_uri.startswith("sqlite:///"):
        Path(tracking_uri.removeprefix("sqlite:///").split("?")[0]).parent.mkdir(parents=True, exist_ok=True)
    from mlflow import MlflowClient

    with registry_errors(f"the registry at {tracking_uri}"):
        return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


@contextmanager
def registry_errors(what: str) -> Iterator[None]:
    """Turn what MLflow raises into `RegistryError` (it answered no) or `RegistryUnreachable` (it did not answer)."""
    try:
        yield
    except ModelError:
        raise
    except Exception as e:
        # MLflow lets requests', SQLAlchemy's and storage clients' exceptions through; only its own code tells "no".
        if getattr(e, "error_code", None) in _ANSWERED:
            msg = f"{what}: the registry says {e}; check the name, the version and the alias"
            raise RegistryError(_without_login(msg)) from e
        msg = f"{what}: the registry did not answer ({type(e).__name__}: {e}); check mlflow.tracking_uri and the network"
        raise RegistryUnreachable(_without_login(msg)) from e


def _without_login(text: str) -> str:
    """A message without what stands before the @ of an address: the settings refuse one, other callers may have one."""
    return re.sub(r"(?<=://)\S*@", "********@", text)
