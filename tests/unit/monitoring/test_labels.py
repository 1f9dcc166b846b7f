"""The join of predictions with outcomes, case by case."""

from __future__ import annotations

import math

import numpy as np
import pytest

from monitoring import labels as labelling
from monitoring.joined import Scorer
from monitoring.label_rows import Rows, Side
from monitoring.labels import Labels, Outcomes, Predictions, QualityRows
from monitoring.symbols import Symbols

CHAMPION = Scorer("m", "1", "champion")
CHALLENGER = CHAMPION._replace(role="challenger")
HORIZON = 10
PANE = 100
_offsets = iter(range(10**9))


def made(*, timeout_us: int = 1000, most: int = 1000) -> Labels:
    return Labels(timeout_us=timeout_us, pane_us=PANE, most=most)


def predict(labels: Labels, *symbols: str, ts: int = 100, revision: int = 0, value: float = 0.5, by: Scorer = CHAMPION) -> None:
    n = len(symbols) or 1
    numbers = {"value": value, "lower": value - 1, "upper": value + 1, "p_up": 0.6, "completeness": 0.75}
    block = Predictions.of(
        by,
        horizon_us=HORIZON,
        symbols=symbols or ["A"],
        ts_event_us=np.full(n, ts),
        revision=np.full(n, revision),
        **{name: np.full(n, x) for name, x in numbers.items()},
    )
    labels.add_predictions(block, source="log", offset=next(_offsets))


def realise(labels: Labels, *symbols: str, ts: int = 100, revision: int = 0, value: float = 2.0, horizon: int = HORIZON) -> None:
    n = len(symbols) or 1
    block = Outcomes(
        symbols=symbols or ["A"],
        ts_event_us=np.full(n, ts),
        horizon_us=np.full(n, horizon),
        revision=np.full(n, revision),
        value=np.full(n, value),
    )
    labels.add_outcomes(block, source="outcomes", offset=next(_offsets))


def rows(labels: Labels, by: Scorer = CHAMPION, *, start_us: int = -1, end_us: int = 10**6) -> QualityRows:
    return labels.rows(by, start_us=start_us, end_us=end_us)


def outcomes(labels: Labels, by: Scorer = CHAMPION) -> list[float | None]:
    return [None if math.isnan(o) else o for o in rows(labels, by).outcome.tolist()]


def test_either_side_may_come_first() -> None:
    for order in ("prediction first", "outcome first"):
        labels = made()
        if order == "prediction first":
            predict(labels)
            assert outcomes(labels) == [None]
            realise(labels)
        else:
            realise(labels)
            assert outcomes(labels) == []
            predict(labels)
        r = rows(labels)
        assert (r.symbols, r.symbol_codes.tolist(), r.ts_event_us.tolist(), len(r)) == (("A",), [0], [100], 1)
        assert (r.value[0], r.lower[0], r.upper[0], r.p_up[0], r.completeness[0]) == (0.5, -0.5, 1.5, 0.6, 0.75)
        assert r.outcome[0] == 2.0


def test_what_comes_again_changes_nothing_and_no_pane() -> None:
    labels = made()
    predict(labels)
    realise(labels)
    assert labels.take_changed(CHAMPION) == [0]
    predict(labels)
    realise(labels)
    realise(labels, value=9.0)
    assert outcomes(labels) == [2.0]
    assert labels.take_changed(CHAMPION) == []
    assert (labels.panes.many, labels.waiting) == (2, 0)


def test_a_higher_revision_takes_the_place_of_the_lower_whenever_it_comes() -> None:
    labels = made()
    predict(labels, revision=1, value=0.7)
    predict(labels, revision=0)
    realise(labels)
    assert labels.take_changed(CHAMPION) == [0]
    realise(labels, revision=2, value=3.0)
    realise(labels, revision=1, value=7.0)
    assert labels.take_changed(CHAMPION) == [0]
    assert (rows(labels).value.tolist(), outcomes(labels)) == ([0.7], [3.0])
    predict(labels, revision=2, value=0.8)
    assert labels.take_changed(CHAMPION) == [0]
    assert (rows(labels).value.tolist(), outcomes(labels)) == ([0.8], [3.0])


