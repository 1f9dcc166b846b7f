"""Which deployed model of an endpoint is which version of the registry. Core.

What `models.vertex_requests` writes when it uploads a version, and what is read back:

| of the Vertex model    | holds                                         | belongs to                              |
|------------------------|-----------------------------------------------|-----------------------------------------|
| `versionDescription`   | the registry's name, version and whole digest | the version: this is what is checked    |
| `versionAliases`       | ``v<version>``, by which it is found          | the version                             |
| `labels`               | version and 60 digits, to search by           | merged with the model's, so not checked |
| `displayName`          | the registry's name                           | the model, all versions of it           |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import numpy as np

from models.errors import EndpointMismatch, EndpointUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from models.spec import ServingSpec
    from models.vertex_payload import Answer

VERSION_LABEL: Final = "registry-version"
DIGEST_LABEL: Final = "artifact-digest"
DIGEST_DIGITS: Final = 60

_T = TypeVar("_T")


class Deployed(msgspec.Struct, frozen=True, rename="camel"):
    """A deployed model of an endpoint: its id there, the Vertex model's resource name, and that model's version."""

    id: str
    model: str
    model_version_id: str = ""
    display_name: str = ""

    @property
    def model_name(self) -> str:
        """The resource name of exactly this version."""
        base = self.model.partition("@")[0]
        return f"{base}@{self.model_version_id}" if self.model_version_id else self.model


class Endpoint(msgspec.Struct, frozen=True, rename="camel"):
    """The endpoint resource, as far as it is read here."""

    name: str
    deployed_models: tuple[Deployed, ...] = ()
    traffic_split: dict[str, int] = {}


class VertexModel(msgspec.Struct, frozen=True, rename="camel"):
    """The model resource, as far as it is read here."""

    name: str
    version_id: str = ""
    version_description: str = ""


def display_name(name: str, version: str) -> str:
    """What a deployed version is called on its endpoint.

    >>> display_name("ret_5d", "7")
    'ret_5d-v7'
    """
    return f"{name}-v{version}"


def labels(version: str, digest: str) -> dict[str, str]:
    """The labels to search for a version by; a value has at most 63 or 64 characters, of lower case.

    >>> labels("7", "ab" * 32)["registry-version"]
    '7'
    """
    return {VERSION_LABEL: version, DIGEST_LABEL: digest[:DIGEST_DIGITS]}


def read_resource(body: bytes, kind: type[_T]) -> _T:
    """A resource from its JSON; raises `EndpointUnavailable` for anything else."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as e:
        raise EndpointUnavailable(f"Vertex AI's {kind.__name__.lower()} resource cannot be read: {e}") from e


def description(name: str, version: str, digest: str) -> str:
    """The one line that says which version of the registry a Vertex model version is.

    >>> description("ret_5d", "7", "ab" * 32)
    'registry model ret_5d version 7, artifact digest abab...'
    """
    return f"registry model {name} version {version}, artifact digest {digest}"


def is_version(model: VertexModel, *, name: str, version: str, digest: str) -> bool:
    """Whether a Vertex model version is this version of the registry."""
    return model.version_description == description(name, version, digest)


def check_answers(answers: Sequence[Answer], mine: Mapping[str, Deployed], *, what: str) -> str:
    """The id of the deployed model that gave all answers. Raises `EndpointMismatch` unless they are all of `mine`.

    `mine`: by id, the deployed models that are the version asked for (several when it is deployed more than once).
    """
    ids = sorted({a.deployed_model_id for a in answers})
    strangers = [i for i in ids if i not in mine]
    if strangers and len(ids) > 1:
        raise EndpointMismatch(
            f"{what}: answers to one call came from deployed models {', '.join(ids)}; send all traffic to one version"
        )
    if strangers:
        raise EndpointMismatch(
            f"{what}: deployed model {ids[0]} answered, which is another version; deploy this one with all traffic"
        )
    for a in answers:
        expected = mine[a.deployed_model_id].model_version_id
        if a.model_version_id and expected and a.model_version_id != expected:
            raise EndpointMismatch(
                f"{what}: deployed model {a.deployed_model_id} answered as model version {a.model_version_id}, not {expected}"
            )
    return ids[0]


def probe_rows(spec: ServingSpec) -> NDArray[np.float64]:
    """Vectors to compare an endpoint with the local copy on, float64[4, columns].

    The low end, a third of the way and the high end of every column's training range (0 where none is known), then the second
    with the first column missing.
    """
    ranges: list[Any] = [spec.reference.get(c.name) for c in spec.columns]
    low = np.array([0.0 if r is None else r.low for r in ranges])
    high = np.array([0.0 if r is None else r.high for r in ranges])
    inner = low + (high - low) / 3.0
    gap = inner.copy()
    gap[0] = np.nan
    return np.stack([low, inner, high, gap])
