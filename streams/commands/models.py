"""`trading-ml models`: what the registry has, what is in force, and moving from one version to another."""

from __future__ import annotations

import typer

from streams.commands import models_diff, models_gate, models_look, models_moves, models_vertex

app = typer.Typer(no_args_is_help=True, help="Look at model versions; bring one into force, or back.")
app.command(name="list")(models_look.list_)
app.command()(models_look.show)
app.command()(models_look.timeline)
app.command()(models_diff.diff)
app.command()(models_gate.gate)
app.command()(models_moves.promote)
app.command()(models_moves.rollback)
app.command(name="vertex-deploy")(models_vertex.vertex_deploy)
app.command(name="vertex-serve")(models_vertex.vertex_serve)
