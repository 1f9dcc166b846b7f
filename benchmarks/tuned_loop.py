"""The limit to measure against: this one job as a strong engineer would write it by hand, without a framework.

confluent-kafka in batches, msgspec structs, numpy windows, rocksdict, a changelog, offsets committed once a second after a
flush. What defines the output is shared with our worker (prediction record, vector hash, Arrow log, `models.score`), for
both must do the same job; what reads, keeps, joins and sends is the loop's own. Two ways to keep state:

- per batch: after every batch the touched windows go to rocksdict and the changelog;
- write-behind: windows touched since the last commit go there once, before the next commit.

What it does not do, and our worker does: late rows, revisions, duplicates and conflicts; rows that cannot be used (it would
end); known times; rows repeated after a crash (its state would take them twice); recovery from the changelog; handing
partitions over; several models or feature sets; a model's change while it runs; metrics, health, back-pressure.
"""

from __future__ import annotations

import signal
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from rocksdict import AccessType, Options, Rdict, WriteBatch

from benchmarks.answers import Answers, lags_of, row_decoder
from benchmarks.options import parser
from benchmarks.served import read_model
from benchmarks.tuned_windows import Windows
from streams.clients import producer_rules
from streams.inference_log import CONTENT_TYPE, encode_log, log_batch, log_schema
from streams.partitioner import partition_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from models.handle import ModelHandle

COMMIT_S = 1.0
ROOM = 200_000  # unconfirmed records at which to wait
FETCH: dict[str, Any] = {"enable.auto.commit": False, "auto.offset.reset": "earliest"}


class Scorer:
    """Feature messages in, prediction and log records out; knows the windows, not Kafka."""

    def __init__(self, handle: ModelHandle, *, features_topic: str, load: Callable[[str], bytes | None]) -> None:
        spec = handle.spec
        bars = spec.feature_sets[spec.trigger]
        self._decode = row_decoder(handle)
        self._answers = Answers(handle, features_topic=features_topic)
        self._handle = handle
        self._topic = features_topic
        self._digest = spec.digest()
        names = [c.name for c in spec.columns]
        self._schema = log_schema(model=handle.name, version=handle.version, role="champion", columns=names)
        self.windows = Windows(
            features=len(bars.features), lags_bars=lags_of(handle), bar_us=bars.bar_us, depth=bars.depth_rows, load=load
        )
        self.dirty: set[int] = set()

    def take(self, by_partition: dict[int, list[Any]]) -> tuple[list[bytes], list[bytes]]:
        """Prediction records in the order of the messages, and one Arrow log a partition."""
        messages = [m for part in by_partition.values() for m in part]
        rows: list[Any] = [self._decode(m.value()) for m in messages]
        symbols = [r.symbol for r in rows]
        slots = self.windows.slots(symbols)
        events = [r.ts_event_us for r in rows]
        event_us = np.array(events, dtype=np.int64)
        astuple = msgspec.structs.astuple
        vectors = self.windows.push(slots, event_us, np.array([astuple(r.values) for r in rows], dtype=np.float64))
        self.dirty.update(slots.tolist())
        sizes = {p: len(part) for p, part in by_partition.items()}
        partition = np.repeat(list(sizes), list(sizes.values()))
        offsets = [m.offset() for m in messages]
        answered = self._answers(symbols, events, partition.tolist(), offsets, vectors)
        scores, spec = answered.scores, self._handle.spec
        columns = {
            "prediction_id": answered.ids, "symbol": symbols, "ts_event_us": event_us, "ts_decision_us": event_us,
            "horizon_us": spec.horizon_us, "revision": 0, "value": scores.value, "lower": scores.lower, "upper": scores.upper,
            "level": spec.level, "p_up": scores.p_up, "confidence": scores.confidence, "ood": scores.ood,
            "completeness": answered.completeness, "abstained": scores.abstained, "reason": answered.reasons,
            "vector_hash": answered.hashes, "spec_digest": self._digest, "source_topic": self._topic,
            "source_partition": partition, "source_offset": np.array(offsets, dtype=np.int64), "source_index": 0,
        }  # fmt: skip
        batch = log_batch(self._schema, columns, vectors)
        ends = np.cumsum(list(sizes.values())).tolist()
        logs = [encode_log(batch.slice(end - size, size)) for end, size in zip(ends, sizes.values(), strict=True)]
        return answered.records, logs


