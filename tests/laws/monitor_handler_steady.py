"""A market without accidents for laws of the whole monitor."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.laws.monitor_handler_wire import COLUMNS, MINUTE_US, START_US, encoded
from tests.laws.monitor_handler_world import LOG, OUTCOMES, Row, Rules, World
from tests.record import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.laws.monitor_handler_world import Placed, Who


class Steady:
    """A market of one partition in which nothing goes wrong, made as it is needed; prices move by chance."""

    def __init__(self) -> None:
        self.rng = random.Random(3)  # noqa: S311  # the same prices every time
        drawn = Rules.drawn(self.rng)
        self.rules = replace(drawn, partitions=1, panes=2, horizon_us=2 * MINUTE_US, groups={}, symbols=("S1", "S2", "S3"))
        self.made: dict[int, tuple[str, ...]] = {}
        self.offsets: defaultdict[str, int] = defaultdict(int)
        self.place = 0

    def world(self) -> World:
        """An empty one, of its rules."""
        return World(self.rules)

    def bar(self, bar: int, who: Sequence[Who], symbols: tuple[str, ...] | None = None) -> list[Placed]:
        """A record of each scorer."""
        names = self.made[bar] = self.rules.symbols if symbols is None else symbols
        placed = []
        for scorer in who:
            rows = []
            for n, symbol in enumerate(names):
                vector = tuple(self.rng.gauss(0, 1) for _ in COLUMNS)
                rows.append(Row(scorer, symbol, START_US + bar * MINUTE_US, 0, vector, vector[0], 1.0, self.place + n))
            placed.append(self._record(LOG, bar, None, encoded(rows, 0, self.rules.horizon_us)))
        self.place += len(names)
        return placed

    def outcomes(self, bar: int, revision: int = 0) -> list[Placed]:
        """Those of a bar that was."""
        placed = []
        for symbol in self.made.get(bar, ()):
            body = {"symbol": symbol, "ts_event_us": START_US + bar * MINUTE_US, "horizon_us": self.rules.horizon_us}
            value = json.dumps({**body, "value": self.rng.gauss(0, 1), "revision": revision}).encode()
            placed.append(self._record(OUTCOMES, bar, symbol.encode(), value))
        return placed

    def _record(self, topic: str, bar: int, key: bytes | None, value: bytes) -> Placed:
        self.offsets[topic] += 1
        return topic, 0, Record(self.offsets[topic] - 1, (START_US + bar * MINUTE_US) // 1000 + 60_000, key, value)
