"""What the monitor goes by, worked out of the settings once. Core."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from monitoring.alerts import AlertPolicy
from monitoring.retrain import RetrainPolicy
from streams.alert_rules import alert_rules

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta
    from typing import Self

    from config import Settings
    from monitoring.rules import AlertRules

MOST_ROWS = 4_000_000
"""Predictions and outcomes held for one another or for a quality window, over all partitions: about 400 MB at the most."""
_DRIFT = frozenset({"feature_drift", "prediction_drift", "multivariate_drift"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Times in microseconds; `panes` panes of `pane_us` make a window."""

    partitions: int
    pane_us: int
    panes: int
    grace_panes: int
    label_timeout_us: int
    labels_kept_us: int
    """`label_timeout_us`, or as long as a window needs its labels, if that is longer."""
    most_rows: int
    """Of labels, in one partition."""
    threshold: float
    min_samples: int
    false_discovery_rate: float
    policy: AlertPolicy
    alerts: AlertRules
    symbol_groups: Mapping[str, Sequence[str]]
    revise_within_us: int
    retrain: RetrainPolicy

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """From the settings."""
        m = settings.monitoring
        return cls(
            partitions=settings.kafka.partitions,
            pane_us=_us(m.metrics_window) // m.panes,
            panes=m.panes,
            grace_panes=1,
            label_timeout_us=_us(m.label_timeout),
            labels_kept_us=max(_us(m.label_timeout), _us(m.metrics_window) + 2 * _us(m.metrics_window) // m.panes),
            most_rows=max(1, MOST_ROWS // settings.kafka.partitions),
            threshold=m.alert_threshold,
            min_samples=m.min_samples,
            false_discovery_rate=m.false_discovery_rate,
            policy=AlertPolicy(pending_windows=m.pending_windows, cooldown_us=_us(m.cooldown)),
            alerts=alert_rules(settings),
            symbol_groups=m.symbol_groups,
            revise_within_us=min(_us(m.revise_within), _us(m.label_timeout)),
            retrain=RetrainPolicy(
                enabled=m.retrain.enabled,
                cooldown_us=_us(m.retrain.cooldown),
                when_critical=frozenset(m.retrain.on) & _DRIFT,
                always=frozenset(m.retrain.on) - _DRIFT,
            ),
        )


def _us(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1_000_000)
