"""Retrain requests: which alerts ask, one request a storm, also through restarts and replays, and what it says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.errors import StateError
from monitoring.retrain import DAY_US, MOST_ALERTS, MOST_REASONS, RetrainPolicy, RetrainState, decide_retrain
from tests.unit.monitoring import a_record

HOUR_US = 3_600_000_000


def event(k: int = 0, *, name: str = "feature_drift", severity: str = "critical", state: str = "firing") -> dict[str, Any]:
    return {
        "fingerprint": f"{k:016x}",
        "incident_id": f"{k + 1:016x}",
        "event_id": f"{k + 2:016x}",
        "labels": {"alertname": name, "column": f"c{k}"},
        "state": state,
        "severity": severity,
        "value": 0.3 + k / 1000,
        "threshold": 0.1,
        "annotations": {"summary": f"c{k} drifted"},
    }


def record(end_us: int, role: str = "champion", **parts: Any) -> dict[str, Any]:
    start_us = end_us - HOUR_US
    named = {"model": "m", "version": "3", "role": role, "window_start_us": start_us, "window_end_us": end_us}
    return {**named, "performance_id": f"m:3:{role}:{start_us}:{end_us}:0", "drift": None, "quality": None, **parts}


def decide(
    state: RetrainState | None, *fired: dict[str, Any], at_us: int = 0, role: str = "champion", **policy: Any
) -> tuple[RetrainState | None, dict[str, Any] | None]:
    return decide_retrain(state, fired=fired, record=record(at_us, role), now_us=at_us, policy=RetrainPolicy(**policy))


@pytest.mark.parametrize(
    ("fired", "asks"),
    [
        (event(), True),
        (event(name="prediction_drift"), True),
        (event(name="multivariate_drift"), True),
        (event(severity="warn"), False),
        (event(name="quality", severity="warn"), True),
        (event(name="concept_drift", severity="warn"), True),
        (event(name="label_coverage"), False),
        (event(name="input_silence"), False),
        (event(state="pending"), False),
        (event(state="resolved"), False),
    ],
)
def test_what_more_training_may_cure_asks_as_it_begins_to_fire(fired: dict[str, Any], asks: bool) -> None:  # noqa: FBT001
    state, request = decide(None, fired)
    assert (state is not None, request is not None) == (asks, asks)


def test_only_champions_ask_and_only_where_the_policy_lets_them() -> None:
    assert decide(None, event(), role="challenger") == (None, None)
    assert decide(None, event(), role="canary") == (None, None)
    assert decide(None, event(), enabled=False) == (None, None)
    quality: dict[str, Any] = {"when_critical": frozenset(), "always": frozenset({"quality"})}
    assert decide(None, event(), **quality) == (None, None)
    assert decide(None, event(name="quality"), **quality)[1] is not None


@pytest.mark.parametrize("restarts", [False, True])
def test_a_storm_is_one_request_and_the_next_says_how_many_asked_meanwhile(restarts: bool) -> None:  # noqa: FBT001
    state: RetrainState | None = None
    requests = []
    for k in range(1_000):  # over 20 hours
        state, request = decide(state, event(k), at_us=k * 72_000_000)
        requests += [request] if request is not None else []
        if restarts and state is not None:
            state = RetrainState.unpack(state.pack())
    assert [(r["requested_us"], r["asked"], r["suppressed"]) for r in requests] == [(0, 1, 0)]
    state, request = decide(state, event(1), event(2), at_us=DAY_US)
    assert request is not None
    assert (request["asked"], request["suppressed"]) == (2, 999)
    state, request = decide(state, event(1), at_us=2 * DAY_US)
    assert request is not None
    assert request["suppressed"] == 0


def test_one_window_full_of_alerts_is_one_request_of_bounded_size() -> None:
    _, request = decide(None, *(event(k) for k in range(1_000)))
    assert request is not None
    assert (request["asked"], len(request["evidence"]["alerts"]), len(request["reasons"])) == (
        1_000,
        MOST_ALERTS,
        MOST_REASONS + 1,
    )
    assert request["reasons"][0] == "feature_drift is critical: c999 drifted"
    assert request["reasons"][-1] == "990 more alerts asked in the same window"


WINDOWS = st.lists(st.tuples(st.integers(1, 10), st.integers(0, 3)), max_size=40)


@given(windows=WINDOWS, cooldown=st.integers(0, 15), restart=st.sets(st.integers(0, 40)))
def test_every_alert_that_asks_is_in_one_request_or_counted(
    windows: list[tuple[int, int]], cooldown: int, restart: set[int]
) -> None:
    state: RetrainState | None = None
    now, last, asked, told, suppressed = 0, None, 0, 0, 0
    for i, (step, alerts) in enumerate(windows):
        now += step
        if i in restart and state is not None:
            state = RetrainState.unpack(state.pack())
        before = state
        state, request = decide(state, *(event(k) for k in range(alerts)), at_us=now, cooldown_us=cooldown)
        # A replay of the window, from the state before it, says the same.
        assert decide(before, *(event(k) for k in range(alerts)), at_us=now, cooldown_us=cooldown) == (state, request)
        due = alerts > 0 and (last is None or now >= last + cooldown)
        assert (request is not None) == due
        asked += alerts
        if request is not None:
            assert request["requested_us"] == now
            last, told, suppressed = now, told + request["asked"], suppressed + request["suppressed"]
    assert asked == told + suppressed + (0 if state is None else state.suppressed)


def test_a_request_is_named_by_what_it_is_about_and_when() -> None:
    ids = {request["request_id"] for at in (1, 2) for request in (decide(None, event(), at_us=at)[1],) if request is not None}
    assert len(ids) == 2
    _, again = decide(RetrainState(requested_us=-DAY_US, suppressed=4), event(5), at_us=1)
    assert again is not None
    assert again["request_id"] in ids  # neither the alerts nor what was before name it


def test_it_carries_the_evidence() -> None:
    request = a_record.request()
    assert request["suppressed"] == 7
    assert [c["column"] for c in request["evidence"]["columns"]] == ["prediction", "ret_1", "open"]
    assert request["evidence"]["metrics"]["quality"]["rank_ic_se"] > 0
    assert "by_group" not in request["evidence"]["metrics"]["quality"]
    assert request["links"] == {
        "report": "trading-ml report --model goog_ret_5d --from 2024-10-01T12:00:00.000000Z --to 2024-10-04T00:00:00.000000Z",
        "model_version": "models:/goog_ret_5d/3",
    }
    assert len(request["evidence"]["alerts"]) == 2  # the lateness of rows did not ask


def test_numbers_that_cannot_be_told_are_none() -> None:
    column = {"name": "x", "verdict": "insufficient_data", "psi": float("nan"), "p_adjusted": None}
    full = record(0, drift={"columns": [column]}, quality={"ic": float("nan"), "rank_ic_over": "time", "rows": 3, "ok": True})
    _, request = decide_retrain(None, fired=[event()], record=full, now_us=0, policy=RetrainPolicy())
    assert request is not None
    assert request["evidence"]["columns"][0]["psi"] is None
    assert request["evidence"]["metrics"] == {"quality": {"ic": None, "rows": 3}, "estimate": None, "concept": None}


@pytest.mark.parametrize("data", [b"", b"\x02\x00\x92\x00\x00", b"\x01\x00", b"\x01\x00\x91\x00", b"\x01\x00\xc1"])
def test_another_layout_or_damage_is_refused(data: bytes) -> None:
    with pytest.raises(StateError, match="it starts afresh"):
        RetrainState.unpack(data)


def test_the_layout() -> None:
    assert RetrainState(requested_us=300, suppressed=7).pack().hex() == "010092cd012c07"
