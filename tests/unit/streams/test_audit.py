"""The leak audit: silent about a clean spec on messy rows, and planted leaks found and named to column and row."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from models.spec import ColumnSpec, FeatureSetSpec, Lag, ServingSpec
from streams.audit import NAMED_PER_COLUMN, AuditReport, audit, backfilled
from streams.errors import AuditError
from streams.offline import Decided, Identity, Row, through_pipeline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.offline import Vectorizer

S = 1_000_000
MINUTE = 60 * S

SPEC = ServingSpec(
    model="m",
    trigger="bars",
    horizon_us=MINUTE,
    columns=(
        ColumnSpec(name="x", feature_set="bars", feature="x"),
        ColumnSpec(name="x.lag1", feature_set="bars", feature="x", lag=Lag(bars=1)),
        ColumnSpec(name="z", feature_set="slow", feature="z"),
        ColumnSpec(name="z.lag7m", feature_set="slow", feature="z", lag=Lag(us=7 * MINUTE), required=False),
    ),
    feature_sets={
        "bars": FeatureSetSpec(features=("x", "y"), bar_us=MINUTE, publication_lag_us=S, depth_rows=20),
        "slow": FeatureSetSpec(features=("z",), bar_us=5 * MINUTE, publication_lag_us=MINUTE, depth_rows=12),
    },
)
SPEC_LAGS = {name: s.publication_lag_us for name, s in SPEC.feature_sets.items()}


def believing(**lag_us: int) -> ServingSpec:
    """The spec with other publication lags."""
    sets = {n: msgspec.structs.replace(s, publication_lag_us=lag_us.get(n, SPEC_LAGS[n])) for n, s in SPEC.feature_sets.items()}
    return msgspec.structs.replace(SPEC, feature_sets=sets)


def number(rows: list[Row]) -> list[Row]:
    return [dataclasses.replace(row, number=n) for n, row in enumerate(rows, 1)]


def plain_rows(symbols: str = "AB", bars: int = 30) -> list[Row]:
    """A bar a minute, a slow row each fifth minute, by event time, the slow one first; none says when it was known."""
    rng = np.random.default_rng(3)
    rows = []
    for minute in range(1, bars + 1):
        for symbol in symbols:
            if minute % 5 == 0:
                rows.append(Row(0, symbol, "slow", minute * MINUTE, None, 0, {"z": rng.normal()}))
            rows.append(Row(0, symbol, "bars", minute * MINUTE, None, 0, {"x": rng.normal(), "y": rng.normal()}))
    return number(rows)


def messy_rows(seed: int, count: int = 240) -> list[Row]:
    """Late rows, rows sent before they are known, revisions, duplicates, conflicts, missing values, in any order."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for n in range(count):
        if rows and rng.random() < 0.15:
            again = rows[rng.integers(len(rows))]
            rows.append(again if rng.random() < 0.5 else dataclasses.replace(again, values=dict.fromkeys(again.values, 9.5)))
            continue
        name = "slow" if rng.random() < 0.3 else "bars"
        event = int(n // 4 + rng.integers(-6, 3) + 6) * MINUTE
        known = None if rng.random() < 0.3 else event + int(rng.choice([0, S, MINUTE, 5 * MINUTE, 20 * MINUTE]))
        values = {f: math.nan if rng.random() < 0.1 else float(rng.normal()) for f in SPEC.feature_sets[name].features}
        revision = int(rng.choice([0, 0, 0, 1, 2]))
        rows.append(Row(0, "AB"[rng.integers(2)], name, event, known, revision, values))
    return number(rows)


def run(
    rows: list[Row], spec: ServingSpec, vectorize: Vectorizer | None = None, samples: int = 1000, **true_lag_us: int
) -> AuditReport:
    vectorize = through_pipeline(spec, version="1") if vectorize is None else vectorize
    lags_us = {n: s.publication_lag_us for n, s in spec.feature_sets.items()} | true_lag_us
    return audit(rows, vectorize, spec, lags_us=lags_us, samples=samples, seed=5)


def as_of(*, log_order: bool, known_time: bool) -> Vectorizer:
    """A join as a notebook does it: for each column the newest row by event time, minding the log and known times or not."""

    def known(row: Row) -> int:
        return row.ts_event_us + SPEC_LAGS[row.feature_set] if row.ts_known_us is None else row.ts_known_us

    def vectorize(rows: Sequence[Row]) -> dict[Identity, Decided]:
        found: dict[Identity, Decided] = {}
        for at, trigger in enumerate(rows):
            if trigger.feature_set != "bars":
                continue
            vector = []
            for c in SPEC.columns:
                lag = 0 if c.lag == 0 else c.lag.us or (c.lag.bars or 0) * MINUTE
                candidates = [
                    row
                    for place, row in enumerate(rows)
                    if row.feature_set == c.feature_set
                    and row.ts_event_us <= trigger.ts_event_us - lag
                    and (place <= at or not log_order)
                    and (known(row) <= known(trigger) or not known_time)
                ]
                newest = max(candidates, key=lambda row: (row.ts_event_us, row.revision), default=None)
                vector.append(math.nan if newest is None else newest.values[c.feature])
            pid = f"m:1:{trigger.symbol}:{trigger.ts_event_us}:{trigger.revision}"
            found.setdefault(trigger.identity, Decided(pid, known(trigger), np.array(vector)))
        return found

    return vectorize


@pytest.mark.parametrize("seed", range(4))
def test_a_clean_spec_on_late_revised_repeated_and_early_rows_has_no_leak(seed: int) -> None:
    rows = messy_rows(seed)
    for some in (rows, backfilled(rows, SPEC_LAGS)):
        report = run(some, SPEC, samples=60)
        assert report.leaks.total() == 0
        assert report.named == []
        assert report.predictions > 40
        assert report.not_yet_known > 100
        assert report.later_in_log > 1000
        assert report.blind == ()


def test_every_column_is_seen_to_move_so_the_audit_bites() -> None:
    assert run(plain_rows(), SPEC).sensitive == {"x", "x.lag1", "z", "z.lag7m"}


def test_a_lag_published_too_small_is_found_and_named() -> None:
    rows = plain_rows()
    report = run(rows, believing(slow=0), slow=MINUTE)
    # Bars are known a second after their end, when the slow row of the same end is still 59 s away.
    assert report.leaks == {"z": 12}
    assert report.leaking_predictions == 12
    assert [leak.column for leak in report.named] == ["z"] * NAMED_PER_COLUMN
    for leak in report.named:
        row = rows[leak.number - 1]
        assert (leak.feature_set, leak.symbol, leak.ts_event_us) == ("slow", row.symbol, row.ts_event_us)
        assert row.feature_set == "slow"
        assert leak.before == row.values["z"] != leak.after
        assert leak.prediction_id == f"m:1:{row.symbol}:{row.ts_event_us}:0"
        assert leak.ahead_us == 59 * S
        assert not leak.later_in_log


def test_a_trigger_set_published_with_too_small_a_lag_is_found_too() -> None:
    report = run(plain_rows("A"), believing(bars=0), bars=MINUTE)
    # The prediction states a decision a minute before its own row was known; the bar before it was known just then.
    assert report.leaks == {"x": 30}
    assert {(leak.feature_set, leak.ahead_us) for leak in report.named} == {("bars", MINUTE)}
    assert [leak.prediction_id for leak in report.named] == [f"m:1:A:{leak.ts_event_us}:0" for leak in report.named]


def test_a_true_lag_no_greater_than_the_spec_believes_is_no_leak() -> None:
    assert run(plain_rows(), SPEC, slow=0, bars=0).leaks.total() == 0


def test_known_times_in_the_rows_stand_above_any_stated_lag() -> None:
    rows = [dataclasses.replace(row, ts_known_us=row.ts_event_us) for row in plain_rows()]
    assert run(rows, believing(slow=0), slow=MINUTE).leaks.total() == 0


def test_a_vectorizer_that_reads_event_time_only_is_found_and_named() -> None:
    rows = plain_rows("A")
    assert run(rows, SPEC, as_of(log_order=True, known_time=True)).leaks.total() == 0
    report = run(rows, SPEC, as_of(log_order=True, known_time=False))
    assert report.leaks == {"z": 6}
    assert {(leak.column, leak.feature_set, leak.ahead_us) for leak in report.named} == {("z", "slow", 59 * S)}


def test_a_vectorizer_that_reads_late_rows_before_they_came_is_found_and_named() -> None:
    rows = plain_rows("A")
    late = next(row for row in rows if row.feature_set == "slow")
    rows.remove(late)
    rows = number([*rows, late])  # known long before most decisions, but no one had it
    report = run(rows, SPEC, as_of(log_order=False, known_time=True))
    assert set(report.leaks) == {"z", "z.lag7m"}
    assert {(leak.number, leak.later_in_log) for leak in report.named} == {(len(rows), True)}
    assert run(rows, SPEC, as_of(log_order=True, known_time=True)).leaks.total() == 0
    assert run(rows, SPEC).leaks.total() == 0


def test_a_revision_read_before_it_was_known_is_named_by_its_revision() -> None:
    rows = plain_rows("A")
    revised = dataclasses.replace(rows[5], revision=1, ts_known_us=rows[5].ts_event_us + 10 * MINUTE)
    rows = number([*rows[:6], revised, *rows[6:]])
    assert run(rows, SPEC).leaks.total() == 0
    report = run(rows, SPEC, as_of(log_order=True, known_time=False))
    assert ("bars", 1) in {(leak.feature_set, leak.revision) for leak in report.named if leak.column == "x.lag1"}


def test_a_statistic_over_the_whole_file_is_found_in_every_prediction() -> None:
    right = through_pipeline(SPEC, version="1")

    def centred(rows: Sequence[Row]) -> dict[Identity, Decided]:
        mean = np.nanmean([row.values.get("x", math.nan) for row in rows])
        return {i: dataclasses.replace(d, vector=d.vector - np.array([mean, 0.0, 0.0, 0.0])) for i, d in right(rows).items()}

    report = run(plain_rows("A"), SPEC, centred)
    assert report.leaks == {"x": 29}  # all but the last bar's, after which nothing comes
    assert len(report.named) == NAMED_PER_COLUMN


def test_a_decision_that_waited_for_a_row_may_see_up_to_that_row() -> None:
    fresh = tuple(msgspec.structs.replace(c, max_age_us=0) if c.name == "z" else c for c in SPEC.columns)
    spec = msgspec.structs.replace(SPEC, columns=fresh, deadline_us=3 * MINUTE)
    rows = plain_rows("A", bars=34)
    for row in [row for row in rows if row.feature_set == "slow"]:
        at = rows.index(row)
        rows.insert(at + 2, rows.pop(at))  # after two bars: the first of them waits for it
    rows = number(rows)
    report = run(rows, spec)
    assert report.leaks.total() == 0
    assert "z" in report.sensitive
    assert (report.predictions, report.without_prediction) == (31, 3)  # three still wait when the rows end
    # Held to the trigger's own place in the log, the same vectors read what had not come yet.
    at_once = msgspec.structs.replace(spec, deadline_us=0)
    strict = run(rows, at_once, through_pipeline(spec, version="1"))
    assert strict.leaks == {"z": 6}
    assert all(leak.later_in_log for leak in strict.named)


@pytest.mark.parametrize("seed", range(2))
def test_a_spec_with_a_deadline_has_no_leak_on_messy_rows(seed: int) -> None:
    report = run(messy_rows(seed), msgspec.structs.replace(SPEC, deadline_us=4 * MINUTE), samples=40)
    assert report.predictions > 20
    assert report.leaks.total() == 0


def test_a_column_without_values_is_said_to_be_unproved() -> None:
    rows = [row for row in plain_rows() if row.feature_set == "bars"]
    report = run(rows, SPEC)
    assert report.blind == ("z", "z.lag7m")
    assert report.sensitive == {"x", "x.lag1"}


def test_missing_values_are_tried_too() -> None:
    rows = [dataclasses.replace(row, values=dict.fromkeys(row.values, math.nan)) for row in plain_rows()]
    assert run(rows, believing(slow=0), slow=MINUTE).leaks["z"] == 12


def test_the_same_seed_gives_the_same_report() -> None:
    rows = messy_rows(1)
    first, second = (run(rows, believing(slow=0), samples=20, slow=MINUTE) for _ in range(2))
    assert first.leaks.total() > 0
    assert (first.leaks, repr(first.named)) == (second.leaks, repr(second.named))  # as text, for NaN differs from itself


def test_predictions_that_follow_a_row_not_yet_known_are_sampled_first() -> None:
    rows = plain_rows("A", bars=400)
    rows[200] = dataclasses.replace(rows[200], ts_known_us=rows[200].ts_event_us + 3 * MINUTE)
    report = run([row for row in rows if row.feature_set == "bars"], SPEC, samples=6)
    assert report.predictions == 6
    assert report.not_yet_known >= 2


def test_nothing_to_try_is_an_error_not_a_clean_bill() -> None:
    slow_only = [row for row in plain_rows() if row.feature_set == "slow"]
    with pytest.raises(AuditError, match="no row is of the feature set 'bars'"):
        run(slow_only, SPEC)
    refused = [dataclasses.replace(row, revision=5000) for row in plain_rows()]
    with pytest.raises(AuditError, match="none of the 60 rows sampled gave a prediction"):
        run(refused, SPEC)
    with pytest.raises(AuditError, match="no column moved"):
        run(plain_rows(), SPEC, lambda rows: {r.identity: Decided("p", r.ts_event_us + S, np.zeros(4)) for r in rows})
