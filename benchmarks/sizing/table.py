"""A size as lines of text, each with its unit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.sizing.model import Size

_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")
_NEXT_UNIT: Final = 1_000
_MINUTES_FROM_S: Final = 120
_WHOLE_FROM: Final = 10


def short(number: float) -> str:
    """A number as exactly as a plan needs it: whole from 10 on, else one digit after the point.

    >>> short(17.2), short(3), short(0.021)
    ('17', '3.0', '0.02')
    """
    if number >= _WHOLE_FROM:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 1 else f"{number:.2f}"


def human_bytes(count: float) -> str:
    """Bytes with the unit that fits, powers of 1,000.

    >>> human_bytes(305_000_000), human_bytes(1_240), human_bytes(999_900)
    ('305 MB', '1.2 kB', '1.00 MB')
    """
    unit = 0
    while round(count) >= _NEXT_UNIT and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{short(count)} {_UNITS[unit]}"


def human_s(seconds: float) -> str:
    """Seconds, or minutes from two on.

    >>> human_s(12.3), human_s(3), human_s(600)
    ('12 s', '3.0 s', '10 min')
    """
    if seconds >= _MINUTES_FROM_S:
        return f"{seconds / 60:.0f} min"
    return f"{short(seconds)} s"


LINES: Final[tuple[tuple[str, Callable[[Size], str]], ...]] = (
    ("cores kept busy by workers", lambda s: short(s.cores)),
    ("inference workers", lambda s: f"{s.workers}"),
    ("partitions", lambda s: f"{s.partitions}"),
    ("symbols of a worker", lambda s: f"{s.symbols_per_worker:,.0f}"),
    ("memory of a worker, one gone", lambda s: human_bytes(s.worker_mb * 2**20)),
    ("network of a worker, in", lambda s: f"{human_bytes(s.worker_in_bytes_per_s)}/s"),
    ("network of a worker, out", lambda s: f"{human_bytes(s.worker_out_bytes_per_s)}/s"),
    ("windows written", lambda s: f"{s.windows_per_s:,.0f}/s"),
    ("changelog", lambda s: f"{human_bytes(s.changelog_bytes_per_s)}/s"),
    (
        "brokers' cores, without replication",
        lambda s: short(s.broker_cores),
    ),
    ("brokers' network, in from clients", lambda s: f"{human_bytes(s.broker_in_bytes_per_s)}/s"),
    ("brokers' network, out, replication included", lambda s: f"{human_bytes(s.broker_out_bytes_per_s)}/s"),
    ("written to disk a day, all copies", lambda s: human_bytes(s.disk_bytes_per_day)),
    ("kept on disk, all copies", lambda s: human_bytes(s.disk_bytes)),
    ("one worker killed: its state rebuilt in", lambda s: human_s(s.rebuild_s)),
    ("one worker killed: predictions again after", lambda s: human_s(s.back_s)),
    ("one worker killed: no lag any more after", lambda s: human_s(s.caught_up_s)),
    ("cores a monitor would need; it has one", lambda s: short(s.monitors)),
)
"""What is said of a size, and how."""
