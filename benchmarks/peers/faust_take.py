"""Faust's `take`: up to a batch of events at a time, windows in a Table of lists, one scoring call a batch.

Tuned as `faust_event` is, and: a symbol's window is written once a batch; `within` is short, for `take` waits for a full
batch or for that long. Five times as long gave no more rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.options import parser
from benchmarks.peers.faust_app import make_app, work
from benchmarks.peers.windows import Place, Shared

if TYPE_CHECKING:
    import argparse

WITHIN_S = 0.02


def main(args: argparse.Namespace) -> None:
    """Run until SIGTERM."""
    shared = Shared(args)
    app, features, predictions, windows = make_app(args)
    home: dict[bytes, int] = {}  # key → its partition
    # A batch has rows of several partitions, and Faust would take the last one's for the changelog of all.
    windows.partition_for_key = home.__getitem__

    async def batches(stream: Any) -> None:
        async for events in stream.take_events(args.batch_rows, within=WITHIN_S):
            touched: dict[bytes, list[Any]] = {}
            places, vectors = [], []
            for event in events:
                message = event.message
                symbol, row = shared.decode(message.value)
                window = touched.get(message.key)
                if window is None:
                    window = touched[message.key] = list(windows.get(message.key, ()))
                    home[message.key] = message.partition
                window.append(row)
                del window[: -shared.depth]
                vectors.append(shared.vector(window))
                places.append(Place(symbol, row[0], message.partition, message.offset))
            for key, window in touched.items():
                windows[key] = window
            for event, record in zip(events, shared.records(places, vectors), strict=True):
                await predictions.send(key=event.message.key, value=record, partition=event.message.partition)

    app.agent(features)(batches)
    work(app)


if __name__ == "__main__":
    main(parser().parse_args())
