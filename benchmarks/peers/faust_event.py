"""Faust, one event at a time, windows in a Table of lists.

Tuned: raw keys and values, msgspec and orjson in place of Python's json, the table in memory (Faust's fastest store; its
changelog is what makes it durable), sends that are not awaited one by one, no web server, few commits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.options import parser
from benchmarks.peers.faust_app import make_app, work
from benchmarks.peers.windows import Place, Shared

if TYPE_CHECKING:
    import argparse


def main(args: argparse.Namespace) -> None:
    """Run until SIGTERM."""
    shared = Shared(args)
    app, features, predictions, windows = make_app(args)

    async def each(stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            symbol, row = shared.decode(message.value)
            window = [*windows.get(message.key, ()), row][-shared.depth :]
            windows[message.key] = window
            place = Place(symbol, row[0], message.partition, message.offset)
            record = shared.record(place, shared.vector(window))
            await predictions.send(key=message.key, value=record, partition=message.partition)

    app.agent(features)(each)
    work(app)


if __name__ == "__main__":
    main(parser().parse_args())
