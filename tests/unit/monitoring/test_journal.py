"""The journal of labels: what is written when, slots used again, bounds, layout."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from monitoring import journal as journals
from monitoring.joined import Scorer
from monitoring.journal import Block, Journal, Outcomes, Predictions
from monitoring.labels import Labels

GOLDEN = Path(__file__).parents[2] / "golden" / "monitoring_journal_v1.hex"
CHAMPION = Scorer("goog_ret_5d", "3", "champion")


@pytest.fixture(autouse=True)
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "SEGMENT_ROWS", 4)


def predictions(*ts: int) -> Predictions:
    times = np.array(ts, np.int64)
    zeros = np.zeros(len(ts))
    return Predictions.of(
        CHAMPION,
        horizon_us=10,
        prediction_ids=[f"goog_ret_5d:3:GOOG:{t}:0" for t in ts],
        symbols=["GOOG"] * len(ts),
        ts_event_us=times,
        revision=np.zeros(len(ts), np.int64),
        value=times / 4,
        lower=zeros,
        upper=zeros,
        p_up=zeros + 0.5,
    )


def outcomes(*ts: int) -> Outcomes:
    n = len(ts)
    times = np.array(ts, np.int64)
    return Outcomes.of(
        symbols=["GOOG"] * n,
        ts_event_us=times,
        horizon_us=np.full(n, 10),
        revision=np.zeros(n, np.int64),
        value=times / 8,
    )


def journal(**bounds: int) -> Journal:
    return Journal(**{"timeout_us": 100, "most_rows": 1000} | bounds)


def test_a_checkpoint_writes_what_grew_and_no_more() -> None:
    j = journal()
    j.append(predictions(1, 2))
    assert [slot for slot, _ in j.take_dirty()] == [0]
    assert j.take_dirty() == []
    j.append(predictions(3))
    j.append(predictions(4, 5))
    assert [slot for slot, _ in j.take_dirty()] == [0, 1]
    j.append(predictions(6))
    assert [slot for slot, _ in j.take_dirty()] == [1]


def test_a_long_block_is_cut_into_segments() -> None:
    j = journal()
    j.append(predictions(*range(11)))
    written = j.take_dirty()
    assert len(written) == 3
    again, blocks, faults = Journal.restore(written, timeout_us=100, most_rows=1000)
    assert [len(b) for b in blocks] == [4, 4, 3]
    assert [s for b in blocks for s in b.columns()[0][0].tolist()] == list(range(11))
    assert (len(again), faults) == (11, [])


def test_slots_are_used_again_once_every_deadline_in_them_has_passed() -> None:
    j = journal(timeout_us=100)
    for ts in range(0, 400, 100):
        j.append(predictions(*range(ts, ts + 4)))
    assert len(j.take_dirty()) == 4
    j.forget(now_us=3 + 10 + 100)
    assert len(j) == 16
    j.forget(now_us=3 + 10 + 100 + 1)
    assert len(j) == 12
    j.append(predictions(500, 501, 502))
    assert [slot for slot, _ in j.take_dirty()] == [0]


def test_too_many_rows_let_the_oldest_go_and_count_them() -> None:
    j = journal(most_rows=9)
    for ts in range(0, 40, 4):
        j.append(predictions(*range(ts, ts + 4)))
        j.forget(now_us=0)
    assert len(j) <= 9
    assert j.dropped_rows == 40 - len(j)


def test_slots_do_not_grow_while_rows_come_and_go() -> None:
    j, table = journal(timeout_us=20), dict[int, bytes]()
    for ts in range(0, 2000, 2):
        j.append(predictions(ts, ts + 1))
        j.forget(now_us=ts)
        table.update(j.take_dirty())
        if ts % 500 == 0:
            j, _, _ = Journal.restore(table.items(), timeout_us=20, most_rows=1000)
    assert len(table) < 20


def test_damage_costs_one_segment() -> None:
    j = journal()
    j.append(predictions(1, 2, 3, 4))
    j.append(outcomes(1, 2, 3, 4))
    (a, first), (b, second) = j.take_dirty()
    labels = Labels.restore([(a, first[:-3]), (b, second)], timeout_us=100, pane_us=10, most=100)
    assert "a journal segment cannot be read" in str(labels.faults[0])
    assert len(labels.pending) == 4
    other = Labels.restore([(a, b"\x09\x00" + first[2:])], timeout_us=100, pane_us=10, most=100)
    assert "layout 9, this version reads 1" in str(other.faults[0])


def test_a_block_whose_arrays_do_not_fit_is_damage() -> None:
    wrong = Outcomes(["GOOG"], b"\0" * 8, b"\0" * 8)
    data = journals.LAYOUT.to_bytes(2, "little") + msgspec.msgpack.encode((0, {}, [wrong]))
    _, blocks, faults = Journal.restore([(0, data)], timeout_us=1, most_rows=1)
    assert (blocks, len(faults)) == ([], 1)


def golden_example() -> Journal:
    j = journal()
    blocks: list[Block] = [predictions(1_167_782_400_000_000), outcomes(1_167_782_400_000_000)]
    for offset, block in enumerate(blocks):
        j.append(block)
        j.mark("trading.inference-log", 41 + offset)
    return j


def test_the_packed_layout_is_the_golden_one() -> None:
    ((slot, data),) = golden_example().take_dirty()
    assert (slot, data) == (0, bytes.fromhex(GOLDEN.read_text()))
    again, blocks, _ = Journal.restore([(0, data)], timeout_us=100, most_rows=1000)
    assert again.marks == {"trading.inference-log": 42}
    predicted, settled = blocks
    assert isinstance(predicted, Predictions)
    assert (predicted.scorer, predicted.prediction_ids) == (CHAMPION, ["goog_ret_5d:3:GOOG:1167782400000000:0"])
    assert settled.columns()[1].tolist() == [1_167_782_400_000_000 / 8]


def test_a_prediction_without_outcome_is_given_up_at_its_deadline() -> None:
    labels = Labels(timeout_us=100, pane_us=10, most=100)
    labels.add_predictions(predictions(0), source="log", offset=0)
    labels.add_predictions(predictions(111), source="log", offset=1)
    assert labels.advance() == {CHAMPION: 1}
    assert labels.advance() == {}
