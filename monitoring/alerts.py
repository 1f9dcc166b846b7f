"""The life of an alert: inactive -> pending -> firing -> resolved, decided from observations.

Core: no clock, no I/O; state in, state and events out. A window's value is *over* where it reaches `raise_at` and
is significant, *under* where it is on the good side of `clear_at` or the test that judges it is quiet, and in between
neither:

| state                | over                                                   | neither | under     |
|----------------------|--------------------------------------------------------|---------|-----------|
| inactive or resolved | pending, with 1 window                                 | stays   | stays     |
| pending              | one window more; firing at `pending_windows`           | stays   | goes back |
| firing               | stays; may go from warn to critical, never back        | stays   | resolved  |

With `pending_windows` of 1 the first window fires. Within `cooldown_us` of the last incident's end it stays pending.

Every change of state is an event and nothing else is, so `rebuild(events)` is the state: the topic, compacted by
fingerprint, is its only store. An observation no newer than the alert's last change was seen before and is ignored, so a
replayed window raises nothing twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from monitoring.errors import StateError

SCHEMA_VERSION = 1
"""Number of the alert record's schema."""

Status = Literal["inactive", "pending", "firing", "resolved"]
Severity = Literal["warn", "critical"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertPolicy:
    """`pending_windows`: windows over in a row before it fires; `cooldown_us`: least time from an end to the next firing."""

    pending_windows: int = 2
    cooldown_us: int = 3_600_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One measured value, once per window. `raise_at` below `clear_at` means that small values are bad.

    `significant`: chance does not explain it, else it cannot raise. `quiet`: chance explains it with room to spare, so it
    clears whatever its size (in a small window the value of pure noise may lie above any threshold). `inhibited`: another alert
    explains it (its feature set is silent), so it cannot raise: pending goes back, firing stays and may clear. `policy`: its
    rule's own, in place of the one `decide` is given.
    """

    labels: Mapping[str, str]
    value: float
    raise_at: float
    clear_at: float
    severity: Severity = "warn"
    significant: bool = True
    quiet: bool = False
    inhibited: bool = False
    policy: AlertPolicy | None = None
    summary: str = ""
    description: str = ""

    @property
    def over(self) -> bool:
        """Bad enough to raise."""
        reached = self.value >= self.raise_at if self.raise_at >= self.clear_at else self.value <= self.raise_at
        return self.significant and reached and not self.inhibited

    @property
    def under(self) -> bool:
        """Good enough to clear."""
        if self.quiet:
            return True
        return self.value < self.clear_at if self.raise_at >= self.clear_at else self.value > self.clear_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert as of its last change; exactly what its event record says."""

    fingerprint: str
    labels: Mapping[str, str]
    state: Status = "inactive"
    severity: Severity = "warn"
    value: float = 0.0
    threshold: float = 0.0
    windows: int = 0
    annotations: Mapping[str, str] = field(default_factory=dict)
    started_us: int | None = None
    fired_us: int | None = None
    resolved_us: int | None = None
    updated_us: int

    def record(self) -> dict[str, Any]:
        """The event record, ready for JSON. Its id is a digest of what happened, so a repeat has the same id.

        `incident_id` is the same from pending to resolved: a receiver that keeps one firing per incident sees one.
        """
        body = asdict(self) | {"labels": dict(sorted(self.labels.items())), "annotations": dict(self.annotations)}
        what = [self.fingerprint, self.state, self.severity, self.windows, self.updated_us]
        return {
            "schema_version": SCHEMA_VERSION,
            "event_id": _digest(what),
            "incident_id": _digest([self.fingerprint, self.started_us]),
            **body,
        }


AlertState = Mapping[str, Alert]
"""All alerts ever changed, by fingerprint."""


def fingerprint(labels: Mapping[str, str]) -> str:
    """SHA-256 of the labels sorted by name, as 16 hex digits.

    >>> fingerprint({"a": "1", "b": "2"}) == fingerprint({"b": "2", "a": "1"})
    True
    """
    return _digest(sorted(labels.items()))


def decide(
    state: AlertState, observations: Iterable[Observation], now_us: int, *, policy: AlertPolicy
) -> tuple[dict[str, Alert], list[dict[str, Any]]]:
    """Apply one window's observations at its end `now_us`; the new state and the event records, in order.

    >>> bad = Observation(labels={"alertname": "feature_drift", "column": "ret_1"}, value=0.3, raise_at=0.1, clear_at=0.08)
    >>> state, events = decide({}, [bad], 100, policy=AlertPolicy(pending_windows=2))
    >>> [e["state"] for e in events]
    ['pending']
    >>> state, events = decide(state, [bad], 200, policy=AlertPolicy(pending_windows=2))
    >>> [e["state"] for e in events]
    ['firing']
    """
    after = dict(state)
    events: list[dict[str, Any]] = []
    for seen in observations:
        key = fingerprint(seen.labels)
        alert = after.get(key, Alert(fingerprint=key, labels=dict(seen.labels), updated_us=now_us - 1))
        own = policy if seen.policy is None else seen.policy
        changed = _step(alert, seen, now_us, own) if now_us > alert.updated_us else None
        if changed is not None:
            after[key] = changed
            events.append(changed.record())
    return after, events


def withdraw(
    state: AlertState, fingerprints: Sequence[str], now_us: int, *, reason: str
) -> tuple[dict[str, Alert], list[dict[str, Any]]]:
    """End alerts that nothing will observe any more (their model version is gone): firing -> resolved, pending -> back."""
    after = dict(state)
    events: list[dict[str, Any]] = []
    for key in fingerprints:
        alert = after[key]
        if alert.state in {"pending", "firing"} and now_us > alert.updated_us:
            after[key] = replace(_ended(alert, now_us), annotations={"summary": reason, "description": reason})
            events.append(after[key].record())
    return after, events


def rebuild(records: Iterable[Mapping[str, Any]]) -> dict[str, Alert]:
    """The state that the event records, in the order of the topic, leave behind. Raises `StateError` on a foreign record."""
    state: dict[str, Alert] = {}
    names = set(Alert.__dataclass_fields__)
    for record in records:
        if record.get("schema_version") != SCHEMA_VERSION or not names <= record.keys():
            raise StateError(
                f"alert record {record.get('event_id')!r} has schema {record.get('schema_version')!r}, this version reads "
                f"{SCHEMA_VERSION}; empty the alerts topic or serve it with the release that wrote it"
            )
        state[record["fingerprint"]] = Alert(**{k: v for k, v in record.items() if k in names})
    return state


def _step(alert: Alert, seen: Observation, now_us: int, policy: AlertPolicy) -> Alert | None:
    """The alert after this observation, or None if nothing changes."""
    if alert.state == "firing":
        if seen.under:
            return _measured(_ended(alert, now_us), seen)
        worse = seen.over and (alert.severity, seen.severity) == ("warn", "critical")
        return _measured(replace(alert, severity="critical", updated_us=now_us), seen) if worse else None
    if alert.state == "pending" and (seen.under or seen.inhibited):
        return _measured(_ended(alert, now_us), seen)
    if not seen.over:
        return None
    windows = alert.windows + 1 if alert.state == "pending" else 1
    cool = alert.resolved_us is None or now_us >= alert.resolved_us + policy.cooldown_us
    fires = windows >= policy.pending_windows and cool
    return _measured(
        replace(
            alert,
            state="firing" if fires else "pending",
            severity=seen.severity,
            windows=windows,
            started_us=alert.started_us if alert.state == "pending" else now_us,
            fired_us=now_us if fires else None,
            updated_us=now_us,
        ),
        seen,
    )


def _ended(alert: Alert, now_us: int) -> Alert:
    """Firing ends as resolved; pending falls back to what it was before, keeping when the last incident ended."""
    if alert.state == "firing":
        return replace(alert, state="resolved", windows=0, resolved_us=now_us, updated_us=now_us)
    before: Status = "inactive" if alert.resolved_us is None else "resolved"
    return replace(alert, state=before, windows=0, updated_us=now_us)


def _measured(alert: Alert, seen: Observation) -> Alert:
    said = {"summary": seen.summary, "description": seen.description}
    return replace(alert, value=seen.value, threshold=seen.raise_at, annotations=said)


def _digest(parts: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()[:16]
