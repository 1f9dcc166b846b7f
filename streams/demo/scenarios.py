"""The two runs the demo offers: what is trained, what is replayed, by which settings, and what to say of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streams.demo import market, synthetic
from streams.demo.errors import DemoFailed
from streams.demo.replay import in_time_order
from streams.demo.signals import Truth
from streams.demo.training import Trained, log_order, market_spec, train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from models.spec import ServingSpec
    from streams.demo.rows import FeatureRows, Outcomes

    Blocks = Iterable[FeatureRows | Outcomes]

CALIBRATE_FROM = "2006-07-01"
REPLAY_FROM = "2007-01-01"
_PANES = 12
_LEAST_BARS = 10 * _PANES
_DAILY_RATE = 20.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run. `symbols`: how many; `rows`: feature rows it sends in all; `rate`: rows a second.

    `settings`: overrides by TRADING_ML name; `checked_symbols`: whose vectors are recomputed, None for all.
    """

    name: str
    title: str
    spec: ServingSpec
    train: Callable[[], Trained]
    blocks: Callable[[], Blocks]
    symbols: int
    rows: int
    rate: float
    settings: Mapping[str, str]
    checked_symbols: frozenset[str] | None
    notes: tuple[str, ...]
    next_steps: tuple[str, ...]
    truth: Truth | None = None


def market_past() -> tuple[list[FeatureRows], Outcomes]:
    """Load the real data: the sets `market` and `bars_1d` with all their history, and the outcomes of the latter."""
    daily = market.load_daily_bars()
    slow = market.market_rows(*market.load_month_ends("^GSPC"))
    bars = market.bar_rows(daily)
    first, last = int(bars.ts_event_us[0]), int(bars.ts_known_us[-1])
    # The month before the first bar is its newest known month.
    slow = slow.take((slow.ts_known_us > first - 2 * market.DAY_US * 31) & (slow.ts_known_us <= last))
    return [slow, bars], market.forward_returns(daily)


def train_market() -> Trained:
    """Fit the model on Google's bars up to 2006, calibrated on the second half of that year."""
    sets, outcomes = market_past()
    return train(
        log_order(*sets),
        outcomes,
        market_spec(),
        calibrate_from_us=_midnight_us(CALIBRATE_FROM),
        end_us=_midnight_us(REPLAY_FROM),
    )


def market_scenario(*, rate: float | None = None) -> Scenario:
    """Google, 2007 to October 2008, a row a day. Twenty market days a second unless `rate` says otherwise."""
    (slow, bars), outcomes = market_past()
    start_us = _midnight_us(REPLAY_FROM)
    newest_month = slow.ts_known_us == slow.ts_known_us[slow.ts_known_us < start_us].max()
    slow = slow.take((slow.ts_known_us >= start_us) | newest_month)
    bars = bars.take(bars.ts_event_us >= start_us)
    outcomes = outcomes.take(outcomes.ts_event_us >= start_us)
    return Scenario(
        name="market",
        title="Google 2007-2008 on real bars",
        spec=market_spec(),
        train=train_market,
        blocks=lambda: in_time_order([slow, bars], outcomes),
        symbols=1,
        rows=len(slow) + len(bars),
        rate=_DAILY_RATE if rate is None else rate,
        # About 41 sessions lie in 60 days: below the usual minimum of 100 rows nothing would ever be judged.
        settings={"MONITORING__METRICS_WINDOW": "60d", "MONITORING__MIN_SAMPLES": "30", "MONITORING__COOLDOWN": "1d"},
        checked_symbols=None,
        notes=(
            "a return five days ahead is close to noise: read the figures against chance, not as a strategy",
            "trained on 2004 to mid-2006 and calibrated on the rest of 2006; that this does not fit 2008 is what drift shows",
        ),
        next_steps=("trading-ml demo --synthetic --symbols 500 --rate 5000 --seconds 30", "trading-ml --help"),
    )


def synthetic_scenario(*, symbols: int, rate: float, seconds: float, seed: int = 11) -> Scenario:
    """Return a generator's run of about `seconds` at `rate` rows a second, drifting from half-way on."""
    bars = round(seconds * rate / symbols)
    if bars < _LEAST_BARS:
        raise DemoFailed(
            f"{seconds:g} s at {rate:g} rows/s are {bars} bars of {symbols} symbols, and drift needs {_LEAST_BARS} to be judged; "
            f"give --seconds {np.ceil(_LEAST_BARS * symbols / rate):.0f}, a higher --rate or fewer --symbols"
        )
    plan = synthetic.SyntheticPlan(symbols=symbols, bars=bars, seed=seed, drift_at=bars // 2)
    slow_rows = symbols * len(range(synthetic.SLOW_LAG_US // synthetic.BAR_US, bars, synthetic.SLOW_EVERY_BARS))
    window_s = _PANES * max(1, bars // (5 * _PANES))
    drifted_at = np.datetime64(plan.drift_from_us, "us").astype("datetime64[s]").item()
    return Scenario(
        name="synthetic",
        title=f"{symbols} synthetic symbols, {bars} bars",
        spec=synthetic.synthetic_spec(),
        train=lambda: synthetic.train_synthetic(plan),
        blocks=lambda: synthetic.blocks(plan),
        symbols=symbols,
        rows=symbols * bars + slow_rows,
        rate=rate,
        settings={"MONITORING__METRICS_WINDOW": f"{window_s}s", "MONITORING__COOLDOWN": "1s"},
        checked_symbols=frozenset(f"S{i:04d}" for i in range(min(3, symbols))),
        notes=(
            f"{' and '.join(plan.drifted)} drift by {plan.drift_size:g} standard deviations from {drifted_at} UTC on, half-way",
            f"the best possible correlation with the outcome is {synthetic.BEST_IC:.2f}",
            "until every lag is filled, lagged columns are missing, which is drift: a cold start raises alerts that resolve",
        ),
        truth=Truth(plan.drifted, plan.start_us + plan.bars // 2 * synthetic.BAR_US),
        next_steps=("trading-ml demo", "trading-ml --help"),
    )


def _midnight_us(day: str) -> int:
    return int(np.datetime64(day, "us").astype(np.int64))
