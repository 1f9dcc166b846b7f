"""The light worker with a second version at hand, a challenger whose process misbehaves when its vectors say so."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from config import load_settings
from models import apart
from models.registry import Resolution, VersionFolder
from streams import app, challengers
from tests.broker.inference_rows import SPEC, VERSION
from tests.broker.light_worker import AtHand
from tests.unit.models import apart_actor

if TYPE_CHECKING:
    from models.handle import ModelHandle

CHALLENGER = "2"


class Held:
    """A folder that nobody takes away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def close(self) -> None:
        """There is nothing to let go."""


class TwoAtHand(AtHand):
    """Knows the champion, and a challenger that this process never loads."""

    def lookup(self, _name: str, alias: str) -> Resolution:
        return Resolution(CHALLENGER if alias == "next" else VERSION, from_cache=False)

    def load(self, name: str, version: str) -> ModelHandle:
        if version != VERSION:
            sys.exit("a challenger's model was asked for by the worker's own process")
        return super().load(name, version)

    def folder(self, _name: str, _version: str, *, tried: bool = True) -> VersionFolder:  # noqa: ARG002 - the registry's signature
        folder = Path(mkdtemp(dir=Path.cwd()))
        (folder / "MLmodel").touch()
        held: Any = Held(folder)
        return VersionFolder("", SPEC, held)


if __name__ == "__main__":
    composition: Any = app
    composition.registry_of = lambda _settings: TwoAtHand()
    acting: Any = challengers
    acting.Challengers = partial(challengers.Challengers, command=apart_actor.COMMAND)
    resting: Any = apart
    resting.FIRST_REST_S = 0.05
    app.run_worker(load_settings(), "inference")
