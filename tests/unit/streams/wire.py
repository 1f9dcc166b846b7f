"""A model small enough to work out by hand, and the pipeline around it; the golden records in tests/golden are its."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.handle import ModelHandle
from models.spec import ColumnReference, ColumnSpec, FeatureSetSpec, Lag, ServingSpec
from streams.partitioner import partition_of
from streams.pipeline import Pipeline
from streams.records import PartitionRecords
from tests.record import Record

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from models.handle import Predict
    from streams.pipeline import StepResult

GOLDEN = Path(__file__).parents[2] / "golden"
DAY_US = 86_400_000_000
PARTITIONS = 8


def golden(name: str) -> bytes:
    """A golden record's bytes, without the line end of the file."""
    return (GOLDEN / name).read_bytes().removesuffix(b"\n")


def spec() -> ServingSpec:
    reference = ColumnReference(edges=(-0.01, 0.01), counts=(200, 600, 195, 5), low=-0.09, high=0.08, rho=0.25)
    columns = (
        ColumnSpec(name="ret_1", feature_set="bars_1d", feature="ret_1"),
        ColumnSpec(
            name="vol_20.lag1", feature_set="bars_1d", feature="vol_20", lag=Lag(bars=1), max_age_us=DAY_US, required=False
        ),
        ColumnSpec(name="vol_20.hour", feature_set="bars_1d", feature="vol_20", lag=Lag(us=3_600_000_000), required=False),
    )
    return ServingSpec(
        model="goog_ret_5d",
        trigger="bars_1d",
        horizon_us=5 * DAY_US,
        columns=columns,
        feature_sets={
            "bars_1d": FeatureSetSpec(features=("ret_1", "vol_20"), bar_us=DAY_US, publication_lag_us=60_000_000, depth_rows=8)
        },
        level=0.5,
        min_completeness=0.5,
        residuals=(-0.02, -0.01, 0.005, 0.03),
        reference={c.name: reference for c in columns},
        prediction_reference=reference,
    ).check()


def answer(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half of the first column, 0 where it is missing."""
    return np.nan_to_num(x[:, 0] * 0.5)


def pipeline(serving: ServingSpec, *, predict: Predict = answer) -> Pipeline:
    handle = ModelHandle(name=serving.model, version="3", digest="", spec=serving, predict=predict)
    return Pipeline([handle], partitions=PARTITIONS, max_future_us=300_000_000, slack_rows=1000)


def part(values: Iterable[bytes | None], *, symbol: str = "GOOG", first: int = 41) -> PartitionRecords:
    """These values as one symbol's records of its partition, produced in 2026."""
    key = symbol.encode()
    records = [Record(first + i, 1_767_225_600_000, key, v) for i, v in enumerate(values)]
    return PartitionRecords("trading.features", partition_of(key, PARTITIONS), records)


def nothing(_partition: int, _symbol: str) -> bytes | None:
    """A table without entries."""
    return None


def predicted() -> StepResult:
    """What the golden feature row leads to, and its revision in which nothing is known."""
    revised = golden("feature_row.json").replace(b'"revision":0', b'"revision":1').replace(b"0.013", b"null")
    return pipeline(spec()).step([part([golden("feature_row.json"), revised])], nothing)
