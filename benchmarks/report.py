"""Runs to ratios: a table to read, results.json to keep. A ratio is of two runs of one round, one after the other."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from benchmarks.contenders import OURS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.measure import Figures

_FIGURES = ("rows_per_s", "us_per_row", "core_share", "rss_mb", "p50_ms", "p99_ms")


def results(runs: Sequence[Figures], *, machine: Mapping[str, Any], job: Mapping[str, Any]) -> dict[str, Any]:
    """The content of results.json: medians by contender, ratios by pair, and every run."""
    names = list(dict.fromkeys(r.contender for r in runs))
    others = [n for n in names if n != OURS]
    return {
        "contenders": {n: _medians([r for r in runs if r.contender == n]) for n in names},
        "ratios": {f"{OURS}/{n}": _ratio(runs, n, "rows_per_s") for n in others},
        "cpu_ratios": {f"{OURS}/{n}": _ratio(runs, n, "us_per_row") for n in others},
        "p99_ratios": {f"{OURS}/{n}": _ratio(runs, n, "p99_ms") for n in others},
        "machine": dict(machine),
        "job": dict(job),
        "runs": [{k: _rounded(v) for k, v in asdict(r).items()} for r in runs],
    }


def table(found: Mapping[str, Any]) -> str:
    """The results as a person reads them."""
    lines = [
        f"{'contender':<26}{'rows/s':>10}{'min-max':>18}{'CPU us/row':>12}{'core':>7}{'RSS MB':>8}{'p50 ms':>8}{'p99 ms':>8}"
    ]
    for name, f in found["contenders"].items():
        rates = [r["rows_per_s"] for r in found["runs"] if r["contender"] == name]
        spread = f"{min(rates):,.0f}-{max(rates):,.0f}"
        lines.append(
            f"{name:<26}{f['rows_per_s']:>10,.0f}{spread:>18}{f['us_per_row']:>12.2f}{f['core_share']:>7.0%}"
            f"{f['rss_mb']:>8.0f}{f['p50_ms']:>8.1f}{f['p99_ms']:>8.1f}"
        )
    for title, key in (("throughput", "ratios"), ("CPU per row", "cpu_ratios"), ("p99", "p99_ratios")):
        lines.append("")
        lines += [
            f"{title}, {pair}: median {r['median']:.2f}, min {r['min']:.2f}, max {r['max']:.2f} of {r['pairs']} pairs"
            for pair, r in found[key].items()
        ]
    checked = sum(r["records_checked"] for r in found["runs"])
    vectors = sum(r["vectors_checked"] for r in found["runs"])
    lines += ["", f"{checked:,} prediction records and {vectors:,} logged vectors compared with the reference: all bit-equal"]
    return "\n".join(lines)


def _medians(runs: Sequence[Figures]) -> dict[str, float]:
    return {f: _rounded(statistics.median(getattr(r, f) for r in runs)) for f in _FIGURES}


def _ratio(runs: Sequence[Figures], other: str, figure: str) -> dict[str, Any]:
    by_round = {(r.contender, r.round): getattr(r, figure) for r in runs}
    rounds = [n for name, n in by_round if name == OURS and (other, n) in by_round]
    each = [by_round[OURS, n] / max(by_round[other, n], 1e-9) for n in rounds]
    return {
        "median": _rounded(statistics.median(each)),
        "min": _rounded(min(each)),
        "max": _rounded(max(each)),
        "pairs": len(each),
        "each": [_rounded(x) for x in each],
    }


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value
