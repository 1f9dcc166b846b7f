"""The registry and the timeline of a world, and what a worker of it knows of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streams.partitions import first_orders
from streams.switches import NOBODY, Order

if TYPE_CHECKING:
    import random

    from models.handle import ModelHandle
    from streams.switches import Role


@dataclass(slots=True)
class Registry:
    """The versions there are, and the timeline: the first is in force from the beginning, an order for each of the others."""

    versions: list[ModelHandle]
    orders: list[Order]

    @classmethod
    def of(cls, first: ModelHandle) -> Registry:
        """With one version."""
        return cls([first], first_orders([first]))

    def add(self, handle: ModelHandle | None, *, effective_from_us: int, role: Role = "champion", share: float = 0.0) -> None:
        """Another version in a role; None: nobody."""
        if handle is not None:
            self.versions.append(handle)
        self.orders.append(
            Order(
                model=self.versions[0].name,
                role=role,
                seq=1 + sum(o.role == role for o in self.orders),
                version=NOBODY if handle is None else handle.version,
                effective_from_us=effective_from_us,
                share=share,
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
        return list({o.role: o for o in self.known()}.values())

    def ordered(self) -> list[tuple[str, str]]:
        """The versions they name."""
        return [(o.model, o.version) for o in self.newest() if o.version != NOBODY]

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
            missing = [v for v in self.ordered() if v not in self.loaded]
            if missing:
                await self.have(missing)

    def forget(self, keep: set[tuple[str, str]], challengers: set[tuple[str, str]]) -> None:
        needed = {*keep, *challengers, *self.ordered()}
        for v in [v for v in self.loaded if v not in needed]:
            del self.loaded[v]
