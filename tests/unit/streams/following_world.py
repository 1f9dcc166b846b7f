"""A registry and a timeline that a test holds in its hand, and a worker's `Following` over both."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from config.sections import ServedModel
from models.errors import RegistryError, RegistryUnreachable
from models.registry import Resolution
from streams.errors import BrokerError
from streams.following import Following
from tests.unit.streams.pipes import X, handle

if TYPE_CHECKING:
    from models.handle import ModelHandle
    from streams.switches import Order

AHEAD_US = 1_000
NOW_US = 50_000


class FakeRegistry:
    """Versions by number, aliases, and whatever is to go wrong."""

    def __init__(self, **aliases: str) -> None:
        self.aliases = aliases
        self.broken: dict[str, Exception] = {}
        self.handles = {str(v): handle("m", [X], version=str(v)) for v in range(1, 6)}
        self.away = False
        self.remembers = False
        self.loads: list[str] = []
        self.pins: list[str] = []

    def resolve(self, name: str, alias: str) -> str:
        return self.lookup(name, alias).version

    def lookup(self, _name: str, alias: str) -> Resolution:
        if self.away and not self.remembers:
            raise RegistryUnreachable("away")
        if alias not in self.aliases:
            raise RegistryError("no such alias")
        return Resolution(self.aliases[alias], from_cache=self.away)

    def load(self, _name: str, version: str) -> ModelHandle:
        self.loads.append(version)
        if version in self.broken:
            raise self.broken[version]
        return self.handles[version]

    def pin(self, _name: str, version: str) -> None:
        self.pins.append(version)

    def unpin(self, _name: str, version: str) -> None:
        self.pins.remove(version)


class FakeTopic:
    """A timeline of which the first order of a number counts."""

    def __init__(self) -> None:
        self.written: dict[tuple[str, str, int], Order] = {}
        self.away = False
        self.before: Order | None = None

    def read(self) -> list[Order]:
        return self.orders()

    def orders(self) -> list[Order]:
        return list(self.written.values())

    def append(self, order: Order) -> Order:
        if self.away:
            raise BrokerError("away")
        if self.before is not None:  # another leader was quicker
            self.written.setdefault(self.before.key, self.before)
        return self.written.setdefault(order.key, order)


class World:
    """One worker's `Following`, begun with version 1."""

    def __init__(self, serve: Any = lambda h: h, **served: Any) -> None:
        self.registry: Any = FakeRegistry(champion="1")
        self.topic: Any = FakeTopic()
        self.model = ServedModel(name="m", **served)
        self.again(self.model, serve)

    def again(self, model: ServedModel, serve: Any = lambda h: h) -> None:
        """The worker starts, with these settings."""
        self.following = Following([model], self.registry, self.topic, serve, ahead_us=AHEAD_US, load_deadline_s=0.0)
        self.handles, self.orders = self.following.start()

    def lead(self) -> list[Order]:
        """Orders given in one look at the aliases."""
        before = set(self.topic.written)
        asyncio.run(self.following.give_orders(stream_time_us=NOW_US))
        return [o for key, o in self.topic.written.items() if key not in before]

    def load_ordered(self) -> None:
        asyncio.run(self.following.load_ordered())
