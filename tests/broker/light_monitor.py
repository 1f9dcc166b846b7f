"""The monitor with a registry at hand, so that it starts without MLflow; all else is the real one."""

from __future__ import annotations

from typing import Any

from config import load_settings
from streams import app
from tests.unit.streams.monitor_world import Registry


def main() -> None:
    """As `trading-ml worker monitor`."""
    at_hand: Any = lambda _settings: Registry()  # noqa: E731 - it takes a function's place
    app.registry_of = at_hand
    app.run_worker(load_settings(), "monitor")


if __name__ == "__main__":
    main()
