"""A chunk's whole path, where the laws of tests/laws do not look: abstentions, several models, swaps, cuts."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.handle import ModelHandle
from models.spec import ColumnSpec, FeatureSetSpec, Lag, ServingSpec
from streams import served
from streams.cuts import cut_by_slack
from streams.errors import LayoutError, StateLayoutError
from streams.inference_log import decode_log
from streams.layout import SetLayout
from streams.partitioner import partition_of
from streams.pipeline import Pipeline, StepResult
from streams.records import FeatureDecoder, PartitionRecords
from streams.state import pack
from tests.unit.streams.wire import Record, nothing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from models.handle import Predict

PARTITIONS = 3
BAR = 10
X = ColumnSpec(name="x", feature_set="bars", feature="x")
X1 = ColumnSpec(name="x1", feature_set="bars", feature="x", lag=Lag(bars=1))
Y = ColumnSpec(name="y", feature_set="bars", feature="y")
Z = ColumnSpec(name="z", feature_set="slow", feature="z")


def total(x: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.nan_to_num(x).sum(axis=1)
    return result


def handle(
    name: str, columns: Sequence[ColumnSpec], *, predict: Predict = total, trigger: str = "bars", depth: int = 4, **more: Any
) -> ModelHandle:
    features = {"bars": ("x", "y"), "slow": ("z",)}
    sets = {
        s: FeatureSetSpec(
            features=tuple(f for f in features[s] if any(c.feature == f for c in columns if c.feature_set == s))
            or features[s][:1],
            bar_us=BAR,
            depth_rows=depth,
        )
        for s in {c.feature_set for c in columns} | {trigger}
    }
    spec = ServingSpec(model=name, trigger=trigger, horizon_us=BAR, columns=tuple(columns), feature_sets=sets, **more).check()
    return ModelHandle(name=name, version="1", digest="", spec=spec, predict=predict)


def serve(*handles: ModelHandle, slack: int = 8) -> Pipeline:
    return Pipeline(handles, partitions=PARTITIONS, max_future_us=10**15, slack_rows=slack)


def part(*rows: dict[str, Any], first: int = 0) -> list[PartitionRecords]:
    """Rows of symbol A, unless they say another, in order; `first` offset."""
    by_partition: dict[int, list[Record]] = {}
    for at, r in enumerate(rows):
        body = {"symbol": "A", "feature_set": "bars"} | r
        key = body["symbol"].encode()
        by_partition.setdefault(partition_of(key, PARTITIONS), []).append(
            Record(first + at, 10**9, key, json.dumps(body).encode())
        )
    return [PartitionRecords("f", p, r) for p, r in sorted(by_partition.items())]


def bar(event: int, symbol: str = "A", revision: int = 0, **values: float | None) -> dict[str, Any]:
    return {"symbol": symbol, "ts_event_us": event, "revision": revision, "values": values}


def bodies(out: StepResult) -> list[dict[str, Any]]:
    return [json.loads(v) for _, _, v in out.predictions]


def vectors(out: StepResult) -> dict[str, bytes]:
    """By prediction id, the logged vector's bits."""
    found = {}
    for _, data in out.logs:
        log = decode_log(data)
        for pid, v in zip(log.table["prediction_id"].to_pylist(), log.vectors().tolist(), strict=True):
            assert pid not in found
            found[pid] = struct.pack(f"<{len(v)}d", *v)
    assert set(found) == {b["prediction_id"] for b in bodies(out)}
    return found


# ---- abstentions


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


# ---- several models


def test_models_with_different_triggers_answer_their_own_rows() -> None:
    pipeline = serve(handle("fast", [X, Z]), handle("slow", [Z, X], trigger="slow"))
    slow = {"feature_set": "slow", "ts_event_us": 15, "values": {"z": 7.0}}
    out = pipeline.step(part(bar(10, x=1.0), slow, bar(20, x=2.0)), nothing)
    assert [(b["model"], b["ts_event_us"], b["value"]) for b in sorted(bodies(out), key=lambda b: b["ts_event_us"])] == [
        ("fast", 10, 1.0),
        ("slow", 15, 8.0),
        ("fast", 20, 9.0),
    ]


