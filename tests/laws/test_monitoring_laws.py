"""Laws of the monitor's core: whatever comes, in whatever pieces, equals a plain Python account of it."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monitoring.alerts import AlertPolicy, AlertState, Observation, Severity, decide, rebuild
from monitoring.drift import count, encode, jensen_shannon, ks, psi, tally, wasserstein
from monitoring.panes import AT_ONCE, Panes, Window
from monitoring.reference import Floats, Reference, fold

NUMBERS = st.one_of(st.sampled_from([0.0, 1.0, 2.0, -1.0, math.inf, -math.inf, math.nan]), st.floats(allow_nan=True))
PANE_US, PANES, GRACE = 10, 3, 1


@st.composite
def references(draw: st.DrawFn) -> Reference:
    columns = {}
    for c in range(draw(st.integers(1, 4))):
        points = sorted(set(draw(st.lists(st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6)), max_size=6))))
        counts = draw(st.lists(st.integers(0, 50), min_size=len(points) + 2, max_size=len(points) + 2))
        span = draw(st.sampled_from([(-1e6, 1e6), (points[0] - 1.0, points[-1]) if points else (0.0, 0.0), (math.nan, math.nan)]))
        levels = bool(points) and draw(st.booleans())
        columns[f"c{c}"] = {"levels" if levels else "edges": points, "counts": counts, "low": span[0], "high": span[1]}
        columns[f"c{c}"].setdefault("edges", [])
    return Reference.from_columns(list(columns), columns)


@st.composite
def counted(draw: st.DrawFn) -> tuple[Reference, Floats]:
    reference = draw(references())
    width = len(reference.names)
    rows = draw(st.lists(st.lists(NUMBERS, min_size=width, max_size=width), max_size=12))
    return reference, np.array(rows, np.float64).reshape(-1, width)


def by_hand(reference: Reference, values: Floats) -> list[list[int]]:
    """Each value outside the training range to its side, else to the first edge it does not exceed or the level it equals."""
    table = [[0] * reference.shape[1] for _ in reference.names]
    for row in values.tolist():
        for c, x in enumerate(row):
            edges, levels = reference.edges[c, : reference.bins[c] - 1].tolist(), reference.levels.get(c)
            if math.isnan(x):
                k = -1
            elif levels is not None:
                k = 1 + levels.tolist().index(x) if x in levels else -2
            elif x < reference.low[c] or (math.isnan(reference.low[c]) and x == -math.inf):
                k = 0
            elif x > reference.high[c]:
                k = -2
            else:
                k = 1 + next((k for k, edge in enumerate(edges) if x <= edge), len(edges))
            table[c][k] += 1
    return table


def judged_by_hand(reference: Reference, values: Floats) -> list[list[int]]:
    """Each value to the first edge it does not exceed, or the level it equals, else the next cell."""
    table = [[0] * reference.counts.shape[1] for _ in reference.names]
    for row in values.tolist():
        for c, x in enumerate(row):
            points, levels = reference.edges[c, : reference.bins[c] - 1].tolist(), reference.levels.get(c)
            if levels is None:
                k = next((k for k, edge in enumerate(points) if x <= edge), len(points))
            else:
                k = levels.tolist().index(x) if x in levels else len(levels)
            table[c][-1 if math.isnan(x) else k] += 1
    return table


@given(counted())
def test_counts_are_those_made_by_hand(case: tuple[Reference, Floats]) -> None:
    reference, values = case
    assert count(reference, values).tolist() == by_hand(reference, values)
    assert tally(reference, encode(reference, values)).tolist() == by_hand(reference, values)
    assert fold(reference, count(reference, values)).tolist() == judged_by_hand(reference, values)


@given(counted(), st.integers(0, 12))
def test_counts_add_up(case: tuple[Reference, Floats], cut: int) -> None:
    reference, values = case
    assert (count(reference, values[:cut]) + count(reference, values[cut:]) == count(reference, values)).all()


@given(counted())
def test_a_distance_is_never_negative_and_zero_to_itself(case: tuple[Reference, Floats]) -> None:
    reference, values = case
    counts = fold(reference, count(reference, values))
    for distance in (psi, jensen_shannon, ks, wasserstein):
        d = distance(reference, counts)
        assert (np.isnan(d) | (d >= 0)).all()
        own = distance(reference, reference.counts)
        assert (np.isnan(own) | (np.abs(own) < 1e-6)).all()


# Panes ------------------------------------------------------------------------------------------------------

ONE = Reference.from_columns(["a"], {"a": {"edges": [0.0, 2.0], "counts": [1, 1, 1, 0], "low": -1, "high": 3}})
ROWS = st.lists(st.tuples(st.integers(0, 120), st.sampled_from([-1.0, 1.0, 3.0, math.nan]), st.integers(0, 1)), max_size=40)
Row = tuple[int, float, int]  # ts_event_us, value, source


def numbered(rows: list[Row]) -> list[tuple[int, Row]]:
    """Every row with its offset in its source."""
    next_offset: Counter[int] = Counter()
    out = []
    for row in rows:
        out.append((next_offset[row[2]], row))
        next_offset[row[2]] += 1
    return out


def feed(panes: Panes, rows: list[tuple[int, Row]]) -> list[Window]:
    """Runs of rows of one source, each as one batch."""
    closed: list[Window] = []
    start = 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or rows[end][1][2] != rows[start][1][2]:
            part = rows[start:end]
            closed += panes.add(
                np.array([[r[1]] for _, r in part]),
                np.array([r[0] for _, r in part]),
                source=f"s{part[0][1][2]}",
                own=np.array([o for o, _ in part]),
                decided=np.full(len(part), AT_ONCE),
            )
            start = end
    return closed


def told(windows: list[Window]) -> list[tuple[int, int, int, int, list[list[int]]]]:
    assert all(np.array_equal(np.sum(w.by_pane, axis=0), w.counts) for w in windows)
    return [(w.start_us, w.end_us, w.rows, w.instants, w.counts.tolist()) for w in windows]


def panes_by_hand(rows: list[Row]) -> tuple[list[tuple[int, int, int, int, list[list[int]]]], int]:
    """All windows closed and the rows too late, row by row, keeping every row for ever."""
    kept: list[Row] = []
    closed: list[tuple[int, int, int, int, list[list[int]]]] = []
    newest, late = None, 0
    for row in rows:
        pane = math.ceil(row[0] / PANE_US) - 1
        if newest is not None and pane <= newest - PANES - GRACE:
            late += 1
            continue
        passes = range(0) if newest is None else range(newest - GRACE, pane - GRACE)
        for passed in passes:
            end_us = (passed + 1) * PANE_US
            if any(end_us - PANE_US < r[0] <= end_us for r in kept):
                start_us = end_us - PANES * PANE_US
                within = [r for r in kept if start_us < r[0] <= end_us]
                counts = by_hand(ONE, np.array([[r[1]] for r in within]))
                closed.append((start_us, end_us, len(within), len({r[0] for r in within}), counts))
        newest = pane if newest is None else max(newest, pane)
        kept.append(row)
    return closed, late


@given(ROWS)
def test_windows_are_those_made_by_hand(rows: list[Row]) -> None:
    panes = Panes(ONE, pane_us=PANE_US, panes=PANES, grace_panes=GRACE)
    closed = feed(panes, numbered(rows))
    expected, late = panes_by_hand(rows)
    assert told(closed) == expected
    assert panes.late_rows == late


@given(ROWS, st.sets(st.integers(1, 39)))
def test_cutting_rows_into_batches_changes_nothing(rows: list[Row], cuts: set[int]) -> None:
    whole, pieces = (Panes(ONE, pane_us=PANE_US, panes=PANES, grace_panes=GRACE) for _ in range(2))
    numbers = numbered(rows)
    at_once = feed(whole, numbers)
    bounds = [0, *sorted(c for c in cuts if c < len(rows)), len(rows)]
    in_pieces = [w for a, b in pairwise(bounds) for w in feed(pieces, numbers[a:b])]
    assert told(in_pieces) == told(at_once)
    assert pieces.pack() == whole.pack()


@given(ROWS, st.integers(0, 40), st.integers(0, 40))
def test_a_crash_and_a_replay_change_nothing(rows: list[Row], crash: int, back_to: int) -> None:
    """State is stored at row `crash`; the log is read again from an earlier row."""
    numbers = numbered(rows)
    steady = Panes(ONE, pane_us=PANE_US, panes=PANES, grace_panes=GRACE)
    expected = feed(steady, numbers)
    panes = Panes(ONE, pane_us=PANE_US, panes=PANES, grace_panes=GRACE)
    closed = feed(panes, numbers[:crash])
    panes = Panes.unpack(ONE, panes.pack())
    closed += feed(panes, numbers[min(crash, back_to) :])
    assert told(closed) == told(expected)
    assert panes.pack() == steady.pack()


# Alerts -----------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.sampled_from("xy"), st.sampled_from([0.0, 0.09, 0.2, 0.3]), st.booleans()), max_size=40),
    st.integers(1, 3),
    st.integers(0, 50),
)
def test_alerts_are_their_events(windows: list[tuple[str, float, bool]], pending_windows: int, cooldown_us: int) -> None:
    policy = AlertPolicy(pending_windows=pending_windows, cooldown_us=cooldown_us)
    state: AlertState = {}
    events: list[dict[str, Any]] = []
    for i, (column, value, significant) in enumerate(windows):
        severity: Severity = "critical" if value >= 0.25 else "warn"
        one = Observation(
            labels={"column": column}, value=value, raise_at=0.1, clear_at=0.08, severity=severity, significant=significant
        )
        # The worker may be killed at any moment: its state is what the events say.
        state, new = decide(rebuild(events), [one, one], 10 * i, policy=policy)
        events += new
        assert rebuild(events) == state
    for key in state:
        mine = [e for e in events if e["fingerprint"] == key]
        assert len({e["event_id"] for e in mine}) == len(mine)
        incidents = Counter((e["incident_id"], e["state"], e["severity"]) for e in mine if e["state"] in {"firing", "resolved"})
        assert all(n == 1 for n in incidents.values())
        ended = [e["resolved_us"] for e in mine if e["state"] == "resolved" and e["fired_us"] is not None]
        fired = sorted({e["fired_us"] for e in mine if e["state"] == "firing"})
        assert all(f >= e + cooldown_us for f in fired for e in ended if e < f)
