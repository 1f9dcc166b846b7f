"""The standard job: its rows.

20 features, lags of 0, 1, 5 and 15 bars (80 columns) out of 16-row windows, 500 symbols on 4 partitions. The same seed
makes the same rows, bit for bit, whether they travel as JSON rows or as Arrow frames; `benchmarks.served` has the models.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from streams.partitioner import partition_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEATURE_SET: Final = "bars"
START_US: Final = 1_600_000_000_000_000
BAR_US: Final = 60_000_000
FRAME_ROWS: Final = 500


@dataclass(frozen=True, slots=True)
class Job:
    """What is run. A tick is one row of every symbol; rows of the throughput part come first, then the paced ones.

    `warm_up_rows` and `rows` are the most that a contender takes as JSON rows; slower ones take a share of them, and
    frames come `frames_times` as many. `paced` holds (rows a second, rows) of the parts with a steady rate.
    """

    symbols: int = 500
    partitions: int = 4
    features: int = 20
    lags_bars: tuple[int, ...] = (0, 1, 5, 15)
    window_rows: int = 16
    batch_rows: int = 1_000
    warm_up_rows: int = 50_000
    rows: int = 300_000
    frames_times: int = 2
    paced: tuple[tuple[int, int], ...] = ((2_000, 10_000), (5_000, 15_000))
    fetch_max_wait_ms: int = 5
    seed: int = 7

    @property
    def ticks(self) -> int:
        """Rows of each symbol as JSON, all parts together."""
        return sum(self.ticks_of(n) for n in (self.warm_up_rows + self.rows, *(rows for _, rows in self.paced)))

    @property
    def frame_ticks(self) -> int:
        """Rows of each symbol in frames."""
        return self.ticks_of(self.warm_up_rows + self.rows * self.frames_times)

    def ticks_of(self, rows: int) -> int:
        """The fewest ticks that have so many rows."""
        return -(-rows // self.symbols)

    def described(self) -> dict[str, Any]:
        """The job as results.json tells it."""
        return {**asdict(self), "columns": self.features * len(self.lags_bars), "frame_rows": FRAME_ROWS}


@dataclass(frozen=True, slots=True)
class Consumed:
    """A consumed record, as aiokafka has it."""

    offset: int
    timestamp: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


class Feed:
    """The job's rows, encoded before anything is timed.

    Row k of a partition is of tick k // n and of the partition's symbol k % n, where n = len(symbols_of[partition]). As
    the producer keeps the order, k is a JSON row's offset too, and row k comes in frame k // `FRAME_ROWS`.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.names = [f"f{i:02d}" for i in range(job.features)]
        self.symbols = [f"SYM{i:04d}" for i in range(job.symbols)]
        home = [partition_of(s.encode(), job.partitions) for s in self.symbols]
        self.symbols_of = [[s for s, at in zip(self.symbols, home, strict=True) if at == p] for p in range(job.partitions)]
        self._index = {s: i for i, s in enumerate(self.symbols)}
        self._place = {s: (p, i) for p, symbols in enumerate(self.symbols_of) for i, s in enumerate(symbols)}
        rng = np.random.default_rng(job.seed)
        shape = (max(job.ticks, job.frame_ticks), job.symbols, job.features)
        self.values: NDArray[np.float64] = rng.standard_normal(shape)

    @cached_property
    def messages(self) -> list[list[dict[str, bytes]]]:
        """By partition, every row as the {"key", "value"} that a producer takes."""
        return [
            [
                {"key": symbol.encode(), "value": self._encode(symbol, tick)}
                for tick in range(self.job.ticks)
                for symbol in self.symbols_of[p]
            ]
            for p in range(self.job.partitions)
        ]

    @cached_property
    def frames(self) -> list[list[bytes]]:
        """By partition, the first `frame_ticks` of each symbol as frames, all full but the last."""
        import pyarrow as pa

        from streams.frames_out import frames

        job, ticks = self.job, self.job.frame_ticks
        values = self.values[:ticks].reshape(-1, job.features)
        table = pa.table(
            {
                "symbol": pa.array(self.symbols * ticks),
                "ts_event_us": np.repeat(START_US + BAR_US * np.arange(ticks), job.symbols),
                **{name: np.ascontiguousarray(values[:, i]) for i, name in enumerate(self.names)},
            }
        )
        found: list[list[bytes]] = [[] for _ in range(job.partitions)]
        made = frames(table, partitions=job.partitions, feature_set=FEATURE_SET, rows_per_frame=FRAME_ROWS)
        for partition, frame in made:
            found[partition].append(frame)
        if [len(some) for some in found] != [-(-ticks * len(s) // FRAME_ROWS) for s in self.symbols_of]:
            raise RuntimeError(f"frames of other than {FRAME_ROWS} rows: a row's frame could not be told from its number")
        return found

    def place(self, partition: int, row: int) -> tuple[str, int]:
        """(symbol, tick) of a partition's row of this number."""
        tick, at = divmod(row, len(self.symbols_of[partition]))
        return self.symbols_of[partition][at], tick

    def number(self, symbol: str, ts_event_us: int) -> tuple[int, int]:
        """(partition, number there) of the row with this symbol and event time; raises `ValueError` when none was sent."""
        partition, at = self._place.get(symbol, (0, -1))
        tick, beside = divmod(ts_event_us - START_US, BAR_US)
        if at < 0 or beside or not 0 <= tick < len(self.values):
            raise ValueError(f"no row of {symbol} at {ts_event_us} was sent")
        return partition, tick * len(self.symbols_of[partition]) + at

    def features_at(self, symbol: str, tick: int) -> NDArray[np.float64]:
        """What was sent for a symbol at a tick, float64 (features,); NaN before the first."""
        if tick < 0:
            return np.full(self.job.features, np.nan)
        found: NDArray[np.float64] = self.values[tick, self._index[symbol]]
        return found

    def _encode(self, symbol: str, tick: int) -> bytes:
        values = dict(zip(self.names, self.features_at(symbol, tick).tolist(), strict=True))
        return msgspec.json.encode(
            {"symbol": symbol, "feature_set": FEATURE_SET, "ts_event_us": START_US + tick * BAR_US, "values": values}
        )
