"""Turns what an outside reader sees on the topics into entries of the books and signals. Shell: knows Kafka's messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from streams.demo.errors import DemoFailed
from streams.demo.ledger import FeatureHead, PredictionHead
from streams.wire import ARROW_STREAM, CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import Message

    from config.sections import Topics
    from streams.demo.ledger import Ledger
    from streams.demo.signals import Signals

_PLACE_HEADER = "__connect.errors."


def handlers(topics: Topics, ledger: Ledger, signals: Signals) -> dict[str, Callable[[Message], None]]:
    """What to do with a record of each topic. Features are read back, too: the books trust no one's intentions."""
    feature = msgspec.json.Decoder(FeatureHead).decode
    prediction = msgspec.json.Decoder(PredictionHead).decode
    anything: Callable[[bytes], dict[str, Any]] = msgspec.json.Decoder(dict[str, Any]).decode

    def on_feature(m: Message) -> None:
        ledger.feature(feature(_body(m)), partition=m.partition() or 0, offset=m.offset() or 0, logged_ms=m.timestamp()[1])

    def on_prediction(m: Message) -> None:
        for body in _bodies(m):
            ledger.prediction(prediction(body), body, logged_ms=m.timestamp()[1])

    def on_rejected(m: Message) -> None:
        headers = dict(m.headers() or ())
        ledger.reject(partition=_place(headers, "partition"), offset=_place(headers, "offset"), why=_why(headers))

    return {
        topics.features: on_feature,
        topics.predictions: on_prediction,
        topics.features_rejected: on_rejected,
        topics.alerts: lambda m: signals.alert(anything(_body(m))),
        topics.performance: lambda m: signals.performance(anything(_body(m))),
    }


def _body(message: Message) -> bytes:
    value = message.value()
    if value is None:
        raise DemoFailed(f"a record of {message.topic()} at offset {message.offset()} has no value")
    return value


def _bodies(message: Message) -> list[bytes]:
    """The JSON of a record's predictions: the one it is, or those of its frame's rows."""
    value = _body(message)
    if dict(message.headers() or ()).get(CONTENT_TYPE) != ARROW_STREAM:
        return [value]
    from streams.prediction_frames import decode_predictions

    return [msgspec.json.encode(row) for row in decode_predictions(value)]


def _place(headers: dict[Any, Any], name: str) -> int:
    """A number of the rejected record's place; -1, which no row has, when the header is missing or no number."""
    text = headers.get(_PLACE_HEADER + name, b"")
    return int(text) if text.isdigit() else -1


def _why(headers: dict[Any, Any]) -> str:
    text = headers.get(_PLACE_HEADER + "exception.message", b"no reason given")
    return str(text.decode(errors="replace"))