@st.composite
def arrivals(draw: st.DrawFn) -> list[dict[str, Any]]:
    rows = []
    for n in range(draw(st.integers(1, 40))):
        event = max(0, (n // 2) * BAR - draw(st.sampled_from([0, 0, 0, BAR, 3 * BAR, 9 * BAR])))
        values = {"x": float(n), "y": draw(st.sampled_from([1.0, None]))}
        rows.append(bar(event, draw(st.sampled_from("AB")), draw(st.sampled_from([0, 0, 1])), **values))
    return rows


@settings(max_examples=60)
@given(arrivals(), st.integers(1, 6), st.booleans())
def test_a_models_records_do_not_depend_on_which_others_are_served(
    rows: list[dict[str, Any]],
    slack: int,
    cut: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    def run(*handles: ModelHandle) -> tuple[dict[str, dict[str, Any]], dict[str, bytes], set[int]]:
        pipeline = serve(*handles, slack=slack)
        seen: dict[str, dict[str, Any]] = {}
        logged: dict[str, bytes] = {}
        rejected = set()
        for start, piece in [(0, rows[:7]), (7, rows[7:])] if cut else [(0, rows)]:
            out = pipeline.step(part(*piece, first=start), nothing)
            seen |= {b["prediction_id"]: b for b in bodies(out) if b["model"] == "m"}
            logged |= {k: v for k, v in vectors(out).items() if k.startswith("m:")}
            rejected |= {r.offset for r in out.rejected}
        return seen, logged, rejected

    me = handle("m", [X, X1, Y], depth=3)
    alone, alone_vectors, refused = run(me)
    together, together_vectors, _ = run(handle("deep", [X, Z], depth=9), me, handle("other", [Y], trigger="slow", depth=2))
    more = set(together) - set(alone)
    # What is too old for this model alone is refused; beside a deeper model, which uses the row, it abstains.
    assert {together[k]["reason"] for k in more} <= {"expired"}
    assert {together[k]["source"]["offset"] for k in more} <= refused
    assert {k: v for k, v in together.items() if k not in more} == alone
    assert {k: v for k, v in together_vectors.items() if k not in more} == alone_vectors


def test_a_row_too_old_for_one_of_two_models_is_never_silence_nor_a_guess() -> None:
    rows = part(*(bar(10 * n, x=float(n)) for n in range(5)), bar(5, x=99.0))
    shallow, deep = handle("shallow", [X], depth=2), handle("deep", [X], depth=9)
    assert [(r.offset, r.reason) for r in serve(shallow).step(rows, nothing).rejected] == [(5, "expired")]
    out = serve(shallow, deep).step(rows, nothing)
    late = {b["model"]: (b["abstained"], b["reason"], b["value"]) for b in bodies(out) if b["ts_event_us"] == 5}
    assert late == {"shallow": (True, "expired", None), "deep": (False, None, 99.0)}
    assert out.rejected == []


def test_models_that_contradict_each_other_are_refused() -> None:
    other = handle("n", [X])
    sets = {"bars": FeatureSetSpec(features=("x",), bar_us=BAR, publication_lag_us=3, depth_rows=4)}
    wrong = ModelHandle(
        name="n", version="1", digest="", predict=total,
        spec=ServingSpec(model="n", trigger="bars", horizon_us=1, columns=(X,), feature_sets=sets),
    )  # fmt: skip
    with pytest.raises(LayoutError):
        serve(other, wrong)
    pipeline = serve(other)
    with pytest.raises(LayoutError):
        pipeline.swap([handle("m", [X]), wrong])
    assert [h.name for h in pipeline.handles] == ["n"]
    assert len(bodies(pipeline.step(part(bar(10, x=1.0)), nothing))) == 1  # as if nothing had been asked


# ---- swaps


def test_a_swap_keeps_windows_when_the_layout_changes() -> None:
    pipeline = serve(handle("m", [X, X1]))
    pipeline.step(part(bar(10, x=1.0, y=4.0), bar(20, x=2.0, y=5.0)), nothing)
    before = pipeline.windows
    pipeline.swap([handle("m", [X1, Y, Z], depth=7)])
    assert pipeline.windows is not before
    (body,) = bodies(pipeline.step(part(bar(30, x=3.0, y=6.0), first=2), nothing))
    assert (body["value"], body["missing"]) == (2.0 + 6.0, ["z"])
    (lagged,) = bodies(pipeline.step(part(bar(40, x=3.0, y=6.0), first=3), nothing))
    assert lagged["value"] == 3.0 + 6.0


def test_a_swap_to_the_same_layout_leaves_windows_alone() -> None:
    pipeline = serve(handle("m", [X, X1]))
    pipeline.step(part(bar(10, x=1.0)), nothing)
    before = pipeline.windows
    pipeline.swap([handle("m", [X, X1], predict=lambda x: total(x) * 2)])
    assert pipeline.windows is before
    (body,) = bodies(pipeline.step(part(bar(20, x=2.0), first=1), nothing))
    assert body["value"] == 6.0


def test_a_swap_keeps_what_is_not_yet_written_and_replays_once() -> None:
    pipeline = serve(handle("m", [X]))
    rows = part(bar(10, x=1.0), bar(20, x=2.0))
    pipeline.step(rows, nothing)
    pipeline.swap([handle("m", [X, Y])])
    assert [(p, s) for p, s, _ in pipeline.windows.take_dirty()] == [(partition_of(b"A", PARTITIONS), "A")]
    again = pipeline.step(rows, nothing)
    assert (again.predictions, again.counts["replayed"]) == ([], 2)


def test_state_written_under_another_layout_is_read_by_name() -> None:
    old = serve(handle("m", [X, Y]))
    old.step(part(bar(10, x=1.0, y=9.0)), nothing)
    table = {(p, s): pack(state) for p, s, state in old.windows.take_dirty()}
    new = serve(handle("m", [X1, Z, ColumnSpec(name="y1", feature_set="bars", feature="y", lag=Lag(bars=1))], depth=2))
    (body,) = bodies(new.step(part(bar(20), first=1), lambda p, s: table.get((p, s))))
    assert (body["value"], body["missing"]) == (10.0, ["z"])


def test_damaged_state_is_not_taken_for_empty() -> None:
    with pytest.raises(StateLayoutError):
        serve(handle("m", [X])).step(part(bar(10, x=1.0)), lambda _p, _s: b"\x07 whatever")


# ---- records


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
    assert serve(handle("m", [X])).step([], nothing) == StepResult(
        counts=StepResult().counts | {"rows": 0, "predictions": 0, "rejected": 0}
    )
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
@given(st.lists(st.tuples(st.sampled_from(["A", "B", "C"]), st.sampled_from(["bars", "slow"])), max_size=40), st.integers(1, 5))
def test_a_cut_keeps_every_row_in_order_and_no_window_over_its_slack(rows: list[tuple[str, str]], slack: int) -> None:
    layout = {"bars": SetLayout("bars", ("x",), 0, 4), "slow": SetLayout("slow", ("x",), 0, 4)}
    decoder = FeatureDecoder(layout, partitions=PARTITIONS, max_future_us=10**15)
    given_rows = [bar(n, s, x=float(n)) | {"feature_set": f} for n, (s, f) in enumerate(rows)]
    batches, rejected = decoder.decode(part(*given_rows))
    assert rejected == []
    pieces = list(cut_by_slack(batches, slack))
    order: dict[str, list[int]] = {"bars": [], "slow": []}
    last = -1
    for piece in pieces:
        seqs = [int(n) for b in piece for n in b.seq]
        assert min(seqs) > last  # pieces follow each other in the chunk's own order
        last = max(seqs)
        for b in piece:
            assert len(b.symbols) == len(b.values) == len(b.offset)
            assert max(b.symbols.count(s) for s in b.symbols) <= slack
            order[b.feature_set] += b.seq.tolist()
    assert order == {n: [int(x) for b in batches if b.feature_set == n for x in b.seq] for n in order}
    if all(max((b.symbols.count(s) for s in b.symbols), default=0) <= slack for b in batches):
        assert len(pieces) <= 1
