"""A chunk's whole path, where the laws of tests/laws do not look: abstentions, the shares of a record, cuts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.spec import ColumnSpec, Lag
from streams import served
from streams.cuts import cut
from streams.layout import SetLayout
from streams.records import FeatureDecoder
from tests.unit.streams.pipes import PARTITIONS, X1, X, Y, bar, bodies, handle, part, serve, vectors
from tests.unit.streams.wire import nothing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.handle import Predict


def test_too_little_known_abstains_as_incomplete() -> None:
    pipeline = serve(handle("m", [X, X1], min_completeness=0.75))
    first, second = bodies(pipeline.step(part(bar(10, x=1.0), bar(20, x=2.0)), nothing))
    assert (first["abstained"], first["reason"], first["completeness"], first["missing"]) == (True, "incomplete", 0.5, ["x1"])
    assert [first[n] for n in ("value", "lower", "upper", "p_up", "confidence")] == [None] * 5
    assert (second["abstained"], second["reason"], second["completeness"], second["value"]) == (False, None, 1.0, 3.0)


@pytest.mark.parametrize(("least", "abstains"), [(0.5, False), (0.51, True), (0.0, False), (1.0, True)])
def test_completeness_at_the_bound_is_enough(least: float, abstains: bool) -> None:  # noqa: FBT001 - a parameter of the test
    (body,) = bodies(serve(handle("m", [X, X1], min_completeness=least)).step(part(bar(10, x=1.0)), nothing))
    assert body["abstained"] == abstains


def test_columns_not_required_do_not_count() -> None:
    optional = ColumnSpec(name="z", feature_set="slow", feature="z", required=False)
    (body,) = bodies(serve(handle("m", [X, optional], min_completeness=1.0)).step(part(bar(10, x=1.0)), nothing))
    assert (body["abstained"], body["completeness"], body["missing"]) == (False, 1.0, ["z"])
    (body,) = bodies(serve(handle("m", [optional], min_completeness=1.0)).step(part(bar(10)), nothing))
    assert (body["abstained"], body["completeness"]) == (False, 1.0)


def _raises(_: NDArray[np.float64]) -> NDArray[np.float64]:
    raise RuntimeError("broken weights")


def _scribbles(x: NDArray[np.float64]) -> NDArray[np.float64]:
    x[:] = 0.0
    return x[:, 0]


BAD: list[tuple[Any, str, str]] = [
    (_raises, "model_raised", "RuntimeError: broken weights"),
    (_scribbles, "model_raised", "read-only"),
    (lambda x: x[:-1, 0], "model_output_length", "shape"),
    (lambda x: x, "model_output_length", "shape"),
    (lambda x: np.full(len(x), "up"), "model_output_type", "dtype"),
    (lambda x: np.full(len(x), np.nan), "model_output_not_finite", "not finite"),
    (lambda x: np.full(len(x), np.inf), "model_output_not_finite", "not finite"),
]


@pytest.mark.parametrize(("predict", "reason", "detail"), BAD)
def test_a_model_that_misbehaves_abstains_and_the_other_goes_on(predict: Predict, reason: str, detail: str) -> None:
    rows = part(bar(10, x=1.0, y=5.0), bar(10, "B", x=2.0, y=6.0), bar(10, "C", x=3.0, y=7.0), bar(20, x=1.5, y=5.5))
    out = serve(handle("bad", [X, X1], predict=predict), handle("good", [X, Y])).step(rows, nothing)
    alone = serve(handle("good", [X, Y])).step(rows, nothing)
    mine = [b for b in bodies(out) if b["model"] == "bad"]
    assert [(m["abstained"], m["reason"], m["value"], m["lower"], m["confidence"]) for m in mine] == [
        (True, reason, None, None, None)
    ] * 4
    assert [b for b in bodies(out) if b["model"] == "good"] == bodies(alone)
    assert all(t.startswith("bad:1: ") and detail in t for t in out.troubles)
    assert (len(out.troubles), alone.troubles, out.counts["abstained"], out.rejected) == (1, [], 4, [])


def test_only_the_row_without_an_answer_abstains() -> None:
    def sometimes(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(x[:, 0] > 1.5, np.nan, x[:, 0])

    out = serve(handle("m", [X], predict=sometimes)).step(
        part(*(bar(10, s, x=v) for s, v in zip("ABC", (1, 2, 1), strict=True))), nothing
    )
    assert {b["symbol"]: b["reason"] for b in bodies(out)} == {"A": None, "B": "model_output_not_finite", "C": None}


def test_every_record_becomes_exactly_one_thing() -> None:
    rows = [bar(10 * n, "AB"[n % 2], x=float(n)) for n in range(20)]
    rows += [rows[19], {**rows[18], "values": {"x": -1.0}}, bar(0, "B", x=1.0), {"feature_set": "other", "ts_event_us": 1}]
    out = serve(handle("m", [X])).step(part(*rows), nothing)
    assert out.counts["rows"] == 24
    assert {r.reason: r.detail for r in out.rejected}.keys() == {"conflict", "expired", "unknown_feature_set"}
    assert all(r.value is not None and r.key is not None and r.detail for r in out.rejected)
    assert (len(out.predictions), out.counts["duplicate"], len(out.rejected)) == (20, 1, 3)
    assert (out.counts["predictions"], out.counts["rejected"]) == (20, 3)


def test_an_empty_chunk_and_no_models_lead_to_nothing() -> None:
    out = serve(handle("m", [X])).step([], nothing)
    assert (out.predictions, out.logs, out.rejected, out.troubles, +out.counts) == ([], [], [], [], {})
    out = serve().step(part(bar(10, x=1.0)), nothing)
    assert [r.reason for r in out.rejected] == ["unknown_feature_set"]


def test_logs_are_split_so_that_each_fits_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = part(*(bar(10 * n, s, x=float(n)) for n in range(4) for s in "ABCDEF"))
    whole = serve(handle("m", [X, Y])).step(rows, nothing)
    monkeypatch.setattr(served, "_LOG_BYTES", 1000)
    pieces = serve(handle("m", [X, Y])).step(rows, nothing)
    assert len(pieces.logs) > len(whole.logs)
    assert vectors(pieces) == vectors(whole)
    assert [p for p, _ in pieces.logs] == sorted(p for p, _ in pieces.logs)
    monkeypatch.setattr(served, "_LOG_BYTES", 1)
    assert len(serve(handle("m", [X, Y])).step(rows, nothing).logs) == 24


def test_a_lag_beyond_all_time_finds_nothing() -> None:
    for lag in (Lag(us=2**54), Lag(us=2**80), Lag(bars=2**60)):
        (body,) = bodies(
            serve(handle("m", [X, ColumnSpec(name="l", feature_set="bars", feature="x", lag=lag)])).step(
                part(bar(2**40, x=1.0)), nothing
            )
        )
        assert body["missing"] == ["l"]


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.sampled_from(["A", "B", "C"]), st.sampled_from(["bars", "slow"])), max_size=40),
    st.integers(1, 5),
    st.integers(1, 50),
)
def test_a_cut_keeps_every_row_in_order_and_no_window_over_its_slack(rows: list[tuple[str, str]], slack: int, most: int) -> None:
    layout = {"bars": SetLayout("bars", ("x",), 0, 4), "slow": SetLayout("slow", ("x",), 0, 4)}
    decoder = FeatureDecoder(layout, partitions=PARTITIONS, max_future_us=10**15)
    given_rows = [bar(n, s, x=float(n)) | {"feature_set": f} for n, (s, f) in enumerate(rows)]
    batches, rejected = decoder.decode(part(*given_rows))
    assert rejected == []
    pieces = list(cut(batches, slack, most_rows=most))
    order: dict[str, list[int]] = {"bars": [], "slow": []}
    last = -1
    for piece in pieces:
        seqs = [int(n) for b in piece for n in b.seq]
        assert 0 < len(seqs) <= most
        assert min(seqs) > last  # pieces follow each other in the chunk's own order
        last = max(seqs)
        for b in piece:
            assert len(b.symbols) == len(b.values) == len(b.offset)
            assert max(b.symbols.count(s) for s in b.symbols) <= slack
            order[b.feature_set] += b.seq.tolist()
    assert order == {n: [int(x) for b in batches if b.feature_set == n for x in b.seq] for n in order}
    if len(rows) <= most and all(max((b.symbols.count(s) for s in b.symbols), default=0) <= slack for b in batches):
        assert len(pieces) <= 1
