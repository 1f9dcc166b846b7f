"""What the demo's reader hands over enters the books the same, whether predictions come as JSON records or as frames."""

from __future__ import annotations

import json
from typing import Any

from config.sections import Kafka
from streams.demo.ledger import Ledger
from streams.demo.listening import handlers
from streams.demo.signals import Signals
from tests.unit.streams.wire import GOLDEN, golden

TOPICS = Kafka(bootstrap_servers="none:1").topics


class Message:
    """As much of a message as the handlers look at."""

    def __init__(self, value: bytes, *, partition: int, offset: int, headers: list[tuple[str, bytes]] | None = None) -> None:
        self._value, self._partition, self._offset, self._headers = value, partition, offset, headers

    def value(self) -> bytes:
        return self._value

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def headers(self) -> list[tuple[str, bytes]] | None:
        return self._headers

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_000


def test_predictions_in_rows_in_frames_and_again_are_the_same_to_the_books() -> None:
    records = [golden("prediction.json"), golden("prediction_abstained.json")]
    ledger = Ledger(trigger="bars_1d")
    take: Any = handlers(TOPICS, ledger, Signals())
    for revision, record in enumerate(records):
        source = json.loads(record)["source"]
        row = json.loads(golden("feature_row.json")) | {"revision": revision}
        take[TOPICS.features](Message(json.dumps(row).encode(), partition=source["partition"], offset=source["offset"]))
    header = [("content-type", b"application/vnd.apache.arrow.stream")]
    frame = Message((GOLDEN / "prediction_frame.arrow").read_bytes(), partition=0, offset=0, headers=header)
    take[TOPICS.predictions](frame)
    assert (ledger.settled, ledger.abstained, ledger.repeated, ledger.close()) == (2, 1, 0, [])
    for record in records:
        take[TOPICS.predictions](Message(record, partition=0, offset=1))
    take[TOPICS.predictions](frame)
    assert (ledger.settled, ledger.abstained, ledger.repeated, ledger.close()) == (2, 1, 4, [])
