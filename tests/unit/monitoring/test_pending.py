"""The join of predictions with outcomes, case by case."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from monitoring.joined import Matured, Scorer
from monitoring.pending import Pending

HORIZON = 10


def predict(
    pending: Pending, symbol: str = "A", *, ts: int = 100, revision: int = 0, value: float = 0.5, role: str = "champion"
) -> list[Matured]:
    one: dict[str, Any] = {
        name: np.array([value + shift]) for name, shift in [("value", 0), ("lower", -1), ("upper", 1), ("p_up", 0)]
    }
    return pending.add_predictions(
        Scorer("m", "1", role),
        prediction_ids=[f"m:1:{symbol}:{ts}:{revision}"],
        symbols=[symbol],
        ts_event_us=np.array([ts]),
        horizon_us=HORIZON,
        revision=np.array([revision]),
        **one,
    )


def realise(pending: Pending, symbol: str = "A", *, ts: int = 100, revision: int = 0, value: float = 2.0) -> list[Matured]:
    return pending.add_outcomes(
        symbols=[symbol],
        ts_event_us=np.array([ts]),
        horizon_us=np.array([HORIZON]),
        value=np.array([value]),
        revision=np.array([revision]),
    )


def test_either_side_may_come_first() -> None:
    for first, second in [(predict, realise), (realise, predict)]:
        pending = Pending(timeout_us=1000)
        assert first(pending) == []
        (m,) = second(pending)
        assert m.scorer == Scorer("m", "1", "champion")
        assert (m.prediction_ids, m.symbols, m.ts_event_us.tolist(), m.horizon_us) == (("m:1:A:100:0",), ("A",), [100], 10)
        assert (m.value[0], m.lower[0], m.upper[0], m.p_up[0], m.outcome[0]) == (0.5, -0.5, 1.5, 0.5, 2.0)
        assert m.revised.tolist() == [False]


def test_a_replay_of_either_side_gives_nothing() -> None:
    pending = Pending(timeout_us=1000)
    predict(pending)
    assert len(realise(pending)) == 1
    assert predict(pending) == []
    assert realise(pending) == []
    assert realise(pending, revision=0, value=9.0) == []


def test_a_revised_outcome_gives_its_rows_again() -> None:
    pending = Pending(timeout_us=1000)
    predict(pending)
    realise(pending)
    (m,) = realise(pending, revision=2, value=3.0)
    assert (m.outcome.tolist(), m.outcome_revision.tolist(), m.revised.tolist()) == ([3.0], [2], [True])
    assert realise(pending, revision=1, value=7.0) == []


def test_a_revised_prediction_takes_the_place_of_the_first() -> None:
    pending = Pending(timeout_us=1000)
    predict(pending)
    predict(pending, revision=1, value=0.7)
    (m,) = realise(pending)
    assert (m.prediction_ids, m.value.tolist(), m.revised.tolist()) == (("m:1:A:100:1",), [0.7], [False])
    (again,) = predict(pending, revision=2, value=0.8)
    assert (again.value.tolist(), again.revised.tolist()) == ([0.8], [True])
    assert predict(pending, revision=1) == []


def test_roles_mature_apart() -> None:
    pending = Pending(timeout_us=1000)
    predict(pending)
    predict(pending, role="challenger")
    assert [m.scorer.role for m in realise(pending)] == ["champion", "challenger"]


def test_past_its_deadline_a_prediction_is_unlabelled_once() -> None:
    pending = Pending(timeout_us=1000)
    predict(pending, "A")
    predict(pending, "B")
    realise(pending, "B")
    pending.expire(1110)
    assert len(pending) == 2
    pending.expire(1111)
    assert len(pending) == 0
    assert predict(pending, "A") == []
    assert realise(pending, "A") == []
    assert pending.late_rows == 2
    assert pending.take_unlabelled() == {Scorer("m", "1", "champion"): 1}
    assert pending.take_unlabelled() == {}


def test_beyond_its_bound_the_earliest_deadline_goes() -> None:
    pending = Pending(timeout_us=1000, most=2)
    for ts in (100, 300, 200):
        predict(pending, ts=ts)
    assert (len(pending), pending.evicted) == (2, 1)
    assert realise(pending, ts=100) == []
    assert len(realise(pending, ts=200)) == 1
    assert sum(pending.take_unlabelled().values()) == 1


def test_bounds_are_checked() -> None:
    with pytest.raises(ValueError, match="most 0 must be positive"):
        Pending(timeout_us=1, most=0)
