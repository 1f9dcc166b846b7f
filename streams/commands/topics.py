"""`trading-ml topics`: create the topics on a Kafka cluster, list them."""

from __future__ import annotations

import typer

from streams.commands.session import FAILED, connected_settings, plain_errors

app = typer.Typer(no_args_is_help=True, help="Create the topics on a Kafka cluster; list them.")


@app.command()
def create() -> None:
    """Create the topics and changelogs that are missing; safe to repeat. The embedded broker has them from its start."""
    with plain_errors():
        from streams.topics import create_topics

        for name, what in create_topics(connected_settings().kafka).items():
            typer.echo(f"{what:<8}{name}")


@app.command(name="list")
def list_topics() -> None:
    """Print every topic, its partitions, and its state on the cluster; exit 1 when one is missing or has another count."""
    with plain_errors():
        from streams.topics import all_topics, existing_topics

        kafka = connected_settings().kafka
        existing = existing_topics(kafka)
        plans = all_topics(kafka)
        width = max(len(plan.name) for plan in plans)
        wrong = False
        for plan in plans:
            found = existing.get(plan.name)
            wrong = wrong or found != plan.partitions
            state = "missing" if found is None else "ok" if found == plan.partitions else f"has {found} partitions"
            kept = ", ".join(f"{key}={value}" for key, value in plan.config.items())
            typer.echo(f"{plan.name:<{width}}  {plan.partitions:>3}  {state:<18} {kept}".rstrip())
    if wrong:
        raise typer.Exit(FAILED)
