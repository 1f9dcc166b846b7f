"""What the commands that talk to Kafka share: settings that lead to a broker, and errors as one line with an exit code."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import typer

from config import ConfigError, Settings, load_settings
from models.errors import ModelError
from monitoring.errors import MonitoringError
from streams.broker_process import with_embedded_broker
from streams.errors import StreamsError

if TYPE_CHECKING:
    from collections.abc import Iterator

FAILED = 1
"""Exit code when the work failed."""

WRONG_SETTINGS = 2
"""Exit code when settings or arguments are wrong."""


def connected_settings() -> Settings:
    """Settings of this process; on a local machine those of the embedded broker that is running, if one is."""
    return with_embedded_broker(load_settings(), os.environ)


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Print our own errors as they are, without a traceback, and leave with their exit code."""
    try:
        yield
    except ConfigError as e:
        typer.echo(str(e), err=True)
        raise typer.Exit(WRONG_SETTINGS) from e
    except (StreamsError, ModelError, MonitoringError) as e:
        typer.echo(f"{type(e).__name__}: {e}", err=True)
        raise typer.Exit(FAILED) from e
