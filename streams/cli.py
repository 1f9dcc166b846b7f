"""The command line: `trading-ml …`. Each command lives in `streams.commands` and imports what it needs when it runs."""

from __future__ import annotations

import typer

from streams.commands import audit, broker, config, drift, generate, models, produce, rejected, report, tail, topics, worker
from streams.commands.demo import demo
from streams.commands.train_demo import train_demo

app = typer.Typer(
    name="trading-ml",
    help="Features in, lagged windows joined, the registry's champion scored, predictions out; drift found, alerts raised.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(demo)
app.command()(broker.broker)
app.command(name="train-demo")(train_demo)
app.command()(worker.worker)
app.command()(produce.produce)
app.command()(generate.generate)
app.command()(tail.tail)
app.command()(report.report)
app.add_typer(topics.app, name="topics")
app.add_typer(models.app, name="models")
app.add_typer(config.app, name="config")
app.add_typer(drift.app, name="drift")
app.add_typer(audit.app, name="audit")
app.add_typer(rejected.app, name="rejected")


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
