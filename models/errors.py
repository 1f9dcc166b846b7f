"""Errors of the models package. `streams.errors` shows the whole tree; every message says what to do.

ModelError
├── SpecError          a serving spec that contradicts itself or its model
├── RegistryError      the registry does not hold what was asked for
│   └── RegistryUnreachable   it did not answer at all, and the cache does not know either
├── BucketError        the bucket of the artifact cache did not answer or refused; work goes on without it
├── UntrustedModel     a version whose files may run code, whose bytes are not those registered, or that fails its trial
├── RuntimeMissing     the version names a runtime that is not installed here
├── ModelOutputError   predict raised, or returned the wrong length, or something not finite
├── ChallengerUnavailable   a challenger's process did not answer in time, ended, or is not there yet
└── EndpointUnavailable   a Vertex AI endpoint did not answer in time
    ├── EndpointMismatch   it answers, but not as the version asked for
    └── UnsendableVector   a vector holds an infinity or is too long for a request
"""

from __future__ import annotations

from typing import Literal

Check = Literal["files", "digest", "flavor", "model", "spec", "runtime", "example", "output", "time", "trial"]
"""What is checked before a version is put to use, for alerts and metrics to name.

`files` plain, few, small enough; `digest` the bytes registered; `flavor` a data-only format, in MLflow's layout; `model`
the model file is what its format says; `spec` fits the model; `runtime` its packages are here; `example` scores to its
logged answers; `output` of any batch has the same bits; `time` a row takes; `trial` in a process of its own, survived.
"""


class ModelError(Exception):
    """Base of everything the models package raises on purpose. `check` names the check that a version failed, if one did."""

    check: Check | None = None


class SpecError(ModelError):
    """A serving spec contradicts itself or its model. Action: correct the spec and publish again."""

    check: Check | None = "spec"


class RegistryError(ModelError):
    """The registry lacks the model, version or alias, or is out of reach. Action: check the name and the alias."""


class RegistryUnreachable(RegistryError):
    """The registry did not answer, and the cache does not know. Action: check `mlflow.tracking_uri` and the network."""


class BucketError(ModelError):
    """The cache's bucket is away or refuses; work goes on without it. Action: check `storage.cache_dir` and our role in it."""


class UntrustedModel(ModelError):
    """A version's files may run code, are not those registered, or fail their trial. Action: publish it again, as data only."""

    def __init__(self, message: str, *, check: Check = "digest") -> None:
        super().__init__(message)
        self.check: Check | None = check


class RuntimeMissing(ModelError):
    """A version names a runtime whose packages are not installed. Action: install the extra named, or publish it natively."""

    check: Check | None = "runtime"


class ModelOutputError(ModelError):
    """A model raised or answered with the wrong length or a value that is not finite. Action: roll the alias back."""

    def __init__(self, message: str, *, check: Check = "output") -> None:
        super().__init__(message)
        self.check: Check | None = check


class ChallengerUnavailable(ModelError):
    """A challenger's process hung, ended or starts again; its rows abstain. Action: see the message; give the alias another.

    `told`: the same was said before.
    """

    def __init__(self, message: str, *, told: bool = False) -> None:
        super().__init__(message)
        self.told = told


class EndpointUnavailable(ModelError):
    """A Vertex AI endpoint failed or was too slow, and its rows may abstain. Action: see the message and docs/vertex.md."""


class EndpointMismatch(EndpointUnavailable):
    """The endpoint has not the version asked for, or computes otherwise. Action: run `models vertex-deploy` for the version."""


class UnsendableVector(EndpointUnavailable):
    """A vector holds an infinity or is too long for a request. Action: correct its producer; raise `vertex.max_request_bytes`."""
