"""What the random market of `monitor_handler_world` was trained on, and its rows as records of the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.spec import ColumnReference, ColumnSpec, FeatureSetSpec, ServingSpec
from streams.inference_log import encode_log, log_batch, log_schema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.laws.monitor_handler_world import Row

MINUTE_US = 60_000_000
PANE_US = 5 * MINUTE_US
START_US = 1_167_782_400_000_000
COLUMNS = ("a", "b", "c")
EDGES = (-1.28, -0.84, -0.52, -0.25, 0.0, 0.25, 0.52, 0.84, 1.28)
LOW, HIGH = -2.5, 2.5


def spec(horizon_us: int) -> ServingSpec:
    """Trained on a standard normal in every column, its answer among them."""
    trained = ColumnReference(edges=EDGES, counts=(1000,) * 10 + (0,), low=LOW, high=HIGH)
    return ServingSpec(
        model="m",
        trigger="bars",
        horizon_us=horizon_us,
        columns=tuple(ColumnSpec(name=c, feature_set="bars", feature=c) for c in COLUMNS),
        feature_sets={"bars": FeatureSetSpec(features=COLUMNS, bar_us=MINUTE_US, depth_rows=2)},
        reference=dict.fromkeys(COLUMNS, trained),
        prediction_reference=trained,
        residuals=tuple(np.linspace(-2, 2, 41).tolist()),
    )


def encoded(rows: Sequence[Row], partition: int, horizon_us: int) -> bytes:
    """One record of the inference log."""
    value = np.array([r.value for r in rows])
    version, role = rows[0].who
    data: dict[str, Any] = {
        "prediction_id": [r.pid for r in rows],
        "symbol": [r.symbol for r in rows],
        "ts_event_us": np.array([r.ts for r in rows]),
        "ts_decision_us": np.array([r.ts for r in rows]),
        "horizon_us": horizon_us,
        "revision": np.array([r.revision for r in rows]),
        "value": value,
        "lower": value - 1.0,
        "upper": value + 1.0,
        "level": 0.9,
        "p_up": np.clip(value / 4 + 0.5, 0, 1),
        "confidence": 0.6,
        "ood": 0.0,
        "completeness": np.array([r.completeness for r in rows]),
        "abstained": np.isnan(value),
        "reason": [None] * len(rows),
        "vector_hash": "0" * 16,
        "spec_digest": f"digest-{version}",
        "source_topic": "trading.features",
        "source_partition": np.full(len(rows), partition, np.int32),
        "source_offset": np.array([r.place for r in rows]),
        "source_index": 0,
    }
    schema = log_schema(model="m", version=version, role=role, columns=COLUMNS)
    return encode_log(log_batch(schema, data, np.array([r.vector for r in rows])))
