"""Features of daily bars, each row from its own bar and earlier ones only.

Core: numpy in, numpy out. A row whose window reaches before the first bar is NaN in that feature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars of one symbol in time order, all float64[bars]; prices in one currency, volume in shares."""

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats


def trailing(x: Floats, n: int) -> Floats:
    """Return float64[rows, n]: row i holds x[i-n+1..i]; rows with too little past are NaN.

    >>> trailing(np.array([1.0, 2.0, 3.0]), 2).tolist()
    [[nan, 1.0], [1.0, 2.0], [2.0, 3.0]]
    """
    return sliding_window_view(np.concatenate([np.full(n - 1, np.nan), x]), n)  # (rows, n)


def log_return(x: Floats, n: int) -> Floats:
    """Return ln(x[i] / x[i-n]), float64[rows]; the first n are NaN.

    >>> log_return(np.array([1.0, 1.0, np.e]), 1).tolist()
    [nan, 0.0, 1.0]
    """
    out = np.full(len(x), np.nan)
    out[n:] = np.log(x[n:] / x[:-n])
    return out


def parkinson(high: Floats, low: Floats, n: int) -> Floats:
    """Volatility per bar from ranges: sqrt(mean over n bars of ln(high/low)² / (4 ln 2)).

    Five times as efficient as the variance of closes for a driftless diffusion. Parkinson, "The Extreme Value
    Method for Estimating the Variance of the Rate of Return", Journal of Business, 1980.
    """
    squared: Floats = np.log(high / low) ** 2
    estimate: Floats = np.sqrt(trailing(squared, n).mean(axis=1) / (4.0 * np.log(2.0)))
    return estimate


def relative_strength(ret_1: Floats, n: int) -> Floats:
    """Share of the last n bars' absolute movement that went up, 0..1; 0.5 where nothing moved.

    Wilder's RSI (1978) divided by 100, with Cutler's plain means instead of Wilder's smoothing, which would reach back
    to the first bar ever seen.
    """
    window = trailing(ret_1, n)
    up, total = np.clip(window, 0.0, None).sum(axis=1), np.abs(window).sum(axis=1)
    return np.where(total == 0.0, 0.5, up / np.where(total == 0.0, 1.0, total))


def bar_features(bars: Bars) -> dict[str, Floats]:
    """Return the feature set `bars_1d` by name, each float64[bars].

    | features                                   | meaning                                                        |
    |--------------------------------------------|----------------------------------------------------------------|
    | ret_1, ret_2, ret_5, ret_10, abs_ret_1     | log return of the close over so many bars; its size            |
    | gap, intraday                              | previous close to open, open to close, in logs                 |
    | range_hl, close_in_range                   | ln(high/low); where the close lies in it, 0 low to 1 high      |
    | vol_5, vol_10, vol_20, vol_ratio_5_20      | standard deviation of ret_1; log of the short over the long    |
    | parkinson_10                               | volatility from ranges                                         |
    | volume_ratio_5, volume_ratio_20            | log of the volume over its mean of so many bars                |
    | ma_gap_10, ma_gap_20, drawdown_20, rsi_14  | log of the close over its mean, over its highest; strength     |
    """
    close, volume = bars.close, bars.volume
    ret_1 = log_return(close, 1)
    vol = {n: trailing(ret_1, n).std(axis=1, ddof=1) for n in (5, 10, 20)}
    previous = np.concatenate([[np.nan], close[:-1]])
    spread = bars.high - bars.low
    return {
        "ret_1": ret_1,
        "ret_2": log_return(close, 2),
        "ret_5": log_return(close, 5),
        "ret_10": log_return(close, 10),
        "abs_ret_1": np.abs(ret_1),
        "gap": np.log(bars.open / previous),
        "intraday": np.log(close / bars.open),
        "range_hl": np.log(bars.high / bars.low),
        "close_in_range": np.where(spread > 0.0, (close - bars.low) / np.where(spread > 0.0, spread, 1.0), 0.5),
        "vol_5": vol[5],
        "vol_10": vol[10],
        "vol_20": vol[20],
        "vol_ratio_5_20": np.log(vol[5] / vol[20]),
        "parkinson_10": parkinson(bars.high, bars.low, 10),
        "volume_ratio_5": np.log(volume / trailing(volume, 5).mean(axis=1)),
        "volume_ratio_20": np.log(volume / trailing(volume, 20).mean(axis=1)),
        "ma_gap_10": np.log(close / trailing(close, 10).mean(axis=1)),
        "ma_gap_20": np.log(close / trailing(close, 20).mean(axis=1)),
        "drawdown_20": np.log(close / trailing(close, 20).max(axis=1)),
        "rsi_14": relative_strength(ret_1, 14),
    }


def index_features(level: Floats) -> dict[str, Floats]:
    """Return the feature set `market` from month-end index levels, each float64[months].

    | features                       | meaning                                                            |
    |--------------------------------|--------------------------------------------------------------------|
    | sp500_level                    | the level itself                                                   |
    | sp500_ret_1m, _3m, _12m        | log change over so many months                                     |
    | sp500_vol_12m                  | standard deviation of the last twelve monthly log changes          |
    | sp500_drawdown_12m             | log of the level over its highest of the last twelve month-ends    |
    """
    ret_1m = log_return(level, 1)
    return {
        "sp500_level": level,
        "sp500_ret_1m": ret_1m,
        "sp500_ret_3m": log_return(level, 3),
        "sp500_ret_12m": log_return(level, 12),
        "sp500_vol_12m": trailing(ret_1m, 12).std(axis=1, ddof=1),
        "sp500_drawdown_12m": np.log(level / trailing(level, 12).max(axis=1)),
    }