def test_only_panes_whose_rows_changed_are_told() -> None:
    labels = made()
    for ts in (100, 101, 350):
        predict(labels, ts=ts)
        predict(labels, ts=ts, by=CHALLENGER)
    assert labels.take_changed(CHAMPION) == [0, 1, 3]
    assert labels.take_changed(CHALLENGER) == [0, 1, 3]
    predict(labels, "B", ts=120, by=CHALLENGER)
    realise(labels, "B", ts=120)
    realise(labels, "never predicted", ts=99)
    realise(labels, ts=101, horizon=HORIZON + 1)
    realise(labels, ts=350)
    assert labels.take_changed(CHAMPION) == [3]
    assert labels.take_changed(CHALLENGER) == [1, 3]


def test_a_pane_asked_for_in_between_is_told_all_the_same() -> None:
    labels = made()
    predict(labels)
    assert labels.take_changed(CHAMPION) == [0]
    realise(labels)
    assert outcomes(labels) == [2.0]
    assert labels.take_changed(CHAMPION) == [0]


def test_scorers_meet_the_same_outcomes_apart() -> None:
    labels = made()
    predict(labels)
    predict(labels, by=CHALLENGER, value=0.1)
    realise(labels)
    assert (outcomes(labels), outcomes(labels, CHALLENGER)) == ([2.0], [2.0])
    labels.forget(CHALLENGER)
    assert (outcomes(labels), outcomes(labels, CHALLENGER)) == ([2.0], [])
    assert labels.take_changed(CHALLENGER) == []
    predict(labels, by=CHALLENGER, value=0.2)
    assert rows(labels, CHALLENGER).value.tolist() == [0.2]


def test_rows_are_in_order_of_time_and_name_and_panes_are_closed_at_their_end() -> None:
    labels = made()
    predict(labels, "B", ts=101)
    predict(labels, "C", "A", "B", ts=100)
    predict(labels, "A", ts=201)
    r = rows(labels, start_us=0, end_us=200)
    assert [r.symbols[c] for c in r.symbol_codes] == ["A", "B", "C", "B"]
    assert r.ts_event_us.tolist() == [100, 100, 100, 101]
    assert rows(labels, start_us=100, end_us=201).ts_event_us.tolist() == [101, 201]
    assert len(rows(labels, start_us=100, end_us=100)) == 0
    assert len(rows(labels, start_us=300, end_us=400)) == 0


def test_a_new_name_moves_no_row() -> None:
    labels = made()
    predict(labels, "C", "B")
    before = rows(labels)
    predict(labels, "A", ts=101)
    r = rows(labels, start_us=0, end_us=100)
    assert [r.symbols[c] for c in r.symbol_codes] == [before.symbols[c] for c in before.symbol_codes] == ["B", "C"]
    assert r.symbols == ("A", "B", "C")


def test_rows_that_were_given_away_cannot_be_written_to() -> None:
    labels = made()
    predict(labels)
    with pytest.raises(ValueError, match="read-only"):
        rows(labels, start_us=0, end_us=PANE).value[0] = 9.0
    with pytest.raises(ValueError, match="read-only"):
        rows(labels, start_us=0, end_us=PANE).outcome[0] = 9.0


def test_past_its_deadline_a_pane_is_given_up_once() -> None:
    labels = made()
    predict(labels, "A", "B", ts=1)
    realise(labels, "B", ts=1)
    last = PANE + HORIZON + 1000
    predict(labels, "A", ts=last)
    assert labels.advance() == {}
    assert (len(rows(labels)), labels.waiting) == (3, 2)
    predict(labels, "A", ts=last + 1)
    assert labels.advance() == {CHAMPION: 1}
    assert labels.advance() == {}
    predict(labels, "A", ts=100)
    realise(labels, "A", ts=1)
    assert labels.late_rows == 2
    assert rows(labels).ts_event_us.tolist() == [last, last + 1]
    assert labels.take_changed(CHAMPION) == [11]
    assert (labels.panes.many, labels.waiting, labels.evicted) == (2, 2, 0)


