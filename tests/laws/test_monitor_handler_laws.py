"""Laws of the whole monitor in random worlds: what it says is what dictionaries say, whatever dies, comes late or comes again.

`MONITOR_WORLDS=200 MONITOR_WORLDS_FROM=1000` makes it 200 worlds, of other seeds.
"""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from tests.laws.monitor_handler_account import closed_windows, counted, paired, quality
from tests.laws.monitor_handler_lives import Life, disturbed, undisturbed
from tests.laws.monitor_handler_steady import Steady
from tests.laws.monitor_handler_world import Who, world

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


FROM = int(os.environ.get("MONITOR_WORLDS_FROM", "0"))
PARTLY_REVOKED = 1065
"""A world whose monitor lost one partition with outcomes that came, and had told nobody of them."""
SEEDS = [*range(FROM, FROM + int(os.environ.get("MONITOR_WORLDS", "7"))), PARTLY_REVOKED]
OF_QUALITY = ("rows", "published", "ic", "hit_rate", "rmse", "coverage")
BY_COUNTS = frozenset({"feature_drift", "prediction_drift"})
NEXT = {
    "inactive": {"pending", "firing"},
    "pending": {"pending", "firing", "inactive", "resolved"},
    "firing": {"firing", "resolved"},
    "resolved": {"pending", "firing"},
}
"""What an alert may say after what it said."""

Key = tuple[Who, int]
"""scorer, end of the window"""


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens_the_monitor_says_what_is(tmp_path: Path, seed: int) -> None:
    made = world(seed)
    plain = undisturbed(made, tmp_path / "plain")
    lives = [disturbed(made, tmp_path / str(n), 10 * seed + n, in_order=n < 2) for n in range(3)]
    for life in [plain, *lives]:
        # Which rows are late depends on how far other partitions have come, and so on how chunks are cut.
        exact = not made.rules.late
        newest_revisions_are_right(life, counts=exact)
        what_comes_again_is_the_same(life, drift=exact)
        alerts_take_turns(life)
        each_row_is_stored_once(life)
        if exact and life is not lives[-1]:
            assert state_of(life) == state_of(plain)


def newest_revisions_are_right(life: Life, *, counts: bool) -> None:
    """By the topic, whichever of equal ids a reader takes, and by the warehouse."""
    said, expected = by_window(life.said("performance_id")), closed_windows(life.world)
    if counts:
        assert said.keys() == expected.keys()
        for key, rows in expected.items():
            first = next(r for r in said[key] if r["revision"] == 0)
            assert [c["counts"] for c in first["drift"]["columns"]] == counted(rows)
    stored = [json.loads(row) for row in life.warehouse.tables["performance"].values()]
    for row in stored:
        row["quality"] = json.loads(row["quality"] or "null")
    for records in (said, by_window(stored)):
        for key, of_window in records.items():
            greatest = max(r["revision"] for r in of_window)
            told = quality(life.world, *key)
            assert greatest in (0, told and told["known"])
            for r in (r for r in of_window if r["revision"] == greatest):
                assert_quality(r["quality"], told)
    if not life.world.rules.late:
        for (who, end), of_window in said.items():
            found = max(of_window, key=lambda r: r["revision"])["paired"]
            both = paired(life.world, end) if who[1] == "challenger" else None
            assert (found and (found["champion"], found["rows"])) == both


def assert_quality(found: Mapping[str, Any] | None, told: Mapping[str, Any] | None) -> None:
    assert (found is None) == (told is None)
    if found is None or told is None:
        return
    assert found["label_coverage"] == pytest.approx(told["rows"] / told["published"])
    assert found["by_group"].keys() == told["by_group"].keys()
    parts = [(found, told), *((found["by_group"][name], part) for name, part in told["by_group"].items())]
    for part, numbers in parts:
        for name in OF_QUALITY:
            assert part[name] == (None if numbers[name] is None else pytest.approx(numbers[name], abs=1e-9)), name


def what_comes_again_is_the_same(life: Life, *, drift: bool) -> None:
    """But for what was known of labels when a window closed, which a crash may change: for that there are revisions."""
    for name in ("event_id", "request_id"):
        for some in by(life.said(name), name).values():
            assert all(record == some[0] for record in some)
    for some in by(life.said("performance_id"), "performance_id").values():
        names = {name for record in some for name in record if record[name] != some[0][name]}
        assert names <= {"quality", "paired", "estimate", "concept"} | (set() if drift else {"drift"})


