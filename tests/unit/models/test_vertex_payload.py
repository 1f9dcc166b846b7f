"""Vectors to requests and answers back: every bit kept, every request within its limit, every row in exactly one."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from models.errors import EndpointUnavailable, UnsendableVector
from models.vertex_payload import MAX_ROWS, Batch, read_answer, request_batches
from models.vertex_rules import BASE_S, CAP_S, Breaker, retry_pause_s

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 6))
VECTORS = arrays.arrays(np.float64, SHAPES, elements=st.floats(allow_infinity=False, allow_nan=True))


@given(VECTORS, st.integers(200, 2000))
def test_requests_hold_all_rows_in_order_bit_for_bit_within_the_limit(values: np.ndarray, max_bytes: int) -> None:
    batches = request_batches(values, max_bytes=max_bytes)
    assert [b.start for b in batches] + [len(values)] == [0, *(b.stop for b in batches)]
    assert all(len(b.body) <= max_bytes for b in batches)
    rows = [row for b in batches for row in json.loads(b.body)["instances"]]
    back = np.array(rows, dtype=np.float64).reshape(values.shape)
    missing = np.isnan(values)
    assert (np.isnan(back) == missing).all()
    assert back[~missing].tobytes() == values[~missing].tobytes()


@given(VECTORS, st.integers(200, 2000))
def test_no_request_could_have_taken_the_next_row_too(values: np.ndarray, max_bytes: int) -> None:
    batches = request_batches(values, max_bytes=max_bytes)
    for batch, following in itertools.pairwise(batches):
        first = json.loads(following.body)["instances"][0]
        written = min(len(b.body) for b in request_batches(values[following.start : following.start + 1], max_bytes=max_bytes))
        assert len(first) == values.shape[1]
        assert len(batch.body) + written - len('{"instances":[]}') + 1 > max_bytes


def test_rows_are_bounded_so_that_the_answer_fits_too() -> None:
    batches = request_batches(np.zeros((2 * MAX_ROWS + 1, 1)))
    assert [b.stop - b.start for b in batches] == [MAX_ROWS, MAX_ROWS, 1]


def test_no_rows_are_no_request() -> None:
    assert request_batches(np.empty((0, 3))) == []


@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_an_infinity_is_refused(bad: float) -> None:
    with pytest.raises(UnsendableVector, match="infinity"):
        request_batches(np.array([[0.0, bad]]))


def test_a_row_longer_than_a_request_is_refused() -> None:
    with pytest.raises(UnsendableVector, match=r"a vector of 50 columns takes 201 bytes, a request at most 200"):
        request_batches(np.full((1, 50), 0.5), max_bytes=200)
    assert request_batches(np.full((1, 50), 0.5), max_bytes=217) == [
        Batch(0, 1, b'{"instances":[[' + b",".join([b"0.5"] * 50) + b"]]}")
    ]


@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)), max_size=20))
def test_answers_come_back_bit_for_bit(values: list[float | None]) -> None:
    body = json.dumps({"predictions": values, "deployedModelId": "7", "metadata": {"more": 1}}, indent=1).encode()
    back = read_answer(body, rows=len(values)).values()
    assert back.tobytes() == np.array([np.nan if v is None else v for v in values], dtype=np.float64).tobytes()


@pytest.mark.parametrize("body", [b"\xff\xfe", b"[]", b"null", b'{"predictions": [[1.0]], "deployedModelId": "1"}', b""])
def test_what_is_not_an_answer_is_refused(body: bytes) -> None:
    with pytest.raises(EndpointUnavailable, match="cannot be read"):
        read_answer(body, rows=1)


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True), st.one_of(st.none(), st.floats(0, 1e6)))
def test_a_pause_is_bounded_and_never_shorter_than_the_server_asks(attempt: int, draw: float, after_s: float | None) -> None:
    pause_s = retry_pause_s(attempt, draw=draw, retry_after_s=after_s)
    assert (after_s or 0.0) <= pause_s <= (after_s or 0.0) + CAP_S
    if after_s is None and attempt == 1:
        assert pause_s < BASE_S


@given(st.lists(st.tuples(st.sampled_from(["ask", "ok", "bad"]), st.floats(0, 8)), max_size=60))
def test_the_breaker_opens_after_failures_in_a_row_and_lets_one_trial_out_a_pause(events: list[tuple[str, float]]) -> None:
    breaker, now_s, row, opened_s, trial_s = Breaker(), 0.0, 0, None, None
    for what, passed_s in events:
        now_s += passed_s
        if what == "ask":
            breaker, may = breaker.ask(now_s=now_s)
            half = opened_s is not None and now_s - opened_s >= 10.0
            free = trial_s is None or now_s - trial_s >= 10.0
            assert may == (opened_s is None or (half and free))
            if may and half:
                trial_s = now_s
        elif what == "ok":
            breaker, row, opened_s, trial_s = breaker.succeeded(), 0, None, None
        else:
            breaker, row, trial_s = breaker.failed(now_s=now_s), row + 1, None
            if row >= 3 or opened_s is not None:
                opened_s = now_s
        expected = "closed" if opened_s is None else "open" if now_s - opened_s < 10.0 else "half_open"
        assert breaker.state(now_s=now_s) == expected
