"""Moves idle partitions past the deadlines of rows that wait in them. Core: the clock is an argument.

A wait ends in stream time, which stands still where no rows come. So when a row has waited as long by the wall clock as
it may in stream time, and a bound more, a clock record with its deadline is appended to its partition: the decision then
has an offset, and a replay takes it at the same place. Wall time only says when to write the record, never what is in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from streams.wire import CLOCK

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streams.waiting import Waiting


class ClockRecord(NamedTuple):
    """A record for the features topic."""

    partition: int
    key: bytes
    value: bytes


class IdleClock:
    """Remembers since when each row waits, by the wall clock of this process."""

    def __init__(self, *, bound_s: float) -> None:
        self._bound_s = bound_s
        self._since_s: dict[tuple[str, Waiting], float] = {}

    def due(
        self, waiting: Iterable[tuple[int, str, tuple[Waiting, ...]]], deadlines_us: Mapping[str, int], now_s: float
    ) -> list[ClockRecord]:
        """Clock records to append now, at most one a partition. `deadlines_us`: by model; `now_s`: seconds, never going back."""
        since: dict[tuple[str, Waiting], float] = {}
        reached: dict[int, tuple[int, str]] = {}
        for partition, symbol, rows in waiting:
            for row in rows:
                key = (symbol, row)
                since[key] = started_s = self._since_s.get(key, now_s)
                deadline_us = deadlines_us.get(row.model)
                if deadline_us is None or now_s - started_s < deadline_us / 1_000_000 + self._bound_s:
                    continue
                since[key] = now_s  # should the record be lost with this process, another follows
                at_us = row.ts_known_us + deadline_us
                reached[partition] = max(reached.get(partition, (0, "")), (at_us, symbol))
        self._since_s = since
        return [_record(partition, symbol, at_us) for partition, (at_us, symbol) in sorted(reached.items())]


def _record(partition: int, symbol: str, at_us: int) -> ClockRecord:
    row = {"symbol": symbol, "feature_set": CLOCK, "ts_event_us": at_us, "ts_known_us": at_us, "revision": 0, "values": {}}
    return ClockRecord(partition, symbol.encode(), msgspec.json.encode(row))
