"""Concept drift: whether what the model gets wrong changed, even while its inputs look the same.

Core. A residual's place among the model's calibration residuals, u = share of calibration |residuals| <= |r|, is uniform as long
as outcomes follow from vectors as they did at calibration, whatever the scale of the market or the model: its mean is 1/2. It is
averaged over the symbols of an instant and the instants of a block as long as the horizon, so blocks hardly depend on each other.
ADWIN (Bifet & Gavaldà 2007, "Learning from time-changing data with adaptive windowing") watches the blocks: it keeps the longest
window whose every two halves have equal means at confidence delta, and drops the older half when they do not.

| block means ...                  | change                                                             |
|----------------------------------|--------------------------------------------------------------------|
| 0.50 0.49 0.52 0.51 ...          | none                                                               |
| 0.50 0.49 0.52 0.68 0.71 0.66 ...| `worse`: residuals grew; the values from about 0.68 on stay        |
| 0.68 0.71 0.66 0.51 0.50 ...     | `better`                                                           |
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
import numpy as np

from monitoring.drift import builtins
from monitoring.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from monitoring.quality_instants import Instants
    from monitoring.reference import Floats, Ints

LAYOUT: Final = 1
"""Number of the packed layout; it stands first."""

MOST: Final = 4096
"""Block values held at most; beyond it the oldest quarter goes."""

_FEWEST: Final = 5
"""Values on either side of a change, as in ADWIN itself."""

_NEVER: Final = -(2**62)

Direction = Literal["worse", "better"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change of the residuals' mean place; `detected_at_us` is the end of the block that showed it."""

    detected_at_us: int
    mean_before: float
    mean_now: float
    direction: Direction


class _State(msgspec.Struct, array_like=True, frozen=True):
    layout: int
    delta: float
    taken_us: int
    values: bytes
    change: tuple[int, float, float, Direction] | None


