"""One chunk's whole path, from record bytes to the records to send. Core: no clock, no I/O, no Kafka.

Worker, replay and tests call `step`; whatever it returns depends on the records, their offsets and the models
given, never on how the stream was cut into chunks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from streams.cuts import cut
from streams.deadlines import Deadlines
from streams.layout import merge_specs
from streams.records import FeatureBatch, FeatureDecoder, PartitionRecords, rejected_rows
from streams.rejections import with_headers
from streams.ring import CONFLICT, DUPLICATE, EXPIRED, LATE, REPLAYED
from streams.served import Inputs, Served, StepResult
from streams.state import any_waiting, unpack
from streams.waiting import StreamTime
from streams.windows import LagWindows
from streams.wire import CLOCK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.handle import ModelHandle

__all__ = ["Load", "Pipeline", "Scan", "StepResult", "no_entries"]

Load = Callable[[int, str], bytes | None]
"""(partition, symbol) → the table value, None if there is none; `STREAM_TIME` stands where a symbol would."""

Scan = Callable[[int], Iterable[tuple[str, bytes]]]
"""partition → all its table entries, (symbol, value)."""

STREAM_TIME = "\x00stream-time"
"""What a partition's stream time is kept under; no symbol begins with a NUL."""


def no_entries(_partition: int) -> Iterable[tuple[str, bytes]]:
    """A table that is empty."""
    return ()


class Pipeline:
    """The state of one worker's path: windows and the models in service (role champion).

    `framed`: names of the models, in service now or later, whose predictions leave as frames and not row by row.
    """

    def __init__(
        self,
        handles: Sequence[ModelHandle],
        *,
        partitions: int,
        max_future_us: int,
        slack_rows: int,
        framed: Collection[str] = (),
    ) -> None:
        self._framed = frozenset(framed)
        self._slack_rows = slack_rows
        self._max_future_us = max_future_us
        self._partitions = partitions
        self._serve(handles)
        self.windows = LagWindows(self._layout, slack_rows=slack_rows)
        self._stream_time = StreamTime()

    def swap(self, handles: Sequence[ModelHandle]) -> dict[str, int]:
        """Serve these versions from the next chunk on. Windows are kept; when the layout changes they are laid out anew.

        Returns, by feature set whose windows grew, how many rows a symbol must still bring until they reach all the way
        back. Raises `LayoutError`, and changes nothing, when these versions cannot be served together.
        """
        before = self._layout
        self._serve(handles)
        if self._layout != before:
            self.windows = self.windows.laid_out(self._layout)
        held = {name: before[name].depth_rows if name in before else 0 for name in self._layout}
        return {name: s.depth_rows - held[name] for name, s in self._layout.items() if s.depth_rows > held[name]}

    @property
    def handles(self) -> list[ModelHandle]:
        """The versions in service."""
        return [s.handle for s in self._served]

    def _serve(self, handles: Sequence[ModelHandle]) -> None:
        layout = merge_specs(h.spec for h in handles)
        served = [Served(h, "champion", layout, framed=h.name in self._framed) for h in handles]
        self._decoder = FeatureDecoder(layout, partitions=self._partitions, max_future_us=self._max_future_us)
        self._layout, self._served = layout, served  # last, all at once: what raises above leaves the old ones in service

    def step(self, parts: Sequence[PartitionRecords], load: Load, scan: Scan = no_entries) -> StepResult:
        """Take a chunk's records through decode, windows, vectors, models and encode.

        Windows change; everything else is in the result. Nothing in `parts` can make it raise.
        """
        out = StepResult()
        batches, out.rejected = self._decoder.decode(parts, out.counts)
        for part in parts:
            if part.partition not in self._stream_time:
                self._begin(part.partition, part.records[0].offset, load, scan)
        for b in batches:
            if b.feature_set == CLOCK:
                continue
            for partition, symbol in self.windows.absent(b):
                held = load(partition, symbol)
                self.windows.admit(partition, symbol, None if held is None else unpack(held))
        for piece in cut(batches, self._slack_rows):
            self._take(piece, parts, out)
        for part in parts:
            self._stream_time.read_up_to(part.partition, part.records[-1].offset + 1)
        out.rejected = with_headers(out.rejected, parts)
        out.counts["rejected"] = len(out.rejected)
        return out

    def take_dirty(self) -> list[tuple[int, bytes, bytes]]:
        """(partition, key, value) of every table entry changed since the last call."""
        symbols = [(partition, symbol.encode(), value) for partition, symbol, value in self.windows.take_dirty()]
        return symbols + [(partition, STREAM_TIME.encode(), value) for partition, value in self._stream_time.take_dirty()]

    def drop(self, partition: int) -> None:
        """Forget a partition: it was revoked, its checkpoint is done."""
        self.windows.drop(partition)
        self._stream_time.drop(partition)

    def _begin(self, partition: int, first_offset: int, load: Load, scan: Scan) -> None:
        """A partition is read for the first time: its stream time goes on, its waiting rows are at hand."""
        self._stream_time.start(partition, first_offset, load(partition, STREAM_TIME))
        for symbol, value in scan(partition):
            if symbol != STREAM_TIME and any_waiting(value):
                self.windows.admit(partition, symbol, unpack(value))

    def _take(self, piece: Sequence[FeatureBatch], parts: Sequence[PartitionRecords], out: StepResult) -> None:
        deadlines = Deadlines(self.windows, self._served)
        ticks = self._stream_time.advance(piece)
        rows_of = [b for b in piece if b.feature_set != CLOCK]
        placed = []
        for b, status in zip(rows_of, self.windows.push(rows_of), strict=True):
            self._account(b, status, parts, out)
            keep = np.flatnonzero(status <= LATE)
            if len(keep):
                placed.append(b if len(keep) == len(status) else b.take(keep))
        for rows in placed:
            shared: dict[Hashable, Inputs] = {}
            for served in self._served:
                if served.plan.trigger != rows.feature_set:
                    continue
                if served.reads not in shared:
                    shared[served.reads] = Inputs(rows, self.windows.vectors(served.plan, rows))
                inputs = shared[served.reads]
                waits = deadlines.take(served, rows, inputs.vectors)
                now = np.flatnonzero(~waits)
                if len(now) == len(waits):
                    served.predict(inputs, out)
                elif len(now):
                    served.predict(Inputs(rows.take(now), inputs.vectors.take(now)), out)
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


_CONFLICT = (
    "a row with this symbol, feature set, event time and revision but another payload came before; publish a higher revision"
)
_EXPIRED = "older than all rows a window of this feature set keeps; publish it earlier, or a model with a deeper window"
