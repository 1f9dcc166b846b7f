"""Concept drift: false alarms within their budget, changes found in time, and a state that goes on after any restart."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.concept import LAYOUT, MOST, Concept, blocks
from monitoring.errors import StateError
from monitoring.quality import instants_of, joined
from tests.unit.monitoring.quality_rows import BAR, Rows, rows_of

GOLDEN = Path(__file__).parents[2] / "golden" / "monitoring_concept_v1.hex"
CALIBRATION = np.sort(np.abs(np.random.default_rng(99).normal(size=2000)))


def residual_rows(
    seed: int, *, symbols: int, instants: int, overlap: int, common: float, scale: np.ndarray | float = 1.0
) -> Rows:
    """Predictions of 0 whose outcomes are sums of `overlap` steps, of unit variance at calibration, times `scale` now."""
    rng = np.random.default_rng(seed)
    steps = np.sqrt(common) * rng.normal(size=(instants + overlap, 1)) + np.sqrt(1 - common) * rng.normal(
        size=(instants + overlap, symbols)
    )
    cumulative = np.cumsum(steps, axis=0)
    outcome = (cumulative[overlap:] - cumulative[:-overlap]) / np.sqrt(overlap)
    return rows_of(np.zeros(outcome.shape), outcome * np.broadcast_to(scale, (instants,))[:, None])


def block_values(rows: Rows, *, overlap: int) -> tuple[np.ndarray, np.ndarray]:
    instants = instants_of(rows, horizon_us=overlap * BAR, calibration=CALIBRATION)
    return blocks(instants, bar_us=BAR, until_us=2**60)


@pytest.mark.parametrize(("symbols", "overlap", "common"), [(1, 1, 0.0), (1, 5, 0.0), (20, 5, 0.3)])
def test_false_alarms_stay_within_the_budget(symbols: int, overlap: int, common: float) -> None:
    """100 worlds of 300 blocks in which nothing changes: no more than a share delta of the worlds."""
    alarms = 0
    for seed in range(100):
        rows = residual_rows(seed, symbols=symbols, instants=300 * overlap, overlap=overlap, common=common)
        alarms += bool(Concept(delta=0.01).update(*block_values(rows, overlap=overlap)))
    assert alarms <= 1


@pytest.mark.parametrize(("symbols", "overlap", "common", "within"), [(1, 1, 0.0, 160), (1, 5, 0.0, 110), (50, 5, 0.3, 55)])
def test_a_doubling_of_residuals_is_found_within_so_many_blocks(symbols: int, overlap: int, common: float, within: int) -> None:
    for seed in range(10):
        scale = np.repeat([1.0, 2.0], [1000 * overlap, within * overlap])
        rows = residual_rows(seed, symbols=symbols, instants=len(scale), overlap=overlap, common=common, scale=scale)
        c = Concept()
        changes = c.update(*block_values(rows, overlap=overlap))
        assert [x.direction for x in changes][:1] == ["worse"]
        assert changes[0].detected_at_us > 1000 * overlap * BAR
        assert changes[0].mean_before == pytest.approx(0.5, abs=0.03)
        assert changes[0].mean_now == pytest.approx(2 / np.pi * np.arctan(2), abs=0.1)  # 0.705: of normal residuals twice as wide


def test_a_recovery_is_a_change_for_the_better() -> None:
    c = Concept()
    changes = c.update([0.5] * 200 + [0.8] * 200 + [0.5] * 200, range(600))
    assert [x.direction for x in changes] == ["worse", "better"]
    told = c.report()
    assert told["direction"] == "better"
    assert told["detected_at_us"] == changes[1].detected_at_us
    assert told["mean_now"] == pytest.approx(0.5)
    assert told["mean_before"] == pytest.approx(0.8, abs=0.02)


def test_before_anything_changed_the_report_says_so() -> None:
    empty, steady = Concept(), Concept()
    steady.update([0.5, 0.7], [1, 2])
    assert empty.report() == {"n": 0, "mean_before": None, "mean_now": None, "detected_at_us": None, "direction": None}
    assert steady.report() | {"mean_now": round(steady.report()["mean_now"], 9)} == {
        "n": 2,
        "mean_before": None,
        "mean_now": 0.6,
        "detected_at_us": None,
        "direction": None,
    }
    json.dumps(empty.report(), allow_nan=False)


def test_blocks_that_come_again_are_passed_over() -> None:
    values, ends = [0.5] * 100 + [0.9] * 100, list(range(200))
    once, twice = Concept(), Concept()
    first = once.update(values, ends)
    again = twice.update(values[:150], ends[:150]) + twice.update(values[20:], ends[20:]) + twice.update(values, ends)
    assert again == first
    assert twice.pack() == once.pack()


def changing(seed: int, levels: list[tuple[float, int]]) -> list[float]:
    rng = np.random.default_rng(seed)
    return [float(np.clip(level + 0.1 * x, 0, 1)) for level, n in levels for x in rng.normal(size=n)]


LEVELS = st.lists(st.tuples(st.floats(0.2, 0.9), st.integers(1, 150)), min_size=1, max_size=5)


@given(st.integers(0, 99), LEVELS, st.sets(st.integers(0, 400), max_size=6))
def test_a_restart_anywhere_changes_nothing(seed: int, levels: list[tuple[float, int]], restarts: set[int]) -> None:
    values = changing(seed, levels)
    steady, restarted = Concept(), Concept()
    for end, value in enumerate(values):
        if end in restarts:
            restarted = Concept.unpack(restarted.pack())
        assert restarted.update([value], [end]) == steady.update([value], [end])
    assert restarted.pack() == steady.pack()
    assert restarted.report() == steady.report()


def test_a_restart_changes_nothing_when_the_oldest_values_have_gone() -> None:
    values = changing(1, [(0.5, MOST + 500), (0.75, 200), (0.5, MOST + 1500), (0.8, 200)])
    steady, restarted = Concept(), Concept()
    changes = steady.update(values, range(len(values)))
    again = []
    for start in range(0, len(values), 257):
        again += restarted.update(values[start : start + 257], range(start, min(start + 257, len(values))))
        restarted = Concept.unpack(restarted.pack())
        assert restarted.report()["n"] <= MOST
    assert again == changes
    assert [c.direction for c in changes] == ["worse", "better", "worse"]
    assert restarted.pack() == steady.pack()


def test_the_oldest_quarter_goes_when_too_many_are_held() -> None:
    values = np.random.default_rng(1).uniform(0.3, 0.7, MOST + 1)
    c = Concept()
    c.update(values[:-1], range(MOST))
    assert c.report()["n"] == MOST
    c.update(values[-1:], [MOST])
    told = c.report()
    assert (told["n"], told["detected_at_us"]) == (3 * MOST // 4 + 1, None)
    assert told["mean_now"] == pytest.approx(values[MOST // 4 :].mean())


def packed_example() -> Concept:
    c = Concept(delta=0.01)
    c.update([0.5, 0.25] * 40 + [0.875, 1.0] * 40, range(60_000_000, 161 * 60_000_000, 60_000_000))
    return c


def test_the_packed_layout_is_the_golden_one() -> None:
    golden = bytes.fromhex(GOLDEN.read_text())
    assert packed_example().pack() == golden
    again = Concept.unpack(golden)
    assert again.pack() == golden
    assert again.report() == packed_example().report()
    assert again.report()["direction"] == "worse"


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xc1", b"\x96\x01", msgspec.msgpack.encode([1, 0.002, 0, b"1234567", None])])
def test_damaged_state_is_refused(data: bytes) -> None:
    with pytest.raises(StateError, match="start it afresh"):
        Concept.unpack(data)


def test_state_of_another_layout_or_with_impossible_numbers_is_refused() -> None:
    with pytest.raises(StateError, match=f"layout 2, this version reads {LAYOUT}"):
        Concept.unpack(msgspec.msgpack.encode([2, "whatever"]))
    for values in ([1.5], [float("nan")], [0.5] * (MOST + 1)):
        with pytest.raises(StateError, match="cannot have held"):
            Concept.unpack(msgspec.msgpack.encode([LAYOUT, 0.002, 0, np.array(values).tobytes(), None]))


def test_values_outside_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"block value 1.5 at 7 us must lie in \[0, 1\]"):
        Concept().update([1.5], [7])
    with pytest.raises(ValueError, match="delta 0 must lie between 0 and 1"):
        Concept(delta=0)


def test_blocks_stand_on_a_fixed_grid_and_wait_for_their_end() -> None:
    rows = residual_rows(1, symbols=3, instants=20, overlap=4, common=0.0)
    whole = instants_of(rows, horizon_us=4 * BAR, calibration=CALIBRATION)
    values, ends = blocks(whole, bar_us=BAR, until_us=20 * BAR)
    assert ends.tolist() == [4 * BAR, 8 * BAR, 12 * BAR, 16 * BAR, 20 * BAR]
    u = (np.searchsorted(CALIBRATION, np.abs(rows.outcome), side="right") / 2000).reshape(5, 12).mean(axis=1)
    assert values == pytest.approx(u)
    some, their_ends = blocks(whole, bar_us=BAR, until_us=19 * BAR)
    assert (some.tolist(), their_ends.tolist()) == (values[:4].tolist(), ends[:4].tolist())
    parts = [
        instants_of(r, horizon_us=4 * BAR, calibration=CALIBRATION)
        for r in (rows.between(0, 9 * BAR), rows.between(9 * BAR, 99 * BAR))
    ]
    assert blocks(joined(parts), bar_us=BAR, until_us=20 * BAR)[0].tolist() == values.tolist()


def test_blocks_without_placed_residuals_are_left_out() -> None:
    rows = residual_rows(1, symbols=3, instants=8, overlap=4, common=0.0)
    rows.outcome[:12] = np.nan
    values, ends = blocks(instants_of(rows, horizon_us=4 * BAR, calibration=CALIBRATION), bar_us=BAR, until_us=2**60)
    assert (len(values), ends.tolist()) == (1, [8 * BAR])
    none, no_ends = blocks(instants_of(rows, horizon_us=4 * BAR), bar_us=BAR, until_us=2**60)
    assert (len(none), len(no_ends)) == (0, 0)
