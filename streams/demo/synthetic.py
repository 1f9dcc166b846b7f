"""A market with known truth: what a model can find in it, where, and when it starts to drift.

Per symbol and second, feature set `bars_1s` has twenty features: `f00`..`f18`, autoregressions of unit variance with
persistence from 0 to 0.9, and `log_vol`, the log of a GARCH(1,1) volatility (Bollerslev 1986). Every thirty seconds
`flow_30s` has two more, known two seconds late. The target, realised ten seconds on, is

    y = vol * (0.35 * f03 five seconds ago + 0.25 * f07 now + 0.15 * flow_0 as known now + noise of unit variance)

so the best possible correlation within one volatility is `BEST_IC` = 0.41. From bar `drift_at` on, the features in
`drifted` stand `drift_size` standard deviations higher. They are not in the target: drift must be seen in the inputs
while the quality stays.

Core: no clock, no I/O; the same plan gives the same rows. Blocks come in the order in which they were known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from models.spec import ColumnSpec, Lag, ServingSpec
from streams.demo.rows import FeatureRows, Outcomes, concatenate
from streams.demo.training import LEVEL, Trained, feature_set_spec, log_order, train

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MODEL = "synthetic_10s"
BAR_US = 1_000_000
FAST = (*(f"f{i:02d}" for i in range(19)), "log_vol")
SLOW = ("flow_0", "flow_1")
SLOW_EVERY_BARS = 30
FAST_LAG_US = 50_000
SLOW_LAG_US = 2_000_000
HORIZON_BARS = 10
LAGGED, LAG_BARS = FAST.index("f03"), 5
PRESENT = FAST.index("f07")
EFFECTS = (0.35, 0.25, 0.15)
BEST_IC = float(np.sqrt(sum(e * e for e in EFFECTS) / (1.0 + sum(e * e for e in EFFECTS))))
START_US = 1_704_205_800_000_000
"""2024-01-02 14:30 UTC, the first bar of a plan's replay; training data lies before it."""

_PERSISTENCE = np.linspace(0.0, 0.9, 19)
_GARCH = {"omega": 0.02, "alpha": 0.08, "beta": 0.90}
_SPIN_UP_BARS = 50
_LEARNER = {"num_iterations": 80, "learning_rate": 0.1, "num_leaves": 7, "min_data_in_leaf": 40, "feature_fraction": 0.7}
_TRAINING_SYMBOLS, _TRAINING_BARS = 20, 400


@dataclass(frozen=True, slots=True)
class SyntheticPlan:
    """What to generate. `bars` seconds of stream time; `drift_at` counts bars from the start, None for no drift."""

    symbols: int = 500
    bars: int = 300
    seed: int = 11
    start_us: int = START_US
    drift_at: int | None = 150
    drifted: tuple[str, ...] = ("f02", "f11")
    drift_size: float = 2.0

    @property
    def drift_from_us(self) -> int | None:
        """Event time of the first drifted bar."""
        return None if self.drift_at is None else self.start_us + self.drift_at * BAR_US


