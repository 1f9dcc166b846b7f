"""The command line that every contender but ours is started with: addresses, topics, folders, sizes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_TEXTS: Final = ("servers", "group", "features", "predictions", "log", "changelog")
_FOLDERS: Final = ("model", "state")
_NUMBERS: Final = ("partitions", "batch-rows", "fetch-max-wait-ms")


def parser() -> argparse.ArgumentParser:
    """All options, every one required."""
    made = argparse.ArgumentParser()
    for kind, names in ((str, _TEXTS), (Path, _FOLDERS), (int, _NUMBERS)):
        for name in names:
            made.add_argument(f"--{name}", type=kind, required=True)
    return made


def arguments(options: Mapping[str, object]) -> list[str]:
    """Options by name as a command line.

    >>> arguments({"servers": "127.0.0.1:9092", "partitions": 4})
    ['--servers', '127.0.0.1:9092', '--partitions', '4']
    """
    return [part for name, value in options.items() for part in (f"--{name}", str(value))]
