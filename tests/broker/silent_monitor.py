"""The light monitor with a registry whose model has a bar every half second, so that silence takes seconds."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from config import load_settings
from streams import app
from tests.unit.streams.monitor_world import spec

if TYPE_CHECKING:
    from models.spec import ServingSpec

BAR_US = 500_000
SLOW = "TESTS_SECONDS_OF_A_QUESTION"
"""Environment variable: how long the registry takes for an answer."""


class Registry:
    """A registry of quick models."""

    def load_spec(self, name: str, _version: str) -> ServingSpec:
        time.sleep(float(os.environ.get(SLOW, "0")))  # as long as a registry may take
        made = spec(name)
        sets = {n: replace(s, bar_us=BAR_US) for n, s in made.feature_sets.items()}
        return replace(made, feature_sets=sets)


def main() -> None:
    """As `trading-ml worker monitor`."""
    at_hand: Any = lambda _settings: Registry()  # noqa: E731 - it takes a function's place
    app.registry_of = at_hand
    app.run_worker(load_settings(), "monitor")


if __name__ == "__main__":
    main()
