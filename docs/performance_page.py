"""docs/performance.md, from the files of results in benchmarks/: no figure is typed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"

_PAGE = """# Performance

What the inference worker costs, beside what, and where the time goes. Every figure comes from a file of results in
[benchmarks/](../benchmarks/README.md), which says how it was measured; this page is made from them by `make docs`.
Absolute figures are those of one small machine ({cpu}, {cores} cores, Python {python}). Trust the ratios.

## The worker, a hand-written loop, other frameworks

`make bench`: 500 symbols, 20 features, 80 columns (lags of 0, 1, 5, 15 bars), one core for the contender, the broker on
the other; every contender's records were compared with a reference, bit for bit, before its time counted.

{contenders}

{ratios}

What to make of it:

- The loop is what a strong engineer writes for this one job; what it leaves out (late rows, revisions, conflicts,
  recovery, rebalances, swaps, back-pressure) stands in its docstring. One that writes its state after each batch, as
  such loops do, is as fast as the worker. One that writes behind, as the worker does, is faster: the rest is what the
  guarantees and Faust cost.
- The frameworks share our decoding, scoring and record code, score in batches where they can, and write no inference
  log ([in their favour](../benchmarks/README.md)). {best} is the fastest of them{stateless}, and even the hand-written
  loop that writes behind is only {loop_over_best:.1f} times as fast as it: with JSON rows in Python, decoding, hashing
  and encoding are most of a row's cost, whoever runs it. We had aimed at 2 times the best framework and 3 times the
  best durable one ({durable}); measured are {over_best:.2f} and {over_durable:.2f}.
- Where throughput matters, send frames: {frames:.2f} times the rows with predictions still going out one by one,
  {frames_out:.2f} times with predictions as frames too ([frames.md](frames.md)).
- Latency is that of the embedded broker, some 5 ms of which are its own.

## Where a row's microseconds go

`python -m benchmarks.costs`: CPU time of all threads, user and system, split by a sampling profiler. The profiler slows
the worker a little; its shares are what counts.

{costs}

## Symbols and models

`python -m benchmarks.scaling`, without Kafka: decode to records, with the share of a checkpoint that packs touched
windows.

![cost of a row by symbols](cost-by-symbols.svg) ![cost of a prediction by models](cost-by-models.svg)

{symbols}

Windows of {most_symbols:,} symbols no longer fit the processor's cache, which is probably what a row
costs more there beside packing: with so many symbols a window is touched only a few times between two checkpoints. Models that
read the same columns share decode, windows, vectors and hashes: a second one costs its scoring, its records and its
log.

{models}

## The model's share: runtimes for trees

