"""What becomes of the features topic's bytes: a row, or a refusal with its reason and the bytes as they came."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.partitioner import partition_of
from streams.records import MAX_SYMBOL_BYTES, MAX_TS_US
from tests.unit.streams.rowbytes import HOME, LAYOUT, MAX_FUTURE_US, NOW_MS, ONE_SET, PARTITIONS, decode, refused, row, taken

if TYPE_CHECKING:
    from streams.layout import SetLayout


@pytest.mark.parametrize("layout", [LAYOUT, ONE_SET, {}])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "undecodable"),
        (b"", "undecodable"),
        (b"\xff\x00\x80", "undecodable"),
        (b"null", "undecodable"),
        (b"[1, 2]", "undecodable"),
        (b'"A"', "undecodable"),
        (row() + b"x", "undecodable"),
        (b"\xef\xbb\xbf" + row(), "undecodable"),
        (row().decode().encode("utf-16"), "undecodable"),
        (row(feature_set=...), "undecodable"),
        (row(feature_set=5), "undecodable"),
        (row(feature_set=None), "undecodable"),
        (row(feature_set="other"), "unknown_feature_set"),
        (row(feature_set=""), "unknown_feature_set"),
        (row(feature_set="other", symbol=5, values=...), "unknown_feature_set"),
        (b'{"feature_set": "bars", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "undecodable"),
        (b'{"feature_set": ' + b"[" * 100_000, "undecodable"),
        (b"[" * 1_000_000, "undecodable"),
    ],
)
def test_what_is_no_row_is_refused_whichever_models_are_served(
    layout: dict[str, SetLayout], value: bytes | None, reason: str
) -> None:
    one = refused(value, layout=layout)
    assert one.reason == reason
    assert one.detail


@pytest.mark.parametrize(
    "value",
    [
        row(symbol=...),
        row(symbol=5),
        row(symbol=None),
        row(values=...),
        row(values=[1, 2]),
        row(values={"a": "1.5"}),
        row(values={"a": [1]}),
        row(ts_event_us=...),
        row(ts_event_us=None),
        row(ts_event_us="100"),
        row(ts_event_us=100.0),
        row(ts_event_us=True),
        row(ts_known_us=1.5),
        row(revision=None),
        row(revision="1"),
        row().replace(b"1.5", b"NaN"),
        row().replace(b"1.5", b"Infinity"),
        row().replace(b"1.5", b"1e999"),
        row().replace(b"1.5", b"9" * 5000),
        row().replace(b": 100", b": " + b"9" * 5000),
        row().replace(b'"A"', b'"\\ud800"'),
        row().replace(b'"A"', b'"\xff"'),
    ],
)
@pytest.mark.parametrize("layout", [LAYOUT, ONE_SET])
def test_a_row_with_a_bad_field_is_undecodable(value: bytes, layout: dict[str, SetLayout]) -> None:
    one = refused(value, layout=layout)
    assert (one.reason, one.detail[:19]) == ("undecodable", "not a feature row: ")


def test_an_undecodable_row_names_its_field() -> None:
    assert refused(row(values={"a": "1.5"})).detail.endswith("- at `$.values.a`")
    assert refused(None).detail == "empty value"


def test_the_known_feature_sets_are_named() -> None:
    assert refused(row(feature_set="other")).detail == "no served model reads feature set 'other'; they read: bars, slow"
    assert refused(row(), layout={}).detail == "no served model reads feature set 'bars'; they read: none"


@pytest.mark.parametrize("key", [None, b"", b"B", b"a", b"A ", b"\xff\xfe", "Ä".encode("latin-1")])
def test_another_key_than_the_symbol_is_refused(key: bytes | None) -> None:
    one = refused(row(), key=key)
    assert (one.reason, one.detail) == ("key_mismatch", f"key {key!r} is not the row's symbol 'A' in UTF-8")


def test_a_symbol_is_any_text_in_utf_8() -> None:
    for symbol in ("ÄÖ", "日経", "🚀", "a:b", "A\tB", "\\"):
        key = symbol.encode()
        assert taken(row(symbol=symbol), key=key, partition=partition_of(key, PARTITIONS)).symbols == [symbol]


@pytest.mark.parametrize("partition", [p for p in range(PARTITIONS) if p != HOME])
def test_another_partition_than_the_symbols_is_refused(partition: int) -> None:
    one = refused(row(), partition=partition)
    assert one.reason == "wrong_partition"
    assert f"'A' belongs on partition {HOME}" in one.detail
    assert "murmur2_random" in one.detail


@pytest.mark.parametrize(
    "changes",
    [
        {"ts_event_us": -1},
        {"ts_event_us": MAX_TS_US},
        {"ts_event_us": 10**30},
        {"ts_known_us": -1},
        {"ts_known_us": MAX_TS_US},
        {"ts_event_us": MAX_TS_US - 1},  # known by default after the end of time
        {"revision": -1},
        {"revision": 1024},
        {"revision": 10**30},
    ],
)
def test_numbers_out_of_range_are_refused(changes: dict[str, int]) -> None:
    one = refused(row(**changes))
    assert one.reason == "out_of_range"
    assert str(MAX_TS_US) in one.detail


@pytest.mark.parametrize(
    "symbol",
    ["", "x" * (MAX_SYMBOL_BYTES + 1), "ä" * (MAX_SYMBOL_BYTES // 2 + 1), "y" * 1_000_000, "\x00", "__faust\x00offset__"],
)
def test_a_symbol_that_records_or_tables_cannot_hold_is_refused(symbol: str) -> None:
    key = symbol.encode()
    one = refused(row(symbol=symbol), key=key)
    assert (one.reason, one.detail) == (
        "out_of_range",
        f"symbol must be 1 to {MAX_SYMBOL_BYTES} bytes long in UTF-8, without NUL",
    )
    key = b"x" * MAX_SYMBOL_BYTES
    assert taken(row(symbol=key.decode()), key=key, partition=partition_of(key, PARTITIONS)).symbols == [key.decode()]


@pytest.mark.parametrize(("ahead_us", "fate"), [(MAX_FUTURE_US, "taken"), (MAX_FUTURE_US + 1, "future")])
@pytest.mark.parametrize("name", ["ts_event_us", "ts_known_us"])
def test_a_row_from_the_future_is_refused(name: str, ahead_us: int, fate: str) -> None:
    at = NOW_MS * 1000 + ahead_us
    value = row(**{name: at}, **({"ts_known_us": at - 5} if name == "ts_event_us" else {}))
    if fate == "taken":
        taken(value)
    else:
        one = refused(value)
        assert (one.reason, "inference.max_future" in one.detail) == ("future", True)


def test_one_bad_record_does_not_touch_its_neighbours() -> None:
    batches, rejected = decode(row(), b"no", row(feature_set="slow", values={"z": 3}), None, row(ts_event_us=200))
    assert [(b.feature_set, b.source_offset.tolist(), b.seq.tolist()) for b in batches] == [
        ("bars", [10, 14], [0, 4]),
        ("slow", [12], [2]),
    ]
    assert [r.offset for r in rejected] == [11, 13]


def mutated(draw: st.DrawFn) -> bytes:
    """A good row with a few bytes changed, dropped or doubled."""
    value = bytearray(row(ts_known_us=150, revision=1))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(value) - 1))
        what = draw(st.integers(0, 3))
        if what == 0:
            value[at] = draw(st.integers(0, 255))
        elif what == 1:
            del value[at : at + draw(st.integers(1, 5))]
        elif what == 2:
            value[at:at] = value[at : at + 9]
        else:
            value[at : at + 1] = draw(
                st.sampled_from([b"-", b"9999999999999999999", b"null", b'"', b"{", b"]", b"1e400", b"\\u"])
            )
        if not value:
            break
    return bytes(value)


@settings(max_examples=400)
@given(st.lists(st.one_of(st.none(), st.binary(max_size=60), st.composite(mutated)()), min_size=1, max_size=8))
def test_any_bytes_become_rows_or_refusals_and_nothing_raises(values: list[bytes | None]) -> None:
    for layout in (LAYOUT, ONE_SET):
        batches, rejected = decode(*values, layout=layout)
        fates = [int(o) for b in batches for o in b.source_offset] + [r.offset for r in rejected]
        assert sorted(fates) == list(range(10, 10 + len(values)))
        assert all(r.value == values[r.offset - 10] and r.key == b"A" and r.detail for r in rejected)
        for b in batches:
            assert b.values.shape == (len(b.symbols), len(LAYOUT[b.feature_set].features))
            assert not np.isinf(b.values).any()


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from("ab"), st.none() | st.floats(allow_nan=False, allow_infinity=False)), st.integers(0, 1023))
def test_a_valid_row_keeps_every_bit(values: dict[str, float | None], revision: int) -> None:
    batch = taken(row(values=values, revision=revision))
    expected = [np.nan if values.get(f) is None else values[f] for f in "ab"]
    assert batch.values.tobytes() == np.array([expected], dtype=np.float64).tobytes()
