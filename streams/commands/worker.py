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


def worker(group: Annotated[GroupName, typer.Argument(help="Which group this worker belongs to.")]) -> None:
    """Run a worker of the inference or the monitor group until SIGTERM or Ctrl-C."""
    with plain_errors():
        from streams.app import run_worker

        run_worker(connected_settings(), group.value)
