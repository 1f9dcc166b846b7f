"""Errors of the demo.

StreamsError
└── DemoError
    ├── DemoDataMissing   matplotlib's sample data is not installed
    └── DemoFailed        a process died, a row is unaccounted for, or it took too long
"""

from __future__ import annotations

from streams.errors import StreamsError


class DemoError(StreamsError):
    """Base of everything the demo raises on purpose."""


class DemoDataMissing(DemoError):
    """The real data is not installed. Action: install matplotlib's wheel, or run the synthetic demo."""


class DemoFailed(DemoError):
    """The run broke its promise. Action: read the log the message names."""
