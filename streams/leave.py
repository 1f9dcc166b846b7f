"""Leaving the process at once, with one clear line, so that its supervisor starts it again. Shell."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

EX_SOFTWARE = 70
"""Our own error: a chunk could not be processed."""
EX_TEMPFAIL = 75
"""Something around us failed (broker, disk): starting again is the cure."""
EX_CONFIG = 78
"""The settings are wrong: starting again does not help."""


def leave(code: int, message: str) -> NoReturn:
    """Say why and end the process without unwinding: nothing may be acknowledged on the way out."""
    sys.stderr.write(f"trading-ml: {message}\n")
    sys.stderr.flush()
    os._exit(code)
