"""Times as the report writes them, UTC, and round steps for axes. Core."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

SECOND_US: Final = 1_000_000
DAY_US: Final = 86_400 * SECOND_US
_STEPS_S: Final = (
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    7200,
    10_800,
    21_600,
    43_200,
    86_400,
    172_800,
    604_800,
)


def moment(us: int) -> str:
    """To the second.

    >>> moment(1_167_782_400_000_000)
    '2007-01-03 00:00:00'
    """
    return str(np.datetime64(us, "us").astype("datetime64[s]")).replace("T", " ")


def short(us: int) -> str:
    """To the minute, or the day alone at midnight.

    >>> short(1_167_782_400_000_000), short(1_167_782_460_000_000)
    ('2007-01-03', '2007-01-03 00:01')
    """
    return moment(us)[:10] if us % DAY_US == 0 else moment(us)[:16]


def span(us: int) -> str:
    """A length of time in its two largest units.

    >>> [span(x) for x in (0, 1_500, 2_500_000, 3_600_000_000, 90_000_000_000, 86_400_000_000 * 30)]
    ['0 s', '1.5 ms', '2.5 s', '1 h', '1 d 1 h', '30 d']
    """
    if us < SECOND_US:
        return f"{us / 1000:g} ms" if us else "0 s"
    if us < 60 * SECOND_US:
        return f"{us / SECOND_US:.3g} s"
    parts = []
    for unit, size in (("d", DAY_US), ("h", 3600 * SECOND_US), ("min", 60 * SECOND_US)):
        count, us = divmod(us, size)
        if count:
            parts.append(f"{count:,} {unit}")
    return " ".join(parts[:2])


def time_ticks(start_us: int, end_us: int, *, most: int = 5) -> list[tuple[int, str]]:
    """At most about `most` round instants within, each with a label; the date stands at the first and where it changes.

    >>> time_ticks(0, 7_200_000_000, most=3)
    [(0, '00:00|1970-01-01'), (3600000000, '01:00|'), (7200000000, '02:00|')]
    """
    length_s = max(1.0, (end_us - start_us) / SECOND_US)
    step_s = next((s for s in _STEPS_S if length_s / s <= most), None)
    if step_s is None:
        step_s = 604_800 * math.ceil(length_s / most / 604_800)
    step_us = step_s * SECOND_US
    ticks, date = [], ""
    for at in range(-(-start_us // step_us) * step_us, end_us + 1, step_us):
        text = moment(at)
        if step_s >= DAY_US // SECOND_US:
            ticks.append((at, f"{text[5:10]}|{text[:4] if text[:4] != date else ''}"))
            date = text[:4]
        else:
            clock = text[11:16] if step_s >= 60 else text[11:19]  # noqa: PLR2004  # a minute
            ticks.append((at, f"{clock}|{text[:10] if text[:10] != date else ''}"))
            date = text[:10]
    return ticks


def number_ticks(low: float, high: float, *, most: int = 5) -> list[float]:
    """Round numbers within [low, high], at most `most` or so: steps of 1, 2, 2.5 or 5 times a power of ten.

    >>> number_ticks(-0.031, 0.1)
    [0.0, 0.05, 0.1]
    """
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]
