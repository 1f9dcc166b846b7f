"""The comparison of latency with and without swaps: ratios are of one round, medians over rounds, the page says both."""

from __future__ import annotations

import pytest

from benchmarks.swaps import BAR, Part, summary
from docs.performance_page import _swaps


def part(number: int, swaps: int, p99_ms: float) -> Part:
    return Part(number, swaps, 8_000, p50_ms=5.0, p99_ms=p99_ms, max_ms=90.0)


def test_a_ratio_is_of_two_parts_of_one_round_whichever_came_first() -> None:
    parts = [part(1, 0, 10), part(1, 4, 12), part(2, 4, 60), part(2, 0, 40), part(3, 0, 20), part(3, 4, 26)]
    found = summary(parts, {"cpu": "some"})
    assert found["ratio"] == pytest.approx(1.3)
    assert found["ratio_range"] == pytest.approx([1.2, 1.5])
    assert (found["without"]["p99_ms"], found["with"]["p99_ms"], found["swaps"]) == (20, 26, 12)
    text = _swaps(found)
    assert f"1.30\n(median; 1.20 to 1.50); at most {BAR} is the bar" in text
    assert "| with 12 swaps | 5 | 26 | 90 |" in text
