"""Times as the command line takes them: ISO 8601, UTC unless it says otherwise, or a duration back from another time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import typer

from config.durations import parse_duration

MICROSECOND = timedelta(microseconds=1)
_START = datetime(1970, 1, 1, tzinfo=UTC)


def now_us() -> int:
    """The time, microseconds since 1970."""
    return (datetime.now(UTC) - _START) // MICROSECOND


def instant(text: str, *, option: str, before_us: int | None = None) -> int:
    """Microseconds since 1970. With `before_us` also a duration, counted back from there. Raises `typer.BadParameter`.

    >>> instant("2026-01-05", option="--from"), instant("2026-01-05T01:00:00+01:00", option="--from")
    (1767571200000000, 1767571200000000)
    >>> instant("2h", option="--from", before_us=1767571200000000)
    1767564000000000
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        if before_us is not None:
            try:
                return before_us - parse_duration(text) // MICROSECOND
            except ValueError:
                pass
        also = ", or a duration back such as 2h or 7d" if before_us is not None else ""
        raise typer.BadParameter(f"{option} {text!r} is no time; give ISO 8601 such as 2026-01-05T14:30, UTC{also}") from None
    return ((at if at.tzinfo is not None else at.replace(tzinfo=UTC)) - _START) // MICROSECOND


def iso(us: int) -> str:
    """The instant as `instant` reads it.

    >>> iso(1767571200000000)
    '2026-01-05T00:00:00Z'
    """
    return (_START + timedelta(microseconds=us)).isoformat().removesuffix("+00:00") + "Z"
