"""Real market data that comes with matplotlib, as feature rows and outcomes.

`goog.npz`: 1,047 daily bars of Google, 2004-08-19 to 2008-10-14. `Stocks.csv`: ten tickers and indices since 1990, one
value a MONTH, so there are no daily rows to be had from it: the S&P 500 becomes the slow feature set `market`.

Times, chosen so that nothing is visible before it was really known:

- A daily bar ends (`ts_event_us`) at 21:00 UTC all year and is known a minute later. New York closes at 20:00 UTC in
  summer and at 21:00 in winter, so 21:00 is never before the true close, and steps of whole days meet bars exactly: a
  bar's end following the clock change would make "5 bars ago" miss its row by an hour twice a year.
- `Stocks.csv` labels a month by its FIRST day but holds the close of its LAST session (its GOOGL column proves it
  against `goog.npz`). Read as dated it would tell the future, up to a month of it. Here a month's value ends with the
  month, at 21:00 UTC of its last calendar day, and is known one day later.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from streams.demo.errors import DemoDataMissing
from streams.demo.indicators import Bars, bar_features, index_features
from streams.demo.rows import FeatureRows, Outcomes

if TYPE_CHECKING:
    from numpy.typing import NDArray

SYMBOL = "GOOG"
DAY_US = 86_400_000_000
CLOSE_US = 21 * 3_600_000_000
"""When a daily bar ends, after midnight UTC."""
BAR_LAG_US = 60_000_000
"""A bar is known a minute after its end."""
MARKET_LAG_US = DAY_US
"""A month's index value is known a day after the month's end."""
HORIZON_US = 7 * DAY_US
"""Five trading days ahead is seven calendar days ahead."""


@dataclass(frozen=True, slots=True)
class DailyBars:
    """Daily bars of one symbol. `dates`: datetime64[D][bars], ascending."""

    dates: NDArray[np.datetime64]
    bars: Bars


def load_daily_bars() -> DailyBars:
    """Read Google's bars. Raises `DemoDataMissing` when matplotlib came without its sample data."""
    with np.load(_sample("goog.npz")) as archive:
        table = archive["price_data"]
    columns = {name: table[name].astype(np.float64) for name in ("open", "high", "low", "close", "volume")}
    return DailyBars(table["date"].astype("datetime64[D]"), Bars(**columns))


def load_month_ends(column: str) -> tuple[NDArray[np.datetime64], NDArray[np.float64]]:
    """Read one column of `Stocks.csv`: (months datetime64[M], values at the end of that month), in order.

    Rows not dated the first of a month are dividend days or the unfinished last month and are left out, as are
    months without a value. Raises `DemoDataMissing` as above.
    """
    with _sample("Stocks.csv").open(encoding="utf-8") as lines:
        table = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    kept = [(row["Date"][:7], float(row[column])) for row in table if row["Date"].endswith("-01") and row[column]]
    months = np.array([month for month, _ in kept], dtype="datetime64[M]")
    return months, np.array([value for _, value in kept], dtype=np.float64)


def bar_rows(daily: DailyBars) -> FeatureRows:
    """Feature set `bars_1d`: one row a bar."""
    event_us = close_us(daily.dates)
    return _rows("bars_1d", bar_features(daily.bars), event_us, event_us + BAR_LAG_US)


def market_rows(months: NDArray[np.datetime64], level: NDArray[np.float64]) -> FeatureRows:
    """Feature set `market`, under Google's key: one row a month, ending with it."""
    # Arithmetic on whole months and days, as integers: the stubs take datetime64 minus timedelta64 for a timedelta64.
    next_months = (months.astype(np.int64) + 1).astype("datetime64[M]")
    last_days = (next_months.astype("datetime64[D]").astype(np.int64) - 1).astype("datetime64[D]")
    event_us = close_us(last_days)
    return _rows("market", index_features(level), event_us, event_us + MARKET_LAG_US)


def forward_returns(daily: DailyBars, *, horizon_us: int = HORIZON_US) -> Outcomes:
    """Outcome of each bar: log return to the first bar ending at or after its end plus the horizon, known with that bar.

    Bars whose horizon reaches past the data have no outcome.
    """
    event_us = close_us(daily.dates)
    realised = np.searchsorted(event_us, event_us + horizon_us, side="left")
    matured = realised < len(event_us)
    realised = realised[matured]
    value = np.log(daily.bars.close[realised] / daily.bars.close[matured])
    known_us = event_us[realised] + BAR_LAG_US
    return Outcomes(horizon_us, (SYMBOL,) * int(matured.sum()), event_us[matured], known_us, value)


def close_us(dates: NDArray[np.datetime64]) -> NDArray[np.int64]:
    """Return the end of these days' bars in microseconds UTC.

    >>> close_us(np.array(["2007-01-03"], dtype="datetime64[D]")).tolist()
    [1167858000000000]
    """
    return dates.astype("datetime64[us]").astype(np.int64) + CLOSE_US


def _rows(
    feature_set: str, features: dict[str, NDArray[np.float64]], event_us: NDArray[np.int64], known_us: NDArray[np.int64]
) -> FeatureRows:
    values = np.column_stack(list(features.values()))  # (rows, features)
    return FeatureRows(feature_set, tuple(features), (SYMBOL,) * len(event_us), event_us, known_us, values)


def _sample(name: str) -> Path:
    import matplotlib as mpl  # heavy; reachable from the command line's start

    path = Path(mpl.get_data_path()) / "sample_data" / name
    if not path.is_file():
        raise DemoDataMissing(
            f"{path} is not there: this matplotlib was installed without its sample data; "
            "install the matplotlib wheel (uv sync --reinstall-package matplotlib), or run `trading-ml demo --synthetic`"
        )
    return path
