"""A model that the settings name no more: what it raised ends, durable and said once, and nothing of it rises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from monitoring.joined import Scorer
from tests.unit.streams.monitor_world import DRIFT_BAR, MINUTE_US, START_US, Market, Worker, cut, run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.streams.monitor_world import Placed

NOW_US = 1_800_000_000_000_000
SERVED, OTHERS = frozenset({"m", "other"}), frozenset({"other"})
REASON = "the model is not served any more"


def stream(**market: Any) -> list[Placed]:
    """Quiet until bar 45. Of the log a record's offset is its bar."""
    return Market(**{"bars": 120, **market}).stream()


def look(worker: Worker, served: frozenset[str]) -> None:
    worker.handler._served = served
    worker.handler.look_at_the_clock(NOW_US, caught_up=False)


def states(worker: Worker) -> list[tuple[str, str]]:
    return [(e["labels"]["column"], e["state"]) for e in worker.alerts()]


@pytest.fixture
def drifting(tmp_path: Path) -> Worker:
    worker = run(Worker(tmp_path), stream(bars=90))
    worker.checkpoint()
    look(worker, SERVED)
    assert states(worker) == [("b", "pending"), ("b", "firing")]
    return worker


def test_what_it_raised_ends_once_that_is_durable_and_is_said_once(drifting: Worker) -> None:
    drifting.restart()
    look(drifting, OTHERS)
    assert len(drifting.alerts()) == 2
    assert drifting.handler.urgent()  # no row will come
    drifting.checkpoint()
    *_, firing, ended = drifting.alerts()
    assert (ended["state"], ended["incident_id"]) == ("resolved", firing["incident_id"])
    assert ended["annotations"] == {"summary": REASON, "description": REASON}
    assert ended["resolved_us"] == ended["updated_us"] == START_US + 89 * MINUTE_US  # in the time of its rows
    for _ in range(3):
        drifting.checkpoint()
        drifting.restart()
        look(drifting, OTHERS)
    assert not drifting.handler.urgent()
    assert len(drifting.alerts()) == 3


def test_a_crash_before_it_is_durable_changes_nothing(drifting: Worker) -> None:
    look(drifting, OTHERS)
    decided = list(drifting.handler._state.watches[Scorer("m", "1", "champion")].unsaid)
    drifting.restart()
    look(drifting, OTHERS)
    drifting.checkpoint()
    assert drifting.alerts()[2:] == decided


def test_what_is_pending_falls_back(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    for chunk in cut(stream(), 4):
        worker.feed(chunk)
        worker.checkpoint()
        if worker.alerts():
            break
    look(worker, OTHERS)
    worker.checkpoint()
    assert states(worker) == [("b", "pending"), ("b", "inactive")]


@pytest.mark.parametrize("versions", [{0: "1"}, {0: "1", 50: "2"}])
def test_rows_that_still_come_raise_nothing(tmp_path: Path, versions: dict[int, str]) -> None:
    rows, worker = stream(versions=versions), Worker(tmp_path)
    first = next(n for n, placed in enumerate(rows) if placed[0].endswith("log") and placed[2].offset == DRIFT_BAR)
    run(worker, rows[:first])
    look(worker, OTHERS)
    run(worker, rows[first:])
    assert worker.alerts() == []
    assert worker.performance()[-1]["drift"]["verdict"] == "critical"  # it is still said how it does


def test_a_model_that_comes_back_is_watched_as_before(tmp_path: Path) -> None:
    rows, worker = stream(bars=240), Worker(tmp_path)
    half = len(rows) // 2
    run(worker, rows[:half])
    look(worker, OTHERS)
    worker.checkpoint()
    worker.restart()
    look(worker, SERVED)
    run(worker, rows[half:])
    drift = list({e["event_id"]: e["state"] for e in worker.alerts()}.values())
    assert drift == ["pending", "firing", "resolved", *["pending"] * (len(drift) - 4), "firing"]  # pending in the cooldown
