"""Laws of quality: sums per instant say what all rows say, and however rows are cut into panes, the report is the same."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.groups import SymbolGroups, breakdown, breakdown_reports, joined_breakdowns
from monitoring.paired import joined_pairs, paired_instants, paired_report
from monitoring.quality import Instants, QualityReport, instants_of, joined, quality_report
from tests.unit.monitoring.quality_rows import BAR, Account, Rows, panel

HORIZON = 2 * BAR
CALIBRATION = np.linspace(0.01, 3, 50)


@st.composite
def tables(draw: st.DrawFn) -> Rows:
    """Ragged panels with ties, zeros, abstentions, unknown outcomes, open intervals, missing and certain probabilities."""
    seed = draw(st.integers(0, 2**32 - 1))
    symbols, instants = draw(st.sampled_from([1, 2, 3, 5, 13, 31])), draw(st.integers(1, 12))
    rng = np.random.default_rng(seed)
    rows = panel(seed, symbols=symbols, instants=instants, ties=draw(st.sampled_from([None, 0, 1])))
    holes = draw(st.sampled_from([0.0, 0.2, 1.0]))

    def some(share: float) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        return rng.random(len(rows)) < share

    outcome = np.where(some(0.1), 0.0, rows.outcome)
    outcome = np.where(some(holes), draw(st.sampled_from([np.nan, np.inf])), outcome)
    p_up = np.where(some(0.2), rng.integers(0, 2, len(rows)), rows.p_up)
    changed = replace(
        rows,
        value=np.where(some(holes / 2), np.nan, rows.value),
        lower=np.where(some(holes / 2), -np.inf, rows.lower),
        upper=np.where(some(holes / 2), np.nan, rows.upper),
        p_up=np.where(some(holes / 2), np.nan, p_up),
        completeness=rng.choice([1.0, 1.0, 0.95, 0.6, 0.1, np.nan], len(rows)),
        outcome=outcome,
    )
    return changed.chosen(some(draw(st.sampled_from([1.1, 0.7, 0.3]))))


def cut(rows: Rows, cuts: set[int]) -> list[Rows]:
    bounds = [-1.0, *(c * BAR for c in sorted(cuts)), np.inf]
    return [rows.between(a, b) for a, b in pairwise(bounds)]


def same(a: QualityReport, b: QualityReport) -> None:
    assert vars_of(a) == pytest.approx(vars_of(b), rel=1e-12, abs=1e-12, nan_ok=True)


def vars_of(report: QualityReport) -> dict[str, float]:
    return {f.name: v for f in fields(report) if isinstance(v := getattr(report, f.name), int | float)}


@given(tables())
def test_metrics_are_those_of_all_rows(rows: Rows) -> None:
    account = Account(rows)
    r = quality_report(instants_of(rows, horizon_us=HORIZON), horizon_us=HORIZON, bar_us=BAR)
    expected = account.metrics() if account.rows else account.without_outcomes()
    assert {k: getattr(r, k) for k in expected} == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True)
    assert (r.rows, r.published) == (len(account.rows), account.published)
    assert (r.labelled_instants, r.instants) == (len(account.labelled), len(account.rank_ics()))
    if len(account.rows) > 1:
        assert r.rank_ic == pytest.approx(account.rank_ic(), abs=1e-9, nan_ok=True)


@given(tables(), st.sets(st.integers(1, 12)))
def test_panes_joined_are_the_whole(rows: Rows, cuts: set[int]) -> None:
    whole = instants_of(rows, horizon_us=HORIZON, calibration=CALIBRATION)
    parts = [instants_of(part, horizon_us=HORIZON, calibration=CALIBRATION) for part in cut(rows, cuts)]
    again = joined(parts)
    assert again.ts_event_us.tolist() == whole.ts_event_us.tolist()
    np.testing.assert_allclose(again.sums, whole.sums, rtol=1e-12, atol=1e-12)
    same(quality_report(again, horizon_us=HORIZON), quality_report(whole, horizon_us=HORIZON))
    # Joining what is joined already changes nothing either.
    same_again = joined([joined(parts[:2]), *parts[2:]])
    np.testing.assert_array_equal(same_again.sums, again.sums)


@given(tables(), st.integers(0, 2**32 - 1))
def test_the_order_of_rows_and_the_numbering_of_symbols_mean_nothing(rows: Rows, seed: int) -> None:
    rng = np.random.default_rng(seed)
    numbers = rng.permutation(len(rows.symbols))
    names = np.empty(len(rows.symbols), object)
    names[numbers] = rows.symbols
    other = replace(rows, symbol_codes=numbers[rows.symbol_codes], symbols=tuple(names)).chosen(rng.permutation(len(rows)))
    a, b = (quality_report(instants_of(r, horizon_us=HORIZON), horizon_us=HORIZON) for r in (rows, other))
    same(a, b)


@given(tables(), st.integers(1, 11))
def test_panes_may_number_their_symbols_differently(rows: Rows, at: int) -> None:
    first, last = cut(rows, {at})
    more = replace(last, symbols=("A-new-one", *rows.symbols), symbol_codes=last.symbol_codes + 1)
    whole = instants_of(rows, horizon_us=HORIZON)
    again = joined([instants_of(first, horizon_us=HORIZON), instants_of(more, horizon_us=HORIZON)])
    np.testing.assert_allclose(again.sums, whole.sums, rtol=1e-12, atol=1e-12)


GROUPS = SymbolGroups({"first": ["S000", "S001"], "teens": ["S01*"]})


@given(tables(), st.sets(st.integers(1, 12)))
def test_a_breakdown_is_the_report_of_the_parts_rows_however_panes_are_cut(rows: Rows, cuts: set[int]) -> None:
    parts = joined_breakdowns([breakdown(p, whole=instants_of(p, horizon_us=HORIZON), groups=GROUPS) for p in cut(rows, cuts)])
    by_group, by_completeness = breakdown_reports(parts, horizon_us=HORIZON, bar_us=BAR)
    finite = np.isfinite(rows.value)
    group = np.array([GROUPS.of(rows.symbols[c]) for c in rows.symbol_codes], object)
    bucket = np.array([bucket_by_hand(c) for c in rows.completeness.tolist()], object)
    for said, of_row in ((by_group, group), (by_completeness, bucket)):
        names = set(of_row[finite])
        assert set(said) == (names if len(names) > 1 else set())
        for name, report in said.items():
            alone = instants_of(rows.chosen(of_row == name), horizon_us=HORIZON)
            same(report, quality_report(alone, horizon_us=HORIZON, bar_us=BAR))


def bucket_by_hand(completeness: float) -> str:
    if completeness == 1:
        return "complete"
    if completeness >= 0.9:
        return "0.9-1"
    if completeness >= 0.5:
        return "0.5-0.9"
    return "below 0.5" if completeness < 0.5 else "unknown"


@given(tables(), st.integers(0, 2**32 - 1), st.sets(st.integers(1, 12)))
def test_pairs_joined_are_the_whole_and_pair_equal_keys_only(champion: Rows, seed: int, cuts: set[int]) -> None:
    rng = np.random.default_rng(seed)
    other = replace(champion, value=champion.value + rng.normal(size=len(champion)))
    challenger = other.chosen(rng.random(len(other)) < 0.8)
    whole = paired_instants(champion, challenger, horizon_us=HORIZON)
    parts = [paired_instants(a, b, horizon_us=HORIZON) for a, b in zip(cut(champion, cuts), cut(challenger, cuts), strict=True)]
    again = joined_pairs(parts)
    np.testing.assert_allclose(again.sums, whole.sums, rtol=1e-12, atol=1e-12)
    rows = list(zip(challenger.symbol_codes, challenger.ts_event_us, challenger.value, challenger.outcome, strict=True))
    known = sum(np.isfinite(v) and np.isfinite(o) for _, _, v, o in rows)
    r = paired_report(whole)
    assert r.rows == known
    if known:
        told = {(s, t): v for s, t, v in zip(champion.symbol_codes, champion.ts_event_us, champion.value, strict=True)}
        d: dict[int, list[float]] = {}
        for s, t, v, o in rows:
            if np.isfinite(v) and np.isfinite(o):
                d.setdefault(t, []).append((v - o) ** 2 - (told[s, t] - o) ** 2)
        assert r.squared_error.difference == pytest.approx(np.mean([np.mean(x) for x in d.values()]))


def test_parts_that_share_an_instant_or_differ_in_horizon_are_refused() -> None:
    rows = panel(1, symbols=3, instants=5)
    whole = instants_of(rows, horizon_us=HORIZON)
    with pytest.raises(ValueError, match="parts overlap: one ends at 300000000 us, the next begins at 240000000"):
        joined([whole, instants_of(rows.between(3 * BAR, 9 * BAR), horizon_us=HORIZON)])
    with pytest.raises(ValueError, match=r"horizons \[60000000, 120000000\] us"):
        joined([whole, instants_of(rows, horizon_us=BAR)])
    with pytest.raises(ValueError, match="at least one part"):
        joined([])


def test_empty_parts_are_no_parts() -> None:
    rows = panel(1, symbols=3, instants=5)
    whole, none = (instants_of(r, horizon_us=HORIZON) for r in (rows, rows.between(-2, -1)))
    assert isinstance(whole, Instants)
    assert joined([none, whole, none]) is whole
    assert len(joined([none, none])) == 0
