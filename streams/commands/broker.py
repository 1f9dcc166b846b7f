"""`trading-ml broker`: the embedded broker as a process."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from config import load_settings
from streams.broker_process import BROKER_FILE, run_broker
from streams.commands.session import plain_errors


def broker(
    address_file: Annotated[Path, typer.Option(help="Where to leave the address, for other commands to find.")] = BROKER_FILE,
    brokers: Annotated[int, typer.Option(min=1, max=9, help="How many brokers the cluster has.")] = 1,
    with_parent: Annotated[bool, typer.Option("--with-parent", help="End when standard input ends.")] = False,  # noqa: FBT002 - a switch of the command line
) -> None:
    """Run the embedded broker on 127.0.0.1 until Ctrl-C: for the demo and quick tests only, everything in memory.

    Creates the topics of the settings, prints its address as one line of JSON, and leaves it in a file. Commands run in
    the same folder find it there, unless TRADING_ML__KAFKA__BOOTSTRAP_SERVERS names another broker.
    """
    with plain_errors():
        from streams.topics import all_topics

        topics = {plan.name: plan.partitions for plan in all_topics(load_settings().kafka)}
        run_broker(topics, brokers=brokers, path=address_file, with_parent=with_parent, announce=_say)


def _say(line: str) -> None:
    typer.echo(line, err=not line.startswith("{"))  # standard output carries the address alone, for programs
