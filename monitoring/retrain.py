"""When a model version should be trained anew, and on what evidence: from alerts that began to fire to a request. Core.

No clock: a request's time is the end of the window that led to it, event time. After a request nothing is asked for
`cooldown_us`; alerts that would have asked meanwhile are counted, and the next request says how many they were. So a
storm of alerts is one request.

| alert                                                | asks when it begins to fire           |
|------------------------------------------------------|---------------------------------------|
| `feature_drift`, `prediction_drift`, `multivariate_drift` | as critical, or when it rises to that |
| `concept_drift`, `quality`                           | always                                |
| any other (silence, labels, lateness, refusals)       | never: no training would cure it      |

Packed state: u16 layout number, then MessagePack of (requested_us, suppressed).
"""

from __future__ import annotations

import hashlib
import json
import math
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import msgspec
import numpy as np

from monitoring.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SCHEMA_VERSION = 1
"""Number of the request's schema."""
LAYOUT = 1
"""Number of the packed state's layout."""
DAY_US = 86_400_000_000
MOST_COLUMNS = 10
MOST_REASONS = 10
MOST_ALERTS = 100

_VERDICTS = ("insufficient_data", "stable", "warn", "critical")
_OF_A_COLUMN = ("psi", "p_adjusted", "rows", "effective_rows", "missing_rate", "missing_rate_trained", "below_rate", "above_rate")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainPolicy:
    """`cooldown_us`: least event time between two requests. `when_critical`, `always`: names of the alerts that ask."""

    enabled: bool = True
    cooldown_us: int = DAY_US
    when_critical: frozenset[str] = frozenset({"feature_drift", "prediction_drift", "multivariate_drift"})
    always: frozenset[str] = frozenset({"concept_drift", "quality"})

    def asks(self, event: Mapping[str, Any]) -> bool:
        """Whether this alert event asks for a new training: it began to fire, or rose to critical."""
        if not self.enabled or event["state"] != "firing":
            return False
        name = event["labels"].get("alertname")
        return name in self.always or (name in self.when_critical and event["severity"] == "critical")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainState:
    """The last request of one champion, and how many alerts asked since."""

    requested_us: int
    suppressed: int = 0

    def pack(self) -> bytes:
        """As bytes."""
        return LAYOUT.to_bytes(2, "little") + msgspec.msgpack.encode((self.requested_us, self.suppressed))

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read `pack`'s bytes. Raises `StateError` on another layout or damage."""
        found = int.from_bytes(data[:2], "little")
        if found != LAYOUT:
            raise StateError(f"the state of retrain requests has layout {found}, this version reads {LAYOUT}; it starts afresh")
        try:
            requested_us, suppressed = msgspec.msgpack.decode(data[2:], type=tuple[int, int])
        except msgspec.MsgspecError as e:
            raise StateError(f"the state of retrain requests cannot be read ({e}); it starts afresh") from e
        return cls(requested_us=requested_us, suppressed=suppressed)


def decide_retrain(
    state: RetrainState | None,
    *,
    fired: Sequence[Mapping[str, Any]],
    record: Mapping[str, Any],
    now_us: int,
    policy: RetrainPolicy,
) -> tuple[RetrainState | None, dict[str, Any] | None]:
    """The state after one window, and the request if there is one. Only for a champion's windows; for others nothing changes.

    `fired`: the window's alert events in any order, of which only those count that began to fire or rose to critical;
    `record`: the window's performance record; `now_us`: its end.

    >>> alert = {"state": "firing", "severity": "warn", "value": 0.4, "threshold": 1.0, "labels": {"alertname": "concept_drift"}}
    >>> alert |= {"fingerprint": "f", "incident_id": "i", "event_id": "e", "annotations": {"summary": "errors grew"}}
    >>> window = {"model": "m", "version": "3", "role": "champion", "window_start_us": 0, "window_end_us": 60}
    >>> window |= {"performance_id": "m:3:champion:0:60:0"}
    >>> state, request = decide_retrain(None, fired=[alert], record=window, now_us=60, policy=RetrainPolicy())
    >>> request["reasons"], request["suppressed"]
    (['concept_drift is warn: errors grew'], 0)
    >>> state, request = decide_retrain(state, fired=[alert, alert], record=window, now_us=90, policy=RetrainPolicy())
    >>> state.suppressed, request
    (2, None)
    """
    asking = sorted((e for e in fired if policy.asks(e)), key=_worst_first) if record["role"] == "champion" else []
    if not asking:
        return state, None
    if state is not None and now_us < state.requested_us + policy.cooldown_us:
        return RetrainState(requested_us=state.requested_us, suppressed=state.suppressed + len(asking)), None
    suppressed = 0 if state is None else state.suppressed
    return RetrainState(requested_us=now_us), _request(asking, record, now_us, suppressed=suppressed)


