"""Read predictions until Ctrl-C, each once, with nothing but confluent-kafka, and pyarrow if they come as frames.

python read_predictions.py [BOOTSTRAP_SERVERS]
"""

from __future__ import annotations

import json
import sys
from typing import Any

from confluent_kafka import Consumer, Message

TOPIC = "trading.predictions"
FRAME = ("content-type", b"application/vnd.apache.arrow.stream")
KEEP = 100_000  # ids remembered; a repeat comes at most one commit interval after the first


def predictions(message: Message) -> list[dict[str, Any]]:
    """Those of a record: the one it is, or the rows of its frame."""
    if FRAME not in (message.headers() or []):
        return [json.loads(message.value() or b"")]
    import pyarrow as pa

    rows: list[dict[str, Any]] = pa.ipc.open_stream(message.value()).read_all().to_pylist()
    return rows


consumer = Consumer(
    {
        "bootstrap.servers": sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9092",
        "group.id": "signal-generation",
        "auto.offset.reset": "earliest",
        "enable.auto.offset.store": False,  # an offset is stored when its prediction is dealt with, not when it is fetched
    }
)
consumer.subscribe([TOPIC])
seen: dict[str, None] = {}
try:
    while True:
        message = consumer.poll(1.0)
        if message is None:
            continue
        if message.error():
            sys.exit(f"cannot read {TOPIC}: {message.error()}")
        for p in predictions(message):
            # After a crash a worker may repeat a prediction: the same id with the same body. Drop it.
            if p["prediction_id"] in seen:
                continue
            seen[p["prediction_id"]] = None
            if len(seen) > KEEP:
                del seen[next(iter(seen))]
            what = f"{p['symbol']} at {p['ts_event_us']} by {p['model']}:{p['version']}"
            if p["abstained"]:
                print(f"{what}: none, {p['reason']}", flush=True)
            else:
                print(f"{what}: {p['value']:.4f} in [{p['lower']:.4f}, {p['upper']:.4f}], up {p['p_up']:.0%}", flush=True)
        consumer.store_offsets(message)
except KeyboardInterrupt:
    pass
finally:
    consumer.close()