class Concept:
    """Watches block values in [0, 1]. One owner, one thread.

    What is held is the values since the last change; ADWIN is a function of them and is made of them again after a restart.

    >>> c = Concept()
    >>> changes = c.update([0.4, 0.6] * 50 + [0.8, 0.9] * 50, range(200))
    >>> [(x.direction, round(x.mean_before, 2)) for x in changes], c.report()["direction"]
    ([('worse', 0.5)], 'worse')
    """

    def __init__(self, *, delta: float = 0.002) -> None:
        """`delta`: confidence of each look, in (0, 1); smaller is slower and surer."""
        if not 0 < delta < 1:
            raise ValueError(f"delta {delta} must lie between 0 and 1")
        self.delta = delta
        self.change: Change | None = None
        self._taken_us = _NEVER
        self._values: list[float] = []
        self._adwin = self._fresh()

    def update(self, block_values: Iterable[float], ends_us: Iterable[int]) -> list[Change]:
        """Take blocks in order of time and return the changes they showed. Blocks up to the last one taken are passed over."""
        changes = []
        for value, end_us in zip(block_values, ends_us, strict=True):
            if end_us <= self._taken_us:
                continue
            if not 0 <= value <= 1:
                raise ValueError(f"block value {value} at {end_us} us must lie in [0, 1]: a mean of shares")
            self._taken_us = int(end_us)
            self._values.append(float(value))
            self._adwin.update(self._values[-1])
            if self._adwin.drift_detected:
                changes.append(self._changed())
            elif len(self._values) > MOST:
                self._shorten()
        return changes

    def report(self) -> dict[str, Any]:
        """For the performance record: values since the last change, means before and since it, when and which way; None: none."""
        c = self.change
        told: dict[str, Any] = builtins(
            {
                "n": len(self._values),
                "mean_before": None if c is None else c.mean_before,
                "mean_now": _mean(self._values),
                "detected_at_us": None if c is None else c.detected_at_us,
                "direction": None if c is None else c.direction,
            }
        )
        return told

    def pack(self) -> bytes:
        """MessagePack of [layout, delta, taken_us, values as little-endian float64, last change]."""
        c = self.change
        change = None if c is None else (c.detected_at_us, c.mean_before, c.mean_now, c.direction)
        values = np.array(self._values, "<f8").tobytes()
        return msgspec.msgpack.encode(_State(LAYOUT, self.delta, self._taken_us, values, change))

    @classmethod
    def unpack(cls, data: bytes) -> Concept:
        """What `pack` wrote, going on as if there had been no restart. `StateError` for anything else."""
        try:
            raw = msgspec.msgpack.decode(data)
            if isinstance(raw, list) and raw and raw[0] != LAYOUT:
                raise StateError(f"packed concept state has layout {raw[0]}, this version reads {LAYOUT}; start it afresh")
            state = msgspec.convert(raw, _State)
            values = np.frombuffer(state.values, "<f8")
            self = cls(delta=state.delta)
        except (msgspec.MsgspecError, ValueError) as e:
            raise StateError(f"packed concept state cannot be read ({e}); start it afresh") from e
        if not ((values >= 0) & (values <= 1)).all() or len(values) > MOST:
            raise StateError("packed concept state holds what it cannot have held; start it afresh")
        self._taken_us, self._values = state.taken_us, values.tolist()
        if state.change is not None:
            at_us, before, now, direction = state.change
            self.change = Change(detected_at_us=at_us, mean_before=before, mean_now=now, direction=direction)
        self._rebuild()
        return self

    def _changed(self) -> Change:
        at = _place(np.array(self._values))
        before, self._values = self._values[:at], self._values[at:]
        mean_before, mean_now = _mean(before), _mean(self._values)
        self.change = Change(
            detected_at_us=self._taken_us,
            mean_before=mean_before,
            mean_now=mean_now,
            direction="worse" if mean_now > mean_before else "better",
        )
        self._rebuild()
        return self.change

    def _shorten(self) -> None:
        self._values = self._values[MOST // 4 :]
        self._rebuild()

    def _rebuild(self) -> None:
        # What ADWIN detects among values that were told of before is not told again; a restart goes the same way.
        self._adwin = self._fresh()
        for value in self._values:
            self._adwin.update(value)

    def _fresh(self) -> Any:  # river ships no types for it
        from river.drift import ADWIN  # the CLI's start must not pay for river

        # Every block is looked at: they are few.
        return ADWIN(delta=self.delta, clock=1)  # type: ignore[no-untyped-call]  # the same


def blocks(instants: Instants, *, bar_us: int, until_us: int) -> tuple[Floats, Ints]:
    """Mean places per block, float64[blocks], and the blocks' ends, int64[blocks], for blocks that end at or before `until_us`.

    Blocks stand on a fixed grid of event time as long as the horizon (a bar, if that is longer), open at the start and closed at
    the end, so they are the same whatever window they are seen through. A block without a placed residual is left out.
    """
    block_us = max(instants.horizon_us, bar_us)
    placed = instants.column("placed")
    index = (instants.ts_event_us - 1) // block_us
    kept = (placed > 0) & ((index + 1) * block_us <= until_us)
    found, block = np.unique(index[kept], return_inverse=True)
    mean = instants.column("sum_place")[kept] / placed[kept]
    return np.bincount(block, mean, len(found)) / np.maximum(np.bincount(block, minlength=len(found)), 1), (found + 1) * block_us


def _place(values: Floats) -> int:
    """Where the mean changed, by least squares (Hinkley 1970): the split k that makes k (n - k) (difference of means)^2 greatest.

    ADWIN itself says only that there was a change: it drops the oldest bucket, not all that came before.

    >>> _place(np.array([0.0] * 20 + [1.0] * 10))
    20
    """
    n = len(values)
    k = np.arange(_FEWEST, n - _FEWEST + 1)
    before = np.cumsum(values)[k - 1]
    # k (n - k) (mean after - mean before)^2 = (k total - n before)^2 / (k (n - k))
    return int(k[np.argmax((k * values.sum() - n * before) ** 2 / (k * (n - k)))])


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
