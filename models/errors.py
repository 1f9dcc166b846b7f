"""Errors of the models package. `streams.errors` shows the whole tree; every message says what to do.

ModelError
├── SpecError          a serving spec that contradicts itself or its model
├── RegistryError      the registry does not hold what was asked for
│   └── RegistryUnreachable   it did not answer at all, and the cache does not know either
├── UntrustedModel     a version whose files may run code, or whose bytes are not those registered
├── RuntimeMissing     the version names a runtime that is not installed here
└── ModelOutputError   predict raised, or returned the wrong length, or something not finite
"""

from __future__ import annotations


class ModelError(Exception):
    """Base of everything the models package raises on purpose."""


class SpecError(ModelError):
    """A serving spec contradicts itself or its model. Action: correct the spec and publish again."""


class RegistryError(ModelError):
    """The registry lacks the model, version or alias, or is out of reach. Action: check the name and the alias."""


class RegistryUnreachable(RegistryError):
    """The registry did not answer, and the cache does not know. Action: check `mlflow.tracking_uri` and the network."""


class UntrustedModel(ModelError):
    """A version's files may run code or differ from the registered digest. Action: publish it again in a data-only format."""


class RuntimeMissing(ModelError):
    """A version names a runtime whose packages are not installed. Action: install the extra named, or publish it natively."""


class ModelOutputError(ModelError):
    """A model raised or answered with the wrong length or a value that is not finite. Action: roll the alias back."""
