"""Durations as people write them: `250ms`, `60s`, `5m`, `1h`, `7d`, or plain seconds. Exact to the microsecond.

| text              | means                      |
|-------------------|----------------------------|
| `250ms`           | a quarter of a second      |
| `60s`, `60`, `1m` | a minute                   |
| `1.5h`            | ninety minutes             |
| `7d`              | seven days of 24 hours     |
"""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

from config.keys import Right

_UNIT_US = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_LARGEST_FIRST = tuple(reversed(_UNIT_US))
_TEXT = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)(?P<unit>ms|s|m|h|d)?", re.ASCII)
_LONGEST_US = timedelta.max // timedelta(microseconds=1)
DURATION_TEXT = "a duration such as 250ms, 60s, 5m, 1h or 7d, or plain seconds, longer than zero"


def parse_duration(value: object) -> timedelta:
    """Read a duration; `ValueError` when it is not one, not positive, or finer than a microsecond.

    >>> parse_duration("1h"), parse_duration(60) == parse_duration("60s") == parse_duration("1m")
    (datetime.timedelta(seconds=3600), True)
    >>> parse_duration("0s")
    Traceback (most recent call last):
    ...
    ValueError: should be a duration such as 250ms, 60s, 5m, 1h or 7d, or plain seconds, longer than zero
    """
    if isinstance(value, timedelta):
        duration_us = Decimal(value // timedelta(microseconds=1))
    elif isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"should be {DURATION_TEXT}")  # noqa: TRY004 - pydantic turns only a ValueError into a report of the key
    elif isinstance(value, str):
        found = _TEXT.fullmatch(value)
        if found is None:
            raise ValueError(f"should be {DURATION_TEXT}")
        duration_us = Decimal(found["number"]) * _UNIT_US[found["unit"] or "s"]
    else:
        duration_us = Decimal(str(value)) * _UNIT_US["s"]  # str, because a float's own digits are what was written
    if not duration_us.is_finite() or not 0 < duration_us <= _LONGEST_US:
        raise ValueError(f"should be {DURATION_TEXT}")
    if duration_us != int(duration_us):
        raise ValueError("is finer than a microsecond; write a whole number of microseconds, such as 0.000001s")
    return timedelta(microseconds=int(duration_us))


def format_duration(duration: timedelta) -> str:
    """The shortest text that `parse_duration` reads back as the same duration.

    >>> [format_duration(parse_duration(text)) for text in ("60", "250ms", "90m", "7d", "0.000001")]
    ['1m', '250ms', '90m', '7d', '0.001ms']
    """
    duration_us = duration // timedelta(microseconds=1)
    for unit in _LARGEST_FIRST:
        if duration_us % _UNIT_US[unit] == 0:
            return f"{duration_us // _UNIT_US[unit]}{unit}"
    return f"{Decimal(duration_us) / _UNIT_US['ms']:f}ms"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    Right(DURATION_TEXT),
]
"""A positive `datetime.timedelta`, written as `parse_duration` reads it."""
