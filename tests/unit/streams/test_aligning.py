"""Rows of partitions that are read unevenly are counted in the order of event time, and their chunks finished then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monitoring.panes import Panes
from monitoring.reference import Reference
from streams.aligning import Aligned, together
from streams.logrows import LogRows, read_log
from streams.records import PartitionRecords
from tests.record import Record
from tests.unit.streams.monitor_world import COLUMNS, MINUTE_US, log_record

if TYPE_CHECKING:
    from collections.abc import Sequence

PANE_US = 3 * MINUTE_US
TOPIC = "trading.inference-log"
_BINS = {"edges": [0.0], "counts": [1, 1, 0], "low": -1, "high": 1}


@dataclass
class Told:
    """A chunk that notes that it is finished."""

    finished: int = 0

    def finish(self) -> None:
        self.finished += 1


def rows(partition: int, minutes: Sequence[int], *, offset: int = 0) -> LogRows:
    """One record with a row at each of these minutes."""
    n = len(minutes)
    ts = np.array(minutes, np.int64) * MINUTE_US
    value = log_record(
        [f"S{partition}"] * n,
        0,
        np.zeros((n, len(COLUMNS))),
        prediction_id=[f"{partition}:{t}" for t in minutes],
        ts_event_us=ts,
        ts_decision_us=ts,
        source_partition=np.full(n, partition, np.int32),
        source_offset=offset + np.arange(n),
    )
    ((read,), _) = read_log(PartitionRecords(TOPIC, partition, [Record(offset, 0, None, value)]))
    return read


def aligned(**changes: float) -> Aligned:
    return Aligned(pane_us=PANE_US, grace_panes=1, **changes)  # type: ignore[arg-type]  # a test's numbers


def minutes(taken: list[LogRows]) -> list[tuple[int, int]]:
    return [(r.partition, int(t) // MINUTE_US) for r in taken for t in r.ts_event_us]


def test_nothing_waits_where_nobody_is_behind() -> None:
    waiting, chunk = aligned(), Told()
    assert waiting.add([rows(0, [1, 2, 50]), rows(1, [1])], chunk, now_s=0.0)
    assert minutes(waiting.take((), now_s=0.0)) == [(0, 1), (0, 2), (1, 1), (0, 50)]
    assert chunk.finished == 0  # not counted yet
    waiting.settle()
    assert chunk.finished == 1
    assert len(waiting) == 0


def test_rows_ahead_wait_for_the_partition_behind() -> None:
    waiting, ahead, late = aligned(), Told(), Told()
    waiting.add([rows(0, [1, 4, 9, 30])], ahead, now_s=0.0)
    assert waiting.take([1], now_s=0.0) == []  # nothing of it was seen yet
    waiting.add([rows(1, [2])], late, now_s=0.0)
    assert minutes(waiting.take([1], now_s=0.0)) == [(0, 1), (1, 2), (0, 4)]  # its pane and the one of grace
    waiting.settle()
    assert (ahead.finished, late.finished) == (0, 1)
    assert minutes(waiting.take([], now_s=0.0)) == [(0, 9), (0, 30)]
    waiting.settle()
    assert ahead.finished == 1


def test_a_partition_that_brings_nothing_is_waited_for_a_while_only() -> None:
    waiting = aligned(patience_s=10.0)
    waiting.add([rows(0, [1])], Told(), now_s=0.0)
    assert waiting.take([1], now_s=9.0) == []
    assert minutes(waiting.take([1], now_s=10.0)) == [(0, 1)]
    waiting.add([rows(0, [50], offset=9)], Told(), now_s=11.0)
    assert minutes(waiting.take([1], now_s=11.0)) == [(0, 50)]  # and not for each row anew
    waiting.add([rows(1, [2])], Told(), now_s=12.0)
    waiting.add([rows(0, [90], offset=19)], Told(), now_s=12.0)
    assert minutes(waiting.take([1], now_s=12.0)) == [(1, 2)]  # it has come to life


def test_no_more_wait_than_may() -> None:
    waiting = aligned(most_rows=3)
    waiting.add([rows(0, [1, 10, 20, 30, 40])], Told(), now_s=0.0)
    assert minutes(waiting.take([1], now_s=0.0)) == [(0, 1), (0, 10)]
    assert len(waiting) == 3


def test_what_is_cleared_is_finished_by_nobody() -> None:
    waiting, chunk = aligned(), Told()
    waiting.add([rows(0, [1])], chunk, now_s=0.0)
    waiting.clear()
    assert waiting.take((), now_s=99.0) == []
    waiting.settle()
    assert chunk.finished == 0


@st.composite
def topics(draw: st.DrawFn) -> list[list[list[int]]]:
    """By partition the minutes of each record, time going forward."""
    return [
        [
            sorted(draw(st.lists(st.integers(last, last + 12), min_size=1, max_size=4)))
            for last in sorted(draw(st.lists(st.integers(1, 60).map(lambda k: 13 * k), max_size=8, unique=True)))
        ]
        for _ in range(draw(st.integers(1, 3)))
    ]


@given(topics(), st.data())
def test_however_unevenly_partitions_are_read_no_row_is_late(topic: list[list[list[int]]], data: st.DataObject) -> None:
    log = [[rows(p, m, offset=100 * i) for i, m in enumerate(records)] for p, records in enumerate(topic)]
    names = [*COLUMNS, "prediction"]
    panes = Panes(Reference.from_columns(names, dict.fromkeys(names, _BINS)), pane_us=PANE_US, panes=2, grace_panes=1)
    waiting, at, chunks = aligned(), [0] * len(log), []
    seen: list[tuple[int, int]] = []
    windows = []
    while any(i < len(records) for i, records in zip(at, log, strict=True)):
        partition = data.draw(st.sampled_from([p for p, i in enumerate(at) if i < len(log[p])]))
        many = data.draw(st.integers(1, 4))
        chunks.append(Told())
        waiting.add(log[partition][at[partition] : at[partition] + many], chunks[-1], now_s=0.0)
        at[partition] = min(len(log[partition]), at[partition] + many)
        taken = waiting.take([p for p, i in enumerate(at) if i < len(log[p])], now_s=0.0)
        for some in together(taken):
            for r in some:
                values = np.column_stack((r.vectors, r.value))
                windows += panes.add(values, r.ts_event_us, source=r.source, own=r.own, decided=r.decided)
        seen += minutes(taken)
        waiting.settle()
    assert panes.late_rows == 0
    assert [c.finished for c in chunks] == [1] * len(chunks)
    assert sorted(seen) == sorted((p, m) for p, records in enumerate(topic) for record in records for m in record)
    for window in windows:
        held = [m for _, m in seen if window.start_us < m * MINUTE_US <= window.end_us]
        assert window.rows == len(held)
