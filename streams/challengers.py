"""A worker's challengers: each version scored in a process of its own, counted and told of. Shell, over `models.apart`.

    champion's records --> outbox --> challengers score the same vectors, within `inference.challenger_budget` --> outbox

What a challenger does there costs no champion's record, and of the next chunk at most its budget, once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client import Counter, Gauge

from models.apart import COMMAND, START_S, Allowance, Apart
from models.errors import UntrustedModel
from models.handle import ModelHandle
from streams import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from models.apart import State
    from models.registry import Registry, VersionFolder

log = structlog.get_logger()
Version = tuple[str, str]

PATIENCE_S: Final = 5.0
"""How long a chunk waits for the process of a challenger that is in force; after that its rows abstain until it is there."""

FAILURES = Counter("trading_ml_challenger_failures", "Challengers' processes that failed", ["model"], registry=metrics.REGISTRY)
READY = Gauge(
    "trading_ml_challenger_ready", "1 while a challenger's process serves", ["model", "version"], registry=metrics.REGISTRY
)
OFF = Gauge(
    "trading_ml_challenger_off", "1 for a challenger that failed too often", ["model", "version"], registry=metrics.REGISTRY
)


class Challengers:
    """Versions with a process each. Calls that load block, and are made in threads, one at a time."""

    def __init__(
        self, registry: Registry, *, budget_s: float, allow_code: bool = False, command: Sequence[str] = COMMAND
    ) -> None:
        """`budget_s`: how long each may keep a chunk waiting."""
        self._registry = registry
        self._allow_code = allow_code
        self._command = command
        self._allowance = Allowance(budget_s)
        self._close: dict[Version, Callable[[], None]] = {}
        self.loaded: dict[Version, ModelHandle] = {}

    def begin(self) -> None:
        """A chunk's challengers score now: each has its whole budget."""
        self._allowance.begin()

    def load(self, version: Version) -> ModelHandle:
        """The version, once it has passed its trial and its process serves. Raises as `Registry.folder`, and `UntrustedModel`."""
        kept = self.loaded.get(version)
        if kept is not None:
            return kept
        folder = self._registry.folder(*version)
        apart = self._start(version, folder)
        why = apart.wait(START_S)
        if why is not None:
            apart.close()
            folder.held.close()
            raise UntrustedModel(f"model {version[0]!r} version {version[1]} is not served as challenger: {why}", check="trial")
        return self._keep(version, folder, apart)

    def have(self, version: Version) -> ModelHandle:
        """The version, which is in force: its process serves, or its rows abstain. Raises as `Registry.folder`."""
        kept = self.loaded.get(version)
        if kept is not None:
            return kept
        folder = self._registry.folder(*version, tried=False)
        apart = self._start(version, folder)
        apart.wait(PATIENCE_S)
        return self._keep(version, folder, apart)

    def forget(self, keep: Collection[Version]) -> None:
        """End the processes of versions that nothing needs."""
        for version in [v for v in list(self.loaded) if v not in keep]:
            del self.loaded[version]
            self._close.pop(version)()

    def _start(self, version: Version, folder: VersionFolder) -> Apart:
        return Apart(
            folder.held.folder,
            name=version[0],
            version=version[1],
            digest=folder.digest,
            allowance=self._allowance,
            allow_code=self._allow_code,
            command=self._command,
            seen=lambda state, why: _tell(version, state, why),
        )

    def _keep(self, version: Version, folder: VersionFolder, apart: Apart) -> ModelHandle:
        def close() -> None:
            apart.close()
            folder.held.close()

        handle = ModelHandle(name=version[0], version=version[1], digest=folder.digest, spec=folder.spec, predict=apart)
        self._close[version] = close
        self.loaded[version] = handle
        return handle


def _tell(version: Version, state: State, why: str) -> None:
    """Count and log what became of a challenger's process."""
    READY.labels(*version).set(state == "ready")
    OFF.labels(*version).set(state == "off")
    if state == "ready":
        log.info("challenger serves", model=version[0], version=version[1])
    elif state == "closed":
        READY.remove(*version)
        OFF.remove(*version)
    else:
        FAILURES.labels(version[0]).inc()
        tell, what = (log.error, "challenger stays off") if state == "off" else (log.warning, "challenger failed, starts again")
        tell(f"{what}; its rows abstain, the champion goes on", model=version[0], version=version[1], error=why)