class Loop:
    """The Kafka side: consume, hand to the scorer, produce, keep state, commit."""

    def __init__(self, args: argparse.Namespace) -> None:
        handle = read_model(args.model)
        self._args = args
        options = Options(raw_mode=True)
        options.create_if_missing(True)  # noqa: FBT003 - rocksdict's signature
        self._db: Any = Rdict(str(args.state), options, access_type=AccessType.read_write())
        self._scorer = Scorer(handle, features_topic=args.features, load=lambda s: self._db.get(s.encode()))
        # Reports of what arrived would cost a call a record; `flush` waits for all, and what failed is reported.
        config = {"bootstrap.servers": args.servers, "delivery.report.only.error": True, **producer_rules()}
        self._producer = Producer(config)
        self._consumer = Consumer(
            {"bootstrap.servers": args.servers, "group.id": args.group, "fetch.wait.max.ms": args.fetch_max_wait_ms, **FETCH}
        )
        self._consumer.subscribe([args.features])
        self._failure: str | None = None
        self._ends: dict[int, int] = {}
        self._home: dict[int, int] = {}  # slot → partition
        self._stop = False

    def run(self) -> None:
        """Until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stopping)
        consumer, most = self._consumer, self._args.batch_rows
        due = time.monotonic() + COMMIT_S
        while not self._stop:
            first = consumer.poll(0.1)
            if first is not None:
                # What is ready and no waiting for more: full batches under load, no delay without.
                self._take([first, *consumer.consume(most - 1, 0)])
            if time.monotonic() >= due:
                self._commit()
                due = time.monotonic() + COMMIT_S
        self._commit()
        consumer.close()
        self._db.close()

    def _stopping(self, *_: object) -> None:
        self._stop = True

    def _take(self, messages: list[Any]) -> None:
        by_partition: defaultdict[int, list[Any]] = defaultdict(list)
        for m in messages:
            if m.error() is not None:
                raise KafkaException(m.error())
            by_partition[m.partition()].append(m)
        limit = self._scorer.windows.batch_limit
        if len(messages) > limit and max(Counter(m.key() for m in messages).values()) > limit:
            half = len(messages) // 2
            self._take(messages[:half])
            self._take(messages[half:])
            return
        predictions, logs = self._scorer.take(by_partition)
        at = 0
        for (partition, part), log in zip(by_partition.items(), logs, strict=True):
            records = predictions[at : at + len(part)]
            at += len(part)
            self._send(self._args.predictions, partition, [m.key() for m in part], records)
            self._producer.produce(
                self._args.log, log, partition=partition, headers=[("content-type", CONTENT_TYPE)], on_delivery=self._failed
            )
            self._ends[partition] = part[-1].offset() + 1
        if not self._args.write_behind:
            self._keep()
        self._producer.poll(0)
        while len(self._producer) > ROOM:
            self._producer.poll(0.01)

    def _send(self, topic: str, partition: int, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        records: list[Any] = [{"key": k, "value": v} for k, v in zip(keys, values, strict=True)]
        if self._producer.produce_batch(topic, records, partition=partition, on_delivery=self._failed) != len(records):
            raise RuntimeError(f"the producer's queue is full at {len(self._producer)} records")

    def _failed(self, error: Any, _message: Any) -> None:
        if error is not None:
            self._failure = str(error)

    def _keep(self) -> None:
        """Touched windows to the changelog and to rocksdict."""
        slots = sorted(self._scorer.dirty)
        if not slots:
            return
        self._scorer.dirty.clear()
        names = self._scorer.windows.symbols
        keys = [names[s].encode() for s in slots]
        packed = self._scorer.windows.pack(np.array(slots, dtype=np.intp))
        batch = WriteBatch(raw_mode=True)
        by_partition: defaultdict[int, tuple[list[bytes], list[bytes]]] = defaultdict(lambda: ([], []))
        for slot, key, value in zip(slots, keys, packed, strict=True):
            batch.put(key, value)
            home = self._home.get(slot)
            if home is None:
                home = self._home[slot] = partition_of(key, self._args.partitions)
            by_partition[home][0].append(key)
            by_partition[home][1].append(value)
        for partition, (part_keys, values) in by_partition.items():
            self._send(self._args.changelog, partition, part_keys, values)
        self._db.write(batch)

    def _commit(self) -> None:
        """State kept, everything sent confirmed, then the offsets."""
        if not self._ends:
            return
        self._keep()
        if self._producer.flush(30.0) or self._failure is not None:
            raise RuntimeError(f"not everything was delivered: {self._failure}")
        ends = [TopicPartition(self._args.features, p, o) for p, o in self._ends.items()]
        self._consumer.commit(offsets=ends, asynchronous=False)
        self._ends.clear()


def main() -> None:
    """Run the loop from the command line of `benchmarks.contenders`."""
    options = parser()
    options.add_argument("--write-behind", action="store_true")
    Loop(options.parse_args()).run()


if __name__ == "__main__":
    main()
