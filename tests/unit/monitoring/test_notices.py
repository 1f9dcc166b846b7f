"""The bytes that receivers get: what is told at all, each kind's form, the signature."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from monitoring.alerts import AlertPolicy, Observation, decide, withdraw
from monitoring.notices import alertmanager_body, cloud_event, notice, signature, told, wanted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from monitoring.notices import Kind

NOW_US = 1_700_000_000_000_000
MINUTE_US = 60_000_000
LABELS = {"alertname": "feature_drift", "model": "m", "column": "ret-1", "1st": "x"}


def life(values: Sequence[float], *, windows: int = 2, cooldown_us: int = 0) -> list[dict[str, Any]]:
    """The events of one alert that is seen with these values, a minute apart."""
    state: Any = {}
    events: list[dict[str, Any]] = []
    policy = AlertPolicy(pending_windows=windows, cooldown_us=cooldown_us)
    for n, value in enumerate(values):
        severity: Any = "critical" if value > 1 else "warn"
        said = f"PSI <{value}> & more"
        seen = Observation(labels=LABELS, value=value, raise_at=0.1, clear_at=0.05, severity=severity, summary=said)
        state, new = decide(state, [seen], NOW_US - 100 * MINUTE_US + n * MINUTE_US, policy=policy)
        events += new
    return events


def test_only_the_firing_of_an_incident_its_rise_and_its_end_are_told() -> None:
    # pending, firing, critical, resolved; then pending and back, which leaves `resolved` standing but ends no incident
    events = life([0.2, 0.3, 2.0, 0.01, 0.2, 0.01])
    assert [e["state"] for e in events] == ["pending", "firing", "firing", "resolved", "pending", "resolved"]
    assert [told(e) for e in events] == [None, "firing", "firing", "resolved", None, None]
    assert [wanted(e, min_severity="critical") for e in events] == [False, False, True, True, False, False]


def test_an_alert_withdrawn_is_told_as_resolved() -> None:
    state: Any = {}
    seen = Observation(labels=LABELS, value=1.0, raise_at=0.1, clear_at=0.05)
    state, _ = decide(state, [seen], 1, policy=AlertPolicy(pending_windows=1))
    _, events = withdraw(state, list(state), 2, reason="gone")
    assert [told(e) for e in events] == ["resolved"]


def body(record: dict[str, Any], kind: Kind, **changes: Any) -> Any:
    made = notice(record, kind=kind, source="/g", secret=None, now_us=changes.get("now_us", NOW_US), resend_us=MINUTE_US)
    assert made.headers["Idempotency-Key"] == record["event_id"]
    return json.loads(made.body)


def test_an_alertmanager_hears_that_it_fires_until_after_four_resends_and_when_it_ended() -> None:
    _, firing, resolved = life([0.2, 0.3, 0.01])
    [one] = body(firing, "alertmanager")
    assert one["labels"] == {"alertname": "feature_drift", "model": "m", "column": "ret-1", "_1st": "x", "severity": "warn"}
    assert one["startsAt"] == "2023-11-14T20:34:20.000000Z"
    assert one["endsAt"] == "2023-11-14T22:17:20.000000Z"
    [end] = body(resolved, "alertmanager")
    assert end["labels"] == one["labels"]
    assert end["startsAt"] == one["startsAt"]
    assert end["endsAt"] == "2023-11-14T20:35:20.000000Z"
    early = body(resolved, "alertmanager", now_us=0)  # event time ahead of the clock
    assert early[0]["startsAt"] == early[0]["endsAt"] == "1970-01-01T00:00:00.000000Z"


def test_one_that_rises_to_critical_ends_the_warning_it_was() -> None:
    _, _, critical = life([0.2, 0.3, 2.0])
    alerts = json.loads(alertmanager_body([critical], now_us=NOW_US, resend_us=MINUTE_US))
    assert [(a["labels"]["severity"], a["endsAt"] > "2023-11-14T22:13:20") for a in alerts] == [
        ("critical", True),
        ("warn", False),
    ]
    _, at_once = life([2.0, 2.0])
    assert len(json.loads(alertmanager_body([at_once], now_us=NOW_US, resend_us=MINUTE_US))) == 1


def test_slack_gets_words_in_which_nothing_is_markup() -> None:
    _, firing = life([0.2, 0.3])
    text = body(firing, "slack")["text"]
    assert text.startswith("*FIRING* (warn) feature_drift\nPSI &lt;0.3&gt; &amp; more\n")
    assert "column=ret-1" in text
    assert firing["incident_id"] in text


def test_a_webhook_gets_a_cloud_event_with_the_record_of_the_topic_signed() -> None:
    _, firing = life([0.2, 0.3])
    made = notice(firing, kind="webhook", source="/g", secret=b"key", now_us=NOW_US, resend_us=1)
    assert made.body == cloud_event(firing, source="/g")
    event = json.loads(made.body)
    assert event.pop("data") == firing
    assert event == {
        "specversion": "1.0",
        "id": firing["event_id"],
        "source": "/g",
        "type": "trading-ml.alert.firing",
        "subject": firing["fingerprint"],
        "time": "2023-11-14T20:34:20.000000Z",
        "datacontenttype": "application/json",
    }
    assert made.headers["X-Trading-ML-Timestamp"] == "1700000000"
    assert made.headers["X-Trading-ML-Signature"] == signature(b"key", timestamp="1700000000", body=made.body)
    assert signature(b"key", timestamp="1700000001", body=made.body) != made.headers["X-Trading-ML-Signature"]