def alerts_take_turns(life: Life) -> None:
    once = {event["event_id"]: event for event in life.said("event_id")}
    for events in by(once.values(), "fingerprint").values():
        before, fired, at_us = "inactive", set(), -1
        for event in events:
            state = event["state"]
            assert state in NEXT[before]
            assert event["updated_us"] > at_us
            if state == "firing" and before == "firing":
                assert event["severity"] == "critical"  # it rose
            elif state == "firing":
                assert event["incident_id"] not in fired
                fired.add(event["incident_id"])
            before, at_us = state, event["updated_us"]


def each_row_is_stored_once(life: Life) -> None:
    tables, made = life.warehouse.tables, life.world
    for table in ("predictions", "features"):
        assert {key for (key,) in tables[table]} == {row.pid for row in made.rows}
    mine = {key: json.loads(row) for key, row in tables["outcomes"].items() if key[2] == made.rules.horizon_us}
    assert {(s, ts, revision): row["value"] for (s, ts, _, revision), row in mine.items()} == {
        o[:3]: o.value for o in made.outcomes
    }
    for table, name in (("alerts", "event_id"), ("retrain_requests", "request_id")):
        assert {key for (key,) in tables[table]} == {record[name] for record in life.said(name)}
    assert life.rejected() == set(made.wrong)


def state_of(life: Life) -> dict[Any, Any]:
    """What is the same however the stream was cut. Alerts that look at labels depend on which came in time."""
    state = {}
    for scorer, watch in life.handler._state.watches.items():
        trained = life.handler._counting._references.known(scorer.model, scorer.version)
        assert trained is not None
        watch.arm(trained)
        panes: Any = watch.panes
        state[scorer] = (
            {index: (pane.counts.tolist(), pane.times.tolist()) for index, pane in panes._panes.items()},
            (panes.watermarks, panes.newest, panes.late_rows, watch.newest_us, watch.first_us),
            watch.closed,
            {key: alert for key, alert in watch.alerts.items() if alert.labels["alertname"] in BY_COUNTS},
            (watch.unsaid, watch.requests, watch.outdated),
        )
    return state


