"""The journal of labels: what is written when, slots used again, bounds, layouts."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from monitoring import journal as journals
from monitoring.joined import Scorer
from monitoring.journal import Journal
from monitoring.journal_layout import LAYOUT, Block, Segment, pack, unpack
from monitoring.label_rows import NEVER, Rows
from monitoring.labels import Labels
from monitoring.symbols import Symbols

GOLDEN = Path(__file__).parents[2] / "golden"
CHAMPION = Scorer("goog_ret_5d", "3", "champion")
TS = 1_167_782_400_000_000


@pytest.fixture(autouse=True)
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "SEGMENT_ROWS", 4)


def predictions(*ts: int) -> Block:
    times, none = np.array(ts, np.int64), np.zeros(len(ts), np.int64)
    floats = np.stack((times / 4, none, none, none + 0.5, none + 0.75))
    return Block(CHAMPION, 10, Rows(np.stack((times, none, none)), floats))


def outcomes(*ts: int) -> Block:
    times, none = np.array(ts, np.int64), np.zeros(len(ts), np.int64)
    return Block(None, 10, Rows(np.stack((times, none, none)), times[np.newaxis] / 8))


def journal(**bounds: int) -> Journal:
    return Journal(Symbols(["GOOG"]), **{"keep_us": 100, "most_rows": 1000} | bounds)


def times(blocks: list[Block]) -> list[int]:
    return [ts for block in blocks for ts in block.rows.integers[0].tolist()]


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
    j.append(predictions(0))
    j.append(predictions(*range(1, 11)))
    written = j.take_dirty()
    assert [len(unpack(data, Symbols())) for _, data in written] == [4, 4, 3]
    again, blocks, faults = Journal.restore(written, Symbols(), keep_us=100, most_rows=1000)
    assert times(blocks) == list(range(11))
    assert (len(again), faults) == (11, [])


def test_segments_of_long_names_have_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "SEGMENT_ROWS", 2048)
    names = [f"{i:04d}".rjust(64, "é") for i in range(3000)]
    j = Journal(Symbols(names), keep_us=100, most_rows=10**6)
    numbers = np.arange(3000)
    j.append(Block(CHAMPION, 10, Rows(np.stack((numbers, numbers, numbers)), np.random.default_rng(1).normal(size=(5, 3000)))))
    written = j.take_dirty()
    sizes = [len(data) for _, data in written]
    assert max(sizes) <= journals.SEGMENT_BYTES + 100
    assert min(sizes[:-1]) > 0.9 * journals.SEGMENT_BYTES
    symbols = Symbols()
    assert sum(len(unpack(data, symbols)) for _, data in written) == 3000
    assert symbols.names() == names


def test_slots_are_used_again_once_every_deadline_in_them_has_passed() -> None:
    j = journal(keep_us=100)
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
    j, table = journal(keep_us=20), dict[int, bytes]()
    for ts in range(0, 2000, 2):
        j.append(predictions(ts, ts + 1))
        j.forget(now_us=ts)
        table.update(j.take_dirty())
        if ts % 500 == 0:
            j, _, _ = Journal.restore(table.items(), Symbols(), keep_us=20, most_rows=1000)
    assert len(table) < 20


def test_segments_are_read_in_the_order_they_were_begun() -> None:
    j = journal(keep_us=20)
    j.append(predictions(0, 1, 2, 3))
    table = dict(j.take_dirty())
    j.append(predictions(100, 101, 102, 103, 104))
    j.forget(now_us=100)
    table.update(j.take_dirty())
    j.append(predictions(105, 106, 107, 108))
    j.mark("log", 9)
    table.update(j.take_dirty())
    assert sorted(table) == [0, 1, 2]
    for entries in (table.items(), reversed(table.items())):
        again, blocks, _ = Journal.restore(entries, Symbols(), keep_us=20, most_rows=1000)
        assert times(blocks) == list(range(100, 109)), "slot 0 was used again"
        again.append(predictions(109))
        assert (again.marks, [slot for slot, _ in again.take_dirty()]) == ({"log": 9}, [j._slot])


def test_a_segment_begun_before_a_restart_is_gone_on_with() -> None:
    j = journal()
    j.append(predictions(1, 2))
    j.mark("log", 5)
    symbols = Symbols(["AAPL"])
    again, _, _ = Journal.restore(j.take_dirty(), symbols, keep_us=100, most_rows=1000)
    again.append(outcomes(3)._replace(rows=Rows(np.array([[3], [0], [0]]), np.array([[0.5]]))))
    ((slot, data),) = again.take_dirty()
    found = unpack(data, Symbols(["MSFT"]))
    assert (slot, found.marks, len(found), times(found.blocks)) == (0, {"log": 5}, 3, [1, 2, 3])
    # By the codes of each reader's own symbols, to which it adds those it did not know.
    assert [b.rows.integers[2].tolist() for b in found.blocks] == [[2, 2], [1]]


def test_damage_costs_one_segment() -> None:
    j = journal()
    j.append(predictions(1, 2, 3, 4))
    j.append(outcomes(1, 2, 3, 4))
    (a, first), (b, second) = j.take_dirty()
    labels = Labels.restore([(a, first[:-3]), (b, second)], timeout_us=100, pane_us=10, most=100)
    assert "a journal segment cannot be read" in str(labels.faults[0])
    assert labels.panes.many == 4
    other = Labels.restore([(a, b"\x09\x00" + first[2:])], timeout_us=100, pane_us=10, most=100)
    assert "layout 9, this version reads 1 and 2" in str(other.faults[0])


@pytest.mark.parametrize(
    "block",
    [
        (None, 10, 2, [b"\0" * 24, b"\0" * 8, b"\0" * 4, b"\0" * 8]),  # three times for two rows
        (None, 10, 1, [b"\0" * 8, b"\0" * 8, b"\1\0\0\0", b"\0" * 8]),  # the second of one name
        (None, 10, 1, [b"\0" * 8, b"\0" * 8, b"\0" * 4]),  # no outcome
        (None, 10, 1, [b"\0" * 8, b"\0" * 8, b"\0" * 4, b"\0" * 8, b"\0" * 8]),  # two
        (None, 10, 0, [b"", b"", b"", b""]),
        (None, 10, 1, [b"\0" * 7, b"\0" * 8, b"\0" * 4, b"\0" * 8]),
        (["m", "1"], 10, 1, [b"\0" * 8, b"\0" * 8, b"\0" * 4, *[b"\0" * 8] * 5]),
    ],
)
def test_a_block_whose_columns_do_not_fit_is_damage(block: tuple[object, ...]) -> None:
    data = LAYOUT.to_bytes(2, "little") + msgspec.msgpack.encode((0, {}, -1, -1, ["GOOG"], [block]))
    symbols = Symbols()
    _, blocks, faults = Journal.restore([(0, data)], symbols, keep_us=1, most_rows=1)
    assert (blocks, len(faults)) == ([], 1)


def test_numbers_come_back_bit_by_bit() -> None:
    odd = np.array([np.nan, -np.nan, np.inf, -0.0, 5e-324])
    for column in (odd, np.full(5, np.nan), np.full(5, -0.0), np.array([0.0, -0.0, 0.0, 0.0, 0.0])):
        integers = np.array([[-1, 2**53, 0, 1, 2], [0, 0, 0, 0, 1023], [0, 1, 0, 1, 1]])
        segment = Segment(7, {"log": 3}, 5, 4, [Block(None, 10, Rows(integers, column[np.newaxis]))])
        found = unpack(pack(segment, ["A", "B"]), Symbols(["A", "B"]))
        assert (found.seq, found.marks, found.now_us, found.until_us) == (7, {"log": 3}, 5, 4)
        (block,) = found.blocks
        assert block.rows.integers.tolist() == integers.tolist()
        assert block.rows.floats.tobytes() == column.tobytes()


def golden_example() -> Journal:
    j = journal()
    for offset, block in enumerate([predictions(TS), outcomes(TS), predictions(TS + 60_000_000)]):
        j.append(block)
        j.mark("trading.inference-log", 41 + offset)
    j.now_us, j.until_us = TS + 60_000_000, TS - 7
    return j


def test_the_packed_layout_is_the_golden_one() -> None:
    ((slot, data),) = golden_example().take_dirty()
    assert (slot, data) == (0, bytes.fromhex((GOLDEN / "monitoring_journal_v2.hex").read_text()))
    again, (predicted, settled), _ = Journal.restore([(0, data)], Symbols(), keep_us=100, most_rows=1000)
    assert (again.marks, again.now_us, again.until_us) == ({"trading.inference-log": 43}, TS + 60_000_000, TS - 7)
    assert (predicted.scorer, predicted.horizon_us, settled.scorer) == (CHAMPION, 10, None)
    assert predicted.rows.integers.tolist() == [[TS, TS + 60_000_000], [0, 0], [0, 0]]
    assert predicted.rows.floats.tolist() == [[TS / 4, (TS + 60_000_000) / 4], [0, 0], [0, 0], [0.5, 0.5], [0.75, 0.75]]
    assert settled.rows.floats.tolist() == [[TS / 8]]


def test_layout_1_is_read_and_written_again_as_layout_2() -> None:
    data = bytes.fromhex((GOLDEN / "monitoring_journal_v1.hex").read_text())
    assert int.from_bytes(data[:2], "little") == 1
    bounds = {"timeout_us": 100, "pane_us": 50, "most": 100}
    labels = Labels.restore([(0, data)], **bounds)
    assert (labels.faults, labels.taken("trading.inference-log"), labels.now_us) == ((), 42, TS)
    labels.journal.append(predictions(TS + 1))
    ((slot, written),) = labels.journal.take_dirty()
    assert (slot, int.from_bytes(written[:2], "little")) == (0, LAYOUT)
    for found in (labels, Labels.restore([(0, written)], **bounds)):
        rows = found.rows(CHAMPION, start_us=TS - 50, end_us=TS)
        assert (rows.symbols, rows.symbol_codes.tolist(), rows.ts_event_us.tolist()) == (("GOOG",), [0], [TS])
        numbers = (rows.value, rows.lower, rows.upper, rows.p_up, rows.completeness, rows.outcome)
        assert [n.tolist() for n in numbers] == [[TS / 4], [0.0], [0.0], [0.5], [1.0], [TS / 8]]
    assert Labels.restore([(0, data)], **bounds).journal.until_us == TS
    assert unpack(data, Symbols()).until_us == NEVER
