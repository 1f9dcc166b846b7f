"""Plays rows and outcomes to Kafka as producers would: in the order they became known, at a chosen rate.

Shell for the sending, core for the order.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from streams.demo.rows import FeatureRows, Outcomes, RowEncoder, encode_outcomes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_SLICE_S = 0.02
"""Rows are paced in slices of this length: short beside the latencies measured, long beside a sleep's error."""


class Sender(Protocol):
    """What replay needs of a topic's producer."""

    def send(self, key: bytes, value: bytes) -> object:
        """Hand over one record; may block while consumers are too far behind."""


def in_time_order(sets: Sequence[FeatureRows], outcomes: Outcomes) -> Iterator[FeatureRows | Outcomes]:
    """Yield blocks by the instant they became known; at one instant the sets as given, outcomes last.

    >>> t = np.array
    >>> a = FeatureRows("a", ("x",), ("S", "S"), t([1, 2]), t([1, 2]), t([[0.0], [0.0]]))
    >>> b = FeatureRows("b", ("x",), ("S",), t([0]), t([2]), t([[0.0]]))
    >>> o = Outcomes(1, ("S",), t([1]), t([2]), t([0.5]))
    >>> [getattr(block, "feature_set", "outcome") for block in in_time_order([b, a], o)]
    ['a', 'b', 'a', 'outcome']
    """
    for instant in np.unique(np.concatenate([outcomes.ts_known_us, *(s.ts_known_us for s in sets)])):
        for rows in sets:
            due = rows.ts_known_us == instant
            if due.any():
                yield rows.take(due)
        due = outcomes.ts_known_us == instant
        if due.any():
            yield outcomes.take(due)


@dataclass(slots=True)
class ReplayProgress:
    """How far a replay is; read by others while it runs."""

    rows: int = 0
    outcomes: int = 0
    stream_time_us: int = 0
    started_s: float = 0.0
    done: bool = False


@dataclass(slots=True)
class Replay:
    """One replay. `rate`: feature rows a second, None as fast as the senders take them; `stop` ends it early."""

    features: Sender
    outcomes: Sender
    rate: float | None
    stop: Callable[[], bool]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep
    progress: ReplayProgress = field(default_factory=ReplayProgress)
    _encoders: dict[str, RowEncoder] = field(default_factory=dict)

    def run(self, blocks: Iterable[FeatureRows | Outcomes]) -> None:
        """Send all blocks. A block is sliced so that the rate holds within it, too."""
        self.progress.started_s = self.clock()
        for block in blocks:
            if self.stop():
                return
            if isinstance(block, FeatureRows):
                self._send_rows(block)
            else:
                for symbol, body in zip(block.symbols, encode_outcomes(block), strict=True):
                    self.outcomes.send(symbol.encode(), body)
                self.progress.outcomes += len(block)
        self.progress.done = True

    def _send_rows(self, block: FeatureRows) -> None:
        encoder = self._encoders.get(block.feature_set)
        if encoder is None:
            encoder = self._encoders[block.feature_set] = RowEncoder(block.feature_set, block.features)
        bodies = encoder.encode(block)
        step = len(bodies) if self.rate is None else max(1, int(self.rate * _SLICE_S))
        for start in range(0, len(bodies), step):
            if self.stop():
                return
            self._pace()
            for symbol, body in zip(block.symbols[start : start + step], bodies[start : start + step], strict=True):
                self.features.send(symbol.encode(), body)
            self.progress.rows += len(bodies[start : start + step])
            self.progress.stream_time_us = max(self.progress.stream_time_us, int(block.ts_known_us[-1]))

    def _pace(self) -> None:
        if self.rate is None:
            return
        ahead_s = self.progress.rows / self.rate - (self.clock() - self.progress.started_s)
        if ahead_s > 0.0:
            self.sleep(ahead_s)
