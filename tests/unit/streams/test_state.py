"""The bytes of a symbol's windows: golden, back again bit for bit, and nothing else is taken for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streams.errors import StateLayoutError
from streams.state import LAYOUT, SetState, SymbolState, newer, pack, unpack
from streams.waiting import Waiting
from streams.wire import INDEX_BITS, position_of, true_offset

GOLDEN = Path(__file__).parents[2] / "golden"
NONE = np.zeros(0, dtype=np.int64)
SAMPLE = SymbolState(
    41,
    {
        "bars": SetState(
            ("x", "größe"),
            np.array([5 << 10, (7 << 10) | 3], dtype=np.int64),
            np.array([6, 9], dtype=np.int64),
            np.array([40, 41], dtype=np.int64),
            np.array([[1.5, np.nan], [-0.0, 1e300]]),
        ),
        "slow": SetState(("z",), NONE, NONE, NONE, np.zeros((0, 1))),
    },
)


def same(a: SymbolState, b: SymbolState) -> bool:
    def plain(s: SymbolState) -> object:
        return s.applied_offset, [
            (n, w.features, *(x.tobytes() for x in (w.key, w.known, w.offset, w.values)), w.values.shape)
            for n, w in s.sets.items()
        ]

    return plain(a) == plain(b)


@st.composite
def states(draw: st.DrawFn) -> SymbolState:
    text = st.text(st.characters(exclude_characters="\x1f", exclude_categories=["Cs"]), max_size=12)
    sets = {}
    for name in draw(st.lists(text, max_size=3, unique=True)):
        features = tuple(draw(st.lists(text, min_size=1, max_size=4, unique=True)))
        rows = draw(st.integers(0, 5))
        whole = hnp.arrays(np.int64, rows, elements=st.integers(-(2**63), 2**63 - 1))
        values = draw(hnp.arrays(np.float64, (rows, len(features)), elements=st.floats(width=64)))
        sets[name] = SetState(features, draw(whole), draw(whole), draw(whole), values)
    return SymbolState(draw(st.integers(-1, 2**63 - 1)), sets)


@given(states())
def test_what_was_packed_comes_back_bit_for_bit(state: SymbolState) -> None:
    data = pack(state)
    assert data[0] == LAYOUT
    assert same(unpack(data), state)
    assert pack(unpack(data)) == data


def golden(layout: int) -> bytes:
    return bytes.fromhex((GOLDEN / f"window_state_v{layout}.hex").read_text())


def test_the_golden_value_is_written() -> None:
    assert pack(SAMPLE) == golden(LAYOUT)


@pytest.mark.parametrize("layout", range(1, LAYOUT + 1))
def test_the_golden_value_of_every_layout_so_far_is_read(layout: int) -> None:
    assert golden(layout)[0] == layout
    state = unpack(golden(layout))
    if layout == 1:  # it kept plain Kafka offsets
        assert state.applied_offset == position_of(SAMPLE.applied_offset)
        sets = {n: replace(w, offset=w.offset >> INDEX_BITS) for n, w in state.sets.items()}
        state = SymbolState(true_offset(state.applied_offset), sets)
    assert same(state, SAMPLE)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xff" * 40, bytes([LAYOUT + 1]) + pack(SAMPLE)[1:]])
def test_another_layout_is_refused_by_number(data: bytes) -> None:
    found = data[0] if data else "none"
    with pytest.raises(StateLayoutError, match=f"has layout {found}, this release reads .*: run the release that wrote it"):
        unpack(data)


def test_every_truncation_and_every_byte_too_many_is_refused() -> None:
    whole = pack(SAMPLE)
    for n in range(1, len(whole)):
        with pytest.raises(StateLayoutError, match="damaged"):
            unpack(whole[:n])
    with pytest.raises(StateLayoutError, match="3 bytes too many"):
        unpack(whole + b"abc")


@settings(max_examples=300)
@given(st.data())
def test_damage_is_refused_or_gives_a_whole_value_but_never_another_error(data: st.DataObject) -> None:
    value = bytearray(pack(SAMPLE))
    for _ in range(data.draw(st.integers(1, 3))):
        value[data.draw(st.integers(1, len(value) - 1))] = data.draw(st.integers(0, 255))
    try:
        state = unpack(bytes(value))
    except StateLayoutError as e:
        assert "delete the state folder" in str(e)  # noqa: PT017 - it need not be raised
    else:
        for s in state.sets.values():
            assert s.values.shape == (len(s.key), len(s.features))


@given(st.binary(max_size=80))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    try:
        unpack(bytes([LAYOUT]) + data)
    except StateLayoutError:
        return


def value(applied: int, *, waiting: int = 0) -> bytes:
    return pack(SymbolState(applied, {}, tuple(Waiting("m", n, 0, n, n) for n in range(waiting))))


def test_the_newer_of_two_values_has_more_rows_applied_or_as_many_and_fewer_waiting() -> None:
    oldest_first = [value(-1), value(position_of(3), waiting=2), value(position_of(3)), value(position_of(3) + 1, waiting=5)]
    for n, old in enumerate(oldest_first):
        for new in oldest_first[n + 1 :]:
            assert newer(old, new) == newer(new, old) == new
    as_new = pack(replace(SAMPLE, applied_offset=5, waiting=()))
    assert newer(value(5), as_new) == as_new
    assert newer(as_new, value(5)) == value(5)


def test_a_value_of_the_first_layout_is_told_by_the_position_of_its_offset() -> None:
    first = bytes([1, 0]) + (3).to_bytes(8, "little", signed=True)
    assert newer(value(position_of(2)), first) == newer(first, value(position_of(2))) == first
    assert newer(value(position_of(4)), first) == value(position_of(4))


@pytest.mark.parametrize("unread", [b"", b"\x02", b"\x63" + bytes(40)])
def test_of_a_value_that_cannot_be_read_the_later_stands(unread: bytes) -> None:
    assert newer(value(9), unread) == unread
    assert newer(unread, value(-1)) == value(-1)
