"""The inference group's handler: chunks of features in, predictions and their log out. Shell around `pipeline.step`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from streams import metrics
from streams.idle import IdleClock
from streams.inference_log import CONTENT_TYPE
from streams.partitions import VERSIONS
from streams.rejections import fit, rejection_headers
from streams.served import StepResult
from streams.switches import NOBODY, ROLES, SWITCH, History, is_switch, read_switch, switch_bytes, switches_due
from streams.wire import CONTENT_TYPE as CONTENT_TYPE_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from config import Topics
    from streams.challengers import Challengers
    from streams.checkpoint import TableRecord
    from streams.chunks import Chunk
    from streams.following import Following, Version
    from streams.outbox import Outbox
    from streams.pipeline import Pipeline
    from streams.switches import Order, Role
    from streams.table import PackedTable

log = structlog.get_logger()
GROUP = "inference"
_AGAIN_S = 10.0
"""A switch that was appended and is not in force by then is appended again."""


class InferenceHandler:
    """Runs the pipeline over chunks, sends what comes of them, keeps the windows of its partitions."""

    def __init__(
        self,
        pipeline: Pipeline,
        outbox: Outbox,
        topics: Topics,
        *,
        idle_wait_s: float,
        following: Following | None = None,
        challengers: Challengers | None = None,
    ) -> None:
        """`idle_wait_s`: how long past its deadline a row may wait by the wall clock where nothing comes.

        `following`: whom to ask for orders and versions; None: those of the pipeline are all there will ever be.
        `challengers`: who scores the challengers', told to `following` too; None: this process does.
        """
        self.pipeline = pipeline
        self._following = following
        self._challengers = challengers
        self._idle = IdleClock(bound_s=idle_wait_s)
        self._outbox = outbox
        self._topics = topics
        self._table: PackedTable | None = None
        self._shown: set[int] = set()
        self._appended: dict[tuple[int, tuple[str, str, int]], float] = {}

    def use_table(self, table: PackedTable) -> None:
        """The windows table."""
        self._table = table

    async def prepare(self, chunk: Chunk) -> None:
        """Have at hand every version that the chunk may be scored by. Raises `ModelError` when one is not to be had in time."""
        if self._following is None:
            return
        while missing := await self._missing(chunk, self._following):  # others may have let go of some meanwhile
            if usual := [v for v, apart in missing if not apart]:
                for handle in await self._following.have(usual):
                    self.pipeline.add(handle)
            if apart := [v for v, apart in missing if apart]:
                for handle in await self._following.have(apart, apart=True):
                    self.pipeline.add(handle, apart=True)

    async def _missing(self, chunk: Chunk, following: Following) -> list[tuple[Version, bool]]:
        """Versions not at hand that are in force where the chunk begins, or come into force in it; and whether as challengers."""
        known = self.pipeline.partitions
        switches = [s for p in chunk.parts for r in p.records if r.headers and is_switch(r) and (s := read_switch(r.value))]
        if any(s.key not in known.orders for s in switches):
            await following.caught_up()
            self._know()
        wanted: list[tuple[Version, bool]] = []
        for part in chunk.parts:
            if part.partition not in known:
                self._know()
                for role in ROLES:
                    some = known.wanted(part.partition, part.records[0].offset, self._load, [role])
                    wanted += [(v, self._apart(role)) for v in some]
        for s in switches:
            if (o := known.orders.get(s.key)) is not None and o.version != NOBODY:
                wanted.append(((o.model, o.version), self._apart(o.role)))
        return [(v, apart) for v, apart in wanted if v not in (known.apart if apart else known.handles)]

    def _apart(self, role: Role) -> bool:
        """Whether versions in this role are scored in processes of their own."""
        return role == "challenger" and self._challengers is not None

    def process(self, chunk: Chunk) -> None:
        """One chunk, whole."""
        started = time.perf_counter()
        out = self.pipeline.champions(chunk.parts, self._load, self._scan)
        self._send(out)
        metrics.CHUNK_SECONDS.labels(GROUP).observe(time.perf_counter() - started)
        if out.pending:
            self._challenge(out)
        self._count(out)

    def _challenge(self, out: StepResult) -> None:
        """Score and send what is left to challengers; the champions' records are on their way by now."""
        started = time.perf_counter()
        if self._challengers is not None:
            self._challengers.begin()
        later = StepResult()
        out.challenge(later)
        self._send(later)
        out.counts.update(later.counts)
        out.troubles += later.troubles
        metrics.CHALLENGER_SECONDS.observe(time.perf_counter() - started)

    def move_idle_partitions(self) -> None:
        """Append clock records where rows have waited past their deadline and nothing comes to end the wait."""
        for record in self._idle.due(self.pipeline.waiting(), self.pipeline.deadlines_us(), time.monotonic()):
            self._outbox.send(self._topics.features, partition=record.partition, key=record.key, value=record.value)
            metrics.CLOCK_RECORDS.inc()

    def urgent(self) -> bool:
        """Nothing here changes without a row."""
        return False

    async def kept(self) -> None:
        """All there is to keep is in the table and the topics."""

    def take_dirty(self) -> Sequence[TableRecord]:
        """Changed windows, packed."""
        return self.pipeline.take_dirty()

    def revoked(self, partitions: Iterable[int]) -> None:
        """Forget the windows of these partitions; whoever holds them now has them in its table."""
        for partition in partitions:
            self.pipeline.drop(partition)
        self._show_models()

    def append_switches(self, partitions: Sequence[int], *, now_s: float) -> None:
        """Append to each of these partitions, which must be held and recovered, the switches of orders that can be in force."""
        if self._following is None:
            return
        self._know()
        newest = self._following.newest()
        due = switches_due([o for o in newest if not self._apart(o.role)], partitions, self._seq, self._following.loaded)
        if self._challengers is not None:
            ours = [o for o in newest if self._apart(o.role)]
            due += switches_due(ours, partitions, self._seq, self._challengers.loaded)
        for partition, order in due:
            at = partition, order.key
            if self._appended.get(at, -_AGAIN_S) + _AGAIN_S > now_s:
                continue
            self._appended[at] = now_s
            self._outbox.send(
                self._topics.features,
                partition=partition,
                key=None,
                value=switch_bytes(order),
                headers=[(CONTENT_TYPE_HEADER, SWITCH)],
            )
        self._let_go(partitions)

    def _know(self) -> None:
        """Tell the pipeline all orders and versions there are."""
        if self._following is not None:
            for order in self._following.known():
                self.pipeline.know(order)
            for handle in list(self._following.loaded.values()):
                self.pipeline.add(handle)
        if self._challengers is not None:
            for handle in list(self._challengers.loaded.values()):
                self.pipeline.add(handle, apart=True)

    def newest_seq(self, model: str, role: Role) -> int:
        """The greatest number of an order in force in a partition read, 0 if there is none."""
        partitions = self.pipeline.partitions
        return max((partitions.history(p).seq(model, role) for p in partitions), default=0)

    def _seq(self, partition: int, model: str, role: Role) -> int:
        """The number of the newest order in force in a partition held; one that was never read has the first champion."""
        if partition in self.pipeline.partitions:
            return self.pipeline.partitions.history(partition).seq(model, role)
        held = self._load(partition, VERSIONS)
        return (1 if role == "champion" else 0) if held is None else History.unpack(held).seq(model, role)

    def _let_go(self, held: Iterable[int]) -> None:
        """Forget versions that count in no partition any more."""
        known = self.pipeline.partitions
        if self._following is None or any(p not in known for p in held):
            return
        usual, apart = ([role for role in ROLES if self._apart(role) == own] for own in (False, True))
        self._following.forget(self.counted(usual), self.counted(apart))
        loaded_apart = {} if self._challengers is None else self._challengers.loaded
        for handles, loaded in ((known.handles, self._following.loaded), (known.apart, loaded_apart)):
            for version in [v for v in handles if v not in loaded]:
                del handles[version]

    def counted(self, roles: Sequence[Role] = ROLES) -> set[Version]:
        """(model, version) of all that count in a partition read, in these roles."""
        partitions = self.pipeline.partitions
        return {v for p in partitions for v in partitions.history(p).versions(partitions.models, roles)}

    def _load(self, partition: int, symbol: str) -> bytes | None:
        return self._held().get(partition, symbol.encode())

    def _scan(self, partition: int) -> list[tuple[str, bytes]]:
        return [(key.decode(), value) for key, value in self._held().items(partition)]

    def _held(self) -> PackedTable:
        if self._table is None:
            raise RuntimeError("no table yet: a chunk came before the consumer")
        return self._table

    def _send(self, out: StepResult) -> None:
        if out.predictions:
            self._outbox.send_many(self._topics.predictions, out.predictions)
        if out.shadow:
            self._outbox.send_many(self._topics.predictions_shadow, out.shadow)
        for topic, streams in (
            (self._topics.predictions, out.frames),
            (self._topics.predictions_shadow, out.shadow_frames),
            (self._topics.inference_log, out.logs),
        ):
            for partition, data in streams:
                self._outbox.send(topic, partition=partition, key=None, value=data, headers=[("content-type", CONTENT_TYPE)])
        for r in map(fit, out.rejected):
            self._outbox.send(
                self._topics.features_rejected, partition=r.partition, key=r.key, value=r.value, headers=rejection_headers(r)
            )

    def _count(self, out: StepResult) -> None:
        c = out.counts
        metrics.ROWS.labels(GROUP).inc(c["rows"])
        metrics.PREDICTIONS.inc(c["predictions"])
        metrics.ABSTAINED.inc(c["abstained"])
        metrics.FRAMES.inc(c["frames"])
        metrics.UNREAD.inc(c["unread_features"])
        for what in ("late", "duplicate", "replayed"):
            if c[what]:
                metrics.ROW_EVENTS.labels(what).inc(c[what])
        if c["waited"]:
            metrics.WAITED.labels("deadline").inc(c["timed_out"])
            metrics.WAITED.labels("complete").inc(c["waited"] - c["timed_out"])
        for r in out.rejected:
            metrics.REJECTED.labels(r.reason).inc()
        for trouble in out.troubles:
            metrics.MODEL_TROUBLES.labels(trouble.split(":", 1)[0]).inc()
            log.warning("model trouble, rows abstain", trouble=trouble)
        metrics.SYMBOLS.set(self.pipeline.symbols)
        if out.switched:
            self._tell(out.switched)
        if out.switched or self._shown != set(self.pipeline.partitions):
            self._show_models()

    def _tell(self, switched: Iterable[tuple[int, Order, int]]) -> None:
        """Log and count what came into force."""
        for partition, order, from_us in switched:
            metrics.SWITCHES.labels(order.model, order.role).inc()
            if from_us > order.effective_from_us:
                metrics.SWITCHED_LATE.labels(order.model, order.role).inc()
            log.info(
                "version in force",
                model=order.model,
                role=order.role,
                version=order.version,
                partition=partition,
                from_us=from_us,
                later_than_ordered_us=from_us - order.effective_from_us,
            )

    def _show_models(self) -> None:
        """Set the gauge of versions in force."""
        metrics.MODEL.clear()
        partitions = self.pipeline.partitions
        self._shown = set(partitions)
        for p in partitions:
            for model in partitions.models:
                for role in ROLES:
                    last = partitions.history(p).of(model, role)[-1:]
                    if last and last[0].order.version != NOBODY:
                        metrics.MODEL.labels(model, last[0].order.version, role).set(1)
