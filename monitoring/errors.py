"""Errors of the monitoring package. `streams.errors` shows the whole tree; every message says what to do.

MonitoringError
├── BadReferenceError   a training reference that contradicts itself, or values that do not fit it
├── StateError          stored monitor state that this version cannot read
└── WarehouseError      the warehouse is locked, out of reach, or refused the rows
"""

from __future__ import annotations


class MonitoringError(Exception):
    """Base of everything the monitoring package raises on purpose."""


class BadReferenceError(MonitoringError):
    """A reference contradicts itself or the values counted against it. Action: publish the model again with a sound reference."""


class StateError(MonitoringError):
    """Stored state is of another layout, another reference, or damaged. Action: start that state afresh from the log."""


class WarehouseError(MonitoringError):
    """The warehouse is locked, unreachable, or refused rows. Action: see the message; `database.*` says where it is."""
