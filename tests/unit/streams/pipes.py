"""Small models and rows for tests of the pipeline."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from models.handle import ModelHandle
from models.spec import ColumnSpec, FeatureSetSpec, Lag, ServingSpec
from streams.inference_log import decode_log
from streams.partitioner import partition_of
from streams.pipeline import Pipeline, StepResult
from streams.records import PartitionRecords
from streams.switches import SWITCH, Order, switch_bytes
from tests.record import Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from models.handle import Predict
    from streams.switches import Role

PARTITIONS = 3
BAR = 10
X = ColumnSpec(name="x", feature_set="bars", feature="x")
X1 = ColumnSpec(name="x1", feature_set="bars", feature="x", lag=Lag(bars=1))
Y = ColumnSpec(name="y", feature_set="bars", feature="y")
Z = ColumnSpec(name="z", feature_set="slow", feature="z")


def total(x: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.nan_to_num(x).sum(axis=1)
    return result


def handle(
    name: str,
    columns: Sequence[ColumnSpec],
    *,
    predict: Predict = total,
    trigger: str = "bars",
    depth: int = 4,
    version: str = "1",
    **more: Any,
) -> ModelHandle:
    features = {"bars": ("x", "y"), "slow": ("z",)}
    sets = {
        s: FeatureSetSpec(
            features=tuple(f for f in features[s] if any(c.feature == f for c in columns if c.feature_set == s))
            or features[s][:1],
            bar_us=BAR,
            depth_rows=depth,
        )
        for s in {c.feature_set for c in columns} | {trigger}
    }
    spec = ServingSpec(model=name, trigger=trigger, horizon_us=BAR, columns=tuple(columns), feature_sets=sets, **more).check()
    return ModelHandle(name=name, version=version, digest="", spec=spec, predict=predict)


def serve(*handles: ModelHandle, slack: int = 8) -> Pipeline:
    return Pipeline(handles, partitions=PARTITIONS, max_future_us=10**15, slack_rows=slack)


def order_of(new: ModelHandle, *, seq: int = 2, from_us: int = 0, role: Role = "champion", share: float = 0.0) -> Order:
    return Order(model=new.name, role=role, seq=seq, version=new.version, effective_from_us=from_us, share=share)


def switch(order: Order, *, offset: int, partition: int | None = None) -> list[PartitionRecords]:
    """The record that puts an order in force, on the partition of symbol A unless another is named."""
    home = partition_of(b"A", PARTITIONS) if partition is None else partition
    record = Record(offset, 10**9, None, switch_bytes(order), (("content-type", SWITCH),))
    return [PartitionRecords("f", home, [record])]


def put_in_force(pipeline: Pipeline, *new: ModelHandle, offsets: Mapping[int, int], seq: int = 2, **more: Any) -> None:
    """Put versions in force in partitions, each by a switch at its offset."""
    for handle in new:
        pipeline.add(handle)
        order = order_of(handle, seq=seq, **more)
        pipeline.know(order)
        for partition, offset in offsets.items():
            assert pipeline.step(switch(order, offset=offset, partition=partition), lambda _p, _s: None).rejected == []


def part(*rows: dict[str, Any], first: int = 0) -> list[PartitionRecords]:
    """Rows of symbol A, unless they say another, in order; `first` offset."""
    by_partition: dict[int, list[Record]] = {}
    for at, r in enumerate(rows):
        body = {"symbol": "A", "feature_set": "bars"} | r
        key = body["symbol"].encode()
        by_partition.setdefault(partition_of(key, PARTITIONS), []).append(
            Record(first + at, 10**9, key, json.dumps(body).encode())
        )
    return [PartitionRecords("f", p, r) for p, r in sorted(by_partition.items())]


def bar(event: int, symbol: str = "A", revision: int = 0, **values: float | None) -> dict[str, Any]:
    return {"symbol": symbol, "ts_event_us": event, "revision": revision, "values": values}


def bodies(out: StepResult) -> list[dict[str, Any]]:
    return [json.loads(v) for _, _, v in out.predictions]


def vectors(out: StepResult) -> dict[str, bytes]:
    """By prediction id, the logged vector's bits."""
    found = {}
    for _, data in out.logs:
        log = decode_log(data)
        for pid, v in zip(log.table["prediction_id"].to_pylist(), log.vectors().tolist(), strict=True):
            assert pid not in found
            found[pid] = struct.pack(f"<{len(v)}d", *v)
    assert set(found) == {b["prediction_id"] for b in bodies(out)}
    return found
