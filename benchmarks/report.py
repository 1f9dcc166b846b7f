"""Runs to ratios: a table to read, results.json to keep. A ratio is of two runs of one round."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from benchmarks.contenders import CONTENDERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.measure import Figures

_FIGURES: Final = ("rows_per_s", "us_per_row", "core_share", "rss_mb", "p50_ms", "p99_ms", "p50_ms_5000", "p99_ms_5000")
_RATIOS: Final = {
    "ratios": ("throughput", "rows_per_s"),
    "cpu_ratios": ("CPU per row", "us_per_row"),
    "p99_ratios": ("p99 at 2,000 rows/s", "p99_ms"),
    "p99_ratios_5000": ("p99 at 5,000 rows/s", "p99_ms_5000"),
}
_WIDTHS: Final = (10, 18, 12, 7, 8, 8, 8, 11, 11)


def results(runs: Sequence[Figures], *, machine: Mapping[str, Any], job: Mapping[str, Any]) -> dict[str, Any]:
    """The content of results.json: medians by contender, ratios by pair, the best frameworks, and every run."""
    names = list(dict.fromkeys(r.contender for r in runs))
    pairs = [CONTENDERS[n].ratio for n in names if CONTENDERS[n].baseline != n]
    peers = [n for n in names if CONTENDERS[n].peer]
    rates = {n: statistics.median(r.rows_per_s for r in runs if r.contender == n) for n in peers}
    durable = {n: rate for n, rate in rates.items() if CONTENDERS[n].durable}
    return {
        "contenders": {n: _about(n, [r for r in runs if r.contender == n]) for n in names},
        **{key: _ratios(runs, pairs, figure) for key, (_, figure) in _RATIOS.items()},
        "best": {
            "framework": max(rates, key=rates.__getitem__, default=None),
            "durable_framework": max(durable, key=durable.__getitem__, default=None),
        },
        "machine": dict(machine),
        "job": dict(job),
        "runs": [{k: _rounded(v) for k, v in asdict(r).items()} for r in runs],
    }


def table(found: Mapping[str, Any]) -> str:
    """The results as a person reads them."""
    columns = "rows/s", "min-max", "CPU us/row", "core", "RSS MB", "p50 ms", "p99 ms", "p50 at 5k", "p99 at 5k"
    lines = [f"{'contender':<34}" + "".join(f"{c:>{w}}" for c, w in zip(columns, _WIDTHS, strict=True))]
    for name, f in found["contenders"].items():
        rates = [r["rows_per_s"] for r in found["runs"] if r["contender"] == name]
        cells = (
            f"{f['rows_per_s']:,.0f}",
            f"{min(rates):,.0f}-{max(rates):,.0f}",
            f"{f['us_per_row']:.2f}",
            f"{f['core_share']:.0%}",
            f"{f['rss_mb']:.0f}",
            *("-" if f[p] is None else f"{f[p]:.1f}" for p in ("p50_ms", "p99_ms", "p50_ms_5000", "p99_ms_5000")),
        )
        lines.append(f"{name:<34}" + "".join(f"{c:>{w}}" for c, w in zip(cells, _WIDTHS, strict=True)))
    for key, (title, _) in _RATIOS.items():
        lines += [
            "",
            *(
                f"{title}, {pair}: median {r['median']:.2f}, min {r['min']:.2f}, max {r['max']:.2f} of {r['pairs']} pairs"
                for pair, r in found[key].items()
            ),
        ]
    best = found["best"]
    if best["framework"] is not None:
        lines += ["", f"best other framework: {best['framework']}; best with durable state: {best['durable_framework']}"]
    checked = sum(r["records_checked"] for r in found["runs"])
    vectors = sum(r["vectors_checked"] for r in found["runs"])
    lines += ["", f"{checked:,} prediction records and {vectors:,} logged vectors compared with the reference: all bit-equal"]
    return "\n".join(lines)


def _about(name: str, runs: Sequence[Figures]) -> dict[str, Any]:
    """Medians, and what is needed to read them."""
    c = CONTENDERS[name]
    about = {"model": c.model, "input": c.wire_in, "predictions": c.wire_out, "durable_state": c.durable, "runs": len(runs)}
    return {f: _median([getattr(r, f) for r in runs]) for f in _FIGURES} | about


def _ratios(runs: Sequence[Figures], pairs: Sequence[tuple[str, str]], figure: str) -> dict[str, Any]:
    """By pair, where both have the figure in at least one round."""
    at = {(r.contender, r.round): getattr(r, figure) for r in runs}
    found = {}
    for over, under in dict.fromkeys(pairs):
        both = [(at[over, n], at[under, n]) for name, n in at if name == over and (under, n) in at]
        each = [a / max(b, 1e-9) for a, b in both if a is not None and b is not None]
        if each:
            found[f"{over}/{under}"] = {
                "median": _rounded(statistics.median(each)),
                "min": _rounded(min(each)),
                "max": _rounded(max(each)),
                "pairs": len(each),
                "each": [_rounded(x) for x in each],
            }
    return found


def _median(values: Sequence[float | None]) -> float | None:
    """Of those that are there; None when a contender has none, as when it cannot keep up with a rate."""
    there = [v for v in values if v is not None]
    return _rounded(statistics.median(there)) if there else None


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value
