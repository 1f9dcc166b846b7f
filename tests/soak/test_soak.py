"""The soak's own parts, without Kafka: trends, quantiles, the book of rows, and the page."""

from __future__ import annotations

import itertools
import json
import os
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from benchmarks.job import BAR_US, START_US, Job
from tests.chaos import report as chaos_report
from tests.soak import report
from tests.soak.figures import after_warm_up, by_minute, by_third, leaks, quantiles, trend
from tests.soak.rows import Book
from tests.soak.run import faults
from tests.soak.watching import folder_mb, process, topic_mb

if TYPE_CHECKING:
    from pathlib import Path

JOB = Job(symbols=3, features=2)


def found(**samples: list[float]) -> dict[str, Any]:
    """Results of half an hour in which nothing changed, but for these samples."""
    at_s = [5.0 * i for i in range(360)]
    groups = [f"{g}_{k}" for g in ("inference", "monitor") for k in ("rss_mb", "fds", "threads", "state_mb", "behind")]
    flat = {name: [100.0] * len(at_s) for name in (*groups, "windows_changelog_mb", "panes_changelog_mb")}
    log = {"records": 1_000, "keys": 10, "newest_mb": 0.04, "compacted_mb": 0.05}
    sent = 3_600_000
    counts = {
        "sent": sent,
        "answered": sent,
        "lost": 0,
        "repeated": 0,
        "abstained": 1,
        "unknown": 0,
        "in_features": sent,
        "rejected": 0,
    }
    return {
        "command": "make it so",
        "minutes": 30.0,
        "rate": 2_000.0,
        "warm_up_minutes": 5.0,
        "kafka": "4",
        "python": "3",
        "cores": 2,
        "job": JOB.described(),
        "compaction": {"segment.ms": "1"},
        "label_timeout": "6h",
        "exits": {"inference": 0, "monitor": 0},
        "rows": counts,
        "latency_ms": {"thirds": [[5.0, 20.0], [5.0, 21.0], [6.0, 22.0]], "minutes": [[5.0, 20.0], [6.0, 30.0]]},
        "changelogs": {"windows": log, "panes": log},
        "duckdb": {"closed_mb": 3.0, "predictions": sent, "outcomes": 6},
        "samples": {"at_s": at_s, **flat, **samples},
    }


def test_a_trend_is_the_least_squares_slope_by_the_hour() -> None:
    rng = np.random.default_rng(3)
    at_s = np.arange(0, 1800, 5.0)
    values = 300 + 40 * at_s / 3600 + rng.normal(scale=2.0, size=len(at_s))
    t = trend(at_s, values)
    slope, _ = np.polyfit(at_s / 3600, values, 1)
    assert t.slope == pytest.approx(slope)
    assert abs(t.slope - 40) < 3 * t.error < 10


def test_the_error_of_a_trend_covers_the_truth_as_often_as_it_says_also_where_samples_resemble_their_neighbours() -> None:
    rng = np.random.default_rng(4)
    at_s = np.arange(0, 1500, 5.0)
    inside = 0
    for _ in range(200):
        noise = rng.normal(size=len(at_s) + 50)
        for i in range(1, len(noise)):
            noise[i] += 0.8 * noise[i - 1]
        t = trend(at_s, noise[50:])
        inside += abs(t.slope) < 2 * t.error
    assert inside > 180  # 95 of 100 within two standard errors; without the widening it is about 50


def test_what_does_not_change_has_no_trend_and_two_samples_have_none_either() -> None:
    t = trend([0, 5, 10, 15], [7.0, 7.0, 7.0, 7.0])
    assert (t.slope, t.error) == (0.0, 0.0)
    with pytest.raises(ValueError, match="three samples"):
        trend([0, 5], [1.0, 2.0])


def test_quantiles_are_taken_by_the_minute_and_third_in_which_a_row_was_sent() -> None:
    sent_ms = 1_000 + np.arange(0, 180_000, 100)
    latency_ms = np.where(sent_ms < 61_000, 10, np.where(sent_ms < 121_000, 20, 30))
    expected = [[10.0, 10.0], [20.0, 20.0], [30.0, 30.0]]
    assert by_minute(sent_ms, latency_ms, start_ms=1_000, end_ms=181_020) == expected
    assert by_third(sent_ms, latency_ms, start_ms=1_000, end_ms=181_000) == expected
    assert quantiles(np.arange(1, 101)) == [50.5, 99.0]
    with pytest.raises(ValueError, match="no rows"):
        quantiles(np.array([], np.int64))


