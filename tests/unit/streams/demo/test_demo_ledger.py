"""The books, case by case, and in any order of reading."""

from __future__ import annotations

import random

import pytest

from streams.demo.ledger import FeatureHead, Ledger, Place, PredictionHead


def row(offset: int = 0, *, symbol: str = "A", feature_set: str = "bars", at: int = 5) -> tuple[FeatureHead, int]:
    return FeatureHead(symbol, feature_set, at), offset


def prediction(offset: int = 0, *, name: str = "m:1:A:5:0", abstained: bool = False) -> PredictionHead:
    value = None if abstained else 0.1
    return PredictionHead(name, "A", "1", 5, value, 0.0, 1.0, 0.5, "00", Place(0, offset), abstained)


def books(*rows: tuple[FeatureHead, int]) -> Ledger:
    ledger = Ledger(trigger="bars")
    for head, offset in rows:
        ledger.feature(head, partition=0, offset=offset, logged_ms=100)
    return ledger


def test_one_prediction_settles_a_trigger_row() -> None:
    ledger = books(row(), row(1, feature_set="slow"))
    assert (ledger.rows, ledger.triggers, ledger.open) == (2, 1, 1)
    ledger.prediction(prediction(), b"body", logged_ms=107)
    assert (ledger.open, ledger.latency_ms, ledger.version, ledger.close()) == (0, [7], "1", [])


def test_an_abstention_settles_too() -> None:
    ledger = books(row())
    ledger.prediction(prediction(abstained=True), b"body", logged_ms=100)
    assert (ledger.abstained, ledger.close()) == (1, [])


def test_a_rejected_row_is_settled_with_its_reason() -> None:
    ledger = books(row())
    ledger.reject(partition=0, offset=0, why="too far in the future")
    ledger.reject(partition=0, offset=0, why="too far in the future")
    assert (ledger.open, ledger.rejected, ledger.repeated, ledger.reasons) == (0, 1, 1, ["too far in the future"])
    assert ledger.close() == []


def test_the_same_id_again_must_have_the_same_content() -> None:
    ledger = books(row())
    for body in (b"body", b"body", b"other"):
        ledger.prediction(prediction(), body, logged_ms=100)
    assert ledger.repeated == 1
    assert ledger.close() == ["prediction m:1:A:5:0 came twice with different content"]


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (prediction(name="m:2:A:5:0"), "one row has two predictions: m:1:A:5:0 and m:2:A:5:0"),
        (prediction(name="m:1:B:5:0"), "prediction m:1:B:5:0 names the row:A:5:0 as its source"),
        (prediction(1, name="m:1:A:5:0"), "has a row as its source that asks for none"),
    ],
)
def test_a_prediction_that_contradicts_the_log_is_a_fault(second: PredictionHead, words: str) -> None:
    ledger = books(row(), row(1, feature_set="slow"))
    ledger.prediction(prediction(), b"body", logged_ms=100)
    ledger.prediction(second, b"body", logged_ms=100)
    (fault,) = ledger.close()
    assert words in fault


@pytest.mark.parametrize("rejected_first", [True, False])
def test_a_row_is_not_both_predicted_and_rejected(*, rejected_first: bool) -> None:
    ledger = books(row())
    if rejected_first:
        ledger.reject(partition=0, offset=0, why="x")
    ledger.prediction(prediction(), b"body", logged_ms=100)
    if not rejected_first:
        ledger.reject(partition=0, offset=0, why="x")
    assert "rejected" in ledger.close()[0]


def test_a_lost_row_is_named() -> None:
    assert books(row(), row(1, at=6)).close() == ["2 of 2 trigger rows have no prediction, among them A:5:0"]


def test_an_answer_to_no_row_is_a_fault() -> None:
    ledger = books()
    ledger.prediction(prediction(3), b"body", logged_ms=100)
    assert "not in the features topic" in ledger.close()[0]


def test_the_order_of_reading_changes_nothing() -> None:
    events = (
        [("row", n) for n in range(20)] + [("prediction", n) for n in range(0, 20, 2)] + [("reject", n) for n in range(1, 20, 2)]
    )
    for seed in range(5):
        random.Random(seed).shuffle(events)  # noqa: S311 - any order will do
        ledger = books()
        for kind, n in events:
            if kind == "row":
                ledger.feature(FeatureHead("A", "bars", n), partition=0, offset=n, logged_ms=0)
            elif kind == "prediction":
                ledger.prediction(prediction(n, name=f"m:1:A:{n}:0"), b"", logged_ms=1)
            else:
                ledger.reject(partition=0, offset=n, why="x")
        assert (ledger.open, ledger.rejected, len(ledger.predictions), ledger.close()) == (0, 10, 10, [])


def test_many_faults_are_counted_and_twenty_told() -> None:
    ledger = books()
    for n in range(25):
        ledger.fault(f"fault {n}")
    assert len(ledger.close()) == 21
    assert ledger.close()[-1] == "and 5 further faults"
