"""`trading-ml config`: show what is in effect, check settings files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from config import ConfigError, compare_files, explain

app = typer.Typer(no_args_is_help=True, help="Show the effective settings; check settings files.")

WRONG = 2
"""Exit code when settings are wrong."""


@app.command()
def show(
    file: Annotated[Path | None, typer.Option("--file", help="Settings file instead of the one CONFIG_PATH names.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,  # noqa: FBT002 - a switch of the command line
) -> None:
    """Print every effective setting with its value and source; secrets are masked."""
    try:
        rows = explain(file)
    except ConfigError as e:
        typer.echo(str(e), err=True)
        raise typer.Exit(WRONG) from e
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=2))
        return
    key_width = max(len(row.key) for row in rows)
    value_width = max(len(row.value) for row in rows)
    for row in rows:
        source = row.source if row.origin == "" else f"{row.source} {row.origin}"
        typer.echo(f"{row.key:<{key_width}}  {row.value:<{value_width}}  {source}")


@app.command()
def check(files: Annotated[list[Path], typer.Argument(help="Settings files, as many as there are deployments.")]) -> None:
    """Validate settings files, each by itself and all against each other; exit 2 if anything is wrong."""
    problems = compare_files(files)
    for problem in problems:
        typer.echo(problem, err=True)
    if problems:
        raise typer.Exit(WRONG)
    typer.echo(f"{len(files)} file{'' if len(files) == 1 else 's'} checked, nothing wrong")