def test_what_nobody_asked_for_is_joined_before_it_is_given_up() -> None:
    labels = made(timeout_us=0)
    predict(labels, "A", "B", "C", ts=1)
    realise(labels, "B", ts=1)
    predict(labels, ts=PANE + HORIZON + 1)
    assert labels.advance() == {CHAMPION: 2}
    assert (labels.take_matured(), labels.panes.many, labels.waiting) == (1, 1, 1)


def test_matured_predictions_are_counted_once() -> None:
    labels = made()
    predict(labels, "A", "B")
    realise(labels)
    rows(labels)
    realise(labels, revision=1)
    rows(labels)
    assert (labels.take_matured(), labels.take_matured(), labels.waiting) == (1, 0, 1)


def test_beyond_its_bound_the_pane_of_the_earliest_deadline_goes() -> None:
    labels = made(most=2)
    for ts in (100, 300, 200):
        predict(labels, ts=ts)
    assert (labels.panes.many, labels.evicted, labels.waiting) == (2, 1, 2)
    realise(labels, ts=100)
    assert labels.late_rows == 1
    realise(labels, ts=200)
    assert (outcomes(labels), labels.evicted) == ([None], 3)
    assert labels.advance() == {CHAMPION: 1}, "the one at 200 had met its outcome"


def test_what_was_given_up_does_not_come_back_with_a_restart() -> None:
    labels = made(most=2)
    for ts in (100, 300, 200):
        predict(labels, ts=ts)
    labels.advance()
    again = Labels.restore(labels.journal.take_dirty(), timeout_us=1000, pane_us=PANE, most=1000)
    assert (again.faults, rows(again).ts_event_us.tolist(), again.late_rows) == ((), [200, 300], 0)
    predict(again, ts=100)
    assert (len(rows(again)), again.late_rows) == (2, 1)


def test_repeats_are_put_away_before_a_pane_goes() -> None:
    labels = made(most=10)
    predict(labels, ts=100)
    predict(labels, ts=200)
    for _ in range(20):
        predict(labels, ts=200)
    assert (labels.evicted, len(rows(labels)), labels.panes.many) == (0, 2, 2)


def test_of_rows_that_contradict_each_other_the_first_holds_however_many_there_are() -> None:
    labels = made()
    ts, value = np.tile([100, 101], 200), np.arange(400.0)
    said = dict.fromkeys(("value", "lower", "upper", "p_up", "completeness"), value)
    block = Predictions.of(CHAMPION, horizon_us=HORIZON, symbols=["A"] * 400, ts_event_us=ts, revision=ts * 0, **said)
    labels.add_predictions(block, source="log", offset=next(_offsets))
    assert rows(labels).value.tolist() == [0.0, 1.0]


def test_many_small_pieces_become_few() -> None:
    side, symbols = Side(0, 2000), Symbols(["A", "B"])
    for n in range(3000):
        side.add(Rows(np.array([[n // 2], [0], [1 - n % 2]]), np.array([[float(n)]])))
        assert len(side._pieces) <= 32
    assert side.merge(symbols)
    assert side.table is not None
    assert side.table.floats[0].tolist() == [n ^ 1 for n in range(3000)]
    assert not side.merge(symbols)


def test_names_without_rows_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelling, "_ODD_SYMBOLS", 20)
    labels = made(timeout_us=0, most=40)
    for ts in range(1, 3001):
        predict(labels, f"S{ts}", "ZZ", ts=ts)
        realise(labels, f"S{ts}", "ZZ", ts=ts, value=ts)
        labels.advance()
        assert len(rows(labels, start_us=0).symbols) <= 2 * 40 + 20 + 2
    r = rows(labels)
    assert [r.symbols[c] for c in r.symbol_codes] == [s for t in r.ts_event_us.tolist()[::2] for s in (f"S{t}", "ZZ")]
    assert r.outcome.tolist() == r.ts_event_us.tolist()


def test_bounds_are_checked() -> None:
    with pytest.raises(ValueError, match="most 0 must be positive"):
        Labels(timeout_us=1, pane_us=1, most=0)
