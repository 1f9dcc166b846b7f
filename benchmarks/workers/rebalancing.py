"""Rebalance pause: rows flow at a pace while a third worker comes, leaves in good order, or is killed.

What counts is the longest time a partition had no prediction, by the predictions' Kafka timestamps; without a rebalance it is
the producer's tick, 40 ms.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from benchmarks.surroundings import BenchmarkFailed
from benchmarks.workers.figures import longest_gaps_ms, spread
from tests.chaos import feeding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.job import Feed
    from benchmarks.workers.stage import Stage

RATE: Final = 2_000
COMER: Final = "w2"
_AFTER_S: Final = 2.0


def interleaved(feed: Feed) -> Iterator[dict[str, Any]]:
    """The feed's rows, tick by tick, one of each partition in turn: no partition waits long for its next."""
    sizes = [len(symbols) for symbols in feed.symbols_of]
    for tick in range(feed.job.ticks):
        for i in range(max(sizes)):
            for partition, n in enumerate(sizes):
                if i < n:
                    yield feed.messages[partition][tick * n + i]


def rebalances(stage: Stage, cycles: int, session_s: float) -> dict[str, Any]:
    """Cycles of join, leave, join on the kept folder, kill, beside two workers that stay."""
    stage.start(["w0", "w1"])
    producer = feeding.Feed(stage.names.servers, stage.names.topics.features)
    flow = feeding.Flow(producer, interleaved(stage.feed), RATE)
    flow.start()
    events: list[tuple[str, int, int, int]] = []

    def flowing() -> None:
        """Every partition has predictions from now on: what a gap ends with."""
        before = stage.log.ends(stage.names.topics.predictions)

        def moved() -> bool:
            return all(a > b for a, b in zip(stage.log.ends(stage.names.topics.predictions), before, strict=True))

        stage.wait("predictions of every partition", moved)

    def event(kind: str, what: Callable[[], object]) -> None:
        records, start_ms = stage.changelog_records(), _now_ms()
        what()
        stage.wait_shared_out()
        events.append((kind, start_ms, _now_ms(), records))
        time.sleep(_AFTER_S)
        flowing()

    try:
        flowing()
        event("nothing", lambda: time.sleep(_AFTER_S))
        for _ in range(cycles):
            event("join, empty folder", lambda: stage.crew.start(COMER, wipe=True))
            event("clean leave", lambda: stage.crew.stop(COMER))
            event("join, kept folder", lambda: stage.crew.start(COMER))
            event("kill -9", lambda: stage.crew.kill(COMER))
        if flow.done:
            raise BenchmarkFailed("rows ran out before the rebalances did")
    finally:
        flow.stop()
    stage.wait_committed()
    times_ms: dict[int, list[int]] = defaultdict(list)
    for m in stage.log.read(stage.names.topics.predictions):
        times_ms[m.partition()].append(m.timestamp()[1])
    repeated = sum(map(len, times_ms.values())) - producer.sent
    return {"rows_per_s": RATE, "session_s": session_s, "repeated": repeated, "events": _events(events, times_ms)}


def _events(events: list[tuple[str, int, int, int]], times_ms: dict[int, list[int]]) -> dict[str, Any]:
    found: defaultdict[str, list[tuple[list[int], float, int]]] = defaultdict(list)
    for kind, start_ms, end_ms, records in events:
        gaps = sorted(longest_gaps_ms(times_ms, start_ms=start_ms, end_ms=end_ms).values())
        found[kind].append((gaps, (end_ms - start_ms) / 1000, records))
    return {
        kind: {
            "longest_s": spread([gaps[-1] / 1000 for gaps, _, _ in some]),
            "shortest_s": spread([gaps[0] / 1000 for gaps, _, _ in some]),
            "settled_s": spread([settled for _, settled, _ in some]),
            "changelog_windows": spread([records for _, _, records in some], 0),
        }
        for kind, some in found.items()
    }


def _now_ms() -> int:
    return int(time.time() * 1000)
