"""The worker with a model at hand instead of a registry, so that it starts in a second or two; all else is the real one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from config import load_settings
from models.handle import ModelHandle
from models.registry import Resolution
from streams import app
from tests.broker.inference_rows import MODEL, SPEC, VERSION

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _sum(x: NDArray[np.float64]) -> NDArray[np.float64]:
    total: NDArray[np.float64] = np.nan_to_num(x).sum(axis=1)
    return total


class AtHand:
    """Knows one model."""

    _handle = ModelHandle(name=MODEL, version=VERSION, digest="", spec=SPEC, predict=_sum)

    def resolve(self, _name: str, _alias: str) -> str:
        return VERSION

    def load(self, _name: str, _version: str) -> ModelHandle:
        return self._handle

    def lookup(self, _name: str, _alias: str) -> Resolution:
        return Resolution(VERSION, from_cache=False)

    def pin(self, _name: str, _version: str) -> None:
        """It is kept anyway."""

    def unpin(self, _name: str, _version: str) -> None:
        """The same."""


if __name__ == "__main__":
    composition: Any = app
    composition.registry_of = lambda _settings: AtHand()
    app.run_worker(load_settings(), "inference")