def _request(asking: Sequence[Mapping[str, Any]], record: Mapping[str, Any], now_us: int, *, suppressed: int) -> dict[str, Any]:
    names = {name: record[name] for name in ("model", "version", "role")}
    what = json.dumps([*names.values(), now_us], separators=(",", ":")).encode()
    parts = {part: _numbers(record.get(part)) for part in ("quality", "estimate", "concept")}
    return {
        "schema_version": SCHEMA_VERSION,
        "request_id": hashlib.sha256(what).hexdigest()[:16],
        **names,
        "requested_us": now_us,
        "reasons": _reasons(asking),
        "evidence": {
            "performance_id": record["performance_id"],
            "window_start_us": record["window_start_us"],
            "window_end_us": record["window_end_us"],
            "columns": _worst_columns(record.get("drift")),
            "metrics": parts,
            "alerts": [{name: e[name] for name in ("fingerprint", "incident_id", "event_id")} for e in asking[:MOST_ALERTS]],
        },
        "links": {
            "report": _report_command(record),
            "model_version": f"models:/{record['model']}/{record['version']}",
        },
        "asked": len(asking),
        "suppressed": suppressed,
    }


def _worst_first(event: Mapping[str, Any]) -> tuple[bool, float, str]:
    """Critical before warn, then by how far beyond the threshold in its own measure, then by name."""
    over = abs(event["value"] - event["threshold"]) / max(abs(event["threshold"]), 1e-12)
    return event["severity"] != "critical", -over, event["fingerprint"]


def _reasons(asking: Sequence[Mapping[str, Any]]) -> list[str]:
    said = [_reason(event) for event in asking[:MOST_REASONS]]
    more = len(asking) - len(said)
    return said + ([f"{more} more alerts asked in the same window"] if more else [])


def _reason(event: Mapping[str, Any]) -> str:
    measured = f"{event['value']:.4g}, threshold {event['threshold']:.4g}"
    return f"{event['labels']['alertname']} is {event['severity']}: {event['annotations'].get('summary') or measured}"


def _worst_columns(drift: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    columns: Iterable[Mapping[str, Any]] = () if drift is None else drift["columns"]
    ordered = sorted(columns, key=lambda c: (-_VERDICTS.index(c["verdict"]), -(_finite(c["psi"]) or 0.0), c["name"]))
    return [
        {"column": c["name"], "verdict": c["verdict"], **{name: _finite(c.get(name)) for name in _OF_A_COLUMN}}
        for c in ordered[:MOST_COLUMNS]
    ]


def _numbers(part: Mapping[str, Any] | None) -> dict[str, float | None] | None:
    """The numbers of a part of the record, with their standard errors; what is broken down further is left to the record."""
    if part is None:
        return None
    return {
        name: _finite(value)
        for name, value in part.items()
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _report_command(record: Mapping[str, Any]) -> str:
    """The command line that shows people the window."""
    start, end = (_moment(record[bound]) for bound in ("window_start_us", "window_end_us"))
    return f"trading-ml report --model {shlex.quote(record['model'])} --from {start} --to {end}"


def _moment(us: int) -> str:
    """RFC 3339 in UTC, as the command line takes it.

    >>> _moment(1_700_000_000_000_001)
    '2023-11-14T22:13:20.000001Z'
    """
    return f"{np.datetime_as_string(np.datetime64(us, 'us'), unit='us')}Z"
