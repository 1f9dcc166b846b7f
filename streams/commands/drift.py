"""`trading-ml drift`: why a column is said to drift, and whether what the monitor counted is what was stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.commands.models_session import Part, logs_apart
from streams.commands.report import Model, Monitor
from streams.commands.session import FAILED, connected_settings, plain_errors
from streams.commands.when import instant, iso, now_us

if TYPE_CHECKING:
    from collections.abc import Iterator

    from monitoring.joined import Scorer
    from monitoring.report.records import Column, Drift, Window
    from streams.drift_check import Checked
    from streams.history import History

app = typer.Typer(no_args_is_help=True, help="Why a column is said to drift, and whether the monitor counted what was stored.")

_NAMED = 20


@app.callback()
def group() -> None:
    """Why a column is said to drift, and whether the monitor counted what was stored."""


@app.command()
def explain(
    model: Model,
    version: Annotated[str | None, typer.Option("--version", help="Default the newest that had a window.")] = None,
    role: Annotated[Part, typer.Option(help="Of which role.")] = Part.CHAMPION,
    column: Annotated[str, typer.Option(help="A column of the model, or `worst`.")] = "worst",
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="The newest window that ended by then; ISO 8601 (UTC).")
    ] = None,
    svg: Annotated[Path | None, typer.Option("--svg", dir_okay=False, help="Write the histograms there as SVG.")] = None,
    monitor: Monitor = None,
) -> None:
    """Print one column's drift in one window: verdict, numbers, and its histogram beside training's."""
    with plain_errors(), logs_apart():
        from monitoring.histogram import histogram_svg, histogram_text
        from monitoring.reference import fold
        from monitoring.report.bars import counts_of
        from streams.app import registry_of
        from streams.history import history_of
        from streams.trainings import Trainings

        settings = connected_settings()
        until_us = None if at is None else instant(at, option="--at", before_us=now_us())
        history = history_of(settings, monitor_url=monitor)
        try:
            scorer, window = _window(history, model, version, role.value, until_us)
        finally:
            history.close()
        if window.drift is None:
            raise typer.BadParameter("the window holds no drift")
        found = _column(window.drift, column)
        typer.echo("\n".join(_explained(scorer, window, window.drift, found)))
        trained = Trainings(registry_of(settings), model).get(scorer.version)
        counts = counts_of(trained.reference, found)
        if counts is None:
            typer.echo("no histogram: the window was counted against another reference than the registry has", err=True)
            raise typer.Exit(FAILED)
        judged = fold(trained.reference, counts)
        if svg is None:
            typer.echo("\n" + histogram_text(trained.reference, found.name, judged, width=100))
            return
        try:
            svg.write_text(histogram_svg(trained.reference, found.name, judged), encoding="utf-8")
        except OSError as e:
            typer.echo(f"{svg} cannot be written ({e.strerror}); give another file", err=True)
            raise typer.Exit(FAILED) from e
        typer.echo(f"{svg}: histograms of {found.name}")


@app.command()
def verify(
    model: Model,
    from_: Annotated[str, typer.Option("--from", metavar="TIME", help="ISO 8601 (UTC), or a duration before --to.")] = "1d",
    to: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="ISO 8601 (UTC), or a duration ago. Default: the newest window.")
    ] = None,
    monitor: Monitor = None,
) -> None:
    """Count every window again from the rows stored, and compare with what the monitor recorded; exit 1 where they differ."""
    with plain_errors(), logs_apart():
        from streams.app import registry_of
        from streams.drift_check import check
        from streams.history import history_of
        from streams.report_material import newest_us
        from streams.trainings import Trainings

        settings = connected_settings()
        history = history_of(settings, monitor_url=monitor)
        try:
            end_us = (newest_us(history, model) or now_us()) if to is None else instant(to, option="--to", before_us=now_us())
            start_us = instant(from_, option="--from", before_us=end_us)
            checked = check(history, Trainings(registry_of(settings), model), model, start_us=start_us, end_us=end_us)
        finally:
            history.close()
        typer.echo("\n".join(_verified(checked, model, start_us, end_us)))
    if not checked or any(c.differences for c in checked):
        raise typer.Exit(FAILED)


def _window(history: History, model: str, version: str | None, role: str, until_us: int | None) -> tuple[Scorer, Window]:
    """The newest window with drift, and whose it is."""
    from monitoring.report.records import Records
    from streams.asking import FOREVER_US

    def told(start_us: int, end_us: int, columns: list[str] | None = None) -> list[dict[str, Any]]:
        rows = history.table("performance", start_us=start_us, end_us=end_us, model=model, columns=columns).to_pylist()
        return [r for r in rows if r["role"] == role and version in {None, r["version"]} and r["revision"] == 0]

    # First which it is: a record with all its columns is large, and there are many.
    ends = told(-FOREVER_US, FOREVER_US if until_us is None else until_us, ["window_end_us", "version", "role", "revision"])
    for end_us in sorted({r["window_end_us"] for r in ends}, reverse=True)[:_NAMED]:
        records = Records()
        records.add(told(end_us - 1, end_us))
        windows = [(scorer, w) for scorer, ws in records.windows().items() for w in ws if w.drift is not None]
        if windows:
            return max(windows, key=lambda found: (found[1].start_us, found[0]))
    whose = f"{model!r}{f' version {version}' if version is not None else ''} as {role}"
    when = "" if until_us is None else f" by {iso(until_us)}"
    typer.echo(f"no window of {whose} was judged for drift{when}; check --model, --version, --role and --at", err=True)
    raise typer.Exit(FAILED)


def _column(drift: Drift, name: str) -> Column:
    rank = {"critical": 0, "warn": 1, "stable": 2}
    if name == "worst" and drift.columns:
        return min(drift.columns, key=lambda c: (rank.get(c.verdict, 3), -(c.psi or 0.0), c.name))
    for column in drift.columns:
        if column.name == name:
            return column
    raise typer.BadParameter(f"there is no column {name!r}; there are {', '.join(c.name for c in drift.columns)}")


def _explained(scorer: Scorer, window: Window, drift: Drift, column: Column) -> Iterator[str]:
    times = None if column.psi is None else column.psi / drift.threshold
    yield f"{scorer.model} {scorer.role} version {scorer.version}, window {iso(window.start_us)} to {iso(window.end_us)}"
    yield (
        f"window      {_words(drift.verdict)}: {drift.rows:,} rows, threshold {drift.threshold:g}, at least "
        f"{drift.min_samples:,} rows, false discovery rate {drift.false_discovery_rate:g}"
    )
    yield f"column      {column.name}: {_words(column.verdict)}{', judged on the rows present' if column.warming else ''}"
    yield f"PSI         {_number(column.psi)}, {_number(times)} times the threshold"
    yield f"p           {_number(column.p_adjusted)} adjusted for all columns; {_number(column.effective_rows)} effective rows"
    if column.kind == "numeric":
        yield f"KS          {_number(column.ks)}"
    yield f"missing     {_number(column.missing_rate)}, in training {_number(column.missing_rate_trained)}"
    if column.kind == "levels":
        yield f"range       {_number(column.above_rate)} are levels training never saw"
    else:
        yield f"range       {_number(column.below_rate)} below training's, {_number(column.above_rate)} above"


def _verified(checked: list[Checked], model: str, start_us: int, end_us: int) -> Iterator[str]:
    if not checked:
        yield f"no window of {model!r} was recorded from {iso(start_us)} to {iso(end_us)}; check --model, --from and --to"
        return
    for c in checked:
        same = c.windows - len(c.differences)
        who = f"{c.scorer.role} version {c.scorer.version}"
        yield f"{who}: {c.windows:,} windows, {same:,} equal, counted again from {c.rows:,} rows"
        for d in c.differences[:_NAMED]:
            if d.late:
                why = f"{d.late:,} rows are stored that were not counted: they came after the window closed"
            elif d.lacking:
                why = f"{d.lacking:,} rows were counted that are not stored: the warehouse is behind, or lost them"
            else:
                why = "as many rows, other values"
            more = f" and {len(d.columns) - 5} more" if len(d.columns) > 5 else ""  # noqa: PLR2004 - so many fit a line
            yield f"  {iso(d.start_us)} to {iso(d.end_us)}: {', '.join(d.columns[:5])}{more}: {why}"
        if len(c.differences) > _NAMED:
            yield f"  and {len(c.differences) - _NAMED:,} more windows"


def _number(x: float | None) -> str:
    return "not known" if x is None else f"{x:.4g}"


def _words(verdict: str) -> str:
    return verdict.replace("_", " ")
