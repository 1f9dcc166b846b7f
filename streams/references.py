"""What model versions were trained on, from the registry, for the monitor. Shell.

A registry that does not answer holds nothing up: drift of that version is not measured meanwhile, and it is asked again with a
later batch, at the earliest `RETRY_S` after the last attempt. Asking blocks for seconds, so it is done in threads, one
question at a time:

| the version was   | asked                                       | its rows                                        |
|-------------------|---------------------------------------------|-------------------------------------------------|
| never asked about | before its first chunk is taken (`prepare`) | wait for the answer, `FIRST_S` at the most      |
| not to be had     | beside all else                             | are not counted for drift until the answer came |

So where the registry is up no row is lost to the time an answer takes.
"""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import structlog

from streams import metrics
from streams.inference_log import schema_of
from streams.trained import trained_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from models.spec import ServingSpec
    from streams.chunks import Chunk
    from streams.trained import Trained

log = structlog.get_logger()

RETRY_S: Final = 10.0
"""Least time between two questions about a version that could not be had."""
FIRST_S: Final = 30.0
"""Longest wait for the first answer: the registry's own bounds are shorter, a download's may not be."""
_MOST_SCHEMAS = 256


class _Version(NamedTuple):
    model: str
    version: str


class SpecSource(Protocol):
    """What is needed of the registry."""

    def load_spec(self, name: str, version: str) -> ServingSpec:
        """The version's serving spec; may raise anything. Called from threads, one at a time."""
        ...


def in_a_thread(call: Callable[[], None]) -> None:
    """Have it called beside all else; the process does not wait for it at its end."""
    threading.Thread(target=call, name="references", daemon=True).start()


class References:
    """Training references by version. All calls come from one event loop, and none of them blocks it."""

    def __init__(
        self,
        registry: SpecSource,
        *,
        clock: Callable[[], float],
        start: Callable[[Callable[[], None]], None] = in_a_thread,
        first_s: float = FIRST_S,
    ) -> None:
        """`clock`: seconds, never going back; `start`: has a question asked; `first_s`: longest wait for a first answer."""
        self.start = start
        self._registry = registry
        self._clock = clock
        self._first_s = first_s
        self._specs: dict[_Version, ServingSpec] = {}
        self._trained: dict[tuple[_Version, tuple[str, ...] | None], Trained] = {}
        self._failed: dict[_Version, float] = {}
        self._one = threading.Lock()
        self._asking = False
        self._schemas: set[bytes] = set()

    async def prepare(self, chunk: Chunk, topic: str) -> None:
        """Have it asked, of every version in the chunk's records of this topic, that was never asked; wait for the answers."""
        for version in self._new(r.value for part in chunk.parts if part.topic == topic for r in part.records):
            try:
                await asyncio.wait_for(asyncio.to_thread(self._ask, version), self._first_s)
            except TimeoutError:
                log.warning("the registry takes long, drift is not measured until it answers", **version._asdict())

    def known(self, model: str, version: str) -> Trained | None:
        """The version's, for vectors as its spec has them; None while it cannot be had."""
        return self.get(model, version, None)

    def get(self, model: str, version: str, columns: tuple[str, ...] | None) -> Trained | None:
        """The version's, for vectors of these columns; None while it cannot be had. Then it is asked again, if that is due."""
        of = _Version(model, version)
        known = self._trained.get((of, columns))
        return known if known is not None else self._measured(of, columns)

    def _measured(self, of: _Version, columns: tuple[str, ...] | None) -> Trained | None:
        if self._due(of) and not self._asking:
            self._asking = True
            self.start(partial(self._ask_aside, of))
        spec = self._specs.get(of)
        if spec is None:
            return None
        own = tuple(c.name for c in spec.columns)
        try:
            trained = trained_of(spec, own if columns is None else columns)
        except Exception as e:  # noqa: BLE001 - whatever fails, monitoring goes on
            self._not_had(of, e)
            del self._specs[of]
            return None
        self._trained[of, columns] = trained
        if columns is None or columns == own:
            self._trained[of, None] = self._trained[of, own] = trained
        return trained

    def _new(self, values: Iterable[bytes | None]) -> list[_Version]:
        """Versions of records whose schema was not met before: a record is looked at by its first bytes only."""
        found: dict[_Version, None] = {}
        for value in values:
            head = b"" if value is None else value[8 : 8 + int.from_bytes(value[4:8], "little")]
            if value is None or head in self._schemas:
                continue
            try:
                about = schema_of(value)
            except ValueError:  # it will be rejected
                continue
            if len(self._schemas) >= _MOST_SCHEMAS:
                self._schemas.clear()
            self._schemas.add(head)
            found[_Version(about.model, about.version)] = None
        return [version for version in found if version not in self._failed and self._due(version)]

    def _due(self, of: _Version) -> bool:
        failed_s = self._failed.get(of)
        return of not in self._specs and (failed_s is None or self._clock() >= failed_s + RETRY_S)

    def _ask_aside(self, of: _Version) -> None:
        try:
            self._ask(of)
        finally:
            self._asking = False

    def _ask(self, of: _Version) -> None:
        """Blocks. Whoever waited for another's question about the same version has its answer."""
        with self._one:
            if not self._due(of):
                return
            try:
                self._specs[of] = self._registry.load_spec(*of)
            except Exception as e:  # noqa: BLE001 - whatever fails, monitoring goes on
                self._not_had(of, e)

    def _not_had(self, of: _Version, error: Exception) -> None:
        self._failed[of] = self._clock()
        metrics.REGISTRY_FAILURES.inc()
        log.warning("no reference for this version, drift is not measured until there is", **of._asdict(), error=str(error))
