"""Runs to results: medians, ratios of the same round, and nothing where nothing was measured."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.contenders import CONTENDERS, NAMES, OURS, PER_BATCH, WRITE_BEHIND
from benchmarks.job import Job
from benchmarks.measure import Figures
from benchmarks.report import results, table


def _figures(name: str, number: int, rows_per_s: float, *, p99_ms: float | None = 9.0) -> Figures:
    return Figures(name, number, rows_per_s, 10.0, 0.9, 200.0, 5.0, p99_ms, None, None, 1_000, 2_500, 900)


def _results(runs: list[Figures]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(results(runs, machine={"cpu": "x"}, job=Job().described())))
    return found


def test_results_have_medians_ratios_by_pair_and_every_run() -> None:
    rates = {OURS: [100.0, 90.0, 120.0], PER_BATCH: [50.0, 90.0, 100.0], WRITE_BEHIND: [200.0, 90.0, 60.0]}
    found = _results([_figures(name, i + 1, rates[name][i]) for i in range(3) for name in rates])
    ratios = {"ratios", "cpu_ratios", "p99_ratios", "p99_ratios_5000"}
    assert set(found) == {"contenders", "best", "machine", "job", "runs"} | ratios
    assert set(found["contenders"]) == set(rates)
    assert {"rows_per_s", "us_per_row", "rss_mb", "p50_ms", "p99_ms", "p99_ms_5000"} <= set(found["contenders"][OURS])
    assert found["contenders"][OURS]["rows_per_s"] == 100.0
    ratio = found["ratios"]["ours/tuned_loop"]
    assert ratio == {"median": 1.2, "min": 1.0, "max": 2.0, "pairs": 3, "each": [2.0, 1.0, 1.2]}
    assert found["ratios"]["ours/tuned_loop_write_behind"]["max"] == 2.0
    assert len(found["runs"]) == 9
    assert all(name in table(found) for name in rates)


def test_a_latency_that_was_not_measured_is_null_and_has_no_ratio() -> None:
    runs = [_figures(OURS, 1, 100.0), _figures("faust_event", 1, 2.0, p99_ms=None)]
    found = _results(runs)
    assert found["contenders"]["faust_event"]["p99_ms"] is None
    assert found["contenders"][OURS]["p99_ms_5000"] is None
    assert found["p99_ratios"] == {}
    assert found["p99_ratios_5000"] == {}
    assert found["ratios"]["ours/faust_event"]["median"] == 50.0
    assert "faust_event" in table(found)


def test_ratios_are_of_the_same_round_and_of_what_belongs_together() -> None:
    runs = [_figures(name, 1, 100.0 + i) for i, name in enumerate(NAMES)]
    runs += [_figures(OURS, 2, 400.0)]
    found = _results(runs)
    ratios = found["ratios"]
    assert {"ours/bytewax", "ours_frames/ours", "ours_frames_out/ours", "ours_lightgbm/tuned_loop_lightgbm"} <= set(ratios)
    assert not {"ours/ours", "ours/ours_lightgbm", "ours/tuned_loop_lightgbm", "ours_lightgbm/ours_lightgbm"} & set(ratios)
    assert {r["pairs"] for r in ratios.values()} == {1}


def test_the_best_framework_and_the_best_with_durable_state_are_named() -> None:
    rates = {"faust_take": 3.0, "bytewax": 40.0, "quix": 10.0, "faststream": 50.0, OURS: 100.0}
    found = _results([_figures(name, 1, rate) for name, rate in rates.items()])
    assert found["best"] == {"framework": "faststream", "durable_framework": "bytewax"}
    assert _results([_figures(OURS, 1, 1.0)])["best"] == {"framework": None, "durable_framework": None}


@pytest.mark.parametrize("job", [Job(), Job(warm_up_rows=10_000, rows=20_000), Job(symbols=40, warm_up_rows=800, rows=1_600)])
def test_every_contender_takes_whole_ticks_full_windows_and_no_more_rows_than_were_made(job: Job) -> None:
    latest = sum(job.ticks_of(rows) for _, rows in job.paced)
    for contender in CONTENDERS.values():
        warm_up, total = contender.sized(job)
        assert total % job.symbols == 0
        assert warm_up >= min(job.symbols * job.window_rows, job.warm_up_rows)
        assert total - warm_up >= min(job.symbols * job.window_rows, job.rows)
        if contender.wire_in == "frames":
            assert total == job.symbols * job.frame_ticks
        else:
            assert total + latest * job.symbols <= job.ticks * job.symbols
