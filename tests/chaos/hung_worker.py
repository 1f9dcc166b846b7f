"""The light worker with a model that never answers, and says so in a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config import load_settings
from models.handle import ModelHandle
from streams import app
from tests.broker.inference_rows import MODEL, SPEC, VERSION
from tests.broker.light_worker import AtHand

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def main() -> None:
    """Run it."""
    settings = load_settings()
    mark = Path(settings.storage.state_dir) / "hangs"

    def never(_: NDArray[np.float64]) -> NDArray[np.float64]:
        mark.touch()
        while True:
            time.sleep(3600)

    class Hung(AtHand):
        _handle = ModelHandle(name=MODEL, version=VERSION, digest="", spec=SPEC, predict=never)

    composition: Any = app
    composition.registry_of = lambda _settings: Hung()
    app.run_worker(settings, "inference")


if __name__ == "__main__":
    main()
