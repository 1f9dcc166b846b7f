"""The embedded broker: librdkafka's mock cluster, for the demo and for quick tests.

Shell. The mock cluster speaks the Kafka protocol on loopback from a thread inside librdkafka, which every
confluent-kafka wheel carries; it is driven here through its C functions. It starts in about 10 ms and needs neither
Java nor Docker. What it is not:

| Kafka has                       | the embedded broker                                                      |
|---------------------------------|--------------------------------------------------------------------------|
| a log on disk                   | memory only: everything is gone when the process ends                    |
| retention by time or size       | per partition 5 MiB or 100,000 batches, the oldest batch dropped silently |
| compaction, transactions        | neither                                                                  |
| CreateTopics                    | topics are created by this class; Faust needs `topic_allow_declare=False` |
| offsets for a timestamp         | always answers -1                                                        |
| listeners on chosen ports       | a free port of 127.0.0.1, chosen by the system at each start             |

So a producer is paced by its consumers (`streams.pacing`), and loss and recovery are proved on real Kafka.
"""

from __future__ import annotations

import ctypes
import time
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Self

from streams.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

NOTICE = (
    "embedded broker: for demo and quick tests only. Memory only; each partition keeps the newest 5 MiB or 100,000 batches; "
    "no compaction, no transactions. For anything else set kafka.bootstrap_servers to a Kafka cluster."
)
"""What the broker says of itself when it starts."""

ALL_BROKERS = -1
"""Broker id that means every broker of the cluster."""

DISCONNECT = -195
"""Error to push where the broker should close the connection instead of answering (librdkafka's `_TRANSPORT`)."""

_SETTLE_S = 0.001
# A command wakes the cluster's thread by a byte in a pipe, and the thread empties the pipe after it has served its commands:
# one that comes in between is seen only at the thread's next look, up to a second later. So each gets a moment to settle.

_PRODUCER = 0  # RD_KAFKA_PRODUCER: the kind of handle that costs least
_SIGNATURES: dict[str, tuple[object, list[Any]]] = {
    "rd_kafka_conf_new": (ctypes.c_void_p, []),
    "rd_kafka_conf_set": (ctypes.c_int, [ctypes.c_void_p, *[ctypes.c_char_p] * 3, ctypes.c_size_t]),
    "rd_kafka_new": (ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]),
    "rd_kafka_destroy": (None, [ctypes.c_void_p]),
    "rd_kafka_err2str": (ctypes.c_char_p, [ctypes.c_int]),
    "rd_kafka_mock_cluster_new": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_int]),
    "rd_kafka_mock_cluster_destroy": (None, [ctypes.c_void_p]),
    "rd_kafka_mock_cluster_bootstraps": (ctypes.c_char_p, [ctypes.c_void_p]),
    "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [ctypes.c_void_p, ctypes.c_int32]),
    "rd_kafka_mock_topic_create": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]),
    "rd_kafka_mock_partition_set_leader": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_int32]),
    "rd_kafka_mock_coordinator_set": (ctypes.c_int, [ctypes.c_void_p, *[ctypes.c_char_p] * 2, ctypes.c_int32]),
    "rd_kafka_mock_broker_set_down": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int32]),
    "rd_kafka_mock_broker_set_up": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int32]),
    "rd_kafka_mock_broker_set_rtt": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int32, ctypes.c_int]),
    "rd_kafka_mock_push_request_errors_array": (
        None,
        [ctypes.c_void_p, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(ctypes.c_int)],
    ),
    "rd_kafka_mock_clear_request_errors": (None, [ctypes.c_void_p, ctypes.c_int16]),
}


