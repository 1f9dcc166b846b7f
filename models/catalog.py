"""What the registry lists: versions of a model, their aliases, tags and metrics; and moving an alias. Shell, for commands.

Workers do not come here: they ask `models.registry`, which verifies what it hands out. All calls block.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from models.artifacts import DIGEST_TAG
from models.mlflow_client import registry_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True, slots=True)
class ListedVersion:
    """One version as the registry lists it. `digest` None: it was not published by `models.publish`, and cannot be served."""

    name: str
    version: str
    digest: str | None
    created_us: int
    aliases: tuple[str, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    run_id: str | None = None


def list_versions(client: MlflowClient, name: str) -> list[ListedVersion]:
    """All versions of a registered model, newest first. Raises `RegistryError` if there is no such model."""
    with registry_errors(f"model {name!r}"):
        aliases = _aliases(client, name)
        found, token = [], None
        while True:
            page = client.search_model_versions(f"name='{name}'", max_results=200, page_token=token)
            found += [_listed(v, aliases) for v in page]
            token = page.token
            if not token:
                break
    return sorted(found, key=lambda v: -int(v.version))


def find_version(client: MlflowClient, name: str, version: str) -> ListedVersion:
    """One version. Raises `RegistryError` if there is none."""
    with registry_errors(f"model {name!r} version {version}"):
        return _listed(client.get_model_version(name, version), _aliases(client, name))


def version_of_alias(client: MlflowClient, name: str, alias: str) -> str | None:
    """What the alias names, None if nothing. Raises `RegistryError` if there is no such model."""
    with registry_errors(f"model {name!r}"):
        return _aliases(client, name).get(alias)


def run_metrics(client: MlflowClient, listed: ListedVersion) -> dict[str, float]:
    """The metrics logged with a version, by name; none if its run is not there."""
    if not listed.run_id:
        return {}
    with registry_errors(f"the run of model {listed.name!r} version {listed.version}"):
        return dict(sorted(client.get_run(listed.run_id).data.metrics.items()))


def move_alias(client: MlflowClient, name: str, alias: str, version: str | None) -> None:
    """Let the alias name this version; None takes it away. Raises `RegistryError`."""
    with registry_errors(f"model {name!r}, alias {alias!r}"):
        if version is None:
            client.delete_registered_model_alias(name, alias)
        else:
            client.set_registered_model_alias(name, alias, version)


def _aliases(client: MlflowClient, name: str) -> dict[str, str]:
    return {alias: str(version) for alias, version in client.get_registered_model(name).aliases.items()}


def _listed(v: ModelVersion, aliases: dict[str, str]) -> ListedVersion:
    tags = dict(v.tags)
    return ListedVersion(
        name=str(v.name),
        version=str(v.version),
        digest=tags.get(DIGEST_TAG),
        created_us=int(v.creation_timestamp) * 1000,
        aliases=tuple(sorted(alias for alias, named in aliases.items() if named == str(v.version))),
        tags=tags,
        run_id=v.run_id or None,
    )
