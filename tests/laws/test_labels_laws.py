"""Laws of the monitor's labels: joined rows equal a plain account of them, and a journal gives back what it was given."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring import journal as journals
from monitoring import labels as labelling
from monitoring.joined import Scorer
from monitoring.labels import Labels, Outcomes, Predictions, QualityRows, gathered
from tests.laws.label_account import PANE_US, Account, Row, in_order, number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.laws.label_account import Told

SCORERS = [Scorer("m", "1", "champion"), Scorer("m", "2", "champion")]
EVER = {"start_us": -1, "end_us": 10_000}

ROWS = st.lists(
    st.tuples(
        st.tuples(st.sampled_from("cab"), st.sampled_from([0, 1, 7, 10, 11, 20, 35, 60, 60]), st.sampled_from([15, 15, 15, 40])),
        st.integers(0, 2),
        st.integers(0, 1),
    ),
    max_size=6,
)
PREDICTED = st.tuples(st.just("predicted"), st.sampled_from(SCORERS), ROWS)
SETTLED = st.tuples(st.just("settled"), st.none(), ROWS)
NOTHING: st.SearchStrategy[list[Row]] = st.just([])
ADVANCED = st.tuples(st.just("advanced"), st.none(), NOTHING)
ASKED = st.tuples(st.just("asked"), st.sampled_from(SCORERS), NOTHING)
CHANGED = st.tuples(st.just("changed"), st.sampled_from(SCORERS), NOTHING)
FORGOT = st.tuples(st.just("forgot"), st.sampled_from(SCORERS), NOTHING)
ADDED = st.one_of(PREDICTED, SETTLED)
WINDOWS = st.lists(st.tuples(st.integers(-10, 70), st.integers(0, 70)), min_size=1, max_size=4)


def feed(labels: Labels, offset: int, step: tuple[str, Any, list[Row]]) -> None:
    """One source record at its offset: a block for each horizon of predictions, one for outcomes."""
    kind, scorer, rows = step
    if kind == "predicted":
        for horizon in sorted({h for (_, _, h), _, _ in rows}):
            some = [r for r in rows if r[0][2] == horizon]
            value = np.array([number(r) for r in some])
            block = Predictions.of(
                scorer,
                horizon_us=horizon,
                symbols=[s for (s, _, _), _, _ in some],
                ts_event_us=np.array([t for (_, t, _), _, _ in some]),
                revision=np.array([r for _, r, _ in some]),
                value=value,
                lower=value - 1,
                upper=value + 1,
                p_up=value / 100,
                completeness=value / 200,
            )
            labels.add_predictions(block, source=f"log-{horizon}", offset=offset)
    elif kind == "settled" and offset > labels.taken("outcomes"):
        integers = np.array([(t, h, r) for (_, t, h), r, _ in rows], np.int64).reshape(-1, 3).T
        block_of = Outcomes(
            symbols=[s for (s, _, _), _, _ in rows],
            ts_event_us=integers[0],
            horizon_us=integers[1],
            revision=integers[2],
            value=np.array([-number(r) for r in rows]),
        )
        labels.add_outcomes(block_of, source="outcomes", offset=offset)


def told(rows: QualityRows) -> list[Told]:
    """Rows as an account has them; their other numbers must be those of the same predictions."""
    assert rows.symbols == tuple(sorted(set(rows.symbols)))
    assert np.array_equal(rows.lower, rows.value - 1)
    assert np.array_equal(rows.upper, rows.value + 1)
    assert np.array_equal(rows.p_up, rows.value / 100)
    assert np.array_equal(rows.completeness, rows.value / 200)
    names = [rows.symbols[code] for code in rows.symbol_codes.tolist()]
    outcomes = [None if math.isnan(o) else o for o in rows.outcome.tolist()]
    found = list(zip(rows.ts_event_us.tolist(), names, rows.value.tolist(), outcomes, strict=True))
    assert [r[:2] for r in found] == sorted(r[:2] for r in found)
    return sorted(found, key=in_order)


@contextmanager
def small(*, segment_rows: int, names: int) -> Iterator[None]:
    """Segments of few rows; names are sorted out as soon as there are more than `names`, give or take."""
    before = journals.SEGMENT_ROWS, labelling._ODD_SYMBOLS
    journals.SEGMENT_ROWS, labelling._ODD_SYMBOLS = segment_rows, names - 2 * 10**6
    try:
        yield
    finally:
        journals.SEGMENT_ROWS, labelling._ODD_SYMBOLS = before


@settings(max_examples=300)
@given(
    st.lists(st.one_of(ADDED, ADDED, ADVANCED, ASKED, CHANGED, FORGOT), max_size=24),
    WINDOWS,
    st.integers(0, 40),
    st.integers(1, 9),
)
def test_joined_rows_are_those_of_a_plain_account(
    steps: list[Any], windows: list[tuple[int, int]], timeout_us: int, names: int
) -> None:
    account = Account(timeout_us)
    with small(segment_rows=4, names=names):
        labels = Labels(timeout_us=timeout_us, pane_us=PANE_US, most=10**6)
        for offset, step in enumerate(steps):
            kind, scorer, _ = step
            feed(labels, offset, step)
            feed(labels, offset, step)  # a replay is known by its offset
            account.feed(step)
            if kind == "advanced":
                assert labels.advance() == account.advance()
            elif kind == "asked":
                assert told(labels.rows(scorer, **EVER)) == account.rows(scorer, *EVER.values())
            elif kind == "changed":
                assert labels.take_changed(scorer) == account.changed(scorer)
            elif kind == "forgot":
                labels.forget(scorer)
                account.forget(scorer)
    assert labels.late_rows == account.late
    for scorer in SCORERS:
        for start, end in windows:
            rows = labels.rows(scorer, start_us=start, end_us=end)
            assert (told(rows), rows.known) == (account.rows(scorer, start, end), account.known(scorer, start, end))
        assert labels.take_changed(scorer) == account.changed(scorer)
    assert labels.waiting == account.waiting()
    assert labels.panes.many >= len(account.predictions) + len(account.outcomes)


@given(st.lists(ADDED, max_size=16), st.randoms(use_true_random=False))
def test_neither_order_nor_repeats_nor_cuts_change_the_rows(steps: list[Any], random: Any) -> None:
    # Of one revision there is but one text: the first to come would hold.
    rows = [(kind, scorer, (key, revision, 0)) for kind, scorer, some in steps for key, revision, _ in some]
    again = rows + random.sample(rows, len(rows) // 2)
    random.shuffle(again)
    one, other = (Labels(timeout_us=10**6, pane_us=PANE_US, most=10**6) for _ in range(2))
    for offset, (kind, scorer, some) in enumerate(steps):
        feed(one, offset, (kind, scorer, [(key, revision, 0) for key, revision, _ in some]))
    for scorer in SCORERS:
        one.take_changed(scorer)
    for offset, (kind, scorer, row) in enumerate(again):
        feed(other, offset, (kind, scorer, [row]))
        feed(one, len(steps) + offset, (kind, scorer, [row]))  # repeated in later records
    for scorer in SCORERS:
        assert told(other.rows(scorer, **EVER)) == told(one.rows(scorer, **EVER))
        assert one.take_changed(scorer) == []


@given(st.lists(ADDED, max_size=12))
def test_partitions_gathered_are_as_one(steps: list[Any]) -> None:
    bounds = {"timeout_us": 10**6, "pane_us": PANE_US, "most": 10**6}
    whole, parts = Labels(**bounds), {name: Labels(**bounds) for name in "cba"}
    for offset, (kind, scorer, rows) in enumerate(steps):
        feed(whole, offset, (kind, scorer, rows))
        for name, labels in parts.items():
            feed(labels, offset, (kind, scorer, [r for r in rows if r[0][0] == name]))
    for scorer in SCORERS:
        for start, end in [(-1, 100), (10, 20), (15, 33)]:
            together = gathered([labels.rows(scorer, start_us=start, end_us=end) for labels in parts.values()])
            at_once = whole.rows(scorer, start_us=start, end_us=end)
            assert (told(together), together.known) == (told(at_once), at_once.known)


@settings(max_examples=200)
@given(st.lists(st.one_of(ADDED, ASKED), max_size=24), st.integers(1, 12))
def test_no_more_rows_are_held_than_may_be(steps: list[Any], most: int) -> None:
    labels, account = Labels(timeout_us=30, pane_us=PANE_US, most=most), Account(30)
    given_up_until, added = labels.panes.until_us, 0
    for offset, step in enumerate(steps):
        feed(labels, offset, step)
        account.feed(step)
        added += len(step[2])
        assert labels.panes.many <= most
        assert labels.panes.until_us >= given_up_until
        given_up_until = labels.panes.until_us
        if step[0] == "asked":
            labels.rows(step[1], **EVER)
    # Panes go whole, those of the earliest deadlines, and do not come back.
    account.now = account.until = given_up_until
    account.advance()
    for scorer in SCORERS:
        assert told(labels.rows(scorer, **EVER)) == account.rows(scorer, *EVER.values())
    assert (labels.evicted > 0) <= (added > most)
    if not labels.evicted:
        assert given_up_until == -(2**62)


def seen(labels: Labels) -> list[Any]:
    panes = labels.panes
    found: list[Any] = [labels.now_us, max(panes.until_us, -1)]
    for scorer in SCORERS:
        found += [told(labels.rows(scorer, **EVER)), labels.take_changed(scorer) and "changed"]
    return [*found, labels.waiting]


@settings(max_examples=300)
@given(
    steps=st.lists(ADDED, max_size=16),
    saved=st.sets(st.integers(0, 16)),
    crash=st.integers(0, 16),
    committed=st.integers(0, 16),
    arrived=st.integers(0, 40),
    segment_rows=st.sampled_from([1, 3, 8]),
    timeout_us=st.sampled_from([0, 10, 10**6]),
    names=st.integers(1, 9),
)
def test_a_restart_anywhere_changes_nothing(
    steps: list[Any],
    saved: set[int],
    crash: int,
    committed: int,
    arrived: int,
    segment_rows: int,
    timeout_us: int,
    names: int,
) -> None:
    bounds = {"timeout_us": timeout_us, "pane_us": PANE_US, "most": 10**6}
    with small(segment_rows=segment_rows, names=names):
        whole = Labels(**bounds)
        for offset, step in enumerate(steps):
            feed(whole, offset, step)
            whole.advance()
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
            again.advance()
        assert not again.faults
        assert seen(again) == seen(whole)
        table.update(again.journal.take_dirty())
        once_more = Labels.restore(table.items(), **bounds)
        assert len(once_more.journal) == len(again.journal)
        assert seen(once_more)[:2] == seen(again)[:2]
        assert [told(once_more.rows(s, **EVER)) for s in SCORERS] == [told(again.rows(s, **EVER)) for s in SCORERS]
