"""The life of an alert, step by step; and rebuilt from its events."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.alerts import Alert, AlertPolicy, Observation, decide, fingerprint, rebuild, withdraw
from monitoring.errors import StateError

LABELS = {"alertname": "feature_drift", "model": "m", "column": "ret_1"}
POLICY = AlertPolicy(pending_windows=2, cooldown_us=100)


def seen(value: float, **changes: Any) -> Observation:
    usual: dict[str, Any] = {"labels": LABELS, "raise_at": 0.1, "clear_at": 0.08}
    return Observation(**(usual | changes), value=value)


class Life:
    """Feeds one observation a window, 10 us apart, and keeps what came out."""

    def __init__(self, policy: AlertPolicy = POLICY) -> None:
        self.policy, self.now_us = policy, 0
        self.state: dict[str, Alert] = {}
        self.events: list[dict[str, Any]] = []

    def see(self, *values: float, **changes: Any) -> list[str]:
        states = []
        for value in values:
            self.now_us += 10
            self.state, events = decide(self.state, [seen(value, **changes)], self.now_us, policy=self.policy)
            states += [e["state"] for e in events]
            self.events += events
        return states


def test_it_fires_after_k_windows_and_resolves_below_the_clear_threshold() -> None:
    life = Life()
    assert life.see(0.05, 0.2) == ["pending"]
    assert life.see(0.2) == ["firing"]
    assert life.see(0.3, 0.09, 0.09) == []
    assert life.see(0.07) == ["resolved"]
    assert len({e["incident_id"] for e in life.events}) == 1
    assert (life.events[-1]["started_us"], life.events[-1]["fired_us"], life.events[-1]["resolved_us"]) == (20, 30, 70)


def test_a_single_window_over_goes_back() -> None:
    life = Life()
    assert life.see(0.2, 0.05, 0.2, 0.05) == ["pending", "inactive", "pending", "inactive"]


def test_with_one_window_it_fires_at_once() -> None:
    assert Life(AlertPolicy(pending_windows=1)).see(0.2) == ["firing"]


def test_what_is_not_significant_neither_raises_nor_clears() -> None:
    life = Life()
    assert life.see(0.5, 0.5, significant=False) == []
    life.see(0.2, 0.2)
    assert life.see(0.5, significant=False) == []


def test_it_becomes_critical_and_never_milder() -> None:
    life = Life()
    life.see(0.2, 0.2)
    assert life.see(0.3, severity="critical") == ["firing"]
    assert life.see(0.2, 0.3) == []
    assert life.events[-1]["severity"] == "critical"
    assert life.events[-1]["incident_id"] == life.events[0]["incident_id"]


def test_within_the_cooldown_it_stays_pending() -> None:
    life = Life()
    life.see(0.2, 0.2, 0.0)
    assert life.see(0.2, 0.2, 0.2) == ["pending"] * 3
    life.now_us = 120
    assert life.see(0.2) == ["firing"]


def test_back_from_pending_the_cooldown_still_holds() -> None:
    life = Life()
    life.see(0.2, 0.2, 0.0)
    assert life.see(0.2, 0.0) == ["pending", "resolved"]
    assert life.see(0.2, 0.2) == ["pending", "pending"]


def test_small_values_are_bad_when_the_thresholds_say_so() -> None:
    life = Life()
    low = {"raise_at": 0.5, "clear_at": 0.6}
    assert life.see(0.7, 0.5, 0.4, 0.55, 0.61, **low) == ["pending", "firing", "resolved"]


def test_a_replayed_window_changes_nothing() -> None:
    life = Life()
    life.see(0.2)
    for now_us in (10, 9):
        state, events = decide(life.state, [seen(0.2)], now_us, policy=POLICY)
        assert (state, events) == (life.state, [])


def test_state_is_rebuilt_from_the_events_and_from_the_last_of_each() -> None:
    life = Life()
    life.see(0.2, 0.2, 0.09, 0.0, 0.2, 0.0, 0.2)
    life.see(0.2, labels={"alertname": "other"})
    kept = json.loads(json.dumps(life.events, allow_nan=False))
    assert rebuild(kept) == life.state
    compacted = {e["fingerprint"]: e for e in kept}
    assert rebuild(compacted.values()) == life.state


def test_what_another_alert_explains_cannot_raise_but_clears() -> None:
    life = Life()
    assert life.see(0.2, 0.2, 0.2, inhibited=True) == []
    life.see(0.2, 0.2)
    assert life.see(0.9, severity="critical", inhibited=True) == []
    assert life.see(0.05, inhibited=True) == ["resolved"]


def test_windows_before_and_after_an_inhibited_one_are_not_in_a_row() -> None:
    life = Life()
    assert life.see(0.2) == ["pending"]
    assert life.see(0.2, inhibited=True) == ["inactive"]
    assert life.see(0.2, inhibited=True) == []
    assert life.see(0.2, 0.2) == ["pending", "firing"]


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.09, 0.2, 0.5]), st.booleans()), max_size=30), st.integers(1, 3))
def test_no_alert_rises_in_an_inhibited_window(windows: list[tuple[float, bool]], pending_windows: int) -> None:
    life = Life(AlertPolicy(pending_windows=pending_windows, cooldown_us=25))
    in_a_row = 0
    for value, inhibited in windows:
        states = life.see(value, inhibited=inhibited)
        in_a_row = 0 if inhibited or value < 0.08 else in_a_row + (value >= 0.1)
        assert not inhibited or not {"pending", "firing"} & set(states)
        assert "firing" not in states or in_a_row >= pending_windows


def test_a_rules_own_policy_goes_before_the_usual_one() -> None:
    life = Life()
    assert life.see(0.2, policy=AlertPolicy(pending_windows=1, cooldown_us=10)) == ["firing"]
    assert life.see(0.0) == ["resolved"]
    assert life.see(0.2, policy=AlertPolicy(pending_windows=1, cooldown_us=10)) == ["firing"]
    slow = AlertPolicy(pending_windows=3)
    assert Life().see(0.2, 0.2, 0.2, policy=slow) == ["pending", "pending", "firing"]


def test_ids_are_made_of_what_happened() -> None:
    one, two = Life(), Life()
    one.see(0.2, 0.2, 0.0)
    two.see(0.2, 0.2, 0.0)
    assert one.events == two.events
    assert len({e["event_id"] for e in one.events}) == 3
    assert one.events[0]["fingerprint"] == fingerprint(dict(reversed(LABELS.items())))
    assert len(fingerprint(LABELS)) == 16


def test_an_alert_nothing_will_observe_again_is_withdrawn() -> None:
    life = Life()
    life.see(0.2, 0.2)
    state, events = withdraw(life.state, list(life.state), 40, reason="version 1 serves no more")
    assert [e["state"] for e in events] == ["resolved"]
    assert events[0]["annotations"]["summary"] == "version 1 serves no more"
    assert withdraw(state, list(state), 50, reason="again")[1] == []


def test_a_foreign_record_is_refused() -> None:
    life = Life()
    life.see(0.2)
    with pytest.raises(StateError, match="has schema 7"):
        rebuild([life.events[0] | {"schema_version": 7}])
