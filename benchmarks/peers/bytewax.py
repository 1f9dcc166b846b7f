"""Bytewax with recovery on: windows as state by key, snapshots to its recovery store, one scoring call a batch.

Tuned: large batches from Kafka, a stateful operator that takes all of a key's rows at once and snapshots packed numbers,
epochs of a second.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import bytewax.operators as op
import numpy as np
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from benchmarks.options import parser
from benchmarks.peers.windows import Place, Shared

if TYPE_CHECKING:
    import argparse

EPOCH = timedelta(seconds=1)


class Window(StatefulBatchLogic):  # type: ignore[misc]  # untyped here, as it is in another environment
    """One symbol's newest rows: (row, place) in, (place, vector) out."""

    def __init__(self, shared: Shared, held: bytes | None) -> None:
        self._shared = shared
        self._rows: list[Any] = [] if held is None else np.frombuffer(held).reshape(-1, 1 + shared.features).tolist()

    def on_batch(self, values: list[Any]) -> tuple[list[Any], bool]:
        """The symbol's rows, oldest first."""
        rows, found = self._rows, []
        for row, place in values:
            rows.append(row)
            found.append((place, self._shared.vector(rows)))
        del rows[: -self._shared.depth]
        return found, StatefulBatchLogic.RETAIN

    def snapshot(self) -> bytes:
        """What recovery begins with."""
        return np.array(self._rows, dtype=np.float64).tobytes()


def flow(args: argparse.Namespace) -> Any:
    """The dataflow."""
    shared = Shared(args)

    def keyed(batch: list[Any]) -> list[Any]:
        found = []
        for m in batch:
            symbol, row = shared.decode(m.value)
            found.append((symbol, (row, Place(symbol, row[0], m.partition, m.offset))))
        return found

    def scored(batch: list[Any]) -> list[Any]:
        places = [place for _, (place, _) in batch]
        records = shared.records(places, [vector for _, (_, vector) in batch])
        return [KafkaSinkMessage(place.symbol.encode(), record) for place, record in zip(places, records, strict=True)]

    made = Dataflow("bench")
    fetch = {"fetch.wait.max.ms": str(args.fetch_max_wait_ms)}
    source = KafkaSource([args.servers], [args.features], batch_size=args.batch_rows, add_config=fetch)
    rows = op.flat_map_batch("decode", op.input("features", made, source), keyed)
    vectors = op.stateful_batch("window", rows, lambda held: Window(shared, held))
    rules = {"partitioner": "murmur2_random", "acks": "all", "enable.idempotence": "true", "linger.ms": "1"}
    sink = KafkaSink([args.servers], args.predictions, add_config=rules)
    op.output("predictions", op.flat_map_batch("score", vectors, scored), sink)
    return made


def main(args: argparse.Namespace) -> None:
    """Run until it is ended."""
    args.state.mkdir(parents=True, exist_ok=True)
    init_db_dir(args.state, 1)
    cli_main(flow(args), epoch_interval=EPOCH, recovery_config=RecoveryConfig(args.state, backup_interval=timedelta(0)))


if __name__ == "__main__":
    main(parser().parse_args())
