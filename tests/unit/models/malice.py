"""What the attacks on model folders share: a payload that would leave a trace, and the check that nothing ran."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from models.artifacts import folder_digest
from models.errors import UntrustedModel
from models.folder import load_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Payload:
    """Creates the sentinel when unpickled."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.sentinel}",)


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the parsed MLmodel."""
    parsed = yaml.safe_load((folder / "MLmodel").read_text())
    change(parsed["flavors"])
    (folder / "MLmodel").write_text(yaml.safe_dump(parsed))


def load(folder: Path) -> None:
    load_folder(folder, name="m", version="1", digest=folder_digest(folder))


def assert_refused(folder: Path, sentinel: Path, why: str) -> None:
    with pytest.raises(UntrustedModel, match=why):
        load(folder)
    assert not sentinel.exists()
