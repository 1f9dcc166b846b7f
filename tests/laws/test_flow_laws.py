"""Laws of the operational counts: whatever comes, in whatever pieces, equals a plain Python account of it."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.bars import session_bars
from monitoring.flow import BACKFILL_US, EDGES_US, RELATIVE_ERROR, Flow, FlowWindow, quantile_us
from monitoring.silence import Awaited

PANE_US, PANES, GRACE = 1_000_000, 3, 1


class Row(NamedTuple):
    """A row of a model, or (model "") a rejected record."""

    model: str
    log_us: int
    decision_us: int = 0
    event_us: int = 0
    abstained: bool = False
    reason: str = ""


TIMES = st.integers(0, 9 * PANE_US)
EARLIER = st.one_of(st.integers(-1_000, 5_000_000), st.sampled_from([1_000, BACKFILL_US, BACKFILL_US + 1, int(EDGES_US[-1]) + 1]))


@st.composite
def rows(draw: st.DrawFn) -> Row:
    log_us = draw(TIMES)
    if draw(st.booleans()):
        return Row("", log_us, reason=draw(st.sampled_from(["late", "undecodable"])))
    decision_us = log_us - draw(EARLIER)
    model = draw(st.sampled_from(["a", "b"]))
    return Row(model, log_us, decision_us, decision_us - draw(EARLIER), draw(st.booleans()))


def feed(flow: Flow, some: list[Row]) -> list[FlowWindow]:
    """One call for rows of one kind in a row."""
    closed: list[FlowWindow] = []
    start = 0
    for end in range(1, len(some) + 1):
        if end < len(some) and some[end].model == some[start].model:
            continue
        part = some[start:end]
        log_us = np.array([r.log_us for r in part])
        if part[0].model:
            closed += flow.add(
                part[0].model,
                log_us=log_us,
                decision_us=np.array([r.decision_us for r in part]),
                event_us=np.array([r.event_us for r in part]),
                abstained=np.array([r.abstained for r in part]),
            )
        else:
            closed += flow.reject(log_us=log_us, reasons=[r.reason for r in part])
        start = end
    return closed


def shown(window: FlowWindow) -> Any:
    models = {name: (t.rows, t.abstained, t.backfill, t.latency.tolist(), t.lag.tolist()) for name, t in window.models.items()}
    return window.end_us, models, dict(window.rejected), sorted(window.recent)


def by_hand(some: list[Row]) -> tuple[list[Any], int]:
    """(the windows that close, how many rows come too late), one row at a time."""
    held: dict[int, list[Row]] = {}
    newest: int | None = None
    closed, late = [], 0
    for row in some:
        pane = row.log_us // PANE_US
        before, newest = newest, pane if newest is None else max(newest, pane)
        if before is not None and before != newest:
            closed += [window_by_hand(held, p) for p in sorted(held) if before - GRACE <= p < newest - GRACE]
        if pane > newest - PANES - GRACE:
            held.setdefault(pane, []).append(row)
        else:
            late += 1
    return closed, late


def window_by_hand(held: dict[int, list[Row]], last: int) -> Any:
    inside = [r for p, some in held.items() if last - PANES < p <= last for r in some]
    models: dict[str, Any] = {}
    for model in sorted({r.model for r in inside if r.model}):
        own = [r for r in inside if r.model == model]
        live = [r for r in own if r.log_us - r.decision_us <= BACKFILL_US and r.decision_us - r.event_us <= EDGES_US[-1]]
        bins = [[0] * len(EDGES_US), [0] * len(EDGES_US)]
        for r in live:
            for k, x in enumerate((r.log_us - r.decision_us, r.decision_us - r.event_us)):
                bins[k][next(i for i, edge in enumerate(EDGES_US.tolist()) if x <= edge)] += 1
        models[model] = len(own), sum(r.abstained for r in own), len(own) - len(live), *bins
    rejected = Counter(r.reason for r in inside if not r.model)
    return (last + 1) * PANE_US, models, dict(rejected), sorted({r.model for r in held[last] if r.model})


@given(st.lists(rows(), max_size=25))
def test_windows_are_those_counted_by_hand(some: list[Row]) -> None:
    flow = Flow(pane_us=PANE_US, panes=PANES, grace_panes=GRACE)
    closed = [shown(w) for w in feed(flow, some)]
    wanted, late = by_hand(some)
    assert (closed, flow.late) == (wanted, late)


@given(st.lists(rows(), max_size=25), st.lists(st.integers(0, 25), max_size=6))
def test_how_rows_are_cut_and_a_restart_between_any_two_batches_change_nothing(some: list[Row], cuts: list[int]) -> None:
    whole, cut = (Flow(pane_us=PANE_US, panes=PANES, grace_panes=GRACE) for _ in range(2))
    wanted = [shown(w) for w in feed(whole, some)]
    found = []
    bounds = [0, *sorted(c for c in cuts if c < len(some)), len(some)]
    for a, b in pairwise(bounds):
        found += [shown(w) for w in feed(cut, some[a:b])]
        cut = Flow.unpack(cut.pack())
    assert found == wanted
    assert cut.pack() == whole.pack()


@given(st.lists(st.integers(1_001, 9_000_000_000_000), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_a_quantile_is_told_within_its_error(values: list[int], q: float) -> None:
    counts = np.bincount(EDGES_US.searchsorted(np.array(values)), minlength=len(EDGES_US))
    true = sorted(values)[math.ceil(q * len(values)) - 1]
    assert abs(quantile_us(counts, q) - true) <= (RELATIVE_ERROR + 1e-3) * true  # bounds of bins are whole microseconds


SESSIONS = st.lists(st.integers(1, 40), min_size=2, max_size=8).map(
    lambda steps: [(sum(steps[:i]), sum(steps[: i + 1])) for i in range(1, len(steps), 2)]
)


@given(SESSIONS, st.integers(1, 15), st.integers(0, 350), st.integers(0, 350), st.integers(0, 20))
def test_bars_missed_are_the_bar_ends_of_the_serving_grid(
    sessions: list[tuple[int, int]], bar_us: int, last_us: int, now_us: int, usual_lag_us: int
) -> None:
    awaited = Awaited.of(bar_us=bar_us, sessions=sessions, usual_lag_us=usual_lag_us)
    ends = session_bars(tuple(sessions), bar_us) + usual_lag_us
    assert awaited.missed(last_us, now_us) == sum(last_us < end <= now_us for end in ends.tolist())
    assert awaited.open(now_us) == any(o < now_us - usual_lag_us <= c for o, c in sessions)
