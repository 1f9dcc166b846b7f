"""Wide models, many symbols, odd numbers: the same meaning, and state bounded by symbols x sets x depth."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from models.handle import ModelHandle
from models.spec import ColumnSpec, FeatureSetSpec, Lag, ServingSpec
from streams.frames_out import FRAME_HEADERS, frames
from streams.inference_log import decode_log
from streams.partitioner import partition_of
from streams.pipeline import Pipeline, StepResult
from streams.wire import PartitionRecords
from tests.record import Record

if TYPE_CHECKING:
    from numpy.typing import NDArray

PARTITIONS = 16
FEATURES = tuple(f"f{i:03}" for i in range(200))
DEPTH = 8
BAR_US = 1_000_000
COLUMNS = (
    *(ColumnSpec(name=f"{f}.{lag}", feature_set="bars", feature=f, lag=Lag(bars=lag)) for lag in (1, 3) for f in FEATURES),
    *(ColumnSpec(name=f, feature_set="bars", feature=f) for f in FEATURES[:100]),
)
SPEC = ServingSpec(
    model="wide",
    trigger="bars",
    horizon_us=BAR_US,
    columns=COLUMNS,
    feature_sets={"bars": FeatureSetSpec(features=FEATURES, bar_us=BAR_US, depth_rows=DEPTH)},
)
ODD = (0.0, -0.0, 5e-324, -2.2e-308, 1.7976931348623157e308, -1e300, 1.0, np.nan, np.inf, -np.inf)


def first(values: NDArray[np.float64]) -> NDArray[np.float64]:
    answer: NDArray[np.float64] = np.nan_to_num(values[:, -1], posinf=1.0, neginf=-1.0)
    return answer


def pipeline() -> Pipeline:
    handle = ModelHandle(name="wide", version="1", digest="", spec=SPEC, predict=first)
    return Pipeline([handle], partitions=PARTITIONS, max_future_us=10**16, slack_rows=4)


def bar(symbols: list[str], number: int, values: NDArray[np.float64]) -> dict[int, list[bytes]]:
    """One bar of all symbols as frames, by partition."""
    head = {"symbol": symbols, "feature_set": ["bars"] * len(symbols), "ts_event_us": [number * BAR_US] * len(symbols)}
    table = pa.table(head | {f: values[:, i] for i, f in enumerate(FEATURES)})
    out: dict[int, list[bytes]] = {}
    for partition, data in frames(table, partitions=PARTITIONS, rows_per_frame=100):
        out.setdefault(partition, []).append(data)
    return out


def feed(p: Pipeline, frames_of: dict[int, list[bytes]], offsets: dict[int, int]) -> StepResult:
    parts = []
    for partition, values in sorted(frames_of.items()):
        start = offsets.setdefault(partition, 0)
        offsets[partition] += len(values)
        records = [Record(start + i, 10**9, None, v, FRAME_HEADERS) for i, v in enumerate(values)]
        parts.append(PartitionRecords("f", partition, records))
    return p.step(parts, lambda _p, _s: None)


def test_500_columns_of_odd_numbers_come_through_bit_for_bit() -> None:
    rng = np.random.default_rng(5)
    symbols = [f"S{i}" for i in range(12)]
    history = [np.array(ODD)[rng.integers(0, len(ODD), (len(symbols), len(FEATURES)))] for _ in range(6)]
    p = pipeline()
    offsets: dict[int, int] = {}
    fed = [feed(p, bar(symbols, number + 1, values), offsets) for number, values in enumerate(history)]
    assert [r for out in fed for r in out.rejected] == []
    out = fed[-1]
    logged: dict[str, NDArray[np.float64]] = {}
    for _, data in out.logs:
        log = decode_log(data)
        logged.update(zip(log.table["symbol"].to_pylist(), log.vectors(), strict=True))
    for i, symbol in enumerate(symbols):
        expected = np.concatenate([history[4][i], history[2][i], history[5][i, :100]])
        assert struct.pack("<500d", *logged[symbol]) == struct.pack("<500d", *expected)
    for _, _, value in out.predictions:
        json.loads(value, parse_constant=lambda word: (_ for _ in ()).throw(ValueError(word)))  # neither NaN nor Infinity


def test_10_000_symbols_hold_no_more_than_their_depth() -> None:
    symbols = [f"S{i:05}" for i in range(10_000)]
    p = pipeline()
    offsets: dict[int, int] = {}
    sizes = []
    for number in range(1, DEPTH + 5):
        out = feed(p, bar(symbols, number, np.full((len(symbols), len(FEATURES)), float(number))), offsets)
        assert out.counts["predictions"] == len(symbols)
        assert {partition for partition, _, _ in out.predictions} == set(range(PARTITIONS))
        if number >= DEPTH:
            dirty = [d for d in p.take_dirty() if not d[1].startswith(b"\x00")]
            assert len(dirty) == len(symbols)
            sizes.append(len(dirty[0][2]))
    assert len(set(sizes)) == 1
    held = sum(w.values.nbytes for lane in p.lanes for w in lane.windows.sets.values())
    assert held < 2 * len(symbols) * (DEPTH + 4) * len(FEATURES) * 8 * 1.5
    assert partition_of(b"S00000", PARTITIONS) in range(PARTITIONS)
