"""The sizing model: what each input does to each answer, and that its constants and checks come out of the results as said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.sizing.checks import checks, value_bytes
from benchmarks.sizing.constants import costs_of, measured
from benchmarks.sizing.model import Costs, Wanted, cpu_cores, size, symbol_bytes, windows_per_s, workers_for
from benchmarks.sizing.table import LINES, human_bytes, human_s
from streams.ring import SetWindows
from streams.state import SetState, SymbolState, pack

COSTS = Costs(
    row_us=10.0,
    window_us=5.0,
    broker_row_us=2.0,
    features_bytes=600.0,
    predictions_bytes=500.0,
    log_bytes=900.0,
    window_bytes=3_000.0,
    symbol_bytes=13_000.0,
    base_mb=300.0,
    recover_s=1.5,
    recovery_bytes_per_s=50e6,
    pause_s=1.0,
    monitor_us=25.0,
)
LARGE = Wanted(symbols=100_000, rows_per_s=1_000_000)


def test_the_largest_size_by_hand() -> None:
    found = size(LARGE, COSTS)
    assert found.windows_per_s == 100_000
    assert found.cores == pytest.approx(10.0 + 0.5)
    assert (found.workers, found.partitions) == (18, 72)
    assert found.changelog_bytes_per_s == pytest.approx(300e6)
    assert found.broker_in_bytes_per_s == pytest.approx(2_000e6 + 300e6)
    assert found.broker_out_bytes_per_s == pytest.approx(2_000e6 + 2 * 2_300e6)
    assert found.disk_bytes_per_day == pytest.approx(3 * 2_000e6 * 86_400)
    assert found.rebuild_s == pytest.approx((300e6 * 3_600 + 300e6) / 72 / 50e6)
    assert found.back_s == pytest.approx(10 + 1 + found.rebuild_s)
    assert found.caught_up_s == pytest.approx(found.back_s / (1 - 10.5 / 17))
    assert found.worker_mb == pytest.approx(300 + 5 * 64 + 100_000 / 17 * 13_000 / 2**20)
    assert found.monitors == pytest.approx(25.0)


def test_a_small_load_still_has_a_worker_to_spare_and_does_not_lag_with_it() -> None:
    found = size(Wanted(symbols=1_000, rows_per_s=2_000), COSTS)
    assert found.workers == 2
    assert found.caught_up_s < 1.1 * found.back_s


@pytest.mark.parametrize("rows_per_s", [10.0, 1e4, 77_777.0, 1e5, 1e6, 3e7])
def test_whatever_the_load_neither_all_workers_nor_those_left_are_too_busy(rows_per_s: float) -> None:
    cores = cpu_cores(COSTS, rows_per_s, windows_per_s(10_000, rows_per_s, 1.0))
    workers = workers_for(cores, busy=0.6, busy_after_loss=0.8)
    assert cores / workers <= 0.6
    assert cores / (workers - 1) <= 0.8
    fewer = workers - 1
    assert fewer < 2 or cores / fewer > 0.6 or cores / (fewer - 1) > 0.8, "one fewer would do"


def test_rarer_checkpoints_shorten_changelog_and_rebuild_and_change_nothing_of_the_topics() -> None:
    often, rarely = size(LARGE, COSTS), size(replace(LARGE, commit_s=10.0), COSTS)
    assert rarely.changelog_bytes_per_s == pytest.approx(often.changelog_bytes_per_s / 10)
    assert rarely.rebuild_s < often.rebuild_s / 9
    assert rarely.disk_bytes_per_day == often.disk_bytes_per_day


def test_where_symbols_are_touched_more_rarely_than_committed_the_interval_does_not_matter() -> None:
    sparse = Wanted(symbols=1_000_000, rows_per_s=1_000)
    assert size(sparse, COSTS).changelog_bytes_per_s == size(replace(sparse, commit_s=10.0), COSTS).changelog_bytes_per_s


def test_a_symbols_memory_is_what_its_arrays_take_between_two_doublings() -> None:
    windows = SetWindows(20, depth_rows=16, slack_rows=32)
    windows.grow(100)
    held = sum(a.nbytes for a in (windows.key, windows.known, windows.offset, windows.values)) / 100
    foretold = symbol_bytes(features=20, depth_rows=16, slack_rows=32)
    assert held < foretold < 2 * held
    assert foretold == 1.5 * held


def test_a_windows_bytes_are_those_of_the_codec() -> None:
    times = np.arange(16, dtype=np.int64)
    names = tuple(f"f{i:02d}" for i in range(20))
    held = SetState(names, times, times, times, np.zeros((16, 20)))
    assert value_bytes(features=20, rows=16) == len(pack(SymbolState(7, {"bars": held})))


def test_constants_of_frames_are_those_of_frames_and_a_windows_cost_is_never_negative() -> None:
    found = measured()
    rows, frames = costs_of(found, "rows"), costs_of(found, "frames")
    assert frames.features_bytes < rows.features_bytes
    assert frames.predictions_bytes < rows.predictions_bytes
    assert rows.window_us == frames.window_us
    drains: list[dict[str, Any]] = [
        {**d, "worker_us_per_row": {"median": 100.0 / d["symbols"]}} if d["contender"] == "ours" else d for d in found["drains"]
    ]
    assert costs_of({**found, "drains": drains}, "rows").window_us == 0.0


def test_errors_are_signed_and_a_check_of_each_kind_is_made() -> None:
    scaling = {
        "by_models": [{"symbols": 500, "us_per_row": 7.0, "packing_us_per_row": 0.02}],
        "by_symbols": [{"symbols": 500, "us_per_row": 7.0}, {"symbols": 10_000, "us_per_row": 8.0}],
    }
    results = {"contenders": {name: {"us_per_row": 10.0} for name in ("ours", "ours_frames", "ours_frames_out")}}
    found = checks(measured(), results, scaling)
    same, more = [c for c in found if "scaling.json" in c.what]
    assert same.error == pytest.approx(0.0)
    assert more.predicted == pytest.approx(7.0 + 9_500 / 50_000 * 2.0)
    assert more.error == pytest.approx(7.38 / 8.0 - 1)
    for part in ("2 workers", "4 workers", "memory", "changelog", "rebuilt", "kill -9", "results.json"):
        assert any(part in c.what for c in found), part


def test_every_line_of_the_table_says_a_number_with_its_unit() -> None:
    said = {name: form(size(LARGE, COSTS)) for name, form in LINES}
    assert said["changelog"] == "300 MB/s"
    assert said["written to disk a day, all copies"] == "518 TB"
    assert said["partitions"] == "72"
    assert (human_bytes(79), human_bytes(2e15), human_s(119), human_s(0.5)) == ("79 B", "2.0 PB", "119 s", "0.50 s")
