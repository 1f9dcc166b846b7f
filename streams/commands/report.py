"""`trading-ml report`: one model's performance over a span, as one HTML page."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.commands.models_session import logs_apart
from streams.commands.session import FAILED, connected_settings, plain_errors
from streams.commands.when import instant, iso, now_us

if TYPE_CHECKING:
    from streams.history import History

Model = Annotated[str, typer.Option(help="The registered model.")]
Monitor = Annotated[str | None, typer.Option(metavar="URL", help="Ask this monitor, such as http://127.0.0.1:8001.")]
_SPAN = "7d"


def report(
    model: Model,
    from_: Annotated[
        str | None, typer.Option("--from", help=f"ISO 8601 (UTC), or a duration before --to. Default {_SPAN}.", metavar="TIME")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="ISO 8601 (UTC), or a duration ago. Default: the newest window.", metavar="TIME")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", dir_okay=False, help="Where the page goes.")] = Path("report.html"),
    monitor: Monitor = None,
) -> None:
    """Write one model's report: verdict, quality, drift, latency, versions, alerts, on one page that needs nothing else."""
    with plain_errors(), logs_apart():
        from monitoring.report.page import report_page
        from streams.app import registry_of
        from streams.history import history_of
        from streams.report_material import gather
        from streams.trainings import Trainings

        settings = connected_settings()
        history = history_of(settings, monitor_url=monitor)
        try:
            start_us, end_us = _span(history, model, from_, to)
            until_us = end_us if to is not None else max(end_us, now_us())
            material = gather(history, settings, model, start_us=start_us, end_us=end_us, alerts_until_us=until_us)
        finally:
            history.close()
        trainings = Trainings(registry_of(settings), model)
        material.reference = lambda scorer: None if (t := trainings.find(scorer.version)) is None else t.reference
        material.made_us = now_us()
        words = ["trading-ml", "report", "--model", model, "--from", iso(start_us), "--to", iso(end_us), "-o", str(out)]
        material.how = [("command", shlex.join(words)), *material.how]
        page = report_page(material)
        try:
            out.write_text(page, encoding="utf-8")
        except OSError as e:
            typer.echo(f"{out} cannot be written ({e.strerror}); give another file with -o", err=True)
            raise typer.Exit(FAILED) from e
        typer.echo(f"{out}: {model}, {iso(start_us)} to {iso(end_us)}, {len(page) / 1e6:.1f} MB")


def _span(history: History, model: str, from_: str | None, to: str | None) -> tuple[int, int]:
    """Start excluded, end included."""
    from streams.report_material import newest_us

    if to is not None:
        end_us = instant(to, option="--to", before_us=now_us())
    else:
        newest = newest_us(history, model)
        end_us = now_us() if newest is None else newest
    start_us = instant(_SPAN if from_ is None else from_, option="--from", before_us=end_us)
    if start_us >= end_us:
        raise typer.BadParameter(f"--from {iso(start_us)} is not before --to {iso(end_us)}")
    return start_us, end_us
