"""How a refused record goes to the rejected topic: as it came, as far as the topic can take it."""

from __future__ import annotations

from dataclasses import replace

from streams.records import PartitionRecords, Rejected
from streams.rejections import MOST_BYTES, MOST_DETAIL, fit, rejection_headers, with_headers
from tests.record import Record


def test_what_is_too_large_for_the_rejected_topic_is_left_out_and_said() -> None:
    whole = Rejected("f", 1, 9, b"k", b"v" * MOST_BYTES, "undecodable", "d" * 5 * MOST_DETAIL)
    cut = fit(whole)
    assert (cut.key, cut.value) == (b"k", None)
    assert len(cut.detail) < MOST_DETAIL + 200
    assert f"value of {MOST_BYTES} bytes left out; it stands in f at this offset" in cut.detail
    assert fit(Rejected("f", 1, 9, b"k" * (MOST_BYTES + 1), b"v", "undecodable", "d")).key is None
    both = fit(Rejected("f", 1, 9, b"k" * (MOST_BYTES + 1), b"v" * (MOST_BYTES + 1), "undecodable", "d"))
    assert (both.key, both.value) == (None, None)
    small = Rejected("f", 1, 9, None, None, "undecodable", "empty value")
    assert fit(small) == small


def test_rejected_headers_are_those_of_kafka_connect() -> None:
    one = Rejected("f", 1, 9, b"k", b"v", "undecodable", "not a row: ä")
    assert rejection_headers(one) == [
        ("__connect.errors.topic", b"f"),
        ("__connect.errors.partition", b"1"),
        ("__connect.errors.offset", b"9"),
        ("__connect.errors.stage", b"VALUE_CONVERTER"),
        ("__connect.errors.exception.class.name", b"undecodable"),
        ("__connect.errors.exception.message", "not a row: ä".encode()),
    ]
    assert dict(rejection_headers(Rejected("f", 1, 9, b"k", b"v", "future", "x")))["__connect.errors.stage"] == b"TRANSFORMATION"


def test_a_record_keeps_its_own_headers_unless_they_are_a_bomb() -> None:
    part = PartitionRecords(
        "f", 1, [Record(8, 0, b"k", b"v"), Record(9, 0, b"k", b"v", (("trace", b"7"), ("content-type", b"x")))]
    )
    one = Rejected("f", 1, 9, b"k", b"v", "future", "why")
    (kept,) = with_headers([one], [part])
    assert rejection_headers(kept) == [*rejection_headers(one), ("trace", b"7")]
    assert with_headers([replace(one, offset=8)], [part]) == [replace(one, offset=8)]
    bomb = fit(replace(one, headers=tuple((f"h{i}", b"x" * 99) for i in range(1000))))
    assert (bomb.headers, bomb.detail) == ((), "why (1000 headers left out, they are too large)")
    forged = replace(one, headers=(("__connect.errors.topic", b"other"),))
    assert rejection_headers(forged) == rejection_headers(one)


def test_headers_without_a_byte_are_a_bomb_as_well() -> None:
    bomb = fit(Rejected("f", 1, 9, b"k", b"v", "future", "why", headers=(("", b""),) * 10_000))
    assert (bomb.headers, bomb.detail) == ((), "why (10000 headers left out, they are too large)")


def test_a_header_name_goes_on_as_the_producing_client_can_take_it() -> None:
    names = ("plain", "größe", "tr\\xffce", "content-type\0", "\udcff\0")
    (one,) = with_headers(
        [Rejected("f", 1, 9, b"k", b"v", "future", "x")],
        [PartitionRecords("f", 1, [Record(9, 0, b"k", b"v", tuple((name, b"1") for name in names))])],
    )
    assert [name for name, _ in one.headers] == ["plain", "größe", "tr\\xffce", "content-type\\x00", "\\udcff\\x00"]
    assert [name for name, _ in rejection_headers(one)][6:] == [name for name, _ in one.headers]


def test_headers_of_a_frame_are_not_multiplied_by_its_bad_rows() -> None:
    headers = tuple((f"h{i}", b"x" * 40) for i in range(200))
    part = PartitionRecords("f", 1, [Record(8, 0, None, b"v", headers), Record(9, 0, None, b"v", headers)])
    rows = [Rejected("f", 1, 9, b"k", b"v", "future", f"row {i}") for i in range(1_000)]
    alone = Rejected("f", 1, 8, b"k", b"v", "future", "row 0")
    out = with_headers([alone, *rows], [part])
    assert out[0].headers == headers
    assert {(r.headers, r.detail.partition(" (")[2]) for r in out[1:]} == {((), "200 headers left out, they are too large)")}
    few = with_headers(rows[:10], [part])
    assert all(r.headers is few[0].headers for r in few)
    assert few[0].headers == headers
