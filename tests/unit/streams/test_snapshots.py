"""Table values packed many at once are those packed one by one."""

from __future__ import annotations

import numpy as np
import pytest

from streams import snapshots
from streams.layout import SetLayout
from streams.ring import SetWindows
from streams.snapshots import packed
from streams.state import SetState, SymbolState, pack, unpack

LAYOUT = {"bars": SetLayout("bars", ("x", "größe"), 0, 4), "slow": SetLayout("slow", ("z",), 0, 2)}
SLOTS = 40


@pytest.fixture
def windows() -> dict[str, SetWindows]:
    """Windows with none, some, and more rows than they keep; rings at every turn."""
    rng = np.random.default_rng(11)
    out = {}
    for name, s in LAYOUT.items():
        w = out[name] = SetWindows(len(s.features), depth_rows=s.depth_rows, slack_rows=3)
        w.grow(SLOTS)
        for turn in range(12):
            slots = np.flatnonzero(rng.random(SLOTS) < np.linspace(0, 1, SLOTS))
            at = np.full(len(slots), turn)
            values = rng.standard_normal((len(slots), len(s.features)))
            values[rng.random(values.shape) < 0.2] = np.nan
            w.push(slots, at << 10, at + 7, at + 1000, values)
    return out


def one(windows: dict[str, SetWindows], slot: int, applied: int) -> bytes:
    sets = {}
    for name, w in windows.items():
        at = w.ordered(slot)[-w.depth :]
        sets[name] = SetState(LAYOUT[name].features, w.key[slot, at], w.known[slot, at], w.offset[slot, at], w.values[slot, at])
    return pack(SymbolState(applied, sets))


@pytest.mark.parametrize("at_once", [1, 7, 512])
def test_the_bytes_are_the_same(windows: dict[str, SetWindows], at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "AT_ONCE", at_once)
    slots = np.random.default_rng(5).permutation(SLOTS)
    applied = np.arange(SLOTS) * 2**40 - 1
    values = packed(windows, LAYOUT, slots, applied)
    assert values == [one(windows, int(s), int(a)) for s, a in zip(slots, applied, strict=True)]
    assert {len(unpack(v).sets["bars"].key) for v in values} >= {0, 4}


def test_no_symbols_have_no_values(windows: dict[str, SetWindows]) -> None:
    assert packed(windows, LAYOUT, np.empty(0, dtype=np.intp), np.empty(0, dtype=np.int64)) == []
