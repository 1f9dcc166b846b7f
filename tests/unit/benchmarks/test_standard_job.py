"""The benchmark's own parts: the tuned loop does the same job as our worker, and both as the reference."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benchmarks.job import BAR_US, START_US, Consumed, Feed, Job
from benchmarks.reference import Reference
from benchmarks.served import MODELS, read_model, write_model
from benchmarks.tuned_loop import Scorer
from benchmarks.tuned_windows import Windows
from streams.frames_out import FRAME_HEADERS
from streams.pipeline import Pipeline
from streams.records import PartitionRecords

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.served import Model
    from models.handle import ModelHandle

TOPIC = "trading.features"
JOB = Job(symbols=12, features=3, warm_up_rows=0, rows=480, paced=())


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


@pytest.fixture(scope="module", params=MODELS)
def handle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelHandle:
    folder = tmp_path_factory.mktemp(request.param)
    write_model(JOB, request.param, folder)
    return read_model(folder)


@pytest.fixture(scope="module")
def reference(feed: Feed, handle: ModelHandle) -> Reference:
    model: Model = "linear" if handle.name.endswith("linear") else "lightgbm"
    return Reference(feed, model, handle.spec, features_topic=TOPIC)


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
def test_the_loop_answers_as_the_reference_does_however_the_stream_is_cut(
    feed: Feed, handle: ModelHandle, reference: Reference, seed: int
) -> None:
    scorer = Scorer(handle, features_topic=TOPIC, load=lambda _symbol: None)
    checked = logged = 0
    for piece in _chunks(feed, seed):
        messages: dict[int, list[Any]] = {
            p: [_Message(k, feed.messages[p][k]["value"]) for k in offsets] for p, offsets in piece.items()
        }
        predictions, logs = scorer.take(messages)
        homes = [p for p, offsets in piece.items() for _ in offsets]
        checked += reference.check((p, json.loads(value)) for p, value in zip(homes, predictions, strict=True))
        logged += sum(reference.check_log(value) for value in logs)
    assert checked == JOB.rows
    assert logged > 0


def test_our_pipeline_answers_as_the_reference_does(feed: Feed, handle: ModelHandle, reference: Reference) -> None:
    pipeline = Pipeline([handle], partitions=JOB.partitions, max_future_us=0, slack_rows=32)
    checked = 0
    for piece in _chunks(feed, 3):
        parts = [
            PartitionRecords(
                TOPIC,
                p,
                [Consumed(k, 2_000_000_000_000, feed.messages[p][k]["key"], feed.messages[p][k]["value"]) for k in offsets],
            )
            for p, offsets in piece.items()
        ]
        out = pipeline.step(parts, lambda _partition, _symbol: None)
        assert out.rejected == []
        places = {(p, feed.messages[p][k]["key"]) for p, offsets in piece.items() for k in offsets}
        assert {(p, key) for p, key, _ in out.predictions} == places
        checked += reference.check((p, json.loads(value)) for p, _, value in out.predictions)
        assert all(reference.check_log(value) > 0 for _, value in out.logs)
    assert checked == JOB.rows


def test_rows_in_frames_are_answered_as_the_reference_does_with_the_frame_as_their_source(
    feed: Feed, handle: ModelHandle, reference: Reference
) -> None:
    pipeline = Pipeline([handle], partitions=JOB.partitions, max_future_us=0, slack_rows=32)
    checked = 0
    for p, frames in enumerate(feed.frames):
        records = [Consumed(k, 2_000_000_000_000, b"", frame, (FRAME_HEADERS[0],)) for k, frame in enumerate(frames)]
        out = pipeline.step([PartitionRecords(TOPIC, p, records)], lambda _partition, _symbol: None)
        assert out.rejected == []
        checked += reference.check(((part, json.loads(value)) for part, _, value in out.predictions), in_frames=True)
    assert checked == JOB.frame_ticks * JOB.symbols
    assert checked == 2 * JOB.rows


def test_the_reference_notices_a_changed_record_a_missing_field_and_a_wrong_partition(feed: Feed, reference: Reference) -> None:
    last = len(feed.messages[0]) - 1
    right = reference.prediction(0, last)
    assert reference.check([(0, json.loads(json.dumps(right)))]) == 1
    changed = {**right, "value": np.nextafter(right["value"], 9.0)}
    for partition, wrong in ((0, changed), (0, {k: v for k, v in right.items() if k != "ood"}), (1, right)):
        with pytest.raises(ValueError, match="differs from the reference"):
            reference.check([(partition, wrong)])
    with pytest.raises(ValueError, match="no row of"):
        reference.check([(0, {**right, "ts_event_us": START_US + 1})])


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


@pytest.mark.parametrize("model", MODELS)
def test_a_model_written_twice_is_the_same_to_the_bit(tmp_path: Path, model: Model) -> None:
    for name in ("a", "b"):
        write_model(JOB, model, tmp_path / name)
    one, other = read_model(tmp_path / "a"), read_model(tmp_path / "b")
    assert one.spec.digest() == other.spec.digest()
    x = np.random.default_rng(5).standard_normal((50, len(one.spec.columns)))
    assert one.predict(x).tobytes() == other.predict(x).tobytes()
    assert len(set(one.predict(x).tolist())) == 50
