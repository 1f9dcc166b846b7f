"""A model without input: by the clock, on the bars of its sessions, and never because the monitor itself is behind."""

from __future__ import annotations

from tests.unit.streams.operations_world import MINUTE_US, NOW_US, World


def test_a_model_without_input_is_silent_after_five_bars() -> None:
    world = World()
    world.minutes(3)
    assert world.silent(3.9) == []
    assert world.silent(0.2) == ["input_silence firing warn"]
    assert world.operations.silent_models() == {"m"}
    assert world.silent(60) == []
    world.operations.take_log(world.log())
    world.operations.close()
    assert world.silent(0) == ["input_silence resolved warn"]
    assert world.operations.silent_models() == frozenset()


def test_a_monitor_that_is_behind_raises_no_silence_and_clears_one() -> None:
    world = World()
    world.minutes(1)
    assert world.silent(30, caught_up=False) == []
    assert world.silent(0) == ["input_silence firing warn"]
    world.operations.take_log(world.log())
    world.operations.close()
    assert world.silent(0.1, caught_up=False) == ["input_silence resolved warn"]


def test_bars_of_seconds_are_silent_after_a_minute() -> None:
    world = World()
    world.minutes(1)
    world.operations.expect("m", bar_us=1_000_000)
    world.operations.silence(world.now_us - 1_000, caught_up=True)
    assert world.operations.unsaid == []
    world.operations.silence(world.now_us, caught_up=True)
    assert len(world.operations.unsaid) == 1


def test_nothing_is_awaited_out_of_session() -> None:
    world = World()
    world.minutes(1)
    last_us = NOW_US
    sessions = [(last_us - 60 * MINUTE_US, last_us + 2 * MINUTE_US), (last_us + 900 * MINUTE_US, last_us + 999 * MINUTE_US)]

    def at(minute: int) -> list[str]:
        world.operations.expect("m", bar_us=MINUTE_US, sessions=sessions)
        world.now_us = last_us
        return world.silent(minute)

    assert [at(minute) for minute in (2, 100, 899, 902)] == [[]] * 4
    assert at(903) == ["input_silence firing warn"]


def test_silence_that_was_missed_while_the_monitor_was_down_is_told_in_session_only() -> None:
    world = World()
    world.minutes(1)
    sessions = [(NOW_US - 60 * MINUTE_US, NOW_US + 60 * MINUTE_US)]
    world.operations.expect("m", bar_us=MINUTE_US, sessions=sessions)
    assert world.silent(300) == []


def test_a_model_never_seen_or_not_served_any_more_is_not_awaited() -> None:
    world = World()
    assert world.silent(1e6) == []
    world.minutes(1)
    assert world.silent(30) == ["input_silence firing warn"]
    world.operations.serve(["other"], world.now_us + 1)
    assert world.said() == ["input_silence resolved warn"]
    world.operations.serve(["other"], world.now_us + 2)
    assert world.said() == []