def test_growth_after_the_warm_up_is_named_and_growth_before_it_is_not() -> None:
    rng = np.random.default_rng(5)
    noise = rng.normal(scale=3.0, size=360)
    warming = [float(v) for v in np.minimum(np.arange(360), 60) * 5 + noise]
    leaking = [float(v) for v in 300 + np.arange(360) * 0.3 + noise]  # 216 MB an hour
    assert after_warm_up(found()).start == 60
    assert leaks(found(inference_rss_mb=warming)) == []
    assert leaks(found(inference_rss_mb=leaking, monitor_fds=[50.0 + i // 10 for i in range(360)])) == [
        "inference_rss_mb",
        "monitor_fds",
    ]


def test_a_short_run_claims_no_leak() -> None:
    short = found()
    short["samples"] = {k: v[:60] for k, v in found(inference_rss_mb=[float(i) for i in range(360)])["samples"].items()}
    short["warm_up_minutes"] = 1.0
    assert leaks(short) == []
    assert "| inference: threads | 100 | 100 | too short to tell |\n" in report.figures(short)


def test_every_row_is_sent_once_in_order_and_the_same_seed_sends_the_same() -> None:
    once, again = ([r["value"] for r in itertools.islice(Book(JOB, most=9).rows(), 20)] for _ in range(2))
    assert once == again
    bodies = [json.loads(value) for value in once]
    assert [(b["symbol"], b["ts_event_us"]) for b in bodies] == [
        (f"SYM000{s}", START_US + t * BAR_US) for t in range(3) for s in range(3)
    ]
    assert all(len(b["values"]) == JOB.features for b in bodies)


def prediction(row: int, **changed: object) -> bytes:
    body = {"symbol": f"SYM000{row % 3}", "ts_event_us": START_US + row // 3 * BAR_US, "abstained": False}
    return msgspec.json.encode({**body, **changed, "value": 1.0})


def test_the_book_finds_what_is_lost_repeated_unknown_and_how_long_each_row_took() -> None:
    book = Book(JOB, most=100)
    list(itertools.islice(book.rows(), 6))
    for row in (0, 1, 1, 1, 3, 4):
        book.enter(prediction(row, abstained=row == 0), book.sent_ms[row] + 10 * row)
    book.enter(prediction(6), 0)
    book.enter(prediction(0, symbol="OTHER"), 0)
    book.enter(prediction(0, ts_event_us=START_US + 1), 0)
    assert book.counts() == {"sent": 6, "answered": 4, "lost": 2, "repeated": 2, "abstained": 1, "unknown": 3}
    sent_ms, latency_ms = book.latencies()
    assert latency_ms.tolist() == [0, 10, 30, 40]
    assert sent_ms.tolist() == [book.sent_ms[row] for row in (0, 1, 3, 4)]


def test_outcomes_follow_the_rows_in_their_order() -> None:
    some = [json.loads(o["value"]) for o in itertools.islice(Book(JOB, most=9).outcomes(), 4)]
    assert [(o["symbol"], o["ts_event_us"]) for o in some[2:]] == [("SYM0002", START_US), ("SYM0000", START_US + BAR_US)]


@pytest.mark.parametrize(
    ("part", "change", "named"),
    [
        ("rows", {"lost": 2}, "2 rows lost"),
        ("rows", {"repeated": 1}, "1 rows repeated"),
        ("rows", {"in_features": 8}, "differ"),
        ("duckdb", {"predictions": 8}, "differ"),
        ("rows", dict.fromkeys(("sent", "answered", "in_features"), 3_500_000), "pace"),
        ("exits", {"monitor": 70}, "monitor left with 70"),
    ],
)
def test_a_run_is_bad_when(part: str, change: dict[str, int], named: str) -> None:
    results = found()
    assert faults(results) == []
    results[part] |= change
    assert named in "; ".join(faults(results))


def test_the_page_has_the_figures_of_the_results() -> None:
    text = report.figures(found())
    assert "| | after 5.0 minutes | at the end | trend per hour |\n" in text
    assert "| inference: resident memory | 100 MB | 100 MB | +0.0 ± 0.0 MB |\n" in text
    assert "| 99th percentile | 20 ms | 22 ms | 30 ms |\n" in text
    assert "| windows | 4 MB | 10 × 4.0 kB = 0.0 MB | 100 MB | 100 MB | 0.1 MB |\n" in text
    assert "Rows: 3,600,000 sent, 3,600,000 predicted, 1 of them abstained; 0 lost, 0 repeated, 0 rejected.\n" in text
    assert "Repeat with `make it so`.\n" in text
    assert "Grows" not in text
    assert "**Grows and should not**: monitor_fds.\n" in report.figures(found(monitor_fds=[float(i) for i in range(360)]))


def test_the_committed_page_holds_the_committed_figures_and_each_writer_keeps_the_others() -> None:
    page = report.PAGE.read_text(encoding="utf-8")
    ours, theirs = (json.loads(r.RESULTS.read_text(encoding="utf-8")) for r in (report, chaos_report))
    assert report.with_figures(page, ours) == page, "run `python -m tests.soak.run --write`"
    changed = chaos_report.with_figures(report.with_figures(page, ours | {"command": "ours"}), theirs | {"command": "theirs"})
    assert changed != page
    assert chaos_report.with_figures(report.with_figures(changed, ours), theirs) == page


def test_processes_folders_and_topics_are_measured(tmp_path: Path) -> None:
    mine = process(os.getpid())
    assert mine["rss_mb"] > 10
    assert mine["fds"] >= 3
    assert mine["threads"] >= 1
    logs = tmp_path / "data" / "t-0"
    logs.mkdir(parents=True)
    for name, size in (("0.log", 3_000_000), ("9.log", 1_000_000), ("9.index", 9_000_000), ("1.log.deleted", 9_000_000)):
        (logs / name).write_bytes(bytes(size))
    node: Any = type("Node", (), {"folder": tmp_path})
    assert (topic_mb(node, "t"), topic_mb(node, "t", closed=True)) == (4.0, 3.0)
    assert folder_mb(tmp_path) == 22.0
    with pytest.raises(RuntimeError, match="no log of other"):
        topic_mb(node, "other")
