"""Rows on their way to the warehouse: all of them, in order, behind a barrier, with a thread that leaves nothing behind."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.errors import WarehouseError
from monitoring.warehouse import arrow_rows
from streams.storing import QUEUED_BATCHES, RETRY_S, Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa

BATCH = 4
TABLE = "outcomes"


def rows(first: int, number: int, table: str = TABLE) -> pa.Table:
    """Numbered rows."""
    names = {"outcomes": "ts_event_us", "alerts": "updated_us"}
    return arrow_rows(table, [{names[table]: first + i} for i in range(number)])


@dataclass
class Slow:
    """A warehouse that takes an append when it may, and refuses or fails when it is told to."""

    may: threading.Semaphore | None = None
    down: bool = False
    broken: BaseException | None = None
    took: list[tuple[str, list[int]]] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)

    def append(self, table: str, given: pa.Table | pa.RecordBatch) -> int:
        self.threads.add(threading.current_thread().name)
        if self.may is not None:
            self.may.acquire()
        if self.broken is not None:
            raise self.broken
        if self.down:
            raise WarehouseError("it is down")
        self.took.append((table, given["ts_event_us" if table == TABLE else "updated_us"].to_pylist()))
        return len(given)

    def query(self, sql: str, parameters: Any = ()) -> pa.Table:
        raise NotImplementedError

    def close(self) -> None:
        pass

    def numbers(self, table: str = TABLE) -> list[int]:
        return [n for t, some in self.took for n in some if t == table]


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


_made: list[Store] = []


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())  # those of other tests' monitors may linger
    yield
    while _made:
        _made.pop().close()
    assert [t for t in threading.enumerate() if t.name == "warehouse" and t not in before] == []


def store_of(warehouse: Slow, folder: Path, **more: Any) -> Store:
    """A store with small batches, closed after the test."""
    _made.append(Store(warehouse, folder, clock=more.pop("clock", Clock()), batch_rows=BATCH, **more))
    return _made[-1]


def test_whole_batches_are_stored_while_more_comes_and_the_rest_at_the_barrier(tmp_path: Path) -> None:
    warehouse = Slow()
    store = store_of(warehouse, tmp_path)
    store.add(TABLE, rows(0, 3))
    assert warehouse.took == []  # not a batch yet
    store.add(TABLE, rows(3, 7))
    store.wait(store._handed)
    assert warehouse.took == [(TABLE, [0, 1, 2, 3]), (TABLE, [4, 5, 6, 7])]
    store.add(TABLE, rows(10, 1))
    store.flush()
    assert warehouse.took[2:] == [(TABLE, [8, 9, 10])]
    assert warehouse.threads == {"warehouse"}


def test_nothing_gathered_is_nothing_stored(tmp_path: Path) -> None:
    warehouse = Slow()
    store = store_of(warehouse, tmp_path)
    store.add(TABLE, rows(0, 0))
    store.flush()
    store.flush()
    assert warehouse.took == []


sizes = st.lists(st.tuples(st.sampled_from([TABLE, "alerts"]), st.integers(0, 11), st.booleans()), max_size=25)


@settings(max_examples=60, deadline=None)
@given(sizes, st.data())
def test_every_row_once_and_in_order_whatever_the_warehouse_does(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, bool]], data: st.DataObject
) -> None:
    """Down and up again at any point, started again at any barrier, before which all is in the warehouse or waits."""
    clock, warehouse = Clock(), Slow()
    folder = tmp_path_factory.mktemp("waiting")
    store = store_of(warehouse, folder, clock=clock)
    given: dict[str, int] = {TABLE: 0, "alerts": 0}
    for table, number, barrier in steps:
        store.add(table, rows(given[table], number, table))
        given[table] += number
        warehouse.down = data.draw(st.booleans())
        clock.now_s += data.draw(st.sampled_from([0.0, RETRY_S]))
        if barrier:
            store.flush()
            assert len(warehouse.numbers(TABLE)) + len(warehouse.numbers("alerts")) + store.waiting_rows == sum(given.values())
            if data.draw(st.booleans()):
                store.close()
                store = store_of(warehouse, folder, clock=clock)
    warehouse.down = False
    clock.now_s += RETRY_S
    store.flush()
    assert {table: warehouse.numbers(table) for table in given} == {table: list(range(n)) for table, n in given.items()}
    assert (store.waiting_rows, list(folder.glob("*"))) == (0, [])


def test_the_thread_stays_for_the_next_batch_and_ends_where_none_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warehouse = Slow()
    store = store_of(warehouse, tmp_path)
    for n in range(5):
        store.add(TABLE, rows(n, 1))
        store.flush()
    thread = store._thread
    store.close()
    assert thread is not None and not thread.is_alive()  # noqa: PT018  # one thing: it was there and is not
    monkeypatch.setattr("streams.storing.LINGER_S", 0.0)
    store.add(TABLE, rows(5, 1))  # closed, it may be used again
    store.flush()
    if (ended := store._thread) is not None:
        ended.join(5)
    assert ended is None or not ended.is_alive()
    assert warehouse.numbers() == list(range(6))


def test_the_caller_goes_on_while_the_warehouse_is_slow_and_waits_at_the_barrier(tmp_path: Path) -> None:
    warehouse = Slow(may=threading.Semaphore(0))
    store = store_of(warehouse, tmp_path)
    store.add(TABLE, rows(0, BATCH))
    handed = store.hand_over()
    store.add(TABLE, rows(BATCH, 1))  # comes after what was handed over, so the wait below is not for it
    stored = threading.Event()

    def wait() -> None:
        store.wait(handed)
        stored.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert not stored.is_set()
    assert warehouse.may is not None
    warehouse.may.release()
    assert stored.wait(5)
    waiter.join()
    assert warehouse.numbers() == list(range(BATCH))
    warehouse.may.release()
    store.flush()
    assert warehouse.numbers() == list(range(BATCH + 1))


def test_no_more_than_some_batches_are_queued(tmp_path: Path) -> None:
    """The one that gathers waits: memory stays bounded however slow the warehouse is."""
    warehouse = Slow(may=threading.Semaphore(0))
    store = store_of(warehouse, tmp_path)
    added: list[int] = []

    def gather() -> None:
        for n in range(3 * QUEUED_BATCHES):
            store.add(TABLE, rows(n * BATCH, BATCH))
            added.append(n)

    gatherer = threading.Thread(target=gather)
    gatherer.start()
    while len(added) < QUEUED_BATCHES:
        pass
    assert gatherer.is_alive()
    assert len(added) == QUEUED_BATCHES
    assert store._queued_rows == QUEUED_BATCHES * BATCH
    assert warehouse.may is not None
    warehouse.may.release(3 * QUEUED_BATCHES)
    gatherer.join(5)
    store.flush()
    assert warehouse.numbers() == list(range(3 * QUEUED_BATCHES * BATCH))


def test_a_refusal_in_the_middle_sends_the_rest_to_disk_and_later_in_first(tmp_path: Path) -> None:
    clock, warehouse = Clock(), Slow(may=threading.Semaphore(1))
    store = store_of(warehouse, tmp_path, clock=clock)
    store.add(TABLE, rows(0, 3 * BATCH + 1))
    assert warehouse.may is not None
    while not warehouse.took:
        pass
    warehouse.down = True
    warehouse.may.release(100)
    store.flush()
    assert (warehouse.numbers(), store.waiting_rows) == (list(range(BATCH)), 2 * BATCH + 1)
    warehouse.down = False
    clock.now_s = RETRY_S - 0.001
    store.add(TABLE, rows(100, 1))
    store.flush()  # too early: it may block
    assert (len(warehouse.took), store.waiting_rows) == (1, 2 * BATCH + 2)
    clock.now_s = RETRY_S
    store.add(TABLE, rows(101, 1))
    store.flush()
    assert (warehouse.numbers(), store.waiting_rows) == ([*range(3 * BATCH + 1), 100, 101], 0)


def test_rows_that_wait_go_in_at_a_barrier_without_new_ones(tmp_path: Path) -> None:
    clock, warehouse = Clock(), Slow(down=True)
    store = store_of(warehouse, tmp_path, clock=clock)
    store.add(TABLE, rows(0, 1))
    store.flush()
    warehouse.down, clock.now_s = False, RETRY_S
    store.flush()
    assert (warehouse.numbers(), store.waiting_rows) == ([0], 0)


def test_check_tries_once_more_and_then_says_how_many_wait(tmp_path: Path) -> None:
    clock, warehouse = Clock(), Slow(down=True)
    store = store_of(warehouse, tmp_path, clock=clock, most_rows=5)
    store.add(TABLE, rows(0, 4))
    store.flush()
    store.check()
    store.add(TABLE, rows(4, 1))
    store.flush()
    with pytest.raises(WarehouseError, match=r"5 wait in .*, at most 5 may: repair it .* \(it is down\)"):
        store.check()
    warehouse.down, clock.now_s = False, RETRY_S
    store.check()
    assert warehouse.numbers() == list(range(5))


def test_what_goes_wrong_in_the_thread_is_raised_at_the_barrier_and_ever_after(tmp_path: Path) -> None:
    """Its rows are stored nowhere: no later barrier may pass as if they were."""
    warehouse = Slow(broken=ZeroDivisionError("a fault of ours"))
    store = store_of(warehouse, tmp_path)
    store.add(TABLE, rows(0, 1))
    for call in (store.flush, store.flush, store.check, lambda: store.add(TABLE, rows(1, BATCH))):
        with pytest.raises(ZeroDivisionError, match="a fault of ours"):
            call()
    warehouse.broken = None
    with pytest.raises(ZeroDivisionError):
        store.flush()


def test_a_fault_wakes_who_waits_for_room(tmp_path: Path) -> None:
    warehouse = Slow(may=(may := threading.Semaphore(0)), broken=OSError("no space left on device"))
    store = store_of(warehouse, tmp_path)

    def fail_when_full() -> None:
        while store._queued_rows < QUEUED_BATCHES * BATCH:
            pass
        may.release()

    threading.Thread(target=fail_when_full).start()
    for n in range(QUEUED_BATCHES):
        store.add(TABLE, rows(n * BATCH, BATCH))
    with pytest.raises(OSError, match="no space left"):
        store.add(TABLE, rows(QUEUED_BATCHES * BATCH, BATCH))


def test_closed_in_the_middle_it_forgets_what_no_barrier_has_passed(tmp_path: Path) -> None:
    warehouse = Slow(may=(may := threading.Semaphore(0)))
    store = store_of(warehouse, tmp_path)
    for n in range(QUEUED_BATCHES):
        store.add(TABLE, rows(n * BATCH, BATCH))
    while len(store._queue) == QUEUED_BATCHES:  # until the thread is at the first
        pass
    closer = threading.Thread(target=store.close)
    closer.start()
    while store._queue:
        pass
    may.release(100)
    closer.join()
    assert warehouse.numbers() == list(range(BATCH))  # the one that was under way
