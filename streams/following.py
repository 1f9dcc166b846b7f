"""Keeps a worker's versions: what the registry's aliases name becomes orders, orders are loaded, then put in force. Shell.

    alias --(leader, every cache_ttl)--> order on the timeline, effective from ahead of now
          --(every worker)--> version loaded, off the event loop --> switch appended to each of its partitions
          --(the partition's log)--> in force

The leader is whoever holds partition 0. Two at a time do no harm: of two orders with one number the first counts. A version
that cannot be loaded, verified or served with the others never becomes an order; the one before goes on.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from models.errors import ModelError, RegistryError, RegistryUnreachable
from models.timeline import FROM_THE_START_US
from monitoring.errors import MonitoringError
from streams import metrics
from streams.errors import StreamsError
from streams.layout import merge_specs
from streams.refusals import Refusals, check_of
from streams.switches import KEPT, NOBODY, ROLES, Order

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from config.sections import ServedModel
    from models.handle import ModelHandle
    from models.registry import Registry
    from streams.challengers import Challengers
    from streams.switches import Role
    from streams.timeline_topic import TimelineTopic

log = structlog.get_logger()
Version = tuple[str, str]
_RETRY_S = 5.0


class Following:
    """The served models of one worker. Calls that load block, and are made in threads, one at a time."""

    def __init__(
        self,
        served: Sequence[ServedModel],
        registry: Registry,
        topic: TimelineTopic,
        serve: Callable[[ModelHandle], ModelHandle] = lambda handle: handle,
        challengers: Challengers | None = None,
        refusals: Refusals | None = None,
        *,
        ahead_us: int,
        load_deadline_s: float,
    ) -> None:
        """`serve`: makes of a champion's loaded handle the one that scores; it may block. `challengers`: who loads those.

        `ahead_us`: how far ahead of stream time an order takes effect; `load_deadline_s`: to get what is in force.
        """
        self._served = {m.name: m for m in served}
        self._registry = registry
        self._topic = topic
        self._serve = serve
        self._challengers = challengers
        self._refusals = refusals
        self._ahead_us = ahead_us
        self.in_force: Callable[[str, Role], int] = lambda _model, _role: 0  # the number in force here: the topic may be new
        self._load_deadline_s = load_deadline_s
        self._loading = asyncio.Lock()
        self._failed: dict[Version, float] = {}
        self._serving: set[Version] = set()
        self._coming: set[Version] = set()
        self._ordering: Version | None = None
        self.loaded: dict[Version, ModelHandle] = {}

    def start(self) -> tuple[list[ModelHandle], list[Order]]:
        """The versions to begin with, and all orders. A model that has none gets its first: what the alias names now.

        Raises `RegistryError`, and what `Registry.load` raises, when there is no version to serve a model with.
        """
        self._topic.read()
        for model in self._served.values():
            if not self.orders(model.name, "champion"):
                version = model.name, self._registry.resolve(model.name, model.champion_alias)
                self._coming.add(version)
                handle = self._load(version)
                first = Order(
                    model=model.name,
                    role="champion",
                    seq=1,
                    version=handle.version,
                    effective_from_us=FROM_THE_START_US,
                    digest=handle.digest,
                    why="first version",
                )
                self._topic.append(first)
        for name in self._served:
            self._load((name, self.orders(name, "champion")[-1].version))
        return list(self.loaded.values()), self.known()

    def watch(self) -> None:
        """From now on hear of new orders by itself."""
        self._topic.watch()

    def known(self) -> list[Order]:
        """All orders of the models served."""
        return [o for o in self._topic.orders() if o.model in self._served]

    def orders(self, model: str, role: Role) -> list[Order]:
        """Of one model and role, by number."""
        return sorted((o for o in self._topic.orders() if (o.model, o.role) == (model, role)), key=lambda o: o.seq)

    def newest(self) -> list[Order]:
        """The last order of each model and role."""
        last: dict[tuple[str, str], Order] = {}
        for o in self.known():
            at = o.model, o.role
            if at not in last or last[at].seq < o.seq:
                last[at] = o
        return list(last.values())

    async def have(self, versions: Iterable[Version], *, apart: bool = False) -> list[ModelHandle]:
        """These versions, loaded now where they are not; tried again until the deadline. Raises the last `ModelError`.

        `apart`: as challengers.
        """
        load = self._challengers.have if apart and self._challengers is not None else self._load
        deadline = time.monotonic() + self._load_deadline_s
        while True:
            try:
                async with self._loading:
                    return [await asyncio.to_thread(load, v) for v in dict.fromkeys(versions)]
            except (ModelError, OSError) as e:
                if time.monotonic() > deadline:
                    raise
                log.warning("a version that is in force is not at hand yet", error=str(e))
                await asyncio.sleep(1.0)

    async def caught_up(self) -> None:
        """Read the timeline to its end."""
        await asyncio.to_thread(self._topic.read)

    async def load_ordered(self) -> None:
        """Load what the newest orders name, so that their switches may be written. What fails is tried again later."""
        for order in self.newest():
            version = order.model, order.version
            loaded, load = self._of(order.role)
            if order.version == NOBODY or version in loaded or self._failed.get(version, 0.0) > time.monotonic():
                continue
            try:
                async with self._loading:
                    await asyncio.to_thread(load, version)
            except Exception as e:  # noqa: BLE001 - whatever fails, what is in force goes on
                self._refused(version, e)

    async def give_orders(self, *, stream_time_us: int) -> None:
        """As leader: what the aliases name now, as orders."""
        for model in self._served.values():
            for role in ROLES:
                try:
                    await self._follow(model, role, stream_time_us)
                except (RegistryError, StreamsError) as e:
                    metrics.REGISTRY_FAILURES.inc()
                    log.warning("registry not followed, what is in force goes on", model=model.name, role=role, error=str(e))

    def forget(self, keep: Collection[Version], challengers: Collection[Version] = ()) -> None:
        """Let go of versions that nothing needs, of those loaded and of the challengers."""
        newest, coming = self.newest(), {self._ordering} if self._ordering is not None else set()
        if self._challengers is not None:
            ours = {(o.model, o.version) for o in newest if o.role == "challenger"}
            self._challengers.forget({*challengers, *ours, *coming})
        needed = {*keep, *((o.model, o.version) for o in newest), *coming}
        for version in [v for v in self.loaded if v not in needed]:
            del self.loaded[version]
            self._serving.discard(version)
            self._registry.unpin(*version)

    def _load(self, version: Version) -> ModelHandle:
        handle = self.loaded.get(version)
        if handle is None:
            handle = self._registry.load(*version)
            self._registry.pin(*version)
        if version not in self._serving and self._traded(version):
            handle = self._serve(handle)
            self._serving.add(version)
        self.loaded[version] = handle
        self._failed.pop(version, None)
        return handle

    def _of(self, role: Role) -> tuple[dict[Version, ModelHandle], Callable[[Version], ModelHandle]]:
        """The versions at hand in a role, and what gets one."""
        if role == "challenger" and self._challengers is not None:
            return self._challengers.loaded, self._challengers.load
        return self.loaded, self._load

    def _traded(self, version: Version) -> bool:
        """Whether it is, was or is about to be a champion."""
        return version in self._coming or any(o.role == "champion" and (o.model, o.version) == version for o in self.known())

    async def _follow(self, model: ServedModel, role: Role, stream_time_us: int) -> None:
        try:
            await self._give(model, role, stream_time_us)
        finally:
            self._ordering = None

    async def _give(self, model: ServedModel, role: Role, stream_time_us: int) -> None:
        orders = self.orders(model.name, role)
        last = orders[-1] if orders else None
        alias, share = _wish(model, role)
        version = await asyncio.to_thread(self._named, model.name, alias) if alias is not None else NOBODY
        held = (NOBODY, 0.0) if last is None else (last.version, last.share)
        if (version, share if version else 0.0) == held:
            await self._say(model.name, role, None)
            return
        digest = ""
        if version != NOBODY:
            if self._failed.get((model.name, version), 0.0) > time.monotonic():
                return
            self._ordering = model.name, version  # what is loaded before its order is known stays
            if role == "champion":
                self._coming.add((model.name, version))
            try:
                async with self._loading:
                    handle = await asyncio.to_thread(self._of(role)[1], (model.name, version))
                self._refuse_unservable(handle)
            except RegistryUnreachable:
                raise
            except Exception as e:  # noqa: BLE001 - a bad version is refused, whatever is bad about it
                self._refused((model.name, version), e)
                await self._say(model.name, role, (version, e))
                return
            digest = handle.digest
        order = Order(
            model=model.name,
            role=role,
            seq=1 + max(self.in_force(model.name, role), 0 if last is None else last.seq),
            version=version,
            effective_from_us=stream_time_us + self._ahead_us if stream_time_us >= 0 else 0,
            digest=digest,
            share=share if version else 0.0,
            why=f"alias {alias} names it" if version else "no alias names one",
        )
        counted = await asyncio.to_thread(self._topic.append, order)
        await self._say(model.name, role, None)
        log.info("order", model=model.name, role=role, version=counted.version, effective_from_us=counted.effective_from_us)

    def _named(self, model: str, alias: str) -> str:
        try:
            found = self._registry.lookup(model, alias)
        except RegistryUnreachable:
            raise
        except RegistryError:
            if alias == self._served[model].champion_alias:
                raise
            return NOBODY
        if found.from_cache:
            raise RegistryUnreachable(f"the registry does not answer for model {model!r}, alias {alias!r}")
        return found.version

    def _refuse_unservable(self, handle: ModelHandle) -> None:
        """Raise `LayoutError` if it cannot be served with all that may count beside it."""
        beside = [
            held[at]
            for model in self._served
            for role in ROLES
            for held in (self._of(role)[0],)
            for o in self.orders(model, role)[-KEPT:]
            if (at := (model, o.version)) in held
        ]
        merge_specs(h.spec for h in (*beside, handle))

    async def _say(self, model: str, role: Role, refused: tuple[str, Exception] | None) -> None:
        """Raise the alert about a version that is refused, or end it."""
        if self._refusals is None:
            return
        try:
            await asyncio.to_thread(self._refusals.read)
        except (StreamsError, MonitoringError) as e:
            log.warning("no alert about refused versions: their topic cannot be read", error=str(e))
        else:
            self._refusals.say(model, role, refused)

    def _refused(self, version: Version, error: Exception) -> None:
        check = check_of(error)
        self._failed[version] = time.monotonic() + _RETRY_S
        metrics.REFUSED.labels(version[0], check).inc()
        log.error("version refused, another goes on", model=version[0], version=version[1], check=check, error=str(error))


def _wish(model: ServedModel, role: Role) -> tuple[str | None, float]:
    """The alias of a role in the settings, and the canary's share."""
    if role == "champion":
        return model.champion_alias, 0.0
    if role == "challenger":
        return model.challenger_alias, 0.0
    return (None, 0.0) if model.canary is None else (model.canary.alias, model.canary.share)
