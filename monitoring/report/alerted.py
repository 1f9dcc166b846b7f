"""Alert events as incidents: what was raised when, and what is open. Core."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Incident:
    """One alert from pending to its end, as of its last event. `state`: pending, firing, resolved, or inactive (never fired)."""

    name: str
    labels: Mapping[str, str]
    state: str
    severity: str
    value: float
    threshold: float
    started_us: int
    fired_us: int | None
    ended_us: int | None
    summary: str

    @property
    def open(self) -> bool:
        """Whether it fires."""
        return self.state == "firing"

    @property
    def about(self) -> str:
        """What it watches, of labels that are not the model's, version's or role's.

        >>> Incident("feature_drift", {"column": "ret_1", "model": "m"}, "firing", "warn", 1.0, 0.1, 0, 0, None, "").about
        'column ret_1'
        """
        own = {"alertname", "model", "version", "role"}
        return ", ".join(f"{name} {value}" for name, value in sorted(self.labels.items()) if name not in own)

    def of(self, version: str, role: str) -> bool:
        """Whether it is about this version in this role, or about no version in particular."""
        return self.labels.get("version", version) == version and self.labels.get("role", role) == role


def incidents(events: Iterable[Mapping[str, Any]], *, model: str, start_us: int, end_us: int) -> list[Incident]:
    """Incidents of a model open or changed within (start_us, end_us], newest first, from all its events up to `end_us`.

    `events`: rows of the warehouse's `alerts`, or records of the topic, in any order.
    """
    last: dict[str, Mapping[str, Any]] = {}
    severity: dict[str, str] = {}
    for event in sorted(events, key=lambda e: int(e["updated_us"])):
        if int(event["updated_us"]) > end_us or _mapping(event["labels"]).get("model") != model:
            continue
        last[event["incident_id"]] = event
        if event["state"] in {"pending", "firing"}:
            severity[event["incident_id"]] = event["severity"]
    found = []
    for key, event in last.items():
        closed = event["state"] not in {"pending", "firing"}
        updated_us = int(event["updated_us"])
        if closed and updated_us <= start_us:
            continue
        labels = {str(k): str(v) for k, v in _mapping(event["labels"]).items()}
        found.append(
            Incident(
                name=labels.get("alertname", "alert"),
                labels=labels,
                state=str(event["state"]),
                severity=severity.get(key, str(event["severity"])),
                value=float(event["value"] if event["value"] is not None else "nan"),
                threshold=float(event["threshold"] if event["threshold"] is not None else "nan"),
                started_us=int(event["started_us"] if event["started_us"] is not None else updated_us),
                fired_us=None if event["fired_us"] is None else int(event["fired_us"]),
                ended_us=updated_us if closed else None,
                summary=str(_mapping(event["annotations"]).get("summary", "")),
            )
        )
    return sorted(found, key=lambda i: (not i.open, i.state != "pending", -i.started_us, i.name, i.about))


def _mapping(part: Any) -> Mapping[str, Any]:
    found = json.loads(part) if isinstance(part, str | bytes) else part
    return found if isinstance(found, dict) else {}
