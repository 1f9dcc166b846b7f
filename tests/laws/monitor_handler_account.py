"""What a monitor must say of a world, worked out row by row with dictionaries: windows, their counts, their quality."""

from __future__ import annotations

import math
from collections import defaultdict
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from tests.laws.monitor_handler_wire import COLUMNS, EDGES, HIGH, LOW, PANE_US
from tests.laws.monitor_handler_world import GRACE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.laws.monitor_handler_world import Row, Who, World


def cell(x: float) -> int:
    """Below training | bins | above training | missing."""
    if math.isnan(x):
        return len(EDGES) + 3
    if x < LOW:
        return 0
    return len(EDGES) + 2 if x > HIGH else 1 + sum(x > e for e in EDGES)


def counted(rows: Iterable[Row]) -> list[list[int]]:
    counts = [[0] * (len(EDGES) + 4) for _ in (*COLUMNS, "prediction")]
    for row in rows:
        for of_column, x in zip(counts, (*row.vector, row.value), strict=True):
            of_column[cell(x)] += 1
    return counts


def closed_windows(world: World) -> dict[tuple[Who, int], list[Row]]:
    """(scorer, end) → the rows a window had when it closed."""
    panes: defaultdict[Who, dict[int, list[Row]]] = defaultdict(dict)
    newest: dict[Who, int] = {}
    closed = {}
    for row in world.rows:
        held, now = panes[row.who], newest.get(row.who, row.pane)
        if row.pane > now:
            for last in sorted(held):
                if now - GRACE <= last < row.pane - GRACE:
                    some = [r for i in range(last - world.rules.panes + 1, last + 1) for r in held.get(i, [])]
                    closed[row.who, (last + 1) * PANE_US] = some
            now = row.pane
        newest[row.who] = now
        if row.pane > now - world.rules.panes - GRACE:
            held.setdefault(row.pane, []).append(row)
    return closed


def quality(world: World, who: Who, end: int) -> dict[str, Any] | None:
    """Of a window's record once all is known; None if nothing was predicted."""
    span = (end - world.rules.panes * PANE_US - world.rules.horizon_us, end - world.rules.horizon_us)
    newest: dict[tuple[str, int], Row] = {}
    for row in world.rows:
        if row.who == who and span[0] < row.ts <= span[1] and not math.isnan(row.value):
            key = (row.symbol, row.ts)
            if key not in newest or row.revision > newest[key].revision:
                newest[key] = row
    came: dict[tuple[str, int], tuple[int, float]] = {}
    for said in world.outcomes:
        if said.revision > came.get(said[:2], (-1, 0.0))[0]:
            came[said[:2]] = said.revision, said.value
    rows = list(newest.values())
    if not rows:
        return None
    known = sum(1 + r.revision + 1 + came.get((r.symbol, r.ts), (-1, 0.0))[0] for r in rows)
    pairs = [(r, came[r.symbol, r.ts][1]) for r in rows if (r.symbol, r.ts) in came]
    told = _numbers(pairs) | {"published": len(rows), "known": known}
    groups = {_group(world, r.symbol) for r in rows} if world.rules.groups else set()
    told["by_group"] = {}
    if len(groups) > 1:
        for name in groups:
            some = [(r, o) for r, o in pairs if _group(world, r.symbol) == name]
            told["by_group"][name] = _numbers(some) | {"published": sum(_group(world, r.symbol) == name for r in rows)}
    return told


def _group(world: World, symbol: str) -> str:
    named = ((n, p) for n, patterns in world.rules.groups.items() for p in patterns)
    return next((n for n, p in named if fnmatchcase(symbol, p)), "other")


def _numbers(pairs: Sequence[tuple[Row, float]]) -> dict[str, Any]:
    n = len(pairs)
    v, o = [r.value for r, _ in pairs], [x for _, x in pairs]
    signed = [(a > 0) == (b > 0) for a, b in zip(v, o, strict=True) if a != 0 and b != 0]
    return {
        "rows": n,
        "ic": _correlation(v, o),
        "hit_rate": sum(signed) / len(signed) if signed else None,
        "rmse": math.sqrt(sum((a - b) ** 2 for a, b in zip(v, o, strict=True)) / n) if n else None,
        "coverage": sum(a - 1.0 <= b <= a + 1.0 for a, b in zip(v, o, strict=True)) / n if n else None,
    }


def _correlation(v: Sequence[float], o: Sequence[float]) -> float | None:
    if len(v) < 2:
        return None
    mv, mo = sum(v) / len(v), sum(o) / len(o)
    vv, oo = sum((a - mv) ** 2 for a in v), sum((b - mo) ** 2 for b in o)
    if vv < 1e-12 or oo < 1e-12:
        return None
    return sum((a - mv) * (b - mo) for a, b in zip(v, o, strict=True)) / math.sqrt(vv * oo)


def paired(world: World, end: int) -> tuple[str, int] | None:
    """Of a challenger's window: the newest champion it has rows with whose outcomes are known, and how many."""
    span = (end - world.rules.panes * PANE_US - world.rules.horizon_us, end - world.rules.horizon_us)
    came = {said[:2] for said in world.outcomes}
    made: defaultdict[Who, set[tuple[str, int]]] = defaultdict(set)
    for row in world.rows:
        if span[0] < row.ts <= span[1] and not math.isnan(row.value) and (row.symbol, row.ts) in came:
            made[row.who].add((row.symbol, row.ts))
    theirs = {who: keys & rows for rows in [made[("9", "challenger")]] for who, keys in made.items() if who[1] == "champion"}
    both = max((who for who, keys in theirs.items() if keys), default=None)
    return None if both is None else (both[0], len(theirs[both]))
