"""The benchmark's own parts: the tuned loop does the same job as our worker, and both as the reference."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benchmarks.contenders import NAMES, OURS, PER_BATCH, WRITE_BEHIND
from benchmarks.job import BAR_US, START_US, Feed, Job, make_handle, read_model, write_model
from benchmarks.measure import Figures
from benchmarks.reference import Reference
from benchmarks.report import results, table
from benchmarks.tuned_loop import Scorer
from benchmarks.tuned_windows import Windows
from streams.pipeline import Pipeline
from streams.records import PartitionRecords

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOPIC = "trading.features"
JOB = Job(symbols=12, features=3, warm_up_rows=0, rows=480, paced_rows=0)


@dataclass(frozen=True, slots=True)
class _Record:
    """A consumed record, as aiokafka has it."""

    offset: int
    timestamp: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class _Message:
    """A consumed message, as confluent-kafka has it."""

    at: int
    content: bytes

    def offset(self) -> int:
        return self.at

    def value(self) -> bytes:
        return self.content


@pytest.fixture(scope="module")
def feed() -> Feed:
    return Feed(JOB)


@pytest.fixture(scope="module")
def reference(feed: Feed) -> Reference:
    return Reference(feed, features_topic=TOPIC)


def _chunks(feed: Feed, seed: int) -> Iterator[dict[int, range]]:
    """Partition → offsets, in pieces of any size that keep each partition's order."""
    rng = np.random.default_rng(seed)
    at = {p: 0 for p, rows in enumerate(feed.messages) if rows}
    while any(at[p] < len(feed.messages[p]) for p in at):
        piece = {p: range(at[p], min(len(feed.messages[p]), at[p] + int(rng.integers(0, 60)))) for p in at}
        at = {p: r.stop for p, r in piece.items()}
        if any(piece.values()):
            yield {p: r for p, r in piece.items() if r}


@pytest.mark.parametrize("seed", [1, 2])
def test_the_loop_answers_as_the_reference_does_however_the_stream_is_cut(feed: Feed, reference: Reference, seed: int) -> None:
    scorer = Scorer(make_handle(JOB), features_topic=TOPIC, load=lambda _symbol: None)
    checked = logged = 0
    for piece in _chunks(feed, seed):
        messages: dict[int, list[Any]] = {
            p: [_Message(k, feed.messages[p][k]["value"]) for k in offsets] for p, offsets in piece.items()
        }
        predictions, logs = scorer.take(messages)
        places = [(p, k) for p, offsets in piece.items() for k in offsets]
        checked += reference.check((p, k, value) for (p, k), value in zip(places, predictions, strict=True))
        logged += sum(reference.check_log(value) for value in logs)
    assert checked == JOB.rows
    assert logged > 0


def test_our_pipeline_answers_as_the_reference_does(feed: Feed, reference: Reference) -> None:
    pipeline = Pipeline([make_handle(JOB)], partitions=JOB.partitions, max_future_us=0, slack_rows=32)
    checked = 0
    for piece in _chunks(feed, 3):
        parts = [
            PartitionRecords(
                TOPIC,
                p,
                [_Record(k, 2_000_000_000_000, feed.messages[p][k]["key"], feed.messages[p][k]["value"]) for k in offsets],
            )
            for p, offsets in piece.items()
        ]
        out = pipeline.step(parts, lambda _partition, _symbol: None)
        assert out.rejected == []
        places = {(p, feed.messages[p][k]["key"]) for p, offsets in piece.items() for k in offsets}
        assert {(p, key) for p, key, _ in out.predictions} == places
        records = [(p, int(json.loads(value)["source"]["offset"]), value) for p, _, value in out.predictions]
        checked += reference.check(records)
        assert all(reference.check_log(value) > 0 for _, value in out.logs)
    assert checked == JOB.rows


