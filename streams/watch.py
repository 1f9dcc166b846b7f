"""Drift counts and alerts of one scorer, stored as one value so that neither can be ahead of the other. Core.

Packed: u16 layout number, then MessagePack of (newest event time, alert records, packed panes, events not yet said).

An event is said (`streams.reports`) only once the state it comes from is durable: until then a crash takes it back, and the
rows that come again, in another order perhaps, decide afresh. So what the topic says is never taken back.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from monitoring.alerts import decide, rebuild, withdraw
from monitoring.drift import DriftReport, drift_report
from monitoring.errors import StateError
from monitoring.panes import Panes
from monitoring.performance import drift_observations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from monitoring.alerts import Alert
    from monitoring.joined import Scorer
    from monitoring.panes import Window
    from streams.logrows import LogRows
    from streams.references import Trained
    from streams.rules import Rules

LAYOUT = 1
"""Number of the packed layout written by this version; it stands first in the bytes."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A window that closed, and its drift."""

    window: Window
    drift: DriftReport


class _Packed(msgspec.Struct, array_like=True):
    newest_us: int
    alerts: list[dict[str, Any]]
    panes: bytes
    unsaid: list[dict[str, Any]] = []


class Watch:
    """One scorer under watch. Without its reference (`arm`) it only keeps what was stored."""

    def __init__(self, scorer: Scorer, rules: Rules) -> None:
        self.scorer = scorer
        self.newest_us = -1
        self.alerts: dict[str, Alert] = {}
        self.unsaid: list[dict[str, Any]] = []
        """Alert events decided and not yet said, in order."""
        self.trained: Trained | None = None
        self.panes: Panes | None = None
        self._rules = rules
        self._packed_panes = b""

    def arm(self, trained: Trained) -> StateError | None:
        """Measure against this reference; the fault if stored counts do not fit it and start afresh."""
        if self.trained is trained:
            return None
        rules, fault = self._rules, None
        packed = self._packed_panes if self.panes is None else self.panes.pack()
        self.trained, self.panes, self._packed_panes = trained, None, b""
        if packed:
            try:
                self.panes = _fitting(Panes.unpack(trained.reference, packed), rules)
            except StateError as e:
                fault = e
        if self.panes is None:
            self.panes = Panes(trained.reference, pane_us=rules.pane_us, panes=rules.panes, grace_panes=rules.grace_panes)
        return fault

    def count(self, records: Sequence[LogRows]) -> list[Judged]:
        """Count records of one partition, in order, and judge the windows they closed. Only after `arm`.

        Rows counted before, in this record or, repeated by an inference worker that was killed, in another, are passed over.
        """
        if self.panes is None:
            raise RuntimeError("a watch counts only once it has its reference")
        self.newest_us = max(self.newest_us, *(int(r.ts_event_us.max()) for r in records))
        judged: list[Judged] = []
        for source, group in groupby(records, key=attrgetter("source")):
            of_source = list(group)
            closed = self.panes.add(
                np.concatenate([np.column_stack((r.vectors, r.value)) for r in of_source]),
                np.concatenate([r.ts_event_us for r in of_source]),
                source=source,
                own=np.concatenate([r.own for r in of_source]),
                decided=np.concatenate([r.decided for r in of_source]),
            )
            judged += [self._judge(w) for w in closed]
        return judged

    def open_alerts(self) -> list[str]:
        """Fingerprints of alerts pending or firing."""
        return [key for key, alert in self.alerts.items() if alert.state in {"pending", "firing"}]

    def withdraw(self, now_us: int, *, reason: str) -> None:
        """End what is pending or firing: nothing will observe this scorer any more."""
        self.alerts, events = withdraw(self.alerts, self.open_alerts(), now_us, reason=reason)
        self.unsaid += events

    def _judge(self, window: Window) -> Judged:
        if self.trained is None:
            raise RuntimeError("a watch judges only once it has its reference")
        rules, scorer = self._rules, self.scorer
        drift = drift_report(
            self.trained.reference,
            window.counts,
            threshold=rules.threshold,
            min_samples=rules.min_samples,
            false_discovery_rate=rules.false_discovery_rate,
        )
        seen = drift_observations(drift, scorer._asdict(), prediction=self.trained.prediction)
        self.alerts, events = decide(self.alerts, seen, window.end_us, policy=rules.policy)
        self.unsaid += events
        return Judged(window, drift)

    def pack(self) -> bytes:
        """The whole state as bytes."""
        panes = self._packed_panes if self.panes is None else self.panes.pack()
        records = [self.alerts[key].record() for key in sorted(self.alerts)]
        return LAYOUT.to_bytes(2, "little") + msgspec.msgpack.encode(_Packed(self.newest_us, records, panes, self.unsaid))

    @classmethod
    def unpack(cls, scorer: Scorer, rules: Rules, data: bytes) -> Watch:
        """Read `pack`'s bytes. Raises `StateError` on another layout or damage; counts are only looked at by `arm`."""
        found = int.from_bytes(data[:2], "little")
        if found != LAYOUT:
            raise StateError(f"the watch of {':'.join(scorer)} has layout {found}, this version reads {LAYOUT}; it starts afresh")
        try:
            packed = msgspec.msgpack.decode(data[2:], type=_Packed)
        except msgspec.MsgspecError as e:
            raise StateError(f"the watch of {':'.join(scorer)} cannot be read ({e}); it starts afresh") from e
        self = cls(scorer, rules)
        self.newest_us, self.alerts, self._packed_panes = packed.newest_us, rebuild(packed.alerts), packed.panes
        self.unsaid = packed.unsaid
        return self


def _fitting(panes: Panes, rules: Rules) -> Panes:
    if (panes.pane_us, panes.panes, panes.grace_panes) != (rules.pane_us, rules.panes, rules.grace_panes):
        raise StateError(
            f"counts were kept in {panes.panes} panes of {panes.pane_us} us, the settings say {rules.panes} of {rules.pane_us}; "
            "they start afresh"
        )
    return panes
