"""Labels of several partitions as one."""

from __future__ import annotations

import numpy as np
import pytest

from monitoring.labels import Labels, gathered
from tests.unit.monitoring.test_labels import CHAMPION, PANE, made, predict, realise, rows


def test_gathered_partitions_are_in_one_order() -> None:
    parts = [made() for _ in range(4)]
    predict(parts[0], "D", "B", ts=100)
    predict(parts[1], "C", ts=99)
    predict(parts[3], "A", ts=100, value=0.9)
    r = gathered([rows(p) for p in parts])
    assert [(t, r.symbols[c]) for t, c in zip(r.ts_event_us.tolist(), r.symbol_codes.tolist(), strict=True)] == [
        (99, "C"),
        (100, "A"),
        (100, "B"),
        (100, "D"),
    ]
    assert (r.value.tolist(), r.symbols) == ([0.5, 0.9, 0.5, 0.5], ("A", "B", "C", "D"))
    assert len(gathered([])) == len(gathered([rows(parts[2])] * 2)) == 0


@pytest.mark.parametrize("pane_us", [PANE, 2**53])
def test_times_of_all_ages_and_many_symbols_keep_their_order(pane_us: int) -> None:
    parts = [Labels(timeout_us=2**53, pane_us=pane_us, most=100_000) for _ in range(2)]
    names = [f"S{i:05d}" for i in range(3000)]
    for part, some in zip(parts, (names[::2], names[1::2]), strict=True):
        predict(part, *some, ts=1)
        predict(part, *reversed(some), ts=2**52)
        realise(part, *some[::3], ts=2**52)
        predict(part, *some[:10], ts=1)
        assert len(part.take_changed(CHAMPION)) == 1 + (pane_us == PANE)
        predict(part, *some[10:], ts=2**52)
        assert part.take_changed(CHAMPION) == []
    r = gathered([rows(p, end_us=2**53) for p in parts])
    assert [r.symbols[c] for c in r.symbol_codes] == names * 2
    assert np.isnan(r.outcome).tolist() == [True] * 3000 + [n // 2 % 3 != 0 for n in range(3000)]
