"""Operational counts: bounds of bins and panes, backfill, records counted once, what is bounded, the packed layout."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitoring.errors import StateError
from monitoring.flow import BACKFILL_US, BINS, EDGES_US, LAYOUT, MOST_MODELS, MOST_REASONS, OTHER, Flow, FlowWindow, quantile_us

GOLDEN = Path(__file__).parents[2] / "golden" / "monitoring_flow_v1.hex"
MINUTE_US = 60_000_000
YEAR_US = 365 * 86_400_000_000


def add(flow: Flow, log_us: int, *latencies_us: int, model: str = "m", lag_us: int = 0, **more: Any) -> list[FlowWindow]:
    """One record with a row for each latency."""
    decision_us = log_us - np.array(latencies_us)
    return flow.add(
        model,
        log_us=np.full(len(latencies_us), log_us),
        decision_us=decision_us,
        event_us=decision_us - lag_us,
        abstained=np.zeros(len(latencies_us), np.bool_),
        **more,
    )


def test_a_bin_holds_its_upper_bound_and_what_is_early_is_in_the_first() -> None:
    flow = Flow()
    add(flow, 0, 1_000, 1_001, -5)
    (counts,) = [t.latency for t in flow.window().models.values()]
    assert counts[:3].tolist() == [2, 1, 0]
    assert (EDGES_US[0], EDGES_US[-1]) == (1_000, 10_000_000_000_000)


def test_a_minute_holds_its_start_and_not_its_end() -> None:
    flow = Flow(grace_panes=0)
    assert add(flow, 0, 1) == add(flow, MINUTE_US - 1, 1) == []
    (window,) = add(flow, MINUTE_US, 1)
    assert (window.start_us, window.end_us, window.models["m"].rows) == (-4 * MINUTE_US, MINUTE_US, 2)


def test_a_window_is_five_minutes_and_knows_who_had_rows_in_the_last() -> None:
    flow = Flow(grace_panes=0)
    add(flow, 0, 1, model="a")
    for minute in range(1, 5):
        add(flow, minute * MINUTE_US, 1, 1)
    (window,) = add(flow, 5 * MINUTE_US, 1)
    assert ({m: t.rows for m, t in window.models.items()}, set(window.recent)) == ({"a": 1, "m": 8}, {"m"})
    (window,) = add(flow, 6 * MINUTE_US, 1)
    assert {m: t.rows for m, t in window.models.items()} == {"m": 9}


def test_history_that_is_replayed_is_counted_and_is_neither_late_nor_a_sign_of_life() -> None:
    flow = Flow()
    add(flow, 2 * YEAR_US, 2 * YEAR_US, BACKFILL_US + 1)
    traffic = flow.window().models["m"]
    assert (traffic.rows, traffic.backfill, traffic.latency.sum(), traffic.lag.sum()) == (2, 2, 0, 0)
    assert (flow.last_us, flow.live_us) == ({"m": 2 * YEAR_US}, {})
    add(flow, 2 * YEAR_US, BACKFILL_US)
    assert (flow.window().models["m"].latency.sum(), flow.live_us) == (1, {"m": 2 * YEAR_US})


def test_lag_is_beyond_the_usual_and_is_not_counted_where_that_is_not_known() -> None:
    flow = Flow()
    add(flow, 0, 1, lag_us=3_600_000_000, usual_lag_us=3_599_000_000)
    add(flow, 0, 1, lag_us=7_200_000_000, usual_lag_us=None)
    traffic = flow.window().models["m"]
    assert (traffic.lag.sum(), traffic.latency.sum()) == (1, 2)
    assert quantile_us(traffic.lag, 0.5) == pytest.approx(1_000_000, rel=0.11)


def test_a_record_is_seen_once() -> None:
    flow = Flow()
    assert [flow.seen("t", 0, offset) for offset in (0, 1, 1, 0, 2)] == [False, False, True, True, False]
    assert not flow.seen("t", 1, 0)
    again = Flow.unpack(flow.pack())
    assert again.seen("t", 0, 2)
    assert not again.seen("t", 0, 3)


def test_models_and_reasons_have_their_bounds() -> None:
    flow = Flow()
    for n in range(MOST_MODELS + 2):
        add(flow, 0, 1, model=f"m{n}")
    window = flow.window()
    assert len(window.models) == MOST_MODELS + 1
    assert window.models[OTHER].rows == 2
    reasons = [f"{n:02}" * 99 for n in range(MOST_REASONS + 3)]
    flow.reject(log_us=np.zeros(len(reasons), np.int64), reasons=reasons)
    rejected = flow.window().rejected
    assert (len(rejected), rejected[OTHER], max(map(len, rejected))) == (MOST_REASONS + 1, 3, 64)


def test_nothing_has_no_quantile_and_the_first_bin_is_a_millisecond() -> None:
    counts = np.zeros(BINS, np.int64)
    assert math.isnan(quantile_us(counts, 0.5))
    counts[0] = 1
    assert quantile_us(counts, 0.5) == 1_000.0


def example() -> Flow:
    flow = Flow()
    add(flow, 5 * MINUTE_US, 2_000, 3_000_000, lag_us=60_000_000)
    add(flow, 4 * MINUTE_US, 2 * BACKFILL_US, model="old")
    add(flow, 0, 1)
    flow.reject(log_us=np.array([5 * MINUTE_US] * 3), reasons=["late", "undecodable", "late"])
    flow.reject(log_us=np.array([-MINUTE_US]), reasons=["too late"])
    flow.seen("trading.inference-log", 3, 17)
    return flow


def test_the_packed_layout_is_the_golden_one() -> None:
    assert example().pack() == bytes.fromhex(GOLDEN.read_text())
    assert Flow.unpack(bytes.fromhex(GOLDEN.read_text())).pack() == example().pack()
    assert example().late == 1


def test_another_layout_and_damage_are_refused() -> None:
    packed = example().pack()
    assert packed[:2] == bytes([LAYOUT, 0])
    with pytest.raises(StateError, match="operational counts have layout 9, this version reads"):
        Flow.unpack(bytes([9, 0]) + packed[2:])
    with pytest.raises(StateError, match="have 119 bins, this version has 121"):
        Flow.unpack(packed[:26] + (119).to_bytes(8, "little") + packed[34:])
    for end in range(2, len(packed), 7):
        with pytest.raises(StateError):
            Flow.unpack(packed[:end])
    with pytest.raises(StateError, match="bytes too many"):
        Flow.unpack(packed + b"\x00")


def test_panes_must_be_some() -> None:
    with pytest.raises(ValueError, match="must be positive, grace_panes -1 not negative"):
        Flow(grace_panes=-1)
