"""Metrics of every window on the page of its model version: from the topic `performance` to MLflow, in a thread. Shell.

The topic is what is durable: records are in it before the rows they come from are committed. How far they were logged is the
committed offset of a consumer group of its own, `<monitor group>-registry`. So a registry that is away gets all of it
later, and a monitor that is killed goes on where it was; what is logged again changes nothing (`models.version_metrics`).
A new group begins at the end of the topic.

What `monitoring.logged` makes of a record goes to the version's run and, so that the model's page shows it, to its
logged model. Tags of the version say how its newest window was: `monitor.verdict`, `monitor.window_end`.
"""

from __future__ import annotations

import atexit
import random
import threading
import time
from operator import itemgetter
from typing import TYPE_CHECKING

import structlog

from models.errors import RegistryError, RegistryUnreachable
from models.mlflow_client import connect
from models.version_metrics import VersionMetrics
from monitoring.deliveries import wait_s
from monitoring.logged import WINDOW_END
from streams import metrics
from streams.unlogged import Unlogged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from config.sections import Kafka
    from streams.unlogged import Window

log = structlog.get_logger()

PAUSE_S = 0.5
"""Between two looks at the topic."""
SHARE = 0.03
"""Share of the time in which windows are logged while there are more; at the market's own pace there are none."""
MOST_REST_S = 20.0
LEAST_WAIT_S = 1.0
WITHOUT_MODEL = 3
"""After so many failures the run alone is tried, too: the store may refuse, or look long for, what a model's page has already."""
MOST_GONE = 1_000


class RegistryMetrics:
    """The thread that logs. `duty` from anywhere; only on duty is anything read or logged."""

    def __init__(
        self,
        kafka: Kafka,
        tracking_uri: str,
        *,
        open_registry: Callable[[], VersionMetrics] | None = None,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.on_duty = False
        self._kafka = kafka
        self._open = open_registry or (lambda: VersionMetrics(connect(tracking_uri)))
        self._rng = rng
        self._duty = threading.Event()
        self._over = threading.Event()
        self._touring = threading.Event()
        self._registry: VersionMetrics | None = None
        self._failures = 0
        self._held_until_s = 0.0
        self._gone: dict[tuple[str, str], None] = {}
        self._thread = threading.Thread(target=self._run, name="registry-metrics", daemon=True)

    def start(self) -> None:
        """Start the thread; it ends with the process, or by `close`."""
        self._thread.start()
        atexit.register(self.close)

    @property
    def idle(self) -> bool:
        """Whether nothing is being logged: after the end of a duty it takes a moment."""
        return not self._touring.is_set()

    def duty(self, *, on: bool) -> None:
        """Whether this worker is the one that logs."""
        if on != self.on_duty:
            self.on_duty = on
            (self._duty.set if on else self._duty.clear)()

    def close(self, timeout_s: float = 0.5) -> None:
        """End the thread; not for long, what it is at will be done again."""
        self._over.set()
        self._duty.clear()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        """Tours of duty, until the process ends. What goes wrong in one is logged, and another begins."""
        while not self._over.is_set():
            if not self._duty.wait(1.0):
                continue
            self._touring.set()
            try:
                self._tour()
            except Exception as e:  # noqa: BLE001 - whatever it is, it must never become the monitor's
                log.warning("logging to the registry begins anew", error=type(e).__name__, reason=str(e))
                self._over.wait(1.0 + 4.0 * self._rng())
            finally:
                self._touring.clear()

    def _tour(self) -> None:
        unlogged = Unlogged(self._kafka)
        try:
            unlogged.begin()
            while self._duty.is_set():
                begun_s = time.monotonic()
                did = self._step(unlogged)
                if not did:
                    unlogged.keep()
                # The registry's client is Python, and the monitor has one interpreter for both: a backlog must not slow it down.
                self._over.wait(min(MOST_REST_S, (time.monotonic() - begun_s) * (1 / SHARE - 1)) if did else PAUSE_S)
        finally:
            unlogged.close()

    def _step(self, unlogged: Unlogged) -> bool:
        """Read what is there and log what is due; whether anything was done."""
        if time.monotonic() < self._held_until_s:
            return False
        windows = unlogged.read()
        for version, of_version in _by_version(windows).items():
            if not self._log(version, of_version):
                return False
            unlogged.done(of_version)
        unlogged.commit()
        return bool(windows)

    def _log(self, version: tuple[str, str], windows: Sequence[Window]) -> bool:
        """Whether these windows are done with: logged, or of a version that is gone."""
        outcome = "logged"
        if version in self._gone:
            outcome = "gone"
        else:
            try:
                self._write(version, windows)
            except RegistryUnreachable as e:
                self._hold(e)
                return False
            except RegistryError as e:
                outcome = "gone"
                self._forget(version, e)
        self._failures = 0
        metrics.REGISTRY_METRICS.labels(outcome).inc(len(windows))
        return True

    def _write(self, version: tuple[str, str], windows: Sequence[Window]) -> None:
        if self._registry is None:
            self._registry = self._open()
        measured = [w.measured for w in windows]
        try:
            self._registry.log(*version, measured)
        except RegistryUnreachable:
            if self._failures < WITHOUT_MODEL:
                raise
            self._registry.log(*version, measured, on_model=False)
        newest = max((w.tags for w in windows), key=itemgetter(WINDOW_END))
        if newest[WINDOW_END] > self._registry.tags(*version).get(WINDOW_END, ""):
            self._registry.tag(*version, newest)

    def _hold(self, error: RegistryUnreachable) -> None:
        self._failures += 1
        pause_s = max(LEAST_WAIT_S, wait_s(self._failures, chance=self._rng()))
        self._held_until_s = time.monotonic() + pause_s
        metrics.REGISTRY_METRICS.labels("away").inc()
        log.warning("metrics were not logged, they are later", reason=str(error), failures=self._failures, again_in_s=pause_s)

    def _forget(self, version: tuple[str, str], error: RegistryError) -> None:
        log.warning("windows of a version that the registry has no more are passed over", version=version, reason=str(error))
        self._gone[version] = None
        if len(self._gone) > MOST_GONE:
            del self._gone[next(iter(self._gone))]


def _by_version(windows: Sequence[Window]) -> dict[tuple[str, str], list[Window]]:
    found: dict[tuple[str, str], list[Window]] = {}
    for w in windows:
        found.setdefault((w.model, w.version), []).append(w)
    return found
