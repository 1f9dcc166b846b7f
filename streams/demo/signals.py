"""What the monitor said during a run: alerts that fired, drift per column at its worst. Core: fed with decoded records."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

DRIFTED = ("warn", "critical")


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """One change of one alert: `what` is its name, `state` firing or resolved, in event time; `column` "" if of none."""

    at_us: int
    what: str
    column: str
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


@dataclass(frozen=True, slots=True)
class DriftWindow:
    """One window in which something drifted: its end, how many of the columns judged did, and the one furthest off."""

    end_us: int
    drifted: int
    judged: int
    column: str
    psi: float


@dataclass(frozen=True, slots=True)
class Truth:
    """What a generator is known to do: these columns drift from `from_us` on, and no others."""

    columns: tuple[str, ...]
    from_us: int


@dataclass(slots=True)
class Signals:
    """Collects the records of `alerts` and `performance`; a repeated event is counted once.

    `incidents`: ids of those that fired, each from its firing, through getting worse, to its end.
    """

    events: list[AlertEvent] = field(default_factory=list)
    worst: dict[str, WorstDrift] = field(default_factory=dict)
    drifted: list[DriftWindow] = field(default_factory=list)
    windows: int = 0
    latest_verdict: str = "none yet"
    incidents: set[str] = field(default_factory=set)
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

    def fired_by_time(self) -> list[tuple[int, list[str]]]:
        """Event times at which alerts began to fire or got worse, with the columns they are about, earliest first."""
        times: dict[int, list[str]] = {}
        for e in sorted(self.events, key=lambda e: (e.at_us, e.column)):
            if e.state == "firing" and e.column not in times.setdefault(e.at_us, []):
                times[e.at_us].append(e.column)
        return sorted(times.items())

    def alert(self, record: dict[str, Any]) -> None:
        """Take a record of the alerts topic; `pending` and `inactive` are not news."""
        if record["event_id"] in self._seen or record["state"] not in ("firing", "resolved"):
            return
        self._seen.add(record["event_id"])
        (self._firing.add if record["state"] == "firing" else self._firing.discard)(record["fingerprint"])
        if record["state"] == "firing":
            self.incidents.add(record["incident_id"])
        labels = record["labels"]
        value = float("nan") if record["value"] is None else float(record["value"])
        at_us, column = int(record["updated_us"]), str(labels.get("column", ""))
        self.events.append(AlertEvent(at_us, str(labels["alertname"]), column, record["state"], record["severity"], value))

    def performance(self, record: dict[str, Any]) -> None:
        """Take a record of the performance topic; one without a drift report is passed over."""
        drift = record.get("drift")
        if drift is None:
            return
        self.windows += 1
        self.latest_verdict = drift["verdict"]
        end_us = int(record["window_end_us"])
        judged = [c for c in drift["columns"] if c["verdict"] != "insufficient_data"]
        found = [c for c in judged if c["verdict"] in DRIFTED and c["psi"] is not None]
        for c in found:
            if c["name"] not in self.worst or c["psi"] > self.worst[c["name"]].psi:
                self.worst[c["name"]] = WorstDrift(c["name"], c["psi"], c["verdict"], end_us)
        if found:
            top = max(found, key=lambda c: float(c["psi"]))
            self.drifted.append(DriftWindow(end_us, len(found), len(judged), top["name"], top["psi"]))

    def over_time(self, most: int = 8) -> list[DriftWindow]:
        """Of each of at most `most` equal stretches of time, the window in which the most columns drifted."""
        if not self.drifted:
            return []
        start_us, end_us = min(w.end_us for w in self.drifted), max(w.end_us for w in self.drifted)
        picked: dict[int, DriftWindow] = {}
        for w in sorted(self.drifted, key=lambda w: w.end_us):
            stretch = min(most - 1, (w.end_us - start_us) * most // max(1, end_us - start_us))
            if stretch not in picked or (w.drifted, w.psi) > (picked[stretch].drifted, picked[stretch].psi):
                picked[stretch] = w
        return list(picked.values())

    def against(self, truth: Truth) -> str:
        """Say how soon the columns known to drift raised an alert, and which others did."""
        fired = [e for e in sorted(self.events, key=lambda e: e.at_us) if e.state == "firing"]
        told = []
        for column in truth.columns:
            after = [e.at_us for e in fired if e.column == column and e.at_us >= truth.from_us]
            told.append(f"{column} raised {(after[0] - truth.from_us) / 1e6:g} s after" if after else f"{column} NOT raised")
        others = sorted({e.column for e in fired if e.column not in truth.columns})
        return f"{', '.join(told)}; other columns raised: {', '.join(others) or 'none'}"

    def most_drifted(self, most: int = 5) -> list[WorstDrift]:
        """The columns that drifted furthest, worst first."""
        return sorted(self.worst.values(), key=lambda w: -w.psi)[:most]
