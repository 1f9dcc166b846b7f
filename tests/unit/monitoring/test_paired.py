"""Champion against challenger: the Diebold-Mariano test against scipy and loops, and how often it is wrong."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from monitoring.paired import PairedReport, joined_pairs, paired_instants, paired_report
from tests.unit.monitoring.quality_rows import BAR, Rows, panel, variance_by_hand


def compared(champion: Rows, challenger: Rows, *, overlap: int = 1) -> PairedReport:
    return paired_report(paired_instants(champion, challenger, horizon_us=overlap * BAR), bar_us=BAR)


def noisy(rows: Rows, size: float, seed: int) -> Rows:
    value = rows.value + size * np.random.default_rng(seed).normal(size=len(rows))
    return replace(rows, value=value, p_up=1 / (1 + np.exp(-value)))


def test_without_overlap_it_is_scipys_t_test_of_the_instants_means() -> None:
    a = panel(1, symbols=6, instants=70)
    b = noisy(a, 0.3, 2)
    r = compared(a, b)
    for name, loss in (("squared_error", np.square), ("absolute_error", np.abs)):
        d = (loss(b.value - b.outcome) - loss(a.value - a.outcome)).reshape(70, 6).mean(axis=1)
        expected = stats.ttest_1samp(d, 0)
        c = getattr(r, name)
        assert [c.statistic, c.p_value] == pytest.approx([expected.statistic, expected.pvalue])
        assert c.p_better == pytest.approx(stats.ttest_1samp(d, 0, alternative="less").pvalue)
        assert c.worst_difference(0.05) == pytest.approx(expected.confidence_interval(0.9).high)
        assert (c.difference, c.degrees, c.instants) == (pytest.approx(d.mean()), 69, 70)
    assert (r.rows, r.instants, r.overlap) == (420, 70, 1)


def test_rank_ics_hits_and_brier_are_compared_per_instant() -> None:
    a = panel(3, symbols=6, instants=40)
    b = noisy(a, 0.5, 4)
    r = compared(a, b)
    cut = [slice(6 * t, 6 * t + 6) for t in range(40)]
    ics = [[stats.spearmanr(x.value[c], x.outcome[c]).statistic for c in cut] for x in (a, b)]
    expected = stats.ttest_rel(ics[1], ics[0])
    assert [r.rank_ic.statistic, r.rank_ic.p_value] == pytest.approx([expected.statistic, expected.pvalue])
    assert r.rank_ic.p_better == pytest.approx(stats.ttest_rel(ics[1], ics[0], alternative="greater").pvalue)
    assert [r.rank_ic.champion, r.rank_ic.challenger] == pytest.approx([np.mean(ics[0]), np.mean(ics[1])])
    hits = [(np.sign(x.value) == np.sign(x.outcome)).reshape(40, 6) for x in (a, b)]
    assert r.hit_rate.p_value == pytest.approx(stats.ttest_rel(hits[1].mean(axis=1), hits[0].mean(axis=1)).pvalue)
    assert r.only_champion == (hits[0] & ~hits[1]).sum()
    assert r.only_challenger == (hits[1] & ~hits[0]).sum()
    briers = [((x.p_up - (x.outcome > 0)) ** 2).reshape(40, 6).mean(axis=1) for x in (a, b)]
    assert r.brier.p_value == pytest.approx(stats.ttest_rel(briers[1], briers[0]).pvalue)


def test_with_overlap_it_is_the_loop_written_out() -> None:
    a = panel(5, symbols=4, instants=90, overlap=4, common=0.5)
    b = noisy(a, 0.3, 6)
    c = compared(a, b, overlap=4).squared_error
    d = ((b.value - b.outcome) ** 2 - (a.value - a.outcome) ** 2).reshape(90, 4).mean(axis=1)
    se = math.sqrt(variance_by_hand((d - d.mean()).tolist(), 4)) / 90
    assert c.standard_error == pytest.approx(se)
    assert c.p_value == pytest.approx(2 * stats.t.sf(abs(d.mean()) / se, 90 / 4 - 1))


def test_equal_models_are_told_apart_no_oftener_than_alpha() -> None:
    """Two models with independent noise of one size; outcomes overlap and have a common part."""
    wrong = 0
    for seed in range(400):
        truth = panel(seed, symbols=8, instants=120, overlap=4, common=0.5)
        wrong += compared(noisy(truth, 0.5, 2 * seed), noisy(truth, 0.5, 2 * seed + 1), overlap=4).squared_error.p_better <= 0.05
    assert wrong <= 34  # binomial(400, 0.05): 20 expected, more than 34 once in 1,000


def test_a_better_challenger_is_seen() -> None:
    truth = panel(7, symbols=8, instants=200, overlap=4, common=0.5)
    r = compared(noisy(truth, 0.8, 1), noisy(truth, 0.2, 2), overlap=4)
    assert r.squared_error.p_better < 0.001
    assert {getattr(r, name).direction for name in ("squared_error", "absolute_error", "rank_ic", "hit_rate")} == {"challenger"}


def test_a_challenger_that_is_the_champion_is_neither_better_nor_worse() -> None:
    a = panel(7, symbols=8, instants=50)
    r = compared(a, a)
    assert r.squared_error.difference == 0
    assert r.squared_error.direction is None
    assert math.isnan(r.squared_error.p_value)


def test_rows_are_paired_by_symbol_and_time_and_an_outcome_counts_for_both() -> None:
    a = panel(8, symbols=5, instants=30)
    b = noisy(a, 0.3, 9)
    expected = compared(a.chosen(a.symbol_codes > 0), b.chosen(b.symbol_codes > 0))
    # The challenger knows fewer symbols and numbers them otherwise, and lacks what the champion knows came.
    kept = b.chosen(b.symbol_codes > 0)
    other = replace(
        kept,
        symbols=("Z", *b.symbols[:0:-1]),
        symbol_codes=5 - kept.symbol_codes,
        outcome=np.where(np.arange(len(kept)) % 3 == 0, np.nan, kept.outcome),
    )
    order = np.lexsort((other.symbol_codes, other.ts_event_us))
    said, wanted = (r.to_dict() for r in (compared(a, other.chosen(order)), expected))
    for name, x in wanted.items():
        if isinstance(x, dict):
            assert said[name].pop("direction") == x.pop("direction")
        assert said[name] == pytest.approx(x, rel=1e-9), name


def test_probabilities_are_compared_where_both_have_one() -> None:
    a = panel(3, symbols=6, instants=40)
    b = noisy(a, 0.5, 4)
    some = np.random.default_rng(1).random(240) < 0.7
    r = compared(a, replace(b, p_up=np.where(some, b.p_up, np.nan)))
    briers = [
        [np.mean(((x.p_up - (x.outcome > 0)) ** 2)[some & (x.ts_event_us == t)]) for t in np.unique(a.ts_event_us)]
        for x in (a, b)
    ]
    assert r.brier.p_value == pytest.approx(stats.ttest_rel(briers[1], briers[0]).pvalue)


def test_nothing_in_common_is_a_report_that_json_takes() -> None:
    a = panel(1, symbols=3, instants=5)
    for b in (replace(a, symbols=("X", "Y", "Z")), a.between(-2, -1), replace(a, value=a.value * np.nan)):
        plain = json.loads(json.dumps(compared(a, b).to_dict(), allow_nan=False))
        assert (plain["rows"], plain["squared_error"]["p_value"], plain["squared_error"]["direction"]) == (0, None, None)


def test_a_single_symbol_has_no_rank_ic_but_a_loss() -> None:
    a = panel(1, symbols=1, instants=50)
    r = compared(a, noisy(a, 0.3, 1))
    assert r.rank_ic.instants == 0
    assert math.isnan(r.rank_ic.difference)
    assert 0 < r.squared_error.p_value < 1


def test_pairs_of_different_horizons_are_refused() -> None:
    a = panel(1, symbols=1, instants=5)
    with pytest.raises(ValueError, match="horizons"):
        joined_pairs([paired_instants(a, a, horizon_us=h) for h in (BAR, 2 * BAR)])
