"""docs/sizing.md, from benchmarks/workers.json and the sizing model: no figure is typed by hand."""

from __future__ import annotations

import json
from itertools import product
from typing import TYPE_CHECKING, Any

from benchmarks.sizing.checks import checks
from benchmarks.sizing.constants import RESULTS, WIRES, costs_of, median
from benchmarks.sizing.model import CHANGELOG_KEPT_S, ROCKSDB_MB, Wanted, size
from benchmarks.sizing.table import LINES, human_bytes, human_s, short
from docs.sizing_text import PAGE, QUICK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.sizing.checks import Check
    from benchmarks.sizing.model import Costs

SIZES = ((1_000, 2_000.0), (10_000, 100_000.0), (100_000, 1_000_000.0))
"""Symbols and rows a second of the worked table."""
COMMITS_S = (1.0, 5.0, 10.0, 30.0)


def page(folder: Path = RESULTS.parent) -> str:
    """The text of docs/sizing.md."""
    found, results, scaling = (_read(folder, name) for name in ("workers", "results", "scaling"))
    costs = {wire: costs_of(found, wire) for wire in WIRES}
    largest = Wanted(symbols=SIZES[-1][0], rows_per_s=SIZES[-1][1], wire="frames")
    monitor = found["monitor"]
    return PAGE.format(
        quick=QUICK if found["quick"] else "",
        cpu=found["machine"]["cpu"],
        cores=found["machine"]["cores"],
        python=found["machine"]["python"],
        kafka=found["kafka"],
        minutes=found["machine"]["minutes"],
        commit=human_s(found["commit_s"]),
        drains=_drains(found["drains"]),
        recovery=_recovery(found["recovery"]),
        imports=_spread(found["import_s"], ".1f"),
        rebalance=_rebalance(found["rebalance"]["events"]),
        rebalance_rows=f"{found['rebalance']['rows_per_s']:,}",
        session=human_s(found["rebalance"]["session_s"]),
        repeated=found["rebalance"]["repeated"],
        monitor_us=_spread(monitor["us_per_row"], ".0f"),
        monitor_rate=f"{median(monitor, 'rows_per_s'):,.0f}",
        monitor_bytes=human_bytes(median(monitor, "memory_bytes_per_row")),
        journal_bytes=human_bytes(median(monitor, "journal_bytes_per_row")),
        constants=_constants(costs),
        second_model=f"{scaling['by_models'][1]['us_per_row'] / scaling['by_models'][0]['us_per_row'] - 1:.0%}",
        times=short(SIZES[-1][1] / max(median(d, "rows_per_s") for d in found["drains"])),
        kept=human_s(CHANGELOG_KEPT_S),
        rocksdb=f"{ROCKSDB_MB:.0f}",
        sizes=_sizes(costs),
        commits=_commits(largest, costs["frames"]),
        checks=_checks(checks(found, results, scaling)),
    )


