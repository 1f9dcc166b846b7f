"""What receivers are told of an alert: who wants which event, and the bytes for each kind of receiver.

Core: the clock is an argument. Only the firing of an incident, its rise to critical and its end are told; that a window is
pending is not. `event_id` is the key by which a receiver drops what it was told before.
"""

from __future__ import annotations

import hmac
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Record: TypeAlias = "Mapping[str, Any]"
"""An alert event as `monitoring.alerts.Alert.record` makes it."""
Kind = Literal["alertmanager", "slack", "webhook"]

TIMESTAMP: Final = "X-Trading-ML-Timestamp"
SIGNATURE: Final = "X-Trading-ML-Signature"
KEY: Final = "Idempotency-Key"
ALERTS_PATH: Final = "/api/v2/alerts"
RESENDS_MISSED: Final = 4
"""An Alertmanager takes what fires for ended when it has not heard of it for so many resends, as with Prometheus."""

_SEVERITIES = ("warn", "critical")


@dataclass(frozen=True, slots=True)
class Notice:
    """One HTTP POST."""

    body: bytes
    headers: Mapping[str, str]


def told(record: Record) -> Literal["firing", "resolved"] | None:
    """What this event tells a receiver: that an incident fires, that it ended, or nothing.

    A pending alert that falls back has the state it had before, which may be `resolved`: its incident never fired.
    """
    if record["state"] == "firing":
        return "firing"
    ended = record["state"] == "resolved" and record["resolved_us"] == record["updated_us"]
    return "resolved" if ended else None


def wanted(record: Record, *, min_severity: str) -> bool:
    """Whether a receiver that wants alerts from this severity on is told of this event."""
    return told(record) is not None and _SEVERITIES.index(record["severity"]) >= _SEVERITIES.index(min_severity)


def alertmanager_body(records: Sequence[Record], *, now_us: int, resend_us: int) -> bytes:
    """The body of `POST /api/v2/alerts`. Severity is a label, so one that rises to critical ends the warning it was."""
    alerts = []
    for record in records:
        alerts.append(_alertmanager_alert(record, now_us=now_us, resend_us=resend_us))
        if told(record) == "firing" and record["severity"] == "critical" and record["updated_us"] > record["fired_us"]:
            ended = {**record, "state": "resolved", "severity": "warn", "resolved_us": record["updated_us"]}
            alerts.append(_alertmanager_alert(ended, now_us=now_us, resend_us=resend_us))
    return _json(alerts)


def notice(record: Record, *, kind: Kind, source: str, secret: bytes | None, now_us: int, resend_us: int) -> Notice:
    """One event for one receiver. `secret`: of a webhook, which signs with it; `source`: who says it."""
    headers = {"Content-Type": "application/json", KEY: record["event_id"]}
    if kind == "alertmanager":
        return Notice(alertmanager_body([record], now_us=now_us, resend_us=resend_us), headers)
    if kind == "slack":
        return Notice(_json({"text": _words(record)}), headers)
    body = cloud_event(record, source=source)
    headers["Content-Type"] = "application/cloudevents+json; charset=utf-8"
    if secret is not None:
        stamp = str(now_us // 1_000_000)
        headers |= {TIMESTAMP: stamp, SIGNATURE: signature(secret, timestamp=stamp, body=body)}
    return Notice(body, headers)


def cloud_event(record: Record, *, source: str) -> bytes:
    """The event as CloudEvents 1.0 in JSON; its data is the record of the alerts topic, its id the record's."""
    event = {
        "specversion": "1.0",
        "id": record["event_id"],
        "source": source,
        "type": f"trading-ml.alert.{record['state']}",
        "subject": record["fingerprint"],
        "time": _time(record["updated_us"]),
        "datacontenttype": "application/json",
        "data": record,
    }
    return _json(event)


def signature(secret: bytes, *, timestamp: str, body: bytes) -> str:
    """HMAC-SHA256 over `<timestamp>.<body>`, as the header says it.

    >>> signature(b"key", timestamp="1", body=b"{}")[:11]
    'v1=1ba6b817'
    """
    return "v1=" + hmac.new(secret, timestamp.encode() + b"." + body, "sha256").hexdigest()


def _alertmanager_alert(record: Record, *, now_us: int, resend_us: int) -> dict[str, Any]:
    # Event time may be a little ahead of the clock, or years behind it in a replay; Alertmanager goes by the clock.
    starts_us = min(record["fired_us"] if record["fired_us"] is not None else record["updated_us"], now_us)
    ends_us = now_us + RESENDS_MISSED * resend_us if told(record) == "firing" else min(record["resolved_us"], now_us)
    said = {"value": f"{record['value']:.6g}", "threshold": f"{record['threshold']:.6g}", "incident_id": record["incident_id"]}
    labels = {re.sub(r"^(?=[0-9])|[^A-Za-z0-9_]", "_", k): v for k, v in record["labels"].items() if v}
    return {
        "labels": labels | {"severity": record["severity"]},
        "annotations": {k: v for k, v in {**record["annotations"], **said}.items() if v},
        "startsAt": _time(starts_us),
        "endsAt": _time(max(starts_us, ends_us)),
    }


def _words(record: Record) -> str:
    """The alert for people, in Slack's markup."""
    head = f"*{record['state'].upper()}* ({record['severity']}) {record['labels'].get('alertname', '')}"
    about = ", ".join(f"{k}={v}" for k, v in sorted(record["labels"].items()) if k != "alertname")
    measured = f"value {record['value']:.4g}, threshold {record['threshold']:.4g}, {_time(record['updated_us'])}"
    lines = [head, record["annotations"].get("summary", ""), about, f"{measured}, incident {record['incident_id']}"]
    text = "\n".join(line for line in lines if line)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _time(us: int) -> str:
    """RFC 3339 in UTC.

    >>> _time(1_700_000_000_000_001)
    '2023-11-14T22:13:20.000001Z'
    """
    return f"{np.datetime_as_string(np.datetime64(us, 'us'), unit='us')}Z"


def _json(body: object) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
