"""What model versions were trained on, from the registry, for the monitor. Shell.

A registry that does not answer holds nothing up: drift of that version is not measured meanwhile, and the registry is
asked again with a later batch, at the earliest `RETRY_S` after the last attempt since asking blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import structlog

from streams import metrics
from streams.trained import trained_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.spec import ServingSpec
    from streams.trained import Trained

log = structlog.get_logger()

_Key = tuple[str, str, "tuple[str, ...] | None"]

RETRY_S = 10.0
"""Least time between two questions about a version that could not be had."""


class SpecSource(Protocol):
    """What is needed of the registry."""

    def load_spec(self, name: str, version: str) -> ServingSpec:
        """The version's serving spec; may raise anything."""
        ...


class References:
    """Training references by version, each asked for once."""

    def __init__(self, registry: SpecSource, *, clock: Callable[[], float]) -> None:
        """`clock`: seconds, never going back."""
        self._registry = registry
        self._clock = clock
        self._trained: dict[_Key, Trained] = {}
        self._asked: dict[_Key, float] = {}

    def known(self, model: str, version: str) -> Trained | None:
        """The version's, for vectors as its spec has them; None while it cannot be had."""
        return self.get(model, version, None)

    def get(self, model: str, version: str, columns: tuple[str, ...] | None) -> Trained | None:
        """The version's, for vectors of these columns; None while it cannot be had."""
        key = (model, version, columns)
        known = self._trained.get(key)
        if known is not None:
            return known
        asked = self._asked.get(key)
        if asked is not None and self._clock() < asked + RETRY_S:
            return None
        try:
            spec = self._registry.load_spec(model, version)
            own = tuple(c.name for c in spec.columns)
            trained = trained_of(spec, own if columns is None else columns)
        except Exception as e:  # noqa: BLE001 - whatever fails, monitoring goes on
            self._asked[key] = self._clock()
            metrics.REGISTRY_FAILURES.inc()
            log.warning(
                "no reference for this version, drift is not measured until there is", model=model, version=version, error=str(e)
            )
            return None
        self._trained[key] = trained
        if columns is None or columns == own:
            self._trained[model, version, None] = self._trained[model, version, own] = trained
        return trained
