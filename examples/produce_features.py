"""Write one feature row per symbol, with nothing but confluent-kafka.

python produce_features.py [BOOTSTRAP_SERVERS]
"""

from __future__ import annotations

import json
import sys
import time

from confluent_kafka import KafkaError, Message, Producer

TOPIC = "trading.features"
ROWS = {"GOOG": {"ret_1": 0.013, "vol_20": 0.21}, "MSFT": {"ret_1": -0.004, "vol_20": None}}  # None: missing

failed: list[str] = []


def confirmed(error: KafkaError | None, message: Message) -> None:
    """Told of every row, once the broker has it or never will."""
    if error is not None:
        failed.append(f"{message.key()!r}: {error}")


producer = Producer(
    {
        "bootstrap.servers": sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9092",
        # Not confluent-kafka's default. Rows, outcomes and predictions of a symbol must land on the same partition number.
        "partitioner": "murmur2_random",
        "enable.idempotence": True,
        "linger.ms": 5,
    }
)
now_us = time.time_ns() // 1_000
bar_end_us = now_us - now_us % 60_000_000  # a bar's event time is its END
for symbol, values in ROWS.items():
    row = {
        "symbol": symbol,
        "feature_set": "bars_1m",
        "ts_event_us": bar_end_us,
        "ts_known_us": now_us,  # first instant it could be used; left out: ts_event_us + the set's publication lag
        "revision": 0,  # a correction of the same bar is the same row with the next number
        "values": values,
    }
    producer.produce(TOPIC, key=symbol.encode(), value=json.dumps(row), on_delivery=confirmed)
    producer.poll(0)

unsent = producer.flush(30)
if failed or unsent:
    sys.exit(f"not delivered: {failed or unsent}")
print(f"{len(ROWS)} rows written to {TOPIC}")
