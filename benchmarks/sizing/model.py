"""Pure functions from three inputs (symbols, rows a second, wire format) and measured constants to a cluster's size.

Each formula is a line or two; docs/sizing.md explains them and says how far they are off where they can be checked. All is
for one feature set and one model, and for rows such as those the constants were measured with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

DAY_S: Final = 86_400.0
CHANGELOG_KEPT_S: Final = 3_600.0
"""`streams.topics.WINDOWS_KEPT_S`: so long the windows changelog keeps every record, compacted or not."""
ROCKSDB_MB: Final = 64.0
"""Of a partition at most: 32 MB of cache, two write buffers of 16 (`streams.table.ROCKSDB_OPTIONS`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be served, and how. The first three are the inputs; the others have a sensible default.

    `busy`: share of its core a worker may use in the ordinary run; `busy_after_loss`: with one worker gone.
    `copies`: replication factor; `kept_h`: hours for which features, predictions and the log are kept.
    """

    symbols: int
    rows_per_s: float
    wire: str = "rows"
    commit_s: float = 1.0
    busy: float = 0.6
    busy_after_loss: float = 0.8
    partitions_per_worker: int = 4
    copies: int = 3
    kept_h: float = 24.0
    session_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Measured constants of one wire format.

    `row_us`: CPU time of a worker for a row; `window_us`: for a window written at a checkpoint (packing, table,
    changelog); `broker_row_us`: of the broker for a row, one copy. `*_bytes`: of a row, of a window in the changelog, of a
    symbol in memory. `recovery_bytes_per_s`: how fast changelog is turned into state, after `recover_s` of preparation.
    `pause_s`: longest gap of a rebalance with little to rebuild, that preparation included.
    """

    row_us: float
    window_us: float
    broker_row_us: float
    features_bytes: float
    predictions_bytes: float
    log_bytes: float
    window_bytes: float
    symbol_bytes: float
    base_mb: float
    recover_s: float
    recovery_bytes_per_s: float
    pause_s: float
    monitor_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The answer. Bytes a second are of the whole cluster unless said; memory and recovery are of one worker."""

    cores: float
    workers: int
    partitions: int
    symbols_per_worker: float
    worker_mb: float
    broker_cores: float
    windows_per_s: float
    changelog_bytes_per_s: float
    worker_in_bytes_per_s: float
    worker_out_bytes_per_s: float
    broker_in_bytes_per_s: float
    broker_out_bytes_per_s: float
    disk_bytes_per_day: float
    disk_bytes: float
    rebuild_s: float
    back_s: float
    caught_up_s: float
    monitors: float


def windows_per_s(symbols: int, rows_per_s: float, commit_s: float) -> float:
    """Windows written a second: each symbol touched since the last checkpoint once, so at most all and at most the rows.

    >>> windows_per_s(100_000, 1_000_000, 1.0), windows_per_s(100_000, 1_000_000, 10.0), windows_per_s(1_000, 200, 1.0)
    (100000.0, 10000.0, 200.0)
    """
    return min(float(symbols), rows_per_s * commit_s) / commit_s


def cpu_cores(costs: Costs, rows_per_s: float, windows_a_second: float) -> float:
    """Cores kept busy by workers, all together."""
    return (rows_per_s * costs.row_us + windows_a_second * costs.window_us) / 1e6


def workers_for(cores: float, *, busy: float, busy_after_loss: float) -> int:
    """Workers, of about one core each, such that all are `busy` at most, and the rest `busy_after_loss` when one is gone.

    >>> workers_for(0.02, busy=0.6, busy_after_loss=0.8), workers_for(1.0, busy=0.6, busy_after_loss=0.8)
    (2, 3)
    """
    return max(math.ceil(cores / busy), math.ceil(cores / busy_after_loss) + 1)


def symbol_bytes(*, features: int, depth_rows: int, slack_rows: int) -> float:
    """Memory of a symbol's window: key, known time and offset (8 bytes each) and the values of `depth + slack` rows.

    Arrays double when they are full, so a worker may hold twice this; 1.5 times is what to expect.

    >>> symbol_bytes(features=20, depth_rows=16, slack_rows=32)
    13248.0
    """
    return 1.5 * (depth_rows + slack_rows) * (24 + 8 * features)


def size(want: Wanted, costs: Costs) -> Size:
    """Everything, from three inputs and the constants."""
    written = windows_per_s(want.symbols, want.rows_per_s, want.commit_s)
    cores = cpu_cores(costs, want.rows_per_s, written)
    workers = workers_for(cores, busy=want.busy, busy_after_loss=want.busy_after_loss)
    partitions = workers * want.partitions_per_worker
    changelog = written * costs.window_bytes
    answers = want.rows_per_s * (costs.predictions_bytes + costs.log_bytes)
    features = want.rows_per_s * costs.features_bytes
    broker_in = features + answers + changelog
    kept = (features + answers) * want.kept_h * 3600
    changelog_kept = changelog * CHANGELOG_KEPT_S + want.symbols * costs.window_bytes
    # A lost worker's partitions go to as many of the others; each of these reads what the changelog has of what it got.
    got = math.ceil(want.partitions_per_worker / (workers - 1))
    rebuild_s = got * changelog_kept / partitions / costs.recovery_bytes_per_s
    back_s = want.session_s + costs.pause_s + rebuild_s
    load_after_loss = cores / (workers - 1)
    return Size(
        cores=cores,
        workers=workers,
        partitions=partitions,
        symbols_per_worker=want.symbols / workers,
        worker_mb=costs.base_mb
        + (want.partitions_per_worker + got) * ROCKSDB_MB
        + want.symbols / (workers - 1) * costs.symbol_bytes / 2**20,
        broker_cores=want.rows_per_s * costs.broker_row_us / 1e6 / want.busy,
        windows_per_s=written,
        changelog_bytes_per_s=changelog,
        worker_in_bytes_per_s=features / workers,
        worker_out_bytes_per_s=(answers + changelog) / workers,
        broker_in_bytes_per_s=broker_in,
        broker_out_bytes_per_s=features + answers + broker_in * (want.copies - 1),
        disk_bytes_per_day=(features + answers) * DAY_S * want.copies,
        disk_bytes=(kept + changelog_kept) * want.copies,
        rebuild_s=rebuild_s,
        back_s=back_s,
        # What came meanwhile is taken with what the rest have to spare.
        caught_up_s=back_s / (1 - min(load_after_loss, 0.99)),
        monitors=want.rows_per_s * costs.monitor_us / 1e6,
    )
