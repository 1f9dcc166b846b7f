"""What a model version was trained on, from the registry, for the monitor. Shell.

A registry that does not answer holds nothing up: drift of that version is not measured meanwhile, and the registry is
asked again with a later batch, at the earliest `RETRY_S` after the last attempt since asking blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import msgspec
import structlog

from monitoring.reference import Reference
from streams import metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.spec import ServingSpec

log = structlog.get_logger()

RETRY_S = 10.0
"""Least time between two questions about a version that could not be had."""


class SpecSource(Protocol):
    """What is needed of the registry."""

    def load_spec(self, name: str, version: str) -> ServingSpec:
        """The version's serving spec; may raise anything."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """What a version is measured against. The model's own answer is one more column, the last, named `prediction`."""

    reference: Reference
    prediction: str
    bar_us: int


class References:
    """Training references by version, each asked for once."""

    def __init__(self, registry: SpecSource, *, clock: Callable[[], float]) -> None:
        """`clock`: seconds, never going back."""
        self._registry = registry
        self._clock = clock
        self._trained: dict[tuple[str, str, tuple[str, ...]], Trained] = {}
        self._asked: dict[tuple[str, str, tuple[str, ...]], float] = {}

    def get(self, model: str, version: str, columns: tuple[str, ...]) -> Trained | None:
        """The version's, for vectors of these columns; None while it cannot be had."""
        key = (model, version, columns)
        known = self._trained.get(key)
        if known is not None:
            return known
        asked = self._asked.get(key)
        if asked is not None and self._clock() < asked + RETRY_S:
            return None
        try:
            trained = _trained(self._registry.load_spec(model, version), columns)
        except Exception as e:  # noqa: BLE001 - whatever fails, monitoring goes on
            self._asked[key] = self._clock()
            metrics.REGISTRY_FAILURES.inc()
            log.warning(
                "no reference for this version, drift is not measured until there is", model=model, version=version, error=str(e)
            )
            return None
        self._trained[key] = trained
        return trained


def _trained(spec: ServingSpec, columns: tuple[str, ...]) -> Trained:
    prediction = "prediction"
    while prediction in columns:
        prediction += "_"
    known = {name: msgspec.to_builtins(r) for name, r in spec.reference.items() if name in columns}
    if spec.prediction_reference is not None:
        known[prediction] = msgspec.to_builtins(spec.prediction_reference)
    reference = Reference.from_columns((*columns, prediction), known)
    return Trained(reference, prediction, spec.feature_sets[spec.trigger].bar_us)