def test_the_reference_notices_a_changed_record_and_a_missing_field(feed: Feed, reference: Reference) -> None:
    right = reference.prediction(0, len(feed.messages[0]) - 1)
    place = (0, len(feed.messages[0]) - 1)
    assert reference.check([(*place, json.dumps(right).encode())]) == 1
    for wrong in ({**right, "value": np.nextafter(right["value"], 9.0)}, {k: v for k, v in right.items() if k != "ood"}):
        with pytest.raises(ValueError, match="differs from the reference"):
            reference.check([(*place, json.dumps(wrong).encode())])


def test_the_loops_windows_go_on_from_what_they_packed() -> None:
    def windows(held: dict[str, bytes]) -> Windows:
        return Windows(features=2, lags_bars=(0, 1, 5), bar_us=BAR_US, depth=6, load=held.get)

    rng = np.random.default_rng(4)
    values = rng.standard_normal((40, 3, 2))
    events = START_US + BAR_US * np.arange(40)
    symbols = ["A", "B", "C"]
    through, cut = windows({}), windows({})
    for tick in range(40):
        if tick == 23:
            cut = windows(dict(zip(symbols, cut.pack(cut.slots(symbols)), strict=True)))
        event = np.full(3, events[tick])
        expected = through.push(through.slots(symbols), event, values[tick])
        found = cut.push(cut.slots(symbols), event, values[tick])
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(found[:, 2:4], values[tick - 1] if tick else np.full((3, 2), np.nan))


def test_the_loops_windows_take_a_gap_for_a_gap_and_refuse_more_than_they_can_keep() -> None:
    windows = Windows(features=1, lags_bars=(0, 1), bar_us=BAR_US, depth=2)
    events = START_US + BAR_US * np.array([0, 1, 3])
    found = windows.push(windows.slots(["A"] * 3), events, np.array([[1.0], [2.0], [4.0]]))
    np.testing.assert_array_equal(found, [[1.0, np.nan], [2.0, 1.0], [4.0, np.nan]])
    many = windows.batch_limit + 1
    with pytest.raises(ValueError, match="rows of one symbol"):
        windows.push(windows.slots(["A"] * many), np.arange(many), np.zeros((many, 1)))


def test_both_contenders_start_from_the_same_model(tmp_path: Path) -> None:
    write_model(JOB, tmp_path)
    read, made = read_model(tmp_path), make_handle(JOB)
    assert read.spec.digest() == made.spec.digest()
    x = np.random.default_rng(5).standard_normal((50, len(made.spec.columns)))
    assert read.predict(x).tobytes() == made.predict(x).tobytes()


def test_results_have_medians_ratios_by_pair_and_every_run() -> None:
    rates = {OURS: [100.0, 90.0, 120.0], PER_BATCH: [50.0, 90.0, 100.0], WRITE_BEHIND: [200.0, 90.0, 60.0]}
    runs = [
        Figures(name, number + 1, rates[name][number], 10.0, 0.9, 200.0, 5.0, 9.0, 2_500, 900)
        for number, name in itertools.product(range(3), NAMES)
    ]
    found = json.loads(json.dumps(results(runs, machine={"cpu": "x"}, job=JOB.described())))
    assert set(found) == {"contenders", "ratios", "cpu_ratios", "p99_ratios", "machine", "job", "runs"}
    assert set(found["contenders"]) == set(NAMES)
    assert {"rows_per_s", "us_per_row", "rss_mb", "p50_ms", "p99_ms"} <= set(found["contenders"][OURS])
    assert found["contenders"][OURS]["rows_per_s"] == 100.0
    ratio = found["ratios"]["ours/tuned_loop"]
    assert ratio == {"median": 1.2, "min": 1.0, "max": 2.0, "pairs": 3, "each": [2.0, 1.0, 1.2]}
    assert found["ratios"]["ours/tuned_loop_write_behind"]["max"] == 2.0
    assert len(found["runs"]) == 9
    assert all(name in table(found) for name in NAMES)
