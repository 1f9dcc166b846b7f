"""Figures of the workers benchmark: gaps, medians, phases out of a log; rows interleaved, and counted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.contenders import CONTENDERS
from benchmarks.job import Feed, Job
from benchmarks.sending import Sender
from benchmarks.watch import _rows_of
from benchmarks.workers.figures import longest_gaps_ms, said_at, spread
from benchmarks.workers.rebalancing import interleaved
from benchmarks.workers.stage import Stage


def test_a_gap_counts_if_any_of_it_lies_within_the_event() -> None:
    times = {0: [0, 100, 110, 700, 710, 5_000], 1: [710, 0, 300, 120, 5_000]}
    assert longest_gaps_ms(times, start_ms=105, end_ms=705) == {0: 590, 1: 410}
    assert longest_gaps_ms(times, start_ms=500, end_ms=600) == {0: 590, 1: 410}
    assert longest_gaps_ms(times, start_ms=700, end_ms=720)[0] == 4_290


@pytest.mark.parametrize("times", [[], [50, 60], [0, 10]])
def test_a_gap_whose_end_was_not_seen_is_not_measured(times: list[int]) -> None:
    with pytest.raises(ValueError, match="partition 3 has no predictions on both sides"):
        longest_gaps_ms({3: times}, start_ms=20, end_ms=55)


def test_one_run_is_its_own_median_and_range() -> None:
    assert spread([1.234]) == {"median": 1.23, "min": 1.23, "max": 1.23, "runs": 1}


def test_the_first_of_several_lines_of_an_event_tells_its_time() -> None:
    line = "timestamp='1970-01-01T00:0{}:00Z' level='info' event='partitions assigned' partitions=[0]\n"
    assert said_at("noise\n" + line.format(1) + line.format(2), "partitions assigned") == 60.0
    assert said_at(line.format(1), "worker starts") is None


def test_interleaved_rows_are_all_the_feeds_rows_with_partitions_in_turn() -> None:
    feed = Feed(Job(symbols=20, warm_up_rows=0, rows=60, frames_times=0, paced=()))
    rows = list(interleaved(feed))
    assert sorted(r["value"] for r in rows) == sorted(m["value"] for some in feed.messages for m in some)
    home = {s.encode(): p for p, symbols in enumerate(feed.symbols_of) for s in symbols}
    least = min(len(s) for s in feed.symbols_of)
    first = [home[r["key"]] for r in rows[: least * 4]]
    assert first == [0, 1, 2, 3] * least


class _Sent:
    """Stands in for a producer, and counts rows as a broker's reader would."""

    rows = 0

    def __init__(self, _settings: object) -> None:
        type(self).rows = 0

    def produce(self, _topic: str, frame: bytes, **_: object) -> None:
        type(self).rows += _rows_of(frame)

    def produce_batch(self, _topic: str, rows: list[object], *, partition: int) -> int:
        assert 0 <= partition < 4
        type(self).rows += len(rows)
        return len(rows)

    def poll(self, _timeout_s: float) -> None:
        pass


@pytest.mark.parametrize(("contender", "more"), [("ours", 0), ("ours_frames_out", 2_000)])
def test_filling_sends_what_is_wanted_or_little_more_and_counts_every_row(
    contender: str, more: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.sending.Producer", _Sent)
    feed = Feed(Job(symbols=70, features=2, lags_bars=(0,), warm_up_rows=0, rows=21_000, frames_times=1, paced=()))
    stage: Any = Stage.__new__(Stage)
    stage.feed, stage.contender = feed, CONTENDERS[contender]
    stage.sender = Sender(feed, "f", servers="none:1", in_frames=stage.contender.wire_in == "frames")
    stage.names = SimpleNamespace(topics=SimpleNamespace(features="f"))
    stage.log = SimpleNamespace(ends=lambda _topic: stage.sender.records)
    stage.crew = SimpleNamespace(workers={})
    for wanted in (3_500, 7_000, 14_000):
        there = stage.fill(wanted)
        assert wanted <= there <= wanted + more
        assert there == _Sent.rows == sum(stage.sender.rows)
