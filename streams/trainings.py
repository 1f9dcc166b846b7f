"""What versions were trained on, for commands: asked of the registry once each. Shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from models.errors import ModelError
from monitoring.errors import MonitoringError
from streams.trained import trained_of

if TYPE_CHECKING:
    from streams.references import SpecSource
    from streams.trained import Trained

log = structlog.get_logger()


class Trainings:
    """Of one model's versions."""

    def __init__(self, registry: SpecSource, model: str) -> None:
        self._registry = registry
        self._model = model
        self._known: dict[str, Trained | None] = {}

    def get(self, version: str) -> Trained:
        """The version's. Raises `ModelError` where the registry does not answer, `BadReferenceError` for a bad reference."""
        spec = self._registry.load_spec(self._model, version)
        return trained_of(spec, tuple(c.name for c in spec.columns))

    def find(self, version: str) -> Trained | None:
        """The same, None where it cannot be had; that is logged once."""
        if version not in self._known:
            try:
                self._known[version] = self.get(version)
            except (ModelError, MonitoringError, OSError) as e:
                log.warning("no training reference of this version", model=self._model, version=version, error=str(e))
                self._known[version] = None
        return self._known[version]
