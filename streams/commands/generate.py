"""`trading-ml generate`: the synthetic market of `streams.demo.synthetic`, live, to the configured Kafka."""

from __future__ import annotations

import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from streams.commands.session import connected_settings, plain_errors
from streams.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from confluent_kafka import KafkaError, Message

    from config.sections import Kafka
    from streams.demo.synthetic import SyntheticPlan

SECOND_US = 1_000_000
_ANSWER_S = 10.0


def generate(
    symbols: Annotated[int, typer.Option(min=1, max=10_000, help="How many symbols; each has one bar a second.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same values.")] = 11,
    drift_after: Annotated[int | None, typer.Option(min=0, help="Seconds until two features drift; never if left out.")] = None,
) -> None:
    """Write synthetic feature rows and their outcomes in real time, until SIGTERM or Ctrl-C.

    The model that understands them is published by `trading-ml train-demo --synthetic`.
    """
    with plain_errors():
        from streams.access import cluster
        from streams.demo.synthetic import SyntheticPlan

        kafka = connected_settings().kafka
        cluster(kafka, timeout_s=_ANSWER_S)  # or else a refused login would be known when the first rows are given up
        stop = threading.Event()
        for sign in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sign, lambda *_: stop.set())
        start_us = (_now_us() // SECOND_US + 1) * SECOND_US
        plan = SyntheticPlan(symbols=symbols, bars=sys.maxsize, seed=seed, start_us=start_us, drift_at=drift_after)
        where = f"{kafka.topics.features} at {kafka.bootstrap_servers}"
        typer.echo(f"{symbols} symbols, one row each a second, to {where}; Ctrl-C ends it")
        written = run(kafka, plan, stop)
        typer.echo(f"{written.rows} feature rows and {written.outcomes} outcomes written")


@dataclass(slots=True)
class Written:
    """What was handed to Kafka, and the first delivery that failed."""

    rows: int = 0
    outcomes: int = 0
    failure: str | None = field(default=None, repr=False)

    def confirm(self, error: KafkaError | None, message: Message) -> None:
        """Take the broker's word on one record."""
        if error is not None and self.failure is None:
            self.failure = f"a record for {message.topic()} was not delivered: {error.str()}"


def run(kafka: Kafka, plan: SyntheticPlan, stop: threading.Event, now_us: Callable[[], int] | None = None) -> Written:
    """Send each block when its rows become known, until `stop` is set or the plan ends. Raises `BrokerError` on a failure."""
    from confluent_kafka import Producer

    from streams.clients import producer_config
    from streams.demo.rows import FeatureRows, RowEncoder, encode_outcomes
    from streams.demo.synthetic import FAST, SLOW, blocks

    clock = now_us or _now_us
    encoders = {"bars_1s": RowEncoder("bars_1s", FAST), "flow_30s": RowEncoder("flow_30s", SLOW)}
    producer = Producer(producer_config(kafka))
    written = Written()

    def send(topic: str, keys: Sequence[str], values: Sequence[bytes]) -> None:
        for key, value in zip(keys, values, strict=True):
            producer.produce(topic, key=key.encode(), value=value, on_delivery=written.confirm)
        producer.poll(0)

    for block in blocks(plan):
        while written.failure is None and not stop.is_set() and (ahead_us := int(block.ts_known_us.max()) - clock()) > 0:
            # In short steps: the callbacks of deliveries run in poll, so a failure is noticed while nothing is due.
            stop.wait(min(ahead_us / SECOND_US, 0.1))
            producer.poll(0)
        if stop.is_set() or written.failure is not None:
            break
        if isinstance(block, FeatureRows):
            send(kafka.topics.features, block.symbols, encoders[block.feature_set].encode(block))
            written.rows += len(block)
        else:
            send(kafka.topics.outcomes, block.symbols, encode_outcomes(block))
            written.outcomes += len(block)
    unsent = producer.flush(5.0)
    if written.failure is not None or unsent:
        reason = written.failure or f"{unsent} records were not delivered"
        raise BrokerError(f"{reason}; check kafka.bootstrap_servers ({kafka.bootstrap_servers}) and `trading-ml topics list`")
    return written


def _now_us() -> int:
    return time.time_ns() // 1_000
