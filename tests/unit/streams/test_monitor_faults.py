"""The monitor's handler when things fail: registry, warehouse, bad records, damaged state, other settings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from monitoring.errors import WarehouseError
from tests.record import Record
from tests.unit.streams.monitor_world import (
    BARS,
    COLUMNS,
    MINUTE_US,
    START_US,
    SYMBOLS,
    WINDOW_US,
    Market,
    Placed,
    Registry,
    Worker,
    cut,
    home,
    log_record,
    result,
    run,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def stream() -> list[Placed]:
    return Market().stream()


@pytest.fixture(scope="module")
def undisturbed(stream: list[Placed], tmp_path_factory: pytest.TempPathFactory) -> Worker:
    return run(Worker(tmp_path_factory.mktemp("state")), stream)


def test_a_registry_that_is_down_holds_nothing_up(stream: list[Placed], tmp_path: Path) -> None:
    worker = Worker(tmp_path, registry=Registry(down=True))
    half = len(stream) // 2
    run(worker, stream[:half])
    assert worker.performance() == []
    assert len(worker.warehouse.tables["predictions"]) > 200
    assert worker.registry.asked == 1
    worker.registry.down = False
    worker.now_s += 10.0
    run(worker, stream[half:])
    assert worker.registry.asked == 2
    last = worker.performance()[-1]
    assert last["drift"]["verdict"] == "critical"
    assert last["quality"]["label_coverage"] == 1.0


def test_bad_records_are_rejected_with_the_reason_and_the_rest_goes_on(
    stream: list[Placed], undisturbed: Worker, tmp_path: Path
) -> None:
    market = Market(bars=0)
    bad = [
        market.place("trading.inference-log", 1, None, b"no Arrow"),
        market.place("trading.outcomes", home("KO"), b"KO", b'{"symbol": "KO"}'),
        market.outcome("KO", 0, 1e300, ts_event_us=-1),
    ]
    worker = Worker(tmp_path)
    shift = {place: sum(b[:2] == place for b in bad) for place in {b[:2] for b in bad}}
    moved = [(t, p, Record(r.offset + shift.get((t, p), 0), r.timestamp, r.key, r.value)) for t, p, r in stream]
    run(worker, [*bad, *moved])
    assert result(worker) == result(undisturbed)
    topic = worker.settings.kafka.topics.features_rejected
    refused = [s for s in worker.outbox.sent if s[0] == topic]
    assert [(p, k, v) for _, p, k, v, _ in refused] == [(b[1], b[2].key, b[2].value) for b in bad]
    assert [h["__connect.errors.exception.class.name"] for *_, h in refused] == [b"undecodable", b"undecodable", b"out_of_range"]
    assert refused[1][4]["__connect.errors.topic"] == b"trading.outcomes"


def test_abstentions_are_stored_and_counted_as_missing_but_await_no_outcome(tmp_path: Path) -> None:
    worker, market = Worker(tmp_path), Market(bars=0)
    for bar in range(40):
        symbols = [s for s in SYMBOLS if home(s) == 0]
        vectors = np.zeros((len(symbols), len(COLUMNS)))
        vectors[0, 0] = np.nan
        record = log_record(symbols, START_US + bar * MINUTE_US, vectors)
        worker.feed([market.place("trading.inference-log", 0, None, record)])
    worker.checkpoint()
    last = worker.performance()[-1]
    share = 1 / len([s for s in SYMBOLS if home(s) == 0])
    assert last["drift"]["columns"][-1]["missing_rate"] == pytest.approx(share)
    assert last["quality"]["published"] == round(last["drift"]["rows"] * (1 - share))
    assert last["quality"]["label_coverage"] == 0.0
    assert sum(json.loads(r)["abstained"] for r in worker.warehouse.tables["predictions"].values()) == 40


def test_rows_wait_on_disk_while_the_warehouse_is_down(stream: list[Placed], undisturbed: Worker, tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    third = len(stream) // 3
    run(worker, stream[:third])
    worker.warehouse.down = True
    run(worker, stream[third : 2 * third])
    assert worker.performance()
    assert list((tmp_path / "warehouse-waiting").glob("*.arrow"))
    worker.restart()  # what waited is still there
    worker.warehouse.down = False
    run(worker, stream[2 * third :])
    assert result(worker) == result(undisturbed)
    assert list((tmp_path / "warehouse-waiting").glob("*")) == []


def test_a_worker_ends_before_it_takes_more_than_may_wait(
    stream: list[Placed], undisturbed: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(tmp_path)
    monkeypatch.setattr(worker.handler._store, "_most_rows", 500)
    worker.warehouse.down = True
    chunks = list(cut(stream, 40))
    taken = 0
    while worker.handler._store.waiting_rows < 500:
        worker.feed(chunks[taken])
        worker.checkpoint()
        taken += 1
    with pytest.raises(WarehouseError, match=r"wait in .*, at most 500 may: repair it .* \(the warehouse is down\)"):
        worker.feed(chunks[taken])
    worker.warehouse.down = False
    worker.restart()
    for chunk in chunks[taken:]:
        worker.feed(chunk)
    worker.checkpoint()
    assert result(worker) == result(undisturbed)


def test_stored_state_that_cannot_be_read_starts_afresh(stream: list[Placed], tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    run(worker, stream[: len(stream) // 2])
    for entries in worker.table.entries.values():
        entries.update(dict.fromkeys(entries, b"\x63\x00damage"))
    worker.restart()
    run(worker, stream[len(stream) // 2 :])
    assert worker.performance()[-1]["drift"]["verdict"] == "critical"


def test_settings_with_other_panes_start_counts_afresh_and_keep_alerts(stream: list[Placed], tmp_path: Path) -> None:
    worker = run(Worker(tmp_path), stream)
    before = len(worker.alerts())
    changed = worker.settings.monitoring.model_copy(update={"panes": 2})
    worker.settings = worker.settings.model_copy(update={"monitoring": changed})
    worker.restart()
    more = Market(bars=150, drift_bar=0)
    later = [p for p in more.stream() if p[2].offset >= BARS]
    run(worker, later)
    assert worker.performance()[-1]["window_end_us"] % (WINDOW_US // 2) == 0
    assert [a for a in worker.alerts()[before:] if a["state"] in {"pending", "firing"} and a["labels"]["column"] == "b"] == []
