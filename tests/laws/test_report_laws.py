"""Laws of the report's numbers: pieces are the whole, revisions count once, windows counted again are the windows."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.drift import count
from monitoring.joined import Scorer
from monitoring.recount import Recount, difference
from monitoring.reference import Reference
from monitoring.report.pooling import pooled
from monitoring.report.records import Window, disjoint
from monitoring.report.rows import BINS, OUTCOMES, PREDICTIONS, QUANTILES, Rows, reliability
from monitoring.warehouse import arrow_schema

KEY = st.tuples(st.sampled_from("AB"), st.integers(1, 12))
PREDICTION = st.fixed_dictionaries(
    {
        "key": KEY,
        "revision": st.integers(0, 2),
        "version": st.sampled_from("12"),
        "role": st.sampled_from(["champion", "challenger"]),
        "value": st.one_of(st.none(), st.just(math.nan), st.floats(-1, 1)),
        "p_up": st.one_of(st.none(), st.floats(0, 1)),
        "abstained": st.sampled_from([False, False, True]),
        "took": st.one_of(st.none(), st.integers(0, 1000)),
    }
)
OUTCOME = st.fixed_dictionaries({"key": KEY, "revision": st.integers(0, 2), "value": st.floats(-1, 1)})


def tables(predictions: list[dict[str, Any]], outcomes: list[dict[str, Any]]) -> tuple[pa.Table, pa.Table]:
    made = [
        {
            **{k: p[k] for k in ("revision", "version", "role", "value", "p_up", "abstained")},
            "symbol": p["key"][0],
            "ts_event_us": p["key"][1],
            "horizon_us": 5,
            "level": 0.9,
            "ts_decision_us": 100,
            "ts_published_us": None if p["took"] is None else 100 + p["took"],
        }
        for p in predictions
    ]
    known = [
        {"symbol": o["key"][0], "ts_event_us": o["key"][1], "horizon_us": 5, "revision": o["revision"], "value": o["value"]}
        for o in outcomes
    ]
    schemas = [
        pa.schema([arrow_schema(t).field(c) for c in columns])
        for t, columns in (("predictions", PREDICTIONS), ("outcomes", OUTCOMES))
    ]
    return pa.Table.from_pylist(made, schema=schemas[0]), pa.Table.from_pylist(known, schema=schemas[1])


def unique(rows: list[dict[str, Any]], *more: str) -> list[dict[str, Any]]:
    return list({(*r["key"], r["revision"], *(r[m] for m in more)): r for r in rows}.values())


@settings(max_examples=60, deadline=None)
@given(predictions=st.lists(PREDICTION, max_size=30), outcomes=st.lists(OUTCOME, max_size=20), cut=st.integers(0, 12))
def test_pieces_are_the_whole_and_the_greatest_revision_counts(
    predictions: list[dict[str, Any]], outcomes: list[dict[str, Any]], cut: int
) -> None:
    predictions, outcomes = unique(predictions, "version", "role"), unique(outcomes)
    edges = np.array([0, 4, 8, 12])
    whole, pieces = Rows(), Rows()
    whole.add("m", *tables(predictions, outcomes), edges_us=edges)
    for later in (False, True):
        some = [[r for r in rows if (r["key"][1] > cut) is later] for rows in (predictions, outcomes)]
        pieces.add("m", *tables(*some), edges_us=edges)
    expected = brute(predictions, outcomes)
    for found in (whole, pieces):
        assert {s: (v.rows, v.abstained, v.matured, v.first_us, v.last_us) for s, v in found.served.items()} == {
            s: v[0] for s, v in expected.items()
        }
        for scorer, (_, bins) in expected.items():
            assert np.allclose(found.served[scorer].bins, bins)
    assert whole.predictions == len(predictions)


def brute(predictions: list[dict[str, Any]], outcomes: list[dict[str, Any]]) -> dict[Scorer, Any]:
    """One row at a time."""
    newest: dict[Any, dict[str, Any]] = {}
    for p in sorted(predictions, key=lambda p: p["revision"]):
        newest[p["version"], p["role"], p["key"]] = p
    known = {o["key"]: o["value"] for o in sorted(outcomes, key=lambda o: o["revision"])}
    found: dict[Scorer, Any] = {}
    for (version, role, key), p in newest.items():
        (rows, abstained, matured, first, last), bins = found.setdefault(
            Scorer("m", version, role), ((0, 0, 0, 99, 0), np.zeros((BINS, 3)))
        )
        made = p["value"] is not None and not math.isnan(p["value"]) and not p["abstained"]
        told = made and key in known
        if told and p["p_up"] is not None:
            code = max(0, math.ceil(p["p_up"] * BINS) - 1)
            bins[code] += (1, p["p_up"], known[key] > 0)
        counts = (rows + 1, abstained + (not made), matured + told, min(first, key[1]), max(last, key[1]))
        found[Scorer("m", version, role)] = (counts, bins)
    return found


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 300)).map(lambda t: (t[0], min(t))), min_size=1, max_size=BINS))
def test_wilson_bounds_are_those_of_scipy(bins: list[tuple[int, int]]) -> None:
    from scipy.stats import binomtest

    told = reliability(np.array([(n, n / 2, k) for n, k in bins], np.float64))
    assert len(told) == len(bins)
    for (n, k), (p, share, low, high, rows) in zip(bins, told, strict=True):
        expected = binomtest(k, n).proportion_ci(0.95, method="wilson")
        assert (p, share, rows) == (0.5, k / n, n)
        assert low == pytest.approx(expected.low, abs=1e-6)
        assert high == pytest.approx(expected.high, abs=1e-6)


def test_latency_is_that_of_each_stretch() -> None:
    rows = [
        {
            "key": ("A", at),
            "revision": 0,
            "version": "1",
            "role": "champion",
            "value": 0.1,
            "p_up": 0.5,
            "abstained": False,
            "took": at,
        }
        for at in range(1, 13)
    ]
    found = Rows()
    found.add("m", *tables(rows, []), edges_us=np.array([0, 4, 12]))
    assert [(one.at_us, one.rows) for one in found.latency["champion"]] == [(2, 4), (8, 8)]
    assert found.latency["champion"][1].quantiles == tuple(np.quantile(range(5, 13), QUANTILES))


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=25))
def test_disjoint_windows_share_nothing_and_none_more_fits_at_the_end(spans: list[tuple[int, int]]) -> None:
    windows = [Window(a, a + length) for a, length in spans]
    chosen = disjoint(windows)
    assert all(a.end_us <= b.start_us for a, b in itertools.pairwise(chosen))
    if windows:
        assert chosen[-1].end_us == max(w.end_us for w in windows)


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0.01, 3), st.floats(0.1, 9)), min_size=1, max_size=20))
def test_a_pooled_mean_lies_between_and_its_error_is_no_greater_than_the_greatest(told: list[tuple[float, float, float]]) -> None:
    found = pooled(told)
    assert min(m for m, *_ in told) - 1e-9 <= found.mean <= max(m for m, *_ in told) + 1e-9
    assert found.error <= max(se for _, se, _ in told) + 1e-9


REFERENCE = Reference.from_columns(
    ["a", "b"],
    {
        "a": {"edges": [-0.5, 0.5], "counts": [5, 5, 5, 1], "low": -1.0, "high": 1.0},
        "b": {"edges": [], "levels": [0.0, 1.0], "counts": [5, 5, 0, 0], "low": 0.0, "high": 1.0},
    },
)
VALUES = st.tuples(st.sampled_from([math.nan, -2.0, -0.5, 0.0, 0.6, 3.0]), st.sampled_from([0.0, 1.0, 7.0, math.nan]))


@given(
    rows=st.lists(st.tuples(VALUES, st.integers(-5, 40)), max_size=30),
    windows=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 15)), min_size=1, max_size=8),
    cut=st.integers(0, 30),
)
def test_windows_counted_again_are_the_windows(rows: list[Any], windows: list[tuple[int, int]], cut: int) -> None:
    spans = [(a, a + length) for a, length in windows]
    recount = Recount(REFERENCE, spans)
    values = np.array([v for v, _ in rows], np.float64).reshape(-1, 2)
    ts = np.array([at for _, at in rows], np.int64)
    recount.add(values[:cut], ts[:cut])
    recount.add(values[cut:], ts[cut:])
    for start, end in spans:
        inside = (ts > start) & (ts <= end)
        expected = count(REFERENCE, values[inside])
        assert np.array_equal(recount.window(start, end), expected)
        recorded = [{"name": n, "counts": c} for n, c in zip(REFERENCE.names, expected.tolist(), strict=True)]
        assert difference(REFERENCE, recorded, expected, start_us=start, end_us=end) is None
        recorded[0]["counts"] = [expected[0, 0] + 1, *expected[0, 1:].tolist()]
        found = difference(REFERENCE, recorded, expected, start_us=start, end_us=end)
        assert found is not None
        assert (found.columns, found.late, found.lacking) == (("a",), 0, 1)
