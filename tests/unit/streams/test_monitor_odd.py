"""Odd input that a monitor must outlive, and odd times at which it is looked at."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from msgspec.structs import replace

from monitoring.joined import Scorer
from streams.operations import REASON
from streams.rules import Rules
from streams.watch import Watch
from streams.wire import PartitionRecords
from tests.record import Record
from tests.unit.streams.monitor_world import PARTITIONS, WINDOW_US, Market, Worker, run, settings, spec
from tests.unit.streams.operations_world import MINUTE_US, NOW_US, REJECTED, World
from tests.unit.streams.test_judging import QUIET, Both, split

if TYPE_CHECKING:
    from pathlib import Path

    from models.spec import ServingSpec
    from monitoring.rules import AlertRules


def test_a_challengers_window_closes_though_the_champions_reference_is_not_known_yet(tmp_path: Path) -> None:
    logs, _ = split(Both(bars=60, drift_bar=QUIET).stream(), "trading.inference-log")
    late = logs[-8 * PARTITIONS :]
    worker = run(Worker(tmp_path), logs[: -8 * PARTITIONS])
    worker.restart()  # of the champion, labels and closed windows are stored, its reference is not
    told = len(worker.performance())
    run(worker, [p for p in late if b"challenger" in (p[2].value or b"")])
    assert "challenger" in {r["role"] for r in worker.performance()[told:]}


def test_a_rejected_record_may_have_any_header_and_time() -> None:
    world = World()
    world.minutes(1)
    odd = [(NOW_US // 1000, ((REASON, None),)), (1 << 62, ((REASON, b"late"),)), (-1, ())]
    records = [Record(100 + n, at_ms, None, None, headers) for n, (at_ms, headers) in enumerate(odd)]  # type: ignore[arg-type]
    world.operations.take_rejected(PartitionRecords(REJECTED, 0, records))
    world.operations.close()
    assert world.operations.flow.window().rejected == {"unknown": 1}


def test_silence_within_its_cooldown_is_one_event_however_often_the_clock_is_looked_at() -> None:
    world = World()
    world.minutes(1)
    assert world.silent(10) == ["input_silence firing warn"]
    world.operations.take_log(world.log())
    world.operations.close()
    assert world.silent(0.1) == ["input_silence resolved warn"]
    world.operations._rules = replaced_cooldown(world, minutes=30)
    seen = [event for _ in range(600) for event in world.silent(1 / 60)]
    assert seen == ["input_silence pending warn"]
    assert [e for _ in range(9) for e in world.silent(1, caught_up=False)] == []  # what is not known changes nothing
    assert [e for _ in range(20) for e in world.silent(1)] == ["input_silence firing warn"]


def replaced_cooldown(world: World, *, minutes: int) -> AlertRules:
    rule = world.rules.input_silence
    assert rule is not None
    policy = dataclasses.replace(rule.policy, cooldown_us=minutes * MINUTE_US)
    world.rules = dataclasses.replace(world.rules, input_silence=dataclasses.replace(rule, policy=policy))
    return world.rules


def test_the_newest_window_that_is_past_revision_is_kept_over_a_gap(tmp_path: Path) -> None:
    rules = Rules.of(settings(tmp_path))
    watch = Watch(Scorer("m", "1", "champion"), rules)
    ends = [WINDOW_US, 2 * WINDOW_US, 3 * WINDOW_US]
    for end_us in ends:
        watch.close(end_us, known=1)
    after = ends[-1] + 2 * rules.revise_within_us + 7
    watch.close(after, known=1)
    assert list(watch.closed) == [ends[-1], after]
    later = after + rules.revise_within_us
    watch.close(later, known=1)
    assert list(watch.closed) == [after, later]


class Versions:
    """A registry whose version 1 is of other bars than version 2."""

    def load_spec(self, _name: str, version: str) -> ServingSpec:
        made = spec()
        bar_us = {"1": MINUTE_US * 60, "2": MINUTE_US}[version]
        return replace(made, feature_sets={n: replace(s, bar_us=bar_us) for n, s in made.feature_sets.items()})


def test_rows_are_awaited_as_those_of_the_version_that_served_last(tmp_path: Path) -> None:
    worker = run(Worker(tmp_path, registry=Versions()), Market(bars=60, drift_bar=QUIET, versions={0: "1", 30: "2"}).stream())  # type: ignore[arg-type]
    worker.restart()
    worker.handler._served = frozenset({"m"})
    worker.handler.look_at_the_clock(NOW_US, caught_up=True)
    assert worker.handler._state.operations._awaited["m"].bar_us == MINUTE_US


def test_who_reads_a_busy_log_has_caught_up_with_where_it_ended_a_look_ago(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    handler, ends = worker.handler, dict.fromkeys(range(PARTITIONS), 10)
    handler.highwater, handler.stood = ends.get, lambda _partition: 5
    assert not handler.caught_up()  # the first look only sees where it ends
    assert not handler.caught_up()  # 5 rows are left
    handler._next = {0: 10, 1: 10}
    ends[0] = 12
    assert handler.caught_up()
    assert not handler.caught_up()
    ends[1] = None  # type: ignore[assignment]  # not known, as after a start
    handler._next[0] = 12
    assert handler.caught_up()
    assert not handler.caught_up()
