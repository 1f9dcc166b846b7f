"""What is in force in a partition: how it begins, what a switch adds, what a table value keeps, how two become one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.timeline import FROM_THE_START_US
from streams.errors import StateLayoutError
from streams.group import windows_to_hold
from streams.partitions import VERSIONS
from streams.switches import KEPT, NOBODY, SWITCH, Cut, Grown, History, InForce, Order, is_switch, joined_histories, read_switch
from streams.switches import switch_bytes as written
from tests.record import Record

GOLDEN = Path(__file__).parents[2] / "golden" / "versions_in_force_v1.json"


def order(seq: int, *, from_us: int = 0, version: str | None = None, role: str = "champion", model: str = "m") -> Order:
    found = str(seq) if version is None else version
    return Order(model=model, role=role, seq=seq, version=found, effective_from_us=from_us)  # type: ignore[arg-type]  # a role


FIRST = order(1, from_us=FROM_THE_START_US)


def begun() -> History:
    return History.starting([FIRST], first_offset=0)


def spans(history: History, role: str = "champion") -> list[tuple[str, int]]:
    return [(e.order.version, e.from_us) for e in history.of("m", role)]  # type: ignore[arg-type]  # a role


def test_a_partition_read_from_its_first_record_begins_with_the_first_champions_alone() -> None:
    orders = [order(2, from_us=50), FIRST, order(1, role="challenger", version="7"), order(1, model="n", version="4", from_us=9)]
    history = History.starting(orders, first_offset=0)
    assert [(e.order.key, e.offset, e.from_us) for e in history.entries()] == [
        (("m", "champion", 1), -1, FROM_THE_START_US),
        (("n", "champion", 1), -1, FROM_THE_START_US),
    ]


def test_one_whose_state_is_lost_begins_with_all_orders_each_from_its_own_time() -> None:
    orders = [order(3, from_us=50), order(2, from_us=50), FIRST, order(1, role="canary", version="7", from_us=30)]
    history = History.starting(orders, first_offset=12)
    assert [(e.order.version, e.from_us) for e in history.entries() if e.order.role == "champion"] == [
        ("1", FROM_THE_START_US),
        ("2", 50),
        ("3", 51),
    ]
    assert spans(history, "canary") == [("7", 30)]
    assert history.offsets_from(0) == []


@pytest.mark.parametrize(
    ("effective", "stream_time", "before", "from_us"),
    [(100, 40, 10, 100), (100, 100, 10, 101), (100, 250, 10, 251), (5, -1, 10, 11), (5, 10, 10, 11), (11, 3, 10, 11)],
)
def test_a_switch_is_in_force_from_the_latest_of_three_times(effective: int, stream_time: int, before: int, from_us: int) -> None:
    history = begun().then(order(2, from_us=before), offset=3, stream_time_us=-1)
    after = history.then(order(3, from_us=effective), offset=8, stream_time_us=stream_time)
    assert spans(after) == [("2", before), ("3", from_us)]
    assert spans(history) == [("1", FROM_THE_START_US), ("2", before)]


def test_an_order_that_is_in_force_or_older_than_that_changes_nothing() -> None:
    history = begun().then(order(3), offset=4, stream_time_us=9)
    for seq in (1, 2, 3):
        assert history.then(order(seq, version="other"), offset=9, stream_time_us=99) is history
    assert history.seq("m", "champion") == 3
    assert history.seq("m", "canary") == 0


def test_of_each_role_the_last_two_count_and_nobody_is_no_version() -> None:
    history = begun()
    for seq in (2, 3):
        history = history.then(order(seq), offset=seq, stream_time_us=seq)
    history = history.then(order(1, role="challenger", version="9"), offset=5, stream_time_us=5)
    history = history.then(order(2, role="challenger", version=NOBODY), offset=6, stream_time_us=6)
    assert KEPT == 2
    assert history.versions(["m"]) == [("m", "2"), ("m", "3"), ("m", "9")]
    assert history.versions(["other"]) == []


def test_going_back_to_an_offset_finds_what_was_in_force_when_it_was_read() -> None:
    history = begun()
    seen = {0: history}
    for seq in range(2, 9):
        history = history.then(order(seq, from_us=10 * seq), offset=7 * seq, stream_time_us=-1)
        history = history.changing([Grown(7 * seq, "bars", seq)], [Cut(7 * seq, "bars", ("x",), seq)])
        seen[7 * seq + 1] = history
    for offset, then in seen.items():
        before = history.before(offset)
        assert (before.entries(), before.grown, before.cuts) == (then.entries(), then.grown, then.cuts)
    assert history.before(14).entries() == begun().entries()
    assert history.offsets_from(15) == [21, 28, 35, 42, 49, 56]


def test_a_table_value_has_the_golden_bytes_and_is_read_again() -> None:
    history = (
        begun()
        .then(order(2, from_us=50), offset=3, stream_time_us=80)
        .changing([Grown(3, "bars", 4)], [Cut(3, "slow", ("z",), 2)])
    )
    history = history.then(order(1, role="canary", version="3", from_us=90), offset=9, stream_time_us=80)
    assert history.pack() == b"\x01" + GOLDEN.read_bytes().removesuffix(b"\n")
    again = History.unpack(history.pack())
    assert (sorted(again.entries()), again.grown, again.cuts) == (sorted(history.entries()), history.grown, history.cuts)
    assert again.pack() == history.pack()


def test_a_table_value_keeps_eight_of_each_role_so_that_it_does_not_grow() -> None:
    history = begun()
    sizes = []
    for seq in range(2, 200):
        history = History.unpack(
            history.changing([Grown(seq, "bars", 1)]).then(order(seq), offset=seq, stream_time_us=seq).pack()
        )
        sizes.append(len(history.pack()))
    assert [e.order.seq for e in history.entries()] == list(range(192, 200))
    assert len(history.grown) == 64
    assert max(sizes) < 4_000


@pytest.mark.parametrize("data", [b"", b"\x02{}", b"\x01", b"\x01[]", b"\x01{", b"\x01\xff", b'\x01{"orders":[],"grown":[[1]]}'])
def test_bytes_that_are_no_table_value_are_refused_with_what_to_do(data: bytes) -> None:
    with pytest.raises(StateLayoutError, match="run the release that wrote them, or delete the state folder"):
        History.unpack(data)


def test_two_values_of_one_log_are_joined_to_what_both_say() -> None:
    early = begun().then(order(2, from_us=5), offset=3, stream_time_us=1).changing([Grown(3, "bars", 2)])
    late = early.then(order(3, from_us=9), offset=8, stream_time_us=1).changing([Grown(8, "bars", 4)], [Cut(8, "slow", (), 0)])
    apart = begun().then(order(1, role="canary", version="9", from_us=2), offset=6, stream_time_us=1)
    for held, came in ((early, late), (late, early)):
        both = History.unpack(joined_histories(held.pack(), came.pack()))
        assert (both.entries(), both.grown, both.cuts) == (late.entries(), late.grown, late.cuts)
        assert windows_to_hold(VERSIONS.encode(), held.pack(), came.pack()) == late.pack()
    both = History.unpack(joined_histories(late.pack(), apart.pack()))
    assert (spans(both), spans(both, "canary")) == ([("2", 5), ("3", 9)], [("9", 2)])
    assert joined_histories(b"\x09", late.pack()) == late.pack()
    assert joined_histories(late.pack(), b"\x09") == b"\x09"


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 100), st.integers(-1, 100)), max_size=12))
def test_whatever_switches_come_versions_ascend_and_rows_before_them_are_never_theirs(some: list[tuple[int, int, int]]) -> None:
    history, times = begun(), -1
    for offset, (seq, effective, time) in enumerate(some):
        times = max(times, time)
        after = history.then(order(seq, from_us=effective), offset=offset, stream_time_us=times)
        if after is not history:
            assert after.of("m", "champion")[-1].from_us > times
        history = after
    entries: list[InForce] = history.entries()
    assert [e.from_us for e in entries] == sorted({e.from_us for e in entries})
    assert [e.order.seq for e in entries] == sorted({e.order.seq for e in entries})
    assert History.unpack(history.pack()).of("m", "champion") == history.of("m", "champion")


def test_a_switch_is_known_by_its_header_and_read_strictly() -> None:
    value = written(order(4, role="canary"))
    assert value == b'{"model":"m","role":"canary","seq":4}'
    found = read_switch(value)
    assert found is not None
    assert found.key == order(4, role="canary").key
    assert is_switch(Record(0, 1, None, value, (("content-type", SWITCH),)))
    assert not is_switch(Record(0, 1, None, value, (("content-type", b"application/json"), ("other", SWITCH))))
    for bad in (
        None,
        b"",
        b"[",
        b'{"model":"m","role":"king","seq":4}',
        b'{"model":"m","role":"canary","seq":4,"more":1}',
        b"\xff",
    ):
        assert read_switch(bad) is None
    assert read_switch(b"[" * 100_000) is None