`python -m benchmarks.runtimes`: 100 trees of 31 leaves, 80 columns, one thread. A spec may name `runtime: onnx` or
`lleaves` ([topics.md](topics.md#the-serving-spec)); both answer with LightGBM's very bits, alone and in any batch, or
the version is not put to use. The step is the whole path of a 500-row chunk without Kafka.

{runtimes}

A runtime is offered only if it is bit-equal and row-independent: treelite's compiled code is not on thresholds'
neighbours, nor is onnxmltools' float32 conversion. `onnx` is the first to try: its graph is made in memory from checked
trees, it loads in milliseconds, and LightGBM need not be imported. `lleaves` compiles for seconds at every load, and
pays where the model is most of the cost.{swaps}"""

_SWAPS = """

## While versions change

`python -m benchmarks.swaps`: 2,000 rows a second, in every other part of the run a promotion every {every:g} seconds to a version
the worker has never seen; half of them change what windows keep. p99 with swaps over p99 without, in the same round: {ratio:.2f}
(median; {low:.2f} to {high:.2f}); at most {bar} is the bar.

{table}"""


def page(folder: Path = BENCHMARKS) -> str:
    """The text of docs/performance.md."""
    results, costs, scaling, runtimes = (_read(folder, name) for name in ("results", "costs", "scaling", "runtimes"))
    best, durable = results["best"]["framework"], results["best"]["durable_framework"]
    median = {pair: r["median"] for pair, r in results["ratios"].items()}
    rate = {name: c["rows_per_s"] for name, c in results["contenders"].items()}
    return _PAGE.format(
        cpu=results["machine"]["cpu"],
        cores=results["machine"]["cores"],
        python=results["machine"]["python"],
        contenders=_contenders(results),
        ratios=_ratios(results),
        best=f"`{best}`",
        stateless="" if best == durable else ", and keeps no state that lasts",
        durable=f"`{durable}`",
        over_best=median[f"ours/{best}"],
        over_durable=median[f"ours/{durable}"],
        loop_over_best=rate["tuned_loop_write_behind"] / rate[best],
        frames=median["ours_frames/ours"],
        frames_out=median["ours_frames_out/ours"],
        costs=_costs(costs),
        symbols=_cases(scaling["by_symbols"], "symbols", "us_per_row"),
        most_symbols=scaling["by_symbols"][-1]["symbols"],
        models=_cases(scaling["by_models"], "models", "us_per_prediction"),
        runtimes=_runtimes(runtimes),
        swaps=_swaps(_read(folder, "swaps")),
    )


def _read(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return found


def _table(head: str, rows: list[list[str]]) -> str:
    columns = head.split(" | ")
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _contenders(results: dict[str, Any]) -> str:
    forms = {"rows_per_s": ",.0f", "us_per_row": ".1f", "rss_mb": ".0f", "p50_ms": ".0f", "p99_ms": ".0f"}
    forms |= {"p50_ms_5000": ".0f", "p99_ms_5000": ".0f"}
    rows = [[f"`{name}`", *(_number(c[k], f) for k, f in forms.items())] for name, c in results["contenders"].items()]
    return _table("contender | rows/s | CPU µs/row | RSS MB | p50 ms at 2,000/s | p99 ms | p50 ms at 5,000/s | p99 ms", rows)


def _ratios(results: dict[str, Any]) -> str:
    rows = []
    for pair, r in results["ratios"].items():
        over, under = pair.split("/")
        p99 = results["p99_ratios"].get(pair)
        rows.append(
            [
                f"`{over}` over `{under}`",
                f"{r['median']:.2f}",
                f"{r['min']:.2f} to {r['max']:.2f}",
                str(r["pairs"]),
                "" if p99 is None else f"{p99['median']:.2f}",
            ]
        )
    return _table("throughput | median | range | pairs | p99 at 2,000/s, ratio", rows)


def _costs(costs: dict[str, Any]) -> str:
    rows = [[name, f"{us:.2f}", f"{us / costs['us_per_row']:.0%}"] for name, us in costs["parts"].items()]
    return _table("part | µs a row | share", [*rows, ["all threads", f"{costs['us_per_row']:.2f}", ""]])


def _cases(cases: list[dict[str, Any]], across: str, figure: str) -> str:
    what = figure.removeprefix("us_per_")
    rows = [[f"{c[across]:,}", f"{c[figure]:.2f}", f"{c['packing_us_per_row']:.2f}"] for c in cases]
    return _table(f"{across} | µs a {what} | packing, µs a row", rows)


def _runtimes(runtimes: dict[str, Any]) -> str:
    rows = [
        [
            f"`{name}`",
            "yes" if r["served"] else "no",
            "none" if not r["differing"] else f"{r['differing']:.1%}",
            *(f"{r['us_per_row'][n]:.1f}" for n in ("1", "100", "1000")),
            f"{r['load_s']:.2f}",
            f"{r['step_us_per_row']:.1f}",
            f"{r['model_share']:.0%}",
        ]
        for name, r in runtimes["runtimes"].items()
    ]
    head = (
        "runtime | served | answers of other bits | µs a row, alone | in 100 | in 1,000 | load s | step, µs a row | model's share"
    )
    return _table(head, rows)


def _swaps(swaps: dict[str, Any]) -> str:
    names = {"without": "without swaps", "with": f"with {swaps['swaps']} swaps"}
    rows = [[text, *(f"{swaps[name][k]:.0f}" for k in ("p50_ms", "p99_ms", "max_ms"))] for name, text in names.items()]
    low, high = swaps["ratio_range"]
    return _SWAPS.format(
        every=swaps["seconds_between_swaps"],
        ratio=swaps["ratio"],
        low=low,
        high=high,
        bar=swaps["bar"],
        table=_table("latency | p50 ms | p99 ms | greatest ms", rows),
    )
