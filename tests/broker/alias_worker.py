"""The light worker over a registry whose champion is the version named in the file `alias` of its folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config import load_settings
from models.registry import Resolution
from streams import app
from tests.broker.light_worker import AtHand

if TYPE_CHECKING:
    from models.handle import ModelHandle


class FromFile(AtHand):
    """Each version is the same model by another name."""

    def resolve(self, _name: str, _alias: str) -> str:
        return Path("alias").read_text().strip()

    def lookup(self, name: str, alias: str) -> Resolution:
        return Resolution(self.resolve(name, alias), from_cache=False)

    def load(self, name: str, version: str) -> ModelHandle:
        return replace(super().load(name, version), version=version)


if __name__ == "__main__":
    composition: Any = app
    composition.registry_of = lambda _settings: FromFile()
    app.run_worker(load_settings(), "inference")
