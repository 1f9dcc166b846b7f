"""Results as JSON, and as the table in docs/reliability.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.soak.figures import after_warm_up, leaks, long_enough, trend_of

if TYPE_CHECKING:
    from collections.abc import Mapping

RESULTS = Path(__file__).with_name("results.json")
PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- soak: written by `python -m tests.soak.run --write` -->\n", "<!-- end of soak -->\n"
_TRENDS = (
    ("inference: resident memory", "inference_rss_mb", "MB"),
    ("inference: open files", "inference_fds", ""),
    ("inference: threads", "inference_threads", ""),
    ("inference: state folder (RocksDB)", "inference_state_mb", "MB"),
    ("monitor: resident memory", "monitor_rss_mb", "MB"),
    ("monitor: open files", "monitor_fds", ""),
    ("monitor: threads", "monitor_threads", ""),
    ("monitor: state folder (RocksDB)", "monitor_state_mb", "MB"),
)


def write_page(found: Mapping[str, Any]) -> None:
    """Write results.json, and the page's table from it."""
    lines = [f" {json.dumps(k)}: {json.dumps(v)}" for k, v in found.items() if k != "samples"]
    samples = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in found["samples"].items()]
    lines.append(' "samples": {\n' + ",\n".join(samples) + "\n }")
    RESULTS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    PAGE.write_text(with_figures(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")


def with_figures(page: str, found: Mapping[str, Any]) -> str:
    """The page with this run's figures in their place."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + figures(found) + END + after


def figures(found: Mapping[str, Any]) -> str:
    """The tables of one run, and what they are of."""
    grown = leaks(found)
    growing = f"\n**Grows and should not**: {', '.join(grown)}.\n" if grown else ""
    return f"{_trends(found)}\n{_latency(found)}\n{_sizes(found)}{growing}\n{_said(found)}"


def _trends(found: Mapping[str, Any]) -> str:
    first = after_warm_up(found).start
    warm = found["samples"]["at_s"][first] / 60
    out = f"| | after {warm:.1f} minutes | at the end | trend per hour |\n|---|--:|--:|--:|\n"
    for title, column, unit in _TRENDS:
        values, t = found["samples"][column], trend_of(found, column)
        moved = f"{_signed(t.slope)} ± {t.error:,.1f} {unit}".rstrip() if long_enough(found) else "too short to tell"
        out += f"| {title} | {_amount(values[first], unit)} | {_amount(values[-1], unit)} | {moved} |\n"
    return out


def _latency(found: Mapping[str, Any]) -> str:
    (p50, p99), _, (p50_last, p99_last) = found["latency_ms"]["thirds"]
    p50_most, p99_most = (max(minute[k] for minute in found["latency_ms"]["minutes"]) for k in (0, 1))
    inference, monitor = (max(found["samples"][f"{group}_behind"]) for group in ("inference", "monitor"))
    return (
        "| feature row to prediction | first third | last third | worst minute |\n|---|--:|--:|--:|\n"
        f"| median | {p50:.0f} ms | {p50_last:.0f} ms | {p50_most:.0f} ms |\n"
        f"| 99th percentile | {p99:.0f} ms | {p99_last:.0f} ms | {p99_most:.0f} ms |\n\n"
        f"Records not committed, at most: {inference:,.0f} of the inference group, {monitor:,.0f} of the monitor's.\n"
    )


def _sizes(found: Mapping[str, Any]) -> str:
    out = (
        "| changelog | written | newest values | on the broker, at most | at the end | of that compacted |\n"
        "|---|--:|--:|--:|--:|--:|\n"
    )
    for table, log in found["changelogs"].items():
        sizes = found["samples"][f"{table}_changelog_mb"]
        newest = f"{log['keys']:,} × {1000 * _value_mb(log):.1f} kB = {log['newest_mb']:.1f} MB"
        out += f"| {table} | {log['records'] * _value_mb(log):,.0f} MB | {newest} | {max(sizes):,.0f} MB "
        out += f"| {sizes[-1]:,.0f} MB | {log['compacted_mb']:,.1f} MB |\n"
    return out


def _value_mb(log: Mapping[str, Any]) -> float:
    return float(log["newest_mb"]) / max(1, int(log["keys"]))


def _said(found: Mapping[str, Any]) -> str:
    rows, job, duckdb = found["rows"], found["job"], found["duckdb"]
    windows = found["changelogs"]["windows"]
    hour_gb = windows["records"] * _value_mb(windows) / found["minutes"] * 60 / 1000
    compaction = ", ".join(f"`{k}={v}`" for k, v in found["compaction"].items())
    said = (
        f"Rows: {rows['sent']:,} sent, {rows['answered']:,} predicted, {rows['abstained']:,} of them abstained; "
        f"{rows['lost']} lost, {rows['repeated']} repeated, {rows['rejected']} rejected.\n\n"
    )
    said += (
        f"DuckDB: {duckdb['predictions']:,} predictions with their vectors and {duckdb['outcomes']:,} outcomes are "
        f"{duckdb['closed_mb']:,.0f} MB, {1e6 * duckdb['closed_mb'] / max(1, duckdb['predictions']):,.0f} MB a million rows.\n\n"
    )
    said += (
        f"Changelogs: {compaction}, so that they are compacted within the run. What is not compacted is the segment that is "
        f"written to. As created, that of the windows keeps every record for an hour: {hour_gb:.1f} GB at this pace.\n\n"
    )
    return said + (
        f"{found['rate']:,.0f} rows/s for {found['minutes']:g} minutes, {job['symbols']} symbols, {job['features']} features, "
        f"{job['columns']} columns, LightGBM, an outcome for every row, `monitoring.label_timeout={found['label_timeout']}`; "
        f"Apache Kafka {found['kafka']}, Python {found['python']}, {found['cores']} cores for everything. "
        f"Repeat with `{found['command']}`.\n"
    )


def _amount(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}".rstrip()


def _signed(value: float) -> str:
    return "+0.0" if abs(value) < 0.05 else f"{value:+,.1f}"