class Api(IntEnum):
    """Kafka's numbers of the requests for which errors are pushed."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    SYNC_GROUP = 14
    INIT_PRODUCER_ID = 22


def _load() -> ctypes.CDLL:
    """Bind the C functions of the very library that confluent-kafka itself uses."""
    from confluent_kafka import cimpl

    # Symbols are looked up through the extension module, whose dependency librdkafka is: no file name to guess.
    library = ctypes.CDLL(cimpl.__file__)
    for name, (result, arguments) in _SIGNATURES.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise BrokerError(f"this build of confluent-kafka lacks {name}, so no embedded broker: install its wheel") from None
        function.restype, function.argtypes = result, arguments
    return library


class EmbeddedBroker:
    """A mock Kafka cluster in this process, from `start` to `close`.

    `topics`: name → number of partitions; any other topic a client asks for is made with 4 partitions, as Kafka's
    auto-creation would. `rebalance_delay_ms` is how long a new consumer group waits for further members (Kafka: 3 s).

    >>> with EmbeddedBroker({"trading.features": 8}) as broker:
    ...     broker.bootstrap_servers.startswith("127.0.0.1:")
    True
    """

    def __init__(self, topics: Mapping[str, int], *, brokers: int = 1, rebalance_delay_ms: int = 100) -> None:
        self._topics = dict(topics)
        self._brokers = brokers
        self._rebalance_delay_ms = rebalance_delay_ms
        self._handle: int | None = None
        self._cluster: int | None = None
        self._library: Any = None

    def start(self) -> Self:
        """Start the cluster and create its topics."""
        if self._cluster is not None:
            raise BrokerError("this embedded broker is already started")
        self._library = _load()
        message = ctypes.create_string_buffer(512)
        conf = self._library.rd_kafka_conf_new()
        # Silent below "critical": a handle without bootstrap servers would complain of having none.
        self._library.rd_kafka_conf_set(conf, b"log_level", b"2", message, len(message))
        self._handle = self._library.rd_kafka_new(_PRODUCER, conf, message, len(message))
        if self._handle is None:
            raise BrokerError(f"the embedded broker did not start: {message.value.decode()}")
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._handle, self._brokers)
        if self._cluster is None:
            self.close()
            raise BrokerError(f"the embedded broker could not listen on 127.0.0.1 with {self._brokers} brokers")
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, self._rebalance_delay_ms)
        try:
            for topic, partitions in self._topics.items():
                self.create_topic(topic, partitions)
        except BrokerError:
            self.close()
            raise
        return self

    def close(self) -> None:
        """End the cluster: clients are cut off and every record is gone. Closing twice does nothing."""
        cluster, self._cluster = self._cluster, None
        handle, self._handle = self._handle, None
        if cluster is not None:
            self._library.rd_kafka_mock_cluster_destroy(cluster)
        if handle is not None:
            self._library.rd_kafka_destroy(handle)

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        """Close, whatever happened."""
        self.close()

    @property
    def bootstrap_servers(self) -> str:
        """Addresses of all brokers, comma-separated."""
        servers: bytes = self._call("rd_kafka_mock_cluster_bootstraps")
        return servers.decode()

    def create_topic(self, topic: str, partitions: int) -> None:
        """Create a topic; one that exists or has no partitions raises `BrokerError`."""
        if partitions < 1:
            raise BrokerError(f"topic {topic!r} cannot have {partitions} partitions: give at least 1")
        what = f"create topic {topic!r}"
        self._check(self._call("rd_kafka_mock_topic_create", topic.encode(), partitions, min(3, self._brokers)), what)

    def set_leader(self, topic: str, partition: int, broker_id: int) -> None:
        """Move a partition to another broker (ids count from 1)."""
        arguments = (topic.encode(), partition, broker_id)
        self._check(self._call("rd_kafka_mock_partition_set_leader", *arguments), f"lead {topic}[{partition}]")

    def set_coordinator(self, group: str, broker_id: int) -> None:
        """Make a broker the coordinator of a consumer group."""
        self._check(self._call("rd_kafka_mock_coordinator_set", b"group", group.encode(), broker_id), f"coordinate {group}")

    def set_down(self, broker_id: int = ALL_BROKERS) -> None:
        """Close every connection of a broker and accept none, keeping its port and its records."""
        self._check(self._call("rd_kafka_mock_broker_set_down", broker_id), "take a broker down")

    def set_up(self, broker_id: int = ALL_BROKERS) -> None:
        """Accept connections again."""
        self._check(self._call("rd_kafka_mock_broker_set_up", broker_id), "bring a broker up")

    def set_round_trip(self, *, round_trip_ms: int, broker_id: int = ALL_BROKERS) -> None:
        """Delay every answer of a broker; 0 ends the delay."""
        self._check(self._call("rd_kafka_mock_broker_set_rtt", broker_id, round_trip_ms), "delay a broker")

    def push_errors(self, api: Api, errors: Sequence[int]) -> None:
        """Answer the next `len(errors)` requests of one kind, from any client, with these Kafka error codes, in order.

        There is one queue for all clients and all partitions; `DISCONNECT` closes the connection instead of answering,
        0 lets a request pass.
        """
        array = (ctypes.c_int * len(errors))(*errors)
        self._call("rd_kafka_mock_push_request_errors_array", int(api), len(errors), array)

    def clear_errors(self, api: Api) -> None:
        """Forget the errors still queued for one kind of request."""
        self._call("rd_kafka_mock_clear_request_errors", int(api))

    def _call(self, name: str, *arguments: object) -> Any:
        if self._cluster is None:
            raise BrokerError("the embedded broker is not running: call start() first, or use it in a with block")
        return getattr(self._library, name)(self._cluster, *arguments)

    def _check(self, code: int, what: str) -> None:
        time.sleep(_SETTLE_S)
        if code != 0:
            raise BrokerError(f"the embedded broker could not {what}: {self._library.rd_kafka_err2str(code).decode()}")
