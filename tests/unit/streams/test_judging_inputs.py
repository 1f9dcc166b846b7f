"""What windows say of inputs beside drift: warm-up, silent sets, the errors to expect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from msgspec.structs import replace as changed

from models.spec import FeatureSetSpec, Lag
from models.trained import AdditiveLoss, LossEstimate
from tests.unit.streams.monitor_world import (
    COLUMNS,
    MINUTE_US,
    PARTITIONS,
    START_US,
    SYMBOLS,
    Market,
    Placed,
    Worker,
    home,
    log_record,
    run,
    spec,
)

if TYPE_CHECKING:
    from pathlib import Path

    from models.spec import ServingSpec

QUIET = 1_000
"""A bar no market comes to: nothing drifts."""


@dataclass
class Fixed:
    """A registry of one spec."""

    spec: ServingSpec

    def load_spec(self, _name: str, _version: str) -> ServingSpec:
        return self.spec


class TestInputs:
    def test_a_lagged_column_is_not_missing_before_its_window_is_filled(self, tmp_path: Path) -> None:
        columns = spec().columns
        lagged = changed(columns[1], lag=Lag(bars=30))
        registry: Any = Fixed(changed(spec(), columns=(columns[0], lagged, columns[2])))
        worker = run(Worker(tmp_path, registry=registry), without("b", bars=range(30)))
        assert not worker.alerts()
        warming = [r["drift"]["columns"][1]["warming"] for r in worker.performance()]
        assert warming[0]
        assert not warming[-1]

    def test_missing_later_is_drift(self, tmp_path: Path) -> None:
        worker = run(Worker(tmp_path), without("b", bars=range(45, 90)))
        assert {(a["labels"]["alertname"], a["labels"]["column"]) for a in worker.alerts()} == {("feature_drift", "b")}

    def test_a_silent_set_is_one_alert_and_no_drift(self, tmp_path: Path) -> None:
        base = spec()
        extra = changed(base.columns[1], feature_set="extra")
        sets = {**base.feature_sets, "extra": FeatureSetSpec(features=COLUMNS, bar_us=MINUTE_US, depth_rows=2)}
        registry: Any = Fixed(changed(base, columns=(base.columns[0], extra, base.columns[2]), feature_sets=sets))
        worker = run(Worker(tmp_path, registry=registry), without("b", bars=range(45, 90)))
        fired = [a["labels"] for a in worker.alerts() if a["state"] == "firing"]
        assert [labels["alertname"] for labels in fired] == ["feature_set_silence"]
        assert fired[0]["feature_set"] == "extra"

    def test_the_errors_to_expect_follow_the_inputs(self, tmp_path: Path) -> None:
        weights = (0.0,) * 9 + (1.0, 0.0)  # the topmost tenth of b costs one more
        loss = AdditiveLoss(intercept=0.5, weights={"b": weights}, explained=0.3)
        registry: Any = Fixed(changed(spec(), loss_estimate=LossEstimate(absolute=loss, squared=loss)))
        worker = run(Worker(tmp_path, registry=registry), Market().stream())
        expected = [r["estimate"]["mae"] for r in worker.performance()]
        assert expected[6] == pytest.approx(0.6, abs=0.1)
        assert expected[-1] > 1.1  # two deviations to the right of training


def without(column: str, *, bars: range) -> list[Placed]:
    """A market in which nothing drifts, and the column is missing in these bars."""
    return Gaps(column, bars).stream()


class Gaps(Market):
    """A market with a column that is missing for a while."""

    def __init__(self, column: str, missing: range) -> None:
        super().__init__(drift_bar=QUIET)
        self._column, self._missing = COLUMNS.index(column), missing

    def _stream(self) -> Any:
        for bar in range(self.bars):
            ts = START_US + bar * MINUTE_US
            for partition in range(PARTITIONS):
                symbols = [s for s in SYMBOLS if home(s) == partition]
                vectors = self._rng.standard_normal((len(symbols), len(COLUMNS)))
                if bar in self._missing:
                    vectors[:, self._column] = np.nan
                yield self.place(
                    "trading.inference-log", partition, None, log_record(symbols, ts, vectors, source_partition=partition)
                )
