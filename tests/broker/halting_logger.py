"""A process that logs windows to the registry, and stands still at a point where it is then killed."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

from config import load_settings
from models.version_metrics import VersionMetrics
from streams.registry_metrics import RegistryMetrics
from streams.unlogged import Unlogged

MARK = "TESTS_MARK"
"""Environment variable: the file that is there once it stands still."""
POINT = "TESTS_POINT"
"""Environment variable: `tag`, when numbers are logged and the version's tags are not; `commit`, when all is, and not noted."""


def stand_still() -> None:
    """For good."""
    Path(os.environ[MARK]).touch()
    threading.Event().wait()


def main() -> None:
    """As the thread in a monitor."""
    commit = Unlogged.commit

    def before_commit(self: Unlogged) -> None:
        if any(offset > 0 for offset in self._next.values()) and not self._waiting:
            stand_still()
        commit(self)

    def before_tag(_self: VersionMetrics, *_: object) -> None:
        stand_still()

    halted: Any = {"commit": (Unlogged, before_commit), "tag": (VersionMetrics, before_tag)}
    owner, method = halted[os.environ[POINT]]
    setattr(owner, os.environ[POINT], method)
    settings = load_settings()
    thread = RegistryMetrics(settings.kafka, settings.mlflow.tracking_uri)
    thread.start()
    thread.duty(on=True)
    signal.pause()


if __name__ == "__main__":
    main()
