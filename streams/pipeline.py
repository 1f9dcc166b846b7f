"""One chunk's whole path, from record bytes to the records to send. Core: no clock, no I/O, no Kafka.

Worker, replay and tests call `step`; whatever it returns depends on the records, their offsets and the orders and models
given, never on how the stream was cut into chunks.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from streams.cuts import cut
from streams.deadlines import Deadlines
from streams.errors import LayoutError
from streams.partitions import NUL, Load, Partitions, Scan, first_orders
from streams.records import FeatureBatch, PartitionRecords, rejected_rows
from streams.rejections import with_headers
from streams.ring import CONFLICT, DUPLICATE, EXPIRED, LATE, REPLAYED
from streams.served import Inputs, StepResult, waits_as
from streams.state import unpack
from streams.switches import History, is_switch
from streams.waiting import StreamTime
from streams.wire import CLOCK, Rejected

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from models.handle import ModelHandle
    from streams.lanes import Lane
    from streams.records import Record
    from streams.switches import Order
    from streams.waiting import Waiting

__all__ = ["Load", "Pipeline", "Scan", "StepResult", "no_entries"]

STREAM_TIME = NUL + "stream-time"
"""What a partition's stream time is kept under."""


def no_entries(_partition: int) -> Iterable[tuple[str, bytes]]:
    """A table that is empty."""
    return ()


