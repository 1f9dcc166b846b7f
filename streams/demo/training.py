"""Trains the demo's model on vectors built by the same lag rules the workers serve by.

The past is cut in two. The model learns from rows whose outcome was known before `calibrate_from_us`; residuals for the
interval come from rows at or after it whose outcome was known before `end_us`. A row whose horizon crosses either cut is
used for neither (purging; López de Prado, "Advances in Financial Machine Learning", 2018, chapter 7), so no outcome
reaches across. Same data, same seed, one thread: the same model text every time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from models.spec import ColumnSpec, FeatureSetSpec, Lag, ServingSpec, depth_rows
from streams.demo.errors import DemoFailed
from streams.demo.indicators import Bars, bar_features, index_features
from streams.demo.market import BAR_LAG_US, DAY_US, HORIZON_US, MARKET_LAG_US
from streams.demo.vectors import vectors_from_rows

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from models.publish import PublishedVersion
    from streams.demo.rows import FeatureRows, Outcomes

MODEL = "goog_ret_5d"
LEVEL = 0.9
MONTH_US = 30 * DAY_US
OVER_HOLIDAYS_US = 4 * DAY_US
"""Max age of a lagged daily value: the longest closing of the exchange in these years (Friday to Wednesday, minus a day)."""

CAUTIOUS = {
    "num_iterations": 60, "learning_rate": 0.03, "num_leaves": 4, "min_data_in_leaf": 30, "lambda_l2": 10.0,
    "feature_fraction": 0.5, "bagging_fraction": 0.8, "bagging_freq": 1,
}  # fmt: skip
"""LightGBM for a few hundred rows of mostly noise: little may be learned from each."""
_SAME_EVERY_TIME = {"num_threads": 1, "deterministic": True, "force_row_wise": True, "verbose": -1}
_MARKET_COLUMNS = ("sp500_ret_1m", "sp500_ret_3m", "sp500_drawdown_12m")


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of the past in time order: `x` float64[rows, columns], `y` outcomes float64[rows], `symbols` [rows] whose they are.

    `ts_event_us` int64[rows]: when.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    symbols: NDArray[np.str_]
    ts_event_us: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Trained:
    """A fitted model (`booster`: a `lightgbm.Booster`), what it looks at, what it learned from and what it is calibrated on."""

    booster: Any
    spec: ServingSpec
    learned: Part
    calibration: Part


def market_spec() -> ServingSpec:
    """Return what the demo's model on real data looks at, without residuals and reference, which training adds.

    Of the index only the changes are columns. Its level, and changes so slow that twenty months of training hold a
    handful of independent values, would let trees memorise the months; they are published and left alone.
    """
    bars_1d, market = tuple(bar_features(_no_bars())), tuple(index_features(np.ones(13)))
    now = [ColumnSpec(name=f, feature_set="bars_1d", feature=f) for f in bars_1d]
    # Lags are calendar days on the daily grid: 7 is the same weekday a week ago, 1 on a Monday finds Friday.
    lagged = [("ret_1", 1), ("ret_1", 7), ("ret_5", 7), ("range_hl", 1), ("vol_20", 7), ("volume_ratio_20", 1)]
    past = [
        ColumnSpec(name=f"{f}.lag{n}", feature_set="bars_1d", feature=f, lag=Lag(bars=n), max_age_us=OVER_HOLIDAYS_US)
        for f, n in lagged
    ]
    # A month's value stays the newest for up to a month, and its successor comes a day after the month: 40 days is ample.
    slow = [ColumnSpec(name=f, feature_set="market", feature=f, max_age_us=40 * DAY_US) for f in _MARKET_COLUMNS]
    columns = (*now, *past, *slow)
    return ServingSpec(
        model=MODEL,
        trigger="bars_1d",
        horizon_us=HORIZON_US,
        columns=columns,
        feature_sets={
            "bars_1d": feature_set_spec(bars_1d, columns, "bars_1d", bar_us=DAY_US, publication_lag_us=BAR_LAG_US),
            "market": feature_set_spec(market, columns, "market", bar_us=MONTH_US, publication_lag_us=MARKET_LAG_US),
        },
        level=LEVEL,
    ).check()


def feature_set_spec(
    features: tuple[str, ...], columns: tuple[ColumnSpec, ...], name: str, *, bar_us: int, publication_lag_us: int
) -> FeatureSetSpec:
    """Return a feature set deep enough for the columns that read it."""
    depth = depth_rows(columns, name, bar_us)
    return FeatureSetSpec(features=features, bar_us=bar_us, publication_lag_us=publication_lag_us, depth_rows=depth)


def log_order(*sets: FeatureRows) -> pd.DataFrame:
    """Return the rows of several feature sets as one table in the order a producer would have written them: when known.

    Of rows known at one instant those of the set named first come first.
    """
    import pandas as pd  # heavy; reachable from the command line's start

    return pd.concat([s.frame() for s in sets]).sort_values("ts_known_us", kind="stable", ignore_index=True)


def train(
    rows: pd.DataFrame,
    outcomes: Outcomes,
    spec: ServingSpec,
    *,
    calibrate_from_us: int,
    end_us: int,
    parameters: Mapping[str, float] = CAUTIOUS,
    seed: int = 7,
) -> Trained:
    """Fit LightGBM on complete vectors of the past. Raises `DemoFailed` when either part has no rows.

    `rows`: in log order (`log_order`). Vectors with a missing value (a feature's warm-up) are left out of both parts: they
    would put missing values into the reference that a warm stream never shows.
    """
    import lightgbm as lgb

    names = [c.name for c in spec.columns]
    joined = vectors_from_rows(rows, spec).merge(outcomes.frame(), on=["symbol", "ts_event_us"], how="inner")
    joined = joined.sort_values("ts_event_us", kind="stable")
    complete = joined[joined[names].notna().all(axis=1)]
    learn = complete[complete["ts_known_us"] < calibrate_from_us]
    calibrate = complete[(complete["ts_event_us"] >= calibrate_from_us) & (complete["ts_known_us"] < end_us)]
    if learn.empty or calibrate.empty:
        raise DemoFailed(f"{len(learn)} rows to learn from and {len(calibrate)} to calibrate on; give more history")
    learned, calibration = _part(learn, names), _part(calibrate, names)
    # The training years' average rise is no forecast: left in, every prediction would be "up".
    target = learned.y - learned.y.mean()
    settings = {"objective": "regression", **parameters, **_SAME_EVERY_TIME, "seed": seed}
    booster = lgb.train(settings, lgb.Dataset(learned.x, target, feature_name=names))
    return Trained(booster, spec, learned, calibration)


def publish_champion(trained: Trained, *, tracking_uri: str, artifact_root: str | Path) -> PublishedVersion:
    """Register the model with its spec, reference and calibration, as champion."""
    from models.publish import publish  # brings mlflow

    spec = trained.spec
    return publish(
        trained.booster,
        name=spec.model,
        columns=spec.columns,
        feature_sets=spec.feature_sets,
        trigger=spec.trigger,
        horizon_us=spec.horizon_us,
        x=trained.learned.x,
        groups=trained.learned.symbols,
        times=trained.learned.ts_event_us,
        x_calibration=trained.calibration.x,
        y_calibration=trained.calibration.y,
        groups_calibration=trained.calibration.symbols,
        times_calibration=trained.calibration.ts_event_us,
        level=spec.level,
        tracking_uri=tracking_uri,
        artifact_root=artifact_root,
    )


def _part(table: pd.DataFrame, names: list[str]) -> Part:
    x, y = table[names].to_numpy(np.float64), table["value"].to_numpy(np.float64)
    return Part(x, y, table["symbol"].to_numpy(np.str_), table["ts_event_us"].to_numpy(np.int64))


def _no_bars() -> Bars:
    """Bars enough for `bar_features` to name its features."""
    any_price = np.arange(1.0, 22.0)
    return Bars(any_price, any_price, any_price, any_price, any_price)