def _read(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return found


def _table(head: str, rows: Iterable[Sequence[str]]) -> str:
    columns = head.split(" | ")
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _spread(figures: Mapping[str, float], form: str) -> str:
    middle, least, most = (format(figures[k], form) for k in ("median", "min", "max"))
    return middle if least == most else f"{middle} ({least} to {most})"


def _drains(drains: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        [
            f"{d['input']} → {d['predictions']}",
            f"{d['symbols']:,}",
            str(d["workers"]),
            _spread(d["rows_per_s"], ",.0f"),
            _spread(d["worker_us_per_row"], ".1f"),
            _spread(d["broker_in_us_per_row"], ".1f"),
            _spread(d["broker_us_per_row"], ".1f"),
            _spread(d["rss_mb"], ".0f"),
        ]
        for d in drains
    ]
    head = "features → predictions | symbols | workers | rows/s | worker CPU µs/row | broker, rows in | broker, the rest | RSS MB"
    return _table(head, rows)


def _recovery(runs: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        [
            f"{r['symbols']:,}, {r['folder']}",
            f"{r['windows']:,} ({r['mb']:,.0f} MB)" if r["folder"] == "empty" else "none",
            *(_spread(r[phase], ".1f") for phase in ("load_s", "join_s", "recover_s", "ready_s")),
            f"{r['windows'] / median(r, 'recover_s'):,.0f}" if r["folder"] == "empty" else "",
            f"{r['mb'] / median(r, 'recover_s'):,.0f}" if r["folder"] == "empty" else "",
        ]
        for r in runs
    ]
    head = "symbols, folder | windows read | load s | join s | recover s | start to ready s | windows/s | MB/s"
    return _table(head, rows)


def _rebalance(events: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        [
            kind,
            str(e["longest_s"]["runs"]),
            _spread(e["longest_s"], ".2f"),
            _spread(e["shortest_s"], ".2f"),
            _spread(e["settled_s"], ".1f"),
            f"{e['changelog_windows']['max']:,.0f}",
        ]
        for kind, e in events.items()
    ]
    head = "what happens | times | longest gap s, worst partition | best partition | all shared out again after s"
    return _table(f"{head} | windows in the changelog, at most", rows)


def _constants(costs: Mapping[str, Costs]) -> str:
    said: tuple[tuple[str, Callable[[Costs], str]], ...] = (
        ("worker, CPU of a row", lambda c: f"{c.row_us:.1f} µs"),
        ("worker, CPU of a window written", lambda c: f"{c.window_us:.1f} µs"),
        ("broker, CPU of a row, one copy", lambda c: f"{c.broker_row_us:.1f} µs"),
        ("a row of features", lambda c: f"{c.features_bytes:,.0f} bytes"),
        ("its prediction", lambda c: f"{c.predictions_bytes:,.0f} bytes"),
        ("its line in the log", lambda c: f"{c.log_bytes:,.0f} bytes"),
        ("a window in the changelog", lambda c: f"{c.window_bytes:,.0f} bytes"),
        ("a symbol in memory", lambda c: f"{c.symbol_bytes:,.0f} bytes"),
        ("a worker with few symbols", lambda c: f"{c.base_mb:,.0f} MB"),
        ("recovery, before anything is read", lambda c: f"{c.recover_s:.1f} s"),
        ("changelog read back by a worker", lambda c: f"{c.recovery_bytes_per_s / 1e6:.0f} MB/s"),
        ("gap of a rebalance", lambda c: f"{c.pause_s:.1f} s"),
        ("monitor, CPU of a row", lambda c: f"{c.monitor_us:.0f} µs"),
    )
    return _table(f"constant | {' | '.join(costs)}", [[name, *(form(c) for c in costs.values())] for name, form in said])


def _sizes(costs: Mapping[str, Costs]) -> str:
    wanted = [Wanted(symbols=s, rows_per_s=r, wire=wire) for (s, r), wire in product(SIZES, costs)]
    answers = [size(w, costs[w.wire]) for w in wanted]
    head = " | ".join(f"{w.symbols:,} symbols, {w.rows_per_s:,.0f} rows/s, {w.wire}" for w in wanted)
    return _table(f" | {head}", [[name, *(said(a) for a in answers)] for name, said in LINES])


def _commits(want: Wanted, costs: Costs) -> str:
    rows = []
    for commit_s in COMMITS_S:
        one = Wanted(symbols=want.symbols, rows_per_s=want.rows_per_s, wire=want.wire, commit_s=commit_s)
        answer = size(one, costs)
        rows.append(
            [
                human_s(commit_s),
                f"{answer.windows_per_s:,.0f}",
                f"{human_bytes(answer.changelog_bytes_per_s)}/s",
                f"{answer.workers}",
                human_s(answer.rebuild_s),
                human_s(answer.caught_up_s),
                f"{want.rows_per_s * commit_s / answer.workers:,.0f}",
            ]
        )
    head = "`inference.commit_interval` | windows/s | changelog | workers | rebuilt in | no lag after"
    return _table(f"{head} | rows a killed worker repeats, at most", rows)


def _checks(found: Iterable[Check]) -> str:
    rows = [[c.what, _figure(c.predicted, c.unit), _figure(c.measured, c.unit), f"{c.error:+.0%}"] for c in found]
    return _table("what | model | measured | error", rows)


def _figure(value: float, unit: str) -> str:
    return f"{value:.3f}" if not unit else f"{short(value)} {unit}"
