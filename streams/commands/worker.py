"""`trading-ml worker`: run one worker of a group until it is stopped."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from streams.commands.session import connected_settings, plain_errors


class GroupName(StrEnum):
    """The two agent groups."""

    INFERENCE = "inference"
    MONITOR = "monitor"


def worker(
    group: Annotated[GroupName, typer.Argument(help="Which group this worker belongs to.")],
    web_port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="In place of web.port: for a second worker on one machine; 0 takes a free one."),
    ] = None,
) -> None:
    """Run a worker of the inference or the monitor group until SIGTERM or Ctrl-C."""
    with plain_errors():
        from streams.app import run_worker

        settings = connected_settings()
        if web_port is not None:
            settings = settings.model_copy(update={"web": settings.web.model_copy(update={"port": web_port})})
        run_worker(settings, group.value)
