"""What alerts see of how the platform runs: windows of the flow in, observations out; and the silence of models by the clock.

Core: the time now is an argument. A model is judged at the panes in which it had rows, by the whole window; what is bad of the
window raises only if it is bad of its last pane too. So one bad minute is one bad window, not as many as contain it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring.alerts import Observation
from monitoring.flow import quantile_us

if TYPE_CHECKING:
    from collections.abc import Mapping

    from monitoring.flow import FlowWindow
    from monitoring.rules import AlertRules
    from monitoring.silence import Awaited

_S = 1_000_000
_MOST_NAMED = 5
"""Reasons that are named, the most frequent ones."""


def flow_observations(window: FlowWindow, rules: AlertRules, awaited: Mapping[str, Awaited]) -> list[Observation]:
    """Latency and input lag of each model with rows in the last pane, in seconds, and the share of records rejected.

    Of models that `awaited` lacks the usual lag is not known, and of theirs nothing is said.
    """
    seen: list[Observation | None] = []
    for model in sorted(window.recent):
        seen.append(_latency(model, window, rules))
        if model in awaited:
            seen.append(_lag(model, window, rules, awaited[model]))
    seen.append(_rejected(window, rules))
    return [o for o in seen if o is not None]


def silence_observations(
    live_us: Mapping[str, int], rules: AlertRules, awaited: Mapping[str, Awaited], *, now_us: int, caught_up: bool
) -> list[Observation]:
    """How many bars each model has been waiting for, of models that had a live row before.

    `live_us`: log time of the newest row that is no backfill; `caught_up`: whether the log was read to its end. If it was not,
    or the model's session is over, silence does not raise; it may clear.
    """
    rule = rules.input_silence
    if rule is None:
        return []
    seen: list[Observation] = []
    for model in sorted(awaited.keys() & live_us.keys()):
        waits, since_us = awaited[model], live_us[model]
        missed = waits.missed(since_us, now_us)
        after = max(rule.after_bars, -(-rule.at_least_us // waits.bar_us))
        silent = f"{model} gets no input: nothing in {missed} bars"
        seen.append(
            Observation(
                labels={"alertname": "input_silence", "model": model},
                value=float(missed),
                raise_at=float(after),
                clear_at=float(after),
                severity=rule.severity,
                inhibited=not caught_up or not waits.open(now_us),
                policy=rule.policy,
                summary=silent if missed >= after else f"{model} gets input: {missed} bars since the last",
                description=f"the last prediction is {(now_us - since_us) / _S:.0f} s old, a bar has {waits.bar_us / _S:g} s",
            )
        )
    return seen


def _latency(model: str, window: FlowWindow, rules: AlertRules) -> Observation | None:
    rule, traffic = rules.prediction_latency, window.models[model]
    rows = int(traffic.latency.sum())
    if rule is None or rows < rule.min_rows:
        return None
    value_us = quantile_us(traffic.latency, rule.quantile)
    return Observation(
        labels={"alertname": "prediction_latency", "model": model},
        value=value_us / _S,
        raise_at=rule.above_us / _S,
        clear_at=rule.clear_us / _S,
        severity="critical" if value_us >= rule.critical_ratio * rule.above_us else "warn",
        significant=quantile_us(window.recent[model].latency, rule.quantile) >= rule.above_us,
        policy=rule.policy,
        summary=f"predictions of {model} come {value_us / _S:.3g} s after their decision ({rule.quantile:.0%} quantile)",
        description=f"{rows} rows of the window, {traffic.backfill} of backfill left out; seconds, within 10 %",
    )


def _lag(model: str, window: FlowWindow, rules: AlertRules, awaited: Awaited) -> Observation | None:
    rule, rows = rules.input_lag, int(window.models[model].lag.sum())
    if rule is None or rows < rule.min_rows:
        return None
    value_us = quantile_us(window.models[model].lag, rule.quantile)
    above_us = max(rule.bars * awaited.bar_us, rule.at_least_us)
    return Observation(
        labels={"alertname": "input_lag", "model": model},
        value=value_us / _S,
        raise_at=above_us / _S,
        clear_at=rule.clear_ratio * above_us / _S,
        severity="critical" if value_us >= rule.critical_ratio * above_us else "warn",
        significant=quantile_us(window.recent[model].lag, rule.quantile) >= above_us,
        policy=rule.policy,
        summary=f"input of {model} comes {value_us / _S:.3g} s later than usual ({rule.quantile:.0%} quantile)",
        description=f"{rows} rows of the window; usual are {awaited.usual_lag_us / _S:g} s; seconds, within 10 %",
    )


def _rejected(window: FlowWindow, rules: AlertRules) -> Observation | None:
    rule, rejected = rules.rejected_share, sum(window.rejected.values())
    rows = max((t.rows for t in window.models.values()), default=0)
    if rule is None or not rejected + rows:
        return None
    share = rejected / (rejected + rows)
    lately = max((t.rows for t in window.recent.values()), default=0)
    now = window.recent_rejected / max(1, window.recent_rejected + lately)
    most = sorted(window.rejected.items(), key=lambda item: (-item[1], item[0]))[:_MOST_NAMED]
    return Observation(
        labels={"alertname": "rejected_share"},
        value=share,
        raise_at=rule.above,
        clear_at=rule.clear,
        severity="critical" if share >= rule.critical_ratio * rule.above else "warn",
        significant=rejected >= rule.min_rejected and now >= rule.above,
        policy=rule.policy,
        summary=f"{share:.2%} of the records are rejected: {rejected} in the window",
        description=f"against {rows} rows of the busiest model; {', '.join(f'{n} {reason}' for reason, n in most) or 'none'}",
    )
