"""A Faust worker written the ordinary way: an agent, a table, a sink. It stands under the same kills to show what they do.

The last three values of a symbol live in a RocksDB table; each row is answered with their sum. Its name for an answer is
the row's place in the topic, so that a repetition is recognised as one.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

DEPTH = 3


def main() -> None:
    """Run the worker that the environment describes, until it is killed."""
    import faust

    prefix, folder = os.environ["NAIVE_PREFIX"], Path(os.environ["NAIVE_FOLDER"])
    app = faust.App(
        f"{prefix}-naive",
        broker=f"kafka://{os.environ['NAIVE_SERVERS']}",
        store="rocksdb://",
        datadir=str(folder),
        topic_partitions=int(os.environ["NAIVE_PARTITIONS"]),
        broker_session_timeout=2.0,
        broker_heartbeat_interval=0.5,
        broker_commit_interval=0.3,
        consumer_auto_offset_reset="earliest",
        web_enabled=False,
    )
    raw: Any = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
    source = app.topic(f"{prefix}.features", **raw)
    sink = app.topic(f"{prefix}.predictions", **raw)
    table = app.Table("last", default=list)

    async def score(stream: Any) -> None:
        async for event in stream.events():
            row = json.loads(event.value)
            window = [*table[row["symbol"]], value_of(row)][-DEPTH:]
            table[row["symbol"]] = window
            answer = {"id": f"{event.message.partition}:{event.message.offset}", "value": sum(window)}
            await sink.send(key=event.key, value=json.dumps(answer).encode())
            (folder / "ready").touch()

    app.agent(source)(score)
    faust.Worker(app, loglevel="WARNING", quiet=True, redirect_stdouts=False).execute_from_commandline()


def value_of(row: dict[str, Any]) -> float:
    """A row's first value, 0 where it is missing."""
    return float(next(iter(row["values"].values())) or 0.0)


if __name__ == "__main__":
    main()