def blocks(plan: SyntheticPlan) -> Iterator[FeatureRows | Outcomes]:
    """Yield blocks of one second each, all symbols in each: slow rows where due, fast rows, matured outcomes."""
    rng = np.random.default_rng(plan.seed)
    symbols = tuple(f"S{i:04d}" for i in range(plan.symbols))
    shift = np.array([plan.drift_size if name in plan.drifted else 0.0 for name in FAST])
    market = _Market(rng, plan.symbols)
    pending: list[Outcomes] = []
    for bar in range(plan.bars):
        event_us = plan.start_us + bar * BAR_US
        fast, target = market.step(known_bar=bar - SLOW_LAG_US // BAR_US)
        values = fast + shift if plan.drift_at is not None and bar >= plan.drift_at else fast
        # A slow row is known two bars after its event; it goes out before the fast rows of that bar, known a little later.
        if bar >= SLOW_LAG_US // BAR_US and (bar - SLOW_LAG_US // BAR_US) % SLOW_EVERY_BARS == 0:
            yield _rows("flow_30s", SLOW, symbols, event_us - SLOW_LAG_US, event_us, market.flow)
        yield _rows("bars_1s", FAST, symbols, event_us, event_us + FAST_LAG_US, values)
        realised_us = event_us + HORIZON_BARS * BAR_US
        pending.append(Outcomes(HORIZON_BARS * BAR_US, symbols, *_times(symbols, event_us, realised_us + FAST_LAG_US), target))
        if bar >= HORIZON_BARS:
            yield pending.pop(0)


def synthetic_spec() -> ServingSpec:
    """Return what the synthetic model looks at: every feature now, two of them lagged, both slow features."""
    now = [ColumnSpec(name=f, feature_set="bars_1s", feature=f) for f in FAST]
    past = [
        ColumnSpec(name=f"{f}.lag{n}", feature_set="bars_1s", feature=f, lag=Lag(bars=n))
        for f, n in (("f03", 1), ("f03", LAG_BARS), ("f07", LAG_BARS), ("log_vol", 15))
    ]
    age_us = 2 * SLOW_EVERY_BARS * BAR_US
    slow = [ColumnSpec(name=f, feature_set="flow_30s", feature=f, max_age_us=age_us) for f in SLOW]
    columns = (*now, *past, *slow)
    slow_bar_us = SLOW_EVERY_BARS * BAR_US
    return ServingSpec(
        model=MODEL,
        trigger="bars_1s",
        horizon_us=HORIZON_BARS * BAR_US,
        columns=columns,
        feature_sets={
            "bars_1s": feature_set_spec(FAST, columns, "bars_1s", bar_us=BAR_US, publication_lag_us=FAST_LAG_US),
            "flow_30s": feature_set_spec(SLOW, columns, "flow_30s", bar_us=slow_bar_us, publication_lag_us=SLOW_LAG_US),
        },
        level=LEVEL,
    ).check()


def train_synthetic(plan: SyntheticPlan) -> Trained:
    """Fit on the same market before the plan starts: fewer symbols, another seed, no drift."""
    start_us = plan.start_us - (_TRAINING_BARS + HORIZON_BARS) * BAR_US
    past = replace(plan, symbols=_TRAINING_SYMBOLS, bars=_TRAINING_BARS, seed=plan.seed + 1, start_us=start_us, drift_at=None)
    made = list(blocks(past))
    sets = [concatenate([b for b in made if isinstance(b, FeatureRows) and b.feature_set == s]) for s in ("flow_30s", "bars_1s")]
    matured = [b for b in made if isinstance(b, Outcomes)]
    outcomes = Outcomes(
        matured[0].horizon_us,
        tuple(s for b in matured for s in b.symbols),
        np.concatenate([b.ts_event_us for b in matured]),
        np.concatenate([b.ts_known_us for b in matured]),
        np.concatenate([b.value for b in matured]),
    )
    calibrate_from_us = start_us + _TRAINING_BARS * 3 // 4 * BAR_US
    return train(
        log_order(*sets),
        outcomes,
        synthetic_spec(),
        calibrate_from_us=calibrate_from_us,
        end_us=plan.start_us,
        parameters=_LEARNER,
        seed=plan.seed,
    )


class _Market:
    """State of all symbols, stepped one bar at a time."""

    def __init__(self, rng: np.random.Generator, symbols: int) -> None:
        self._rng, self._symbols = rng, symbols
        self._x = rng.standard_normal((symbols, 19))
        self._variance = np.ones(symbols)
        self._past: list[Floats] = []
        self.flow = np.zeros((symbols, len(SLOW)))
        """The newest slow values already known, float64[symbols, 2]."""
        for _ in range(_SPIN_UP_BARS):
            self.step(known_bar=-1)

    def step(self, *, known_bar: int) -> tuple[Floats, Floats]:
        """Advance one bar: features float64[symbols, 20] and their targets float64[symbols].

        `known_bar`: the bar whose slow row, if it has one, becomes known now.
        """
        rng = self._rng
        innovation = rng.standard_normal(self._x.shape)
        self._x = _PERSISTENCE * self._x + np.sqrt(1.0 - _PERSISTENCE**2) * innovation
        shock = np.sqrt(self._variance) * rng.standard_normal(self._symbols)
        self._variance = _GARCH["omega"] + _GARCH["alpha"] * shock**2 + _GARCH["beta"] * self._variance
        if known_bar >= 0 and known_bar % SLOW_EVERY_BARS == 0:
            self.flow = rng.standard_normal(self.flow.shape)
        self._past = [*self._past[-LAG_BARS:], self._x]
        vol = np.sqrt(self._variance)
        lagged, present, flow = EFFECTS
        signal = lagged * self._past[0][:, LAGGED] + present * self._x[:, PRESENT] + flow * self.flow[:, 0]
        target = vol * (signal + rng.standard_normal(self._symbols))
        return np.column_stack([self._x, np.log(vol)]), target


def _rows(
    feature_set: str, features: tuple[str, ...], symbols: tuple[str, ...], event_us: int, known_us: int, values: Floats
) -> FeatureRows:
    return FeatureRows(feature_set, features, symbols, *_times(symbols, event_us, known_us), values)


def _times(symbols: tuple[str, ...], event_us: int, known_us: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.full(len(symbols), event_us, dtype=np.int64), np.full(len(symbols), known_us, dtype=np.int64)
