"""What every test stands on: the same examples every time, and none of the developer's own settings."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("same-every-time", derandomize=True, deadline=None, max_examples=100, database=None)
settings.load_profile("same-every-time")

# A developer's own CONFIG_PATH or overrides must not change what a test, or a process it starts, sees.
for _name in [name for name in os.environ if name == "CONFIG_PATH" or name.upper().startswith("TRADING_ML__")]:
    del os.environ[_name]
