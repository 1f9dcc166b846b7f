"""Law of predictions as frames: row by row they are what the JSON records are, and nothing else of a step changes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.handle import ModelHandle
from streams.pipeline import Pipeline, StepResult
from streams.prediction_frames import decode_predictions
from tests.laws.test_frames_laws import cut
from tests.laws.test_windows_laws import PARTITIONS, SPECS, parts_of, reader_of, streams
from tests.unit.streams.pipes import put_in_force

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.spec import ServingSpec
    from tests.laws.oracle import Row

PLAIN, OTHER = "m", 'ö:"n"'


def answers(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Numbers of every kind: an infinity abstains, and where the number is huge its interval has no end."""
    return np.where(x[:, 0] < 0, np.inf, np.where(x[:, 0] == 0, 1e308, np.nan_to_num(x).sum(axis=1)))


def raises(_x: NDArray[np.float64]) -> NDArray[np.float64]:
    raise RuntimeError("no")


def handles(spec: ServingSpec, version: str, depth_rows: int, *, good: bool) -> list[ModelHandle]:
    """A deep model, and one of another name that may reach less far back, so that rows come too late for it alone."""
    sets = {n: msgspec.structs.replace(s, depth_rows=min(depth_rows, s.depth_rows)) for n, s in spec.feature_sets.items()}
    more: dict[str, Any] = {"residuals": (-1e308, -1.0, 0.5, 1e308), "min_completeness": 0.5, "level": 0.5}
    other = msgspec.structs.replace(spec, model=OTHER, feature_sets=sets, **more)
    return [
        ModelHandle(name=PLAIN, version=version, digest="", spec=spec, predict=answers),
        ModelHandle(name=OTHER, version=version, digest="", spec=other, predict=answers if good else raises),
    ]


@settings(max_examples=150)
@given(
    streams(),
    st.integers(1, 4),
    st.integers(1, 40),
    SPECS,
    st.integers(1, 6),
    st.sampled_from([{OTHER}, {PLAIN, OTHER}]),
    st.data(),
)
def test_frames_hold_what_the_json_records_say(
    rows: list[Row], pieces: int, slack: int, spec: ServingSpec, depth_rows: int, framed: set[str], data: st.DataObject
) -> None:
    """The one may be swapped for another version and the state be reloaded in between."""
    chunks = cut({p.partition: list(p.records) for p in parts_of(rows)}, pieces)
    swapped, good = data.draw(st.integers(0, pieces)), data.draw(st.booleans())

    def run(framed: set[str]) -> StepResult:
        pipeline = Pipeline(
            handles(spec, "1", depth_rows, good=good),
            partitions=PARTITIONS,
            max_future_us=10**15,
            slack_rows=slack,
            framed=framed,
        )
        total = StepResult()
        read: dict[int, list[Any]] = {}
        for number, parts in enumerate(chunks):
            if number == swapped:
                ends = {p: max((r.offset for r in read.get(p, ())), default=0) for p in range(PARTITIONS)}
                put_in_force(pipeline, *handles(spec, "2", depth_rows, good=good), offsets=ends)
            for part in parts:
                read.setdefault(part.partition, []).extend(part.records)
            out = pipeline.step(parts, *reader_of({}))
            assert {model for _, data in out.frames for model in _models(data)} <= framed
            total.predictions += out.predictions
            total.frames += out.frames
            total.logs += out.logs
            total.counts += out.counts
        return total

    by_row, by_frame = run(set()), run(framed)
    assert (by_frame.logs, by_frame.counts) == (by_row.logs, by_row.counts)
    assert by_row.frames == []
    said = [(p, json.loads(value)) for p, _, value in by_row.predictions]
    assert by_frame.predictions == [
        whole for whole, (_, row) in zip(by_row.predictions, said, strict=True) if row["model"] not in framed
    ]
    for partition in range(PARTITIONS):
        for model in framed:
            expected = [row for p, row in said if p == partition and row["model"] == model]
            frames = [decode_predictions(data) for p, data in by_frame.frames if p == partition and _models(data) == {model}]
            found = [row for frame in frames for row in frame]
            assert found == expected
            assert json.dumps(found) == json.dumps(expected)  # a 1 is no 1.0, and fields have one order


def _models(frame: bytes) -> set[str]:
    return {row["model"] for row in decode_predictions(frame)}