class Pipeline:
    """The state of one worker's path: model versions, what is in force in which partition, and the windows.

    `framed`: names of the models whose predictions leave as frames and not row by row.
    """

    def __init__(
        self,
        handles: Sequence[ModelHandle],
        *,
        partitions: int,
        max_future_us: int,
        slack_rows: int,
        framed: Collection[str] = (),
        orders: Sequence[Order] | None = None,
    ) -> None:
        """`handles`: the versions at hand; `orders`: what is known by now. None: these handles are champions, for ever.

        Raises `LayoutError` when those cannot be served together.
        """
        self.partitions = Partitions(
            list(dict.fromkeys(h.name for h in handles)),
            partitions=partitions,
            max_future_us=max_future_us,
            slack_rows=slack_rows,
            framed=frozenset(framed),
        )
        self._slack_rows = slack_rows
        self._stream_time = StreamTime()
        for handle in handles:
            self.add(handle)
        for order in first_orders(handles) if orders is None else orders:
            self.know(order)
        if orders is None:
            self.partitions.layout_of(History.starting(first_orders(handles), first_offset=0))

    def add(self, handle: ModelHandle, *, apart: bool = False) -> None:
        """A version that may come into force. `apart`: this is how it scores as challenger, and as nothing else."""
        known = self.partitions.apart if apart else self.partitions.handles
        known[handle.name, handle.version] = handle

    def know(self, order: Order) -> None:
        """An order whose switch may be found in the log."""
        self.partitions.orders[order.key] = order

    def step(self, parts: Sequence[PartitionRecords], load: Load, scan: Scan = no_entries) -> StepResult:
        """Take a chunk's records through decode, windows, vectors, models and encode.

        Windows change; everything else is in the result. Nothing in `parts` can make it raise, if all versions wanted
        (`Partitions.wanted`), and those of known switches among the records, were added.
        """
        out = self.champions(parts, load, scan)
        out.challenge(out)
        return out

    def champions(self, parts: Sequence[PartitionRecords], load: Load, scan: Scan = no_entries) -> StepResult:
        """As `step`, but what challengers are to score is left `pending` in the result."""
        out = StepResult()
        for part in parts:
            first = part.records[0].offset
            if part.partition not in self.partitions:
                self.partitions.begin(part.partition, first, load, scan)
                self._stream_time.start(part.partition, first, load(part.partition, STREAM_TIME))
            self.partitions.read_from(part.partition, first)
        if any(r.headers and is_switch(r) for part in parts for r in part.records):
            for part in parts:
                for stretch, switch in _stretches(part):
                    if stretch.records:
                        self._chunk([stretch], load, out)
                    if switch is not None:
                        self._switch(part, switch, scan, out)
        else:
            self._chunk(parts, load, out)
        for part in parts:
            self._stream_time.read_up_to(part.partition, part.records[-1].offset + 1)
        out.rejected = with_headers(out.rejected, parts)
        out.counts["rejected"] = len(out.rejected)
        return out

    def take_dirty(self) -> list[tuple[int, bytes, bytes]]:
        """(partition, key, value) of every table entry changed since the last call.

        What is in force comes first: whoever finds windows of a layout must find why.
        """
        versions = self.partitions.take_dirty()
        symbols = [(p, symbol.encode(), value) for lane in self.lanes for p, symbol, value in lane.windows.take_dirty()]
        return versions + symbols + [(p, STREAM_TIME.encode(), value) for p, value in self._stream_time.take_dirty()]

    def drop(self, partition: int) -> None:
        """Forget a partition: it was revoked, its checkpoint is done."""
        self.partitions.drop(partition)
        self._stream_time.drop(partition)

    @property
    def lanes(self) -> Collection[Lane]:
        """One for each layout in force."""
        return self.partitions.lanes

    @property
    def symbols(self) -> int:
        """How many have their windows in memory."""
        return sum(len(lane.windows) for lane in self.lanes)

    @property
    def stream_time_us(self) -> int:
        """The greatest of the partitions read, -1 before any row."""
        return self._stream_time.greatest()

    def waiting(self) -> list[tuple[int, str, tuple[Waiting, ...]]]:
        """(partition, symbol, rows) of all resident symbols with waiting rows."""
        return [w for lane in self.lanes for w in lane.windows.waiting()]

    def deadlines_us(self) -> dict[str, int]:
        """By what a waiting row is kept under, the longest that it may wait."""
        out: dict[str, int] = {}
        for h in (*self.partitions.handles.values(), *self.partitions.apart.values()):
            for at in (waits_as(h.name, "champion"), waits_as(h.name, "challenger")):
                out[at] = max(out.get(at, 0), h.spec.deadline_us)
        return out

    def _switch(self, part: PartitionRecords, record: Record, scan: Scan, out: StepResult) -> None:
        """Put an order in force, or reject the record."""
        out.counts["rows"] += 1
        partition = part.partition
        try:
            done = self.partitions.switch(partition, record, scan, stream_time_us=self._stream_time.now(partition))
        except LayoutError as e:
            where = part.topic, partition, record.offset, record.key, record.value
            out.rejected.append(Rejected(*where, "bad_switch", _SWITCH.format(e)))
            return
        if done is not None:
            out.switched.append((partition, *done))

    def _chunk(self, parts: Sequence[PartitionRecords], load: Load, out: StepResult) -> None:
        """Records between switches."""
        for lane in self.lanes:
            mine = parts if len(self.lanes) == 1 else [p for p in parts if self.partitions.lane(p.partition) is lane]
            if mine:
                self._through(lane, mine, load, out)

    def _through(self, lane: Lane, parts: Sequence[PartitionRecords], load: Load, out: StepResult) -> None:
        batches, rejected = lane.decoder.decode(parts, out.counts)
        out.rejected += rejected
        ahead: set[str] = set()
        for b in batches:
            if b.feature_set == CLOCK:
                continue
            for partition, symbol in lane.windows.absent(b):
                held = load(partition, symbol)
                state = None if held is None else unpack(held)
                if state is not None and self.partitions.ahead(partition, state.applied_offset):
                    ahead.add(symbol)
                else:
                    lane.windows.admit(partition, symbol, state)
        for piece in cut(batches, self._slack_rows):
            self._take(lane, piece, ahead, parts, out)

    def _take(
        self,
        lane: Lane,
        piece: Sequence[FeatureBatch],
        ahead: Collection[str],
        parts: Sequence[PartitionRecords],
        out: StepResult,
    ) -> None:
        deadlines = Deadlines(lane)
        ticks = self._stream_time.advance(piece)
        rows_of = [b for b in piece if b.feature_set != CLOCK]
        if ahead:
            rows_of = [kept for b in rows_of if (kept := _without(b, ahead, out)) is not None]
        placed = []
        for b, status in zip(rows_of, lane.windows.push(rows_of), strict=True):
            self._account(b, status, parts, out)
            keep = np.flatnonzero(status <= LATE)
            if len(keep):
                placed.append(b if len(keep) == len(status) else b.take(keep))
        for rows in placed:
            shared: dict[Hashable, Inputs] = {}
            for served, mine in lane.scorers(rows):
                if served.reads not in shared:
                    shared[served.reads] = Inputs(rows, lane.windows.vectors(served.plan, rows))
                inputs = shared[served.reads] if mine is None else shared[served.reads].take(mine)
                waits = deadlines.take(served, inputs.rows, inputs.vectors)
                now = np.flatnonzero(~waits)
                if len(now) == len(waits):
                    served.predict(inputs, out)
                elif len(now):
                    served.predict(inputs.take(now), out)
        deadlines.settle(placed, ticks, piece[0].topic, out)

    def _account(self, b: FeatureBatch, status: NDArray[np.int8], parts: Sequence[PartitionRecords], out: StepResult) -> None:
        if not status.any():
            return
        tally = Counter(status.tolist())
        for code, name in ((LATE, "late"), (DUPLICATE, "duplicate"), (REPLAYED, "replayed")):
            out.counts[name] += tally[code]
        refused = np.flatnonzero((status == CONFLICT) | (status == EXPIRED))
        why = [("conflict", _CONFLICT) if s == CONFLICT else ("expired", _EXPIRED) for s in status[refused].tolist()]
        out.rejected += rejected_rows(parts, b.take(refused), why)


def _stretches(part: PartitionRecords) -> Iterator[tuple[PartitionRecords, Record | None]]:
    """The records up to each switch, and the switch; at last those after it, and None."""
    start = 0
    for at, record in enumerate(part.records):
        if record.headers and is_switch(record):
            yield PartitionRecords(part.topic, part.partition, part.records[start:at]), record
            start = at + 1
    yield PartitionRecords(part.topic, part.partition, part.records[start:]), None


def _without(b: FeatureBatch, symbols: Collection[str], out: StepResult) -> FeatureBatch | None:
    """The batch without these symbols' rows, which were applied in an earlier life; None if none is left."""
    keep = np.array([i for i, s in enumerate(b.symbols) if s not in symbols], dtype=np.intp)
    out.counts["replayed"] += len(b.symbols) - len(keep)
    return b.take(keep) if len(keep) else None


_SWITCH = "not put in force: {}"
_CONFLICT = (
    "a row with this symbol, feature set, event time and revision but another payload came before; publish a higher revision"
)
_EXPIRED = "older than all rows a window of this feature set keeps; publish it earlier, or a model with a deeper window"