def by(records: Iterable[dict[str, Any]], name: str) -> dict[Any, list[dict[str, Any]]]:
    found: defaultdict[Any, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        found[record[name]].append(record)
    return found


def by_window(records: Iterable[dict[str, Any]]) -> dict[Key, list[dict[str, Any]]]:
    found: defaultdict[Key, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        found[(record["version"], record["role"]), record["window_end_us"]].append(record)
    return found


ONE, TWO, OTHER = ("1", "champion"), ("2", "champion"), ("9", "challenger")
MINUTES: dict[str, Any] = {"TRADING_ML__MONITORING__LABEL_TIMEOUT": "20m", "TRADING_ML__MONITORING__REVISE_WITHIN": "20m"}


def test_a_challenger_is_judged_after_a_restart_though_no_row_of_its_champion_came_yet(tmp_path: Path) -> None:
    market = Steady()
    life = Life(market.world(), tmp_path)
    life.feed([p for bar in range(40) for p in market.bar(bar, [ONE, OTHER])])
    life.checkpoint()
    life.restart()
    life.feed([p for bar in range(10, 30) for p in market.outcomes(bar)] + market.bar(52, [OTHER]))
    told = life.said("performance_id")
    assert told[-1]["role"] == "challenger"
    life.settle()
    champion = [r for r in life.said("performance_id")[len(told) :] if r["role"] == "champion"]
    assert {r["quality"]["label_coverage"] for r in champion} >= {1.0}


def test_a_revision_holds_a_challenger_against_the_champion_of_its_window(tmp_path: Path) -> None:
    market = Steady()
    life = Life(market.world(), tmp_path)
    for bar in range(80):
        life.feed(market.bar(bar, [ONE if bar < 40 else TWO, OTHER]))
    life.feed([p for bar in range(80) for p in market.outcomes(bar)])
    life.settle()
    windows = by_window(r for r in life.said("performance_id") if r["role"] == "challenger" and r["quality"])
    newest = {end: max(records, key=lambda r: r["revision"])["paired"]["champion"] for (_, end), records in windows.items()}
    assert [newest[end] for end in sorted(newest)] == sorted(newest.values())
    assert set(newest.values()) == {"1", "2"}


def test_a_window_some_rows_of_which_were_given_up_is_not_reported_again(tmp_path: Path) -> None:
    market = Steady()
    life = Life(market.world(), tmp_path, **MINUTES)
    for bar in range(80):
        life.feed([*market.bar(bar, [ONE]), *market.outcomes(bar - 2)])
    life.settle()
    rows = {r["window_end_us"]: r["quality"]["rows"] for r in life.said("performance_id") if r["quality"]}
    for bar in range(50, 78):
        life.feed(market.outcomes(bar, revision=900))
    life.settle()
    again = [r for r in life.said("performance_id") if r["revision"] > 900]
    assert again
    assert all(r["quality"]["rows"] == rows[r["window_end_us"]] for r in again)


def test_a_version_is_not_dropped_while_its_rows_may_come_again(tmp_path: Path) -> None:
    market = Steady()
    life = Life(market.world(), tmp_path, **MINUTES)
    stream = [p for bar in range(160) for p in [*market.bar(bar, [ONE if bar < 50 else TWO]), *market.outcomes(bar - 2)]]
    life.feed(stream[:40])
    life.checkpoint()
    life.feed(stream[40:])
    dirty = life.handler.take_dirty()
    life.handler.wait_kept()
    life.table.write(dirty)  # and dies before the offsets are committed
    life.restart()
    life.feed(stream[40:])
    life.settle()
    first = [r for r in life.said("performance_id") if r["version"] == "1" and r["revision"] == 0]
    for records in by(first, "performance_id").values():
        assert all(r["drift"] == records[0]["drift"] for r in records)


def test_however_many_versions_and_symbols_come_what_is_held_is_bounded(tmp_path: Path) -> None:
    market = Steady()
    life = Life(market.world(), tmp_path, **MINUTES)
    serve, panes = 25, market.rules.panes
    alive = 2 * (2 + (20 + 2 * 5 * panes) // serve)  # champions and challengers: within the timeout and a window or two
    for bar in range(30 * serve):
        version = bar // serve
        names = tuple(f"S{n}" for n in range(bar // 10, bar // 10 + 3))
        life.feed(
            [*market.bar(bar, [(str(version), "champion"), (f"c{version}", "challenger")], names), *market.outcomes(bar - 2)]
        )
        if bar % 5 == 0:
            life.now_s += 6
            life.checkpoint()
            life.handler.say()
        if bar % 60 == 59:
            life.restart()
        state, windows = life.handler._state, life.handler._counting._judging.windows
        assert len(state.watches) <= alive
        assert len(life.handler._counting._aligned) == 0
        for watch in state.watches.values():
            assert len(watch.closed) <= 20 // 5 + 1
            assert watch.outdated <= watch.closed.keys()
            assert watch.panes is None or len(watch.panes._panes) <= panes + 1
        assert windows._sums.keys() <= state.watches.keys()
        assert {scorer for pair in windows._pairs for scorer in pair} <= state.watches.keys()
        for held in map(len, [*windows._sums.values()]):
            assert held <= 3 * (panes + 1)
        for held in map(len, [*windows._pairs.values()]):
            assert held <= 3 * (panes + 1)
        for labels in state.labels.values():
            # A window and two panes, or the timeout, beyond the horizon; and the pane of now.
            kept = math.ceil((max(20, 5 * (panes + 2)) + market.rules.horizon_us / 60_000_000) / 5) + 2
            assert len(labels.panes._panes) <= kept
            assert labels.panes.many <= kept * 5 * 3 * 3
            assert len(labels.journal) <= 2 * 2048 + labels.panes.many
            assert labels.panes._of.keys() | labels.panes._touched.keys() <= {*state.watches, *labels.panes._of}
            assert len(labels.panes._of) <= alive + 2
    entries = [key for key, value in life.table.items(0) if key.startswith(b"watch|") and value]
    assert len(entries) <= alive
