"""What the monitor said during a run: alerts that fired, drift per column at its worst. Core: fed with decoded records."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

DRIFTED = ("warn", "critical")


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """One change of one alert: `what` its name and column, `state` firing or resolved, in event time."""

    at_us: int
    what: str
    state: str
    severity: str
    value: float


@dataclass(frozen=True, slots=True)
class WorstDrift:
    """A column's highest PSI in a window judged drifted, and that window's end."""

    column: str
    psi: float
    verdict: str
    end_us: int


@dataclass(slots=True)
class Signals:
    """Collects the records of `alerts` and `performance`; a repeated event is counted once."""

    events: list[AlertEvent] = field(default_factory=list)
    worst: dict[str, WorstDrift] = field(default_factory=dict)
    windows: int = 0
    latest_verdict: str = "none yet"
    _seen: set[str] = field(default_factory=set)
    _firing: set[str] = field(default_factory=set)

    @property
    def firing(self) -> int:
        """Alerts firing now."""
        return len(self._firing)

    @property
    def first(self) -> AlertEvent | None:
        """The earliest firing, in event time."""
        fired = [e for e in self.events if e.state == "firing"]
        return min(fired, key=lambda e: e.at_us) if fired else None

    def alert(self, record: dict[str, Any]) -> None:
        """Take a record of the alerts topic; `pending` and `inactive` are not news."""
        if record["event_id"] in self._seen or record["state"] not in ("firing", "resolved"):
            return
        self._seen.add(record["event_id"])
        (self._firing.add if record["state"] == "firing" else self._firing.discard)(record["fingerprint"])
        labels = record["labels"]
        what = " ".join(str(labels[k]) for k in ("alertname", "column") if k in labels)
        value = float("nan") if record["value"] is None else float(record["value"])
        self.events.append(AlertEvent(int(record["updated_us"]), what, record["state"], record["severity"], value))

    def performance(self, record: dict[str, Any]) -> None:
        """Take a record of the performance topic; one without a drift report is passed over."""
        drift = record.get("drift")
        if drift is None:
            return
        self.windows += 1
        self.latest_verdict = drift["verdict"]
        for column in drift["columns"]:
            psi, name = column["psi"], column["name"]
            if column["verdict"] in DRIFTED and psi is not None and (name not in self.worst or psi > self.worst[name].psi):
                self.worst[name] = WorstDrift(name, psi, column["verdict"], int(record["window_end_us"]))

    def most_drifted(self, most: int = 5) -> list[WorstDrift]:
        """The columns that drifted furthest, worst first."""
        return sorted(self.worst.values(), key=lambda w: -w.psi)[:most]
