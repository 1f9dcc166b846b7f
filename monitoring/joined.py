"""Whose predictions are watched. Core."""

from __future__ import annotations

from typing import NamedTuple


class Scorer(NamedTuple):
    """One model version in one role."""

    model: str
    version: str
    role: str
