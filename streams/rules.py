"""What the monitor goes by, worked out of the settings once. Core."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from monitoring.alerts import AlertPolicy

if TYPE_CHECKING:
    from datetime import timedelta
    from typing import Self

    from config import Settings

MOST_KEYS = 1_000_000
"""(symbol, event time, horizon) that wait for outcomes or a quality window, over all partitions: about 1 GB at the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Times in microseconds; `panes` panes of `pane_us` make a window."""

    partitions: int
    pane_us: int
    panes: int
    grace_panes: int
    label_timeout_us: int
    most_keys: int
    """Of one partition."""
    threshold: float
    min_samples: int
    false_discovery_rate: float
    policy: AlertPolicy

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
            most_keys=max(1, MOST_KEYS // settings.kafka.partitions),
            threshold=m.alert_threshold,
            min_samples=m.min_samples,
            false_discovery_rate=m.false_discovery_rate,
            policy=AlertPolicy(pending_windows=m.pending_windows, cooldown_us=_us(m.cooldown)),
        )


def _us(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1_000_000)
