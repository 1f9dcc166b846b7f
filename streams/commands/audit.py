"""`trading-ml audit`: hold what the platform promises against real rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from config.durations import format_duration, parse_duration
from streams.commands.session import FAILED, plain_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from models.spec import ServingSpec
    from streams.audit import AuditReport, Leak
    from streams.offline import Row

app = typer.Typer(no_args_is_help=True, help="Hold what the platform promises against real rows.")


@app.callback()
def group() -> None:
    """Hold what the platform promises against real rows."""  # the callback keeps `leaks` a word of its own


@app.command()
def leaks(
    rows: Annotated[Path | None, typer.Option(help="CSV, Parquet, or newline-delimited JSON of feature rows.")] = None,
    feature_set: Annotated[str | None, typer.Option(help="Feature set of a CSV or Parquet file.")] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Rows of the demo, and its model unless another is named.")] = False,  # noqa: FBT002 - a switch of the command line
    model: Annotated[str | None, typer.Option(help="Model in the registry.")] = None,
    alias: Annotated[str, typer.Option(help="Which of its versions.")] = "champion",
    spec: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Serving spec instead of a model.")] = None,
    publication_lag: Annotated[
        list[str] | None,
        typer.Option(metavar="SET=DURATION", help="True lag of a feature set, for rows that carry no ts_known_us; repeatable."),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="How many predictions to try, half of them in each order.")] = 200,
    seed: Annotated[int, typer.Option(help="The same seed tries the same predictions.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,  # noqa: FBT002 - a switch of the command line
) -> None:
    """Change every row a sampled prediction could not have seen, and check that its vector does not move; exit 1 if one does.

    The rows are tried in two orders: as they stand (the demo's: as they became known), and by event time, as a backfill
    would send them.
    """
    if (rows is None) != demo:
        raise typer.BadParameter("give either --rows FILE or --demo")
    if (model is not None and spec is not None) or (model is None and spec is None and not demo):
        raise typer.BadParameter("give either --model NAME or --spec FILE")
    with plain_errors():
        from streams.audit import audit, backfilled
        from streams.offline import through_pipeline

        name, version, wanted = _wanted(model, alias, spec)
        stated = dict(_lag(text, wanted) for text in publication_lag or ())
        lags_us = {n: s.publication_lag_us for n, s in wanted.feature_sets.items()} | stated
        given = _demo_rows() if rows is None else _file_rows(rows, feature_set)
        known = _known_times(given, wanted, stated)
        given = [row for row in given if row.feature_set in lags_us]
        orders = {"as they stand": given, "by event time": backfilled(given, lags_us)}
        vectorize = through_pipeline(wanted, version=version)
        reports = {
            order: audit(some, vectorize, wanted, lags_us=lags_us, samples=(samples + 1) // 2, seed=seed)
            for order, some in orders.items()
        }
        typer.echo(_as_json(name, known, reports) if as_json else _as_table(name, known, reports))
    if any(report.leaks for report in reports.values()):
        raise typer.Exit(FAILED)


def _wanted(model: str | None, alias: str, spec: Path | None) -> tuple[str, str, ServingSpec]:
    """What to call the model audited, its version, its spec."""
    if model is not None:
        from config import load_settings
        from streams.app import registry_of

        source = registry_of(load_settings())
        version = source.resolve(model, alias)
        return f"{model} version {version} ({alias})", version, source.load_spec(model, version)
    if spec is not None:
        from models.spec import decode_spec

        found = decode_spec(spec.read_bytes())
        return f"{found.model} as in {spec}", "spec", found
    from streams.demo.training import market_spec

    found = market_spec()
    return f"{found.model} of the demo", "demo", found


def _lag(text: str, spec: ServingSpec) -> tuple[str, int]:
    """A publication lag as the command line has it: (feature set, microseconds)."""
    name, _, duration = text.rpartition("=")
    if name not in spec.feature_sets:
        known = ", ".join(sorted(spec.feature_sets))
        raise typer.BadParameter(f"{text!r} is not SET=DURATION with a feature set of the model; it reads {known}")
    if duration in {"0", "0s"}:
        return name, 0
    try:
        return name, parse_duration(duration) // timedelta(microseconds=1)
    except ValueError as e:
        raise typer.BadParameter(f"{text!r}: the duration {e}") from e


def _file_rows(path: Path, feature_set: str | None) -> list[Row]:
    from streams.offline import parse_row
    from streams.rowfile import read_rows

    lines = read_rows(path, kind="features", feature_set=feature_set)
    return [parse_row(number, line.value) for number, line in enumerate(lines, 1)]


def _demo_rows() -> list[Row]:
    from streams.demo.rows import RowEncoder
    from streams.demo.scenarios import market_past
    from streams.offline import parse_row

    sets, _ = market_past()
    lines = [(s.ts_known_us, RowEncoder(s.feature_set, s.features).encode(s)) for s in sets]
    in_order = sorted(
        ((t, line) for times, some in lines for t, line in zip(times.tolist(), some, strict=True)), key=itemgetter(0)
    )
    return [parse_row(number, line) for number, (_, line) in enumerate(in_order, 1)]


def _known_times(rows: Sequence[Row], spec: ServingSpec, lags: Mapping[str, int]) -> dict[str, int]:
    """How many rows' known times are from where; rows of sets the model does not read apart."""
    counts = dict.fromkeys(("from_rows", "from_stated_lag", "from_spec", "not_read"), 0)
    for row in rows:
        if row.feature_set not in spec.feature_sets:
            counts["not_read"] += 1
        elif row.ts_known_us is not None:
            counts["from_rows"] += 1
        else:
            counts["from_stated_lag" if row.feature_set in lags else "from_spec"] += 1
    return counts


def _columns(reports: Iterable[AuditReport]) -> tuple[tuple[str, ...], list[str], list[str]]:
    """Columns in all; those seen to move with visible rows; those about which nothing is proved."""
    some = list(reports)
    columns = some[0].columns
    seen = {c for r in some for c in r.sensitive}
    return columns, [c for c in columns if c in seen], [c for c in columns if all(c in r.blind for r in some)]


def _as_json(name: str, known: Mapping[str, int], reports: Mapping[str, AuditReport]) -> str:
    columns, moved, blind = _columns(reports.values())
    orders = [
        {
            "order": order,
            "predictions": r.predictions,
            "without_prediction": r.without_prediction,
            "rows_perturbed": {"not_yet_known": r.not_yet_known, "later_in_log": r.later_in_log},
            "leaks": r.leaks.total(),
            "leaking_predictions": r.leaking_predictions,
            "leaks_by_column": r.leaks,
            "traced": [{**asdict(leak), "ahead_us": leak.ahead_us} for leak in r.named],
        }
        for order, r in reports.items()
    ]
    found: dict[str, Any] = {"model": name, "known_times": known, "columns": columns, "moved_with_visible_rows": moved}
    found |= {"nothing_proved_about": blind, "orders": orders, "leaks": sum(r.leaks.total() for r in reports.values())}
    return msgspec.json.format(msgspec.json.encode(found), indent=2).decode()  # NaN as null


def _as_table(name: str, known: Mapping[str, int], reports: Mapping[str, AuditReport]) -> str:
    columns, moved, blind = _columns(reports.values())
    times = f"{known['from_rows']:,} in the rows, {known['from_stated_lag']:,} by --publication-lag"
    if known["from_spec"]:
        times += f", {known['from_spec']:,} by the lag in the spec, which is taken to be true"
    lines = [
        f"model          {name}",
        f"known times    {times}",
        f"columns        {len(columns)}, of which {len(moved)} were seen to move with visible rows",
        "",
        "                                    rows perturbed",
        "rows taken       predictions   not yet known   later in log   leaks",
    ]
    if known["not_read"]:
        lines.insert(2, f"rows not read  {known['not_read']:,} of feature sets the model does not read")
    lines += [
        f"{order:<14}{r.predictions:>14,}{r.not_yet_known:>16,}{r.later_in_log:>15,}{r.leaks.total():>8,}"
        for order, r in reports.items()
    ]
    for order, r in reports.items():
        if r.without_prediction:
            lines.append(f"{order}: {r.without_prediction:,} sampled rows gave no prediction")
        lines += [f"{order}: leak of {_leak(leak)}" for leak in r.named]
        traced = Counter(leak.column for leak in r.named)
        lines += [f"{order}: {n - traced[c]:,} more leaks of {c}" for c, n in r.leaks.items() if n > traced[c]]
    if blind:
        lines.append(f"nothing is proved about {', '.join(blind)}: no visible row moved it")
    return "\n".join(lines)


def _leak(leak: Leak) -> str:
    when = "in time, but it comes later in the log than the decision"
    if leak.ahead_us > 0:
        when = f"known {format_duration(timedelta(microseconds=leak.ahead_us))} after the decision"
    return (
        f"{leak.column} in {leak.prediction_id}, decided at {_utc(leak.ts_decision_us)}, holds {leak.before:g} from row "
        f"{leak.number} ({leak.feature_set}, event {_utc(leak.ts_event_us)}, revision {leak.revision}), {when}"
    )


def _utc(time_us: int) -> str:
    return f"{(datetime.fromtimestamp(0, UTC) + timedelta(microseconds=time_us)).isoformat().removesuffix('+00:00')}Z"
