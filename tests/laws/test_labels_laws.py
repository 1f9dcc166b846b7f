"""Laws of the monitor's labels: matured rows equal a plain account of them, and a journal gives back what it was given."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring import journal as journals
from monitoring.joined import Matured, Scorer
from monitoring.journal import Outcomes, Predictions
from monitoring.labels import Labels
from monitoring.matured import MaturedRows, gather

SCORERS = [Scorer("m", "1", "champion"), Scorer("m", "2", "champion")]
PANE_US = 10
HORIZON_US = 15

KEYS = st.tuples(st.sampled_from("abc"), st.integers(0, 60))
MADE = st.tuples(st.just("made"), st.sampled_from(SCORERS), st.lists(KEYS, max_size=6))
JOINED = st.tuples(st.just("joined"), st.sampled_from(SCORERS), st.lists(st.tuples(KEYS, st.integers(-5, 5)), max_size=6))
FORGOT = st.tuples(st.just("forgot"), st.sampled_from(SCORERS), st.integers(0, 80))
WINDOWS = st.tuples(st.integers(-10, 70), st.integers(0, 70))


def matured(scorer: Scorer, rows: list[tuple[tuple[str, int], int]]) -> Matured:
    number = np.array([v for _, v in rows], np.float64)
    return Matured(
        scorer=scorer,
        horizon_us=HORIZON_US,
        prediction_ids=tuple("" for _ in rows),
        symbols=tuple(s for (s, _), _ in rows),
        ts_event_us=np.array([t for (_, t), _ in rows], np.int64),
        value=number,
        lower=number - 1,
        upper=number + 1,
        p_up=number / 10,
        outcome=-number,
        outcome_revision=np.zeros(len(rows), np.int64),
        revised=np.zeros(len(rows), np.bool_),
    )


def play(store: MaturedRows, step: tuple[Any, ...]) -> None:
    what, scorer, rows = step
    if what == "made":
        store.publish(scorer, symbols=[s for s, _ in rows], ts_event_us=np.array([t for _, t in rows], np.int64))
    elif what == "joined":
        store.add(matured(scorer, rows))
    else:
        store.forget(scorer, until_us=rows)


@given(st.lists(st.one_of(MADE, JOINED, FORGOT), max_size=12), st.lists(WINDOWS, min_size=1, max_size=4), st.integers(1, 2))
def test_matured_rows_are_those_of_a_plain_account(steps: list[Any], windows: list[tuple[int, int]], times: int) -> None:
    store = MaturedRows(pane_us=PANE_US)
    made: dict[Scorer, dict[tuple[str, int], int | None]] = {s: {} for s in SCORERS}
    floor = dict.fromkeys(SCORERS, -(10**9))
    for step in steps:
        what, scorer, rows = step
        for _ in range(times):
            play(store, step)
        if what == "forgot":
            floor[scorer] = max(floor[scorer], rows // PANE_US * PANE_US)
            made[scorer] = {k: v for k, v in made[scorer].items() if k[1] > floor[scorer]}
        for row in rows if what != "forgot" else []:
            key, value = row if what == "joined" else (row, made[scorer].get(row))
            if key[1] > floor[scorer]:
                made[scorer][key] = value
    assert len(store) == sum(len(keys) for keys in made.values())
    for scorer in SCORERS:
        for start, end in windows:
            got = store.rows(scorer, start_us=start, end_us=end)
            within = {k: v for k, v in made[scorer].items() if start < k[1] <= end}
            want = sorted((t, s, v) for (s, t), v in within.items() if v is not None)
            assert got.published == len(within)
            assert got.ts_event_us.tolist() == [t for t, _, _ in want]
            assert got.value.tolist() == [v for _, _, v in want]
            assert got.outcome.tolist() == [-v for _, _, v in want]
            assert got.upper.tolist() == [v + 1 for _, _, v in want]
            by_code = {(c, s) for c, (_, s, _) in zip(got.symbol_codes.tolist(), want, strict=True)}
            assert len({c for c, _ in by_code}) == len({s for _, s in by_code}) == len(by_code)


@given(st.lists(st.one_of(MADE, JOINED), max_size=20), st.integers(1, 12))
def test_no_more_keys_are_held_than_may_be(steps: list[Any], most: int) -> None:
    store, free = MaturedRows(pane_us=PANE_US, most=most), MaturedRows(pane_us=PANE_US)
    for step in steps:
        play(store, step)
        play(free, step)
        assert len(store) <= most
    for scorer in SCORERS:
        held = store.rows(scorer, start_us=-1, end_us=100)
        everything = free.rows(scorer, start_us=-1, end_us=100)
        assert held.published <= everything.published
        # What is left is the newest, whole.
        if len(held):
            first = int(held.ts_event_us.min() - 1) // PANE_US * PANE_US
            newest = free.rows(scorer, start_us=first, end_us=100)
            assert set(held.ts_event_us.tolist()) <= set(newest.ts_event_us.tolist())
    assert store.evicted == 0 or len(free) > most


def test_gathered_stores_keep_their_symbols_apart() -> None:
    one, two = MaturedRows(pane_us=PANE_US), MaturedRows(pane_us=PANE_US)
    one.add(matured(SCORERS[0], [(("a", 1), 1), (("b", 2), 2)]))
    two.add(matured(SCORERS[0], [(("c", 3), 3), (("c", 4), 4)]))
    empty = MaturedRows(pane_us=PANE_US)
    rows = gather([s.rows(SCORERS[0], start_us=0, end_us=10) for s in (one, empty, two)])
    assert rows.symbol_codes.tolist() == [0, 1, 2, 2]
    assert (rows.published, rows.value.tolist()) == (4, [1.0, 2.0, 3.0, 4.0])


PREDICTED = st.tuples(st.just("p"), st.sampled_from(SCORERS), st.lists(st.tuples(KEYS, st.integers(0, 2)), max_size=5))
SETTLED = st.tuples(st.just("o"), st.none(), st.lists(st.tuples(KEYS, st.integers(0, 2)), max_size=5))


def feed(labels: Labels, offset: int, step: tuple[Any, ...]) -> None:
    """One source record at its offset; a number follows from its key and revision, as it does for real."""
    kind, scorer, rows = step
    symbols = [s for (s, _), _ in rows]
    ts, revision = (np.array(x, np.int64) for x in ([t for (_, t), _ in rows], [r for _, r in rows]))
    number = ts + revision / 4
    if kind == "p":
        ids = [f"{':'.join(scorer)}:{s}:{t}:{r}" for (s, t), r in rows]
        block = Predictions.of(
            scorer,
            horizon_us=HORIZON_US,
            prediction_ids=ids,
            symbols=symbols,
            ts_event_us=ts,
            revision=revision,
            value=number,
            lower=number,
            upper=number,
            p_up=number,
        )
        labels.add_predictions(block, source="log", offset=offset)
    elif offset > labels.taken("outcomes"):
        block_of = Outcomes.of(
            symbols=symbols,
            ts_event_us=ts,
            horizon_us=np.full(len(rows), HORIZON_US),
            revision=revision,
            value=-number,
        )
        labels.add_outcomes(block_of, source="outcomes", offset=offset)


def seen(labels: Labels) -> list[Any]:
    found: list[Any] = [len(labels.pending), len(labels.matured), dict(labels.journal.marks), len(labels.journal)]
    for scorer in SCORERS:
        rows = labels.matured.rows(scorer, start_us=-1, end_us=100)
        found += [rows.published, rows.ts_event_us.tolist(), rows.value.tolist(), rows.outcome.tolist()]
    return found


@settings(max_examples=200)
@given(
    steps=st.lists(st.one_of(PREDICTED, SETTLED), max_size=16),
    saved=st.sets(st.integers(0, 16)),
    crash=st.integers(0, 16),
    committed=st.integers(0, 16),
    arrived=st.integers(0, 40),
    segment_rows=st.sampled_from([1, 3, 8]),
)
def test_a_restart_anywhere_changes_nothing(
    steps: list[Any], saved: set[int], crash: int, committed: int, arrived: int, segment_rows: int
) -> None:
    bounds = {"timeout_us": 10**6, "pane_us": PANE_US, "most": 10**6}
    before, journals.SEGMENT_ROWS = journals.SEGMENT_ROWS, segment_rows
    try:
        whole = Labels(**bounds)
        for offset, step in enumerate(steps):
            feed(whole, offset, step)
        table: dict[int, bytes] = {}
        labels = Labels(**bounds)
        done = 0
        for offset, step in enumerate(steps[:crash]):
            feed(labels, offset, step)
            labels.advance()
            if offset in saved:
                table.update(labels.journal.take_dirty())
                done = offset + 1
        table.update(labels.journal.take_dirty()[:arrived])  # the checkpoint during which it crashed
        again = Labels.restore(table.items(), **bounds)
        for offset in range(min(committed, done), len(steps)):  # the commit may be older than the table
            feed(again, offset, steps[offset])
        assert not again.faults
        assert seen(again)[:2] == seen(whole)[:2]
        assert seen(again)[4:] == seen(whole)[4:]
        table.update(again.journal.take_dirty())
        assert seen(Labels.restore(table.items(), **bounds)) == seen(again)
    finally:
        journals.SEGMENT_ROWS = before
