"""The registry and the timeline of a world, and what a worker of it knows of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streams.partitions import first_orders
from streams.switches import Order

if TYPE_CHECKING:
    import random

    from models.handle import ModelHandle


@dataclass(slots=True)
class Registry:
    """The versions there are, and the timeline: the first is in force from the beginning, an order for each of the others."""

    versions: list[ModelHandle]
    orders: list[Order]

    @classmethod
    def of(cls, first: ModelHandle) -> Registry:
        """With one version."""
        return cls([first], first_orders([first]))

    def add(self, handle: ModelHandle, *, effective_from_us: int) -> None:
        """A new champion."""
        self.versions.append(handle)
        self.orders.append(
            Order(
                model=handle.name,
                role="champion",
                seq=len(self.orders) + 1,
                version=handle.version,
                effective_from_us=effective_from_us,
            )
        )


class Knowing:
    """Stands in for `Following`: hears of orders late, and takes its time to load a version."""

    def __init__(self, registry: Registry, rng: random.Random) -> None:
        self._registry = registry
        self._rng = rng
        self._heard = len(registry.orders)
        self.loaded: dict[tuple[str, str], ModelHandle] = {}

    def known(self) -> list[Order]:
        return self._registry.orders[: self._heard]

    def newest(self) -> list[Order]:
        return self.known()[-1:]

    async def have(self, versions: list[tuple[str, str]]) -> list[ModelHandle]:
        await asyncio.sleep(self._rng.choice([0, 0.01, 0.2]))
        by_version = {(h.name, h.version): h for h in self._registry.versions}
        for v in versions:
            self.loaded[v] = by_version[v]
        return [by_version[v] for v in versions]

    async def caught_up(self) -> None:
        await asyncio.sleep(self._rng.choice([0, 0.01]))
        self._heard = len(self._registry.orders)

    async def listen(self) -> None:
        """Hear of what there is, now and then, and load it."""
        if self._rng.random() < 0.5:
            await self.caught_up()
            missing = [v for o in self.newest() if (v := (o.model, o.version)) not in self.loaded]
            if missing:
                await self.have(missing)

    def forget(self, keep: set[tuple[str, str]]) -> None:
        newest = {(o.model, o.version) for o in self.newest()}
        for v in [v for v in self.loaded if v not in keep and v not in newest]:
            del self.loaded[v]
