"""`trading-ml rejected` against the embedded broker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import typer
from confluent_kafka import Producer
from typer.testing import CliRunner, Result

from streams.broker_process import BOOTSTRAP_VARIABLE
from streams.clients import producer_config
from streams.commands import rejected
from streams.rejections import MOST_BYTES, fit, rejection_headers
from streams.wire import Rejected
from tests.broker.inference_judge import Read, read_all

if TYPE_CHECKING:
    from config.sections import Kafka

pytestmark = pytest.mark.broker

app = typer.Typer()
app.add_typer(rejected.app, name="rejected")


@pytest.fixture(autouse=True)
def _settings(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BOOTSTRAP_VARIABLE, kafka.bootstrap_servers)
    monkeypatch.setenv("TRADING_ML__KAFKA__PARTITIONS", "4")


def run(*arguments: str, answer: str = "") -> Result:
    return CliRunner().invoke(app, ["rejected", *arguments], input=answer)


def refuse(kafka: Kafka, *records: tuple[Rejected, list[tuple[str, bytes]]]) -> None:
    """Put these in the rejected topic, as a worker does, a second apart from 1970 on; with headers of their own."""
    producer = Producer(producer_config(kafka))
    for at, (whole, own) in enumerate(records):
        r = fit(whole)
        producer.produce(
            kafka.topics.features_rejected,
            r.value,
            r.key,
            r.partition,
            headers=[*rejection_headers(r), *own],
            timestamp=1000 + 1000 * at,
        )
    assert producer.flush(10) == 0


def record(
    kafka: Kafka,
    offset: int,
    *,
    reason: str = "undecodable",
    key: bytes | None = b"A",
    value: bytes | None = b"{",
    topic: str = "",
) -> Rejected:
    return Rejected(topic or kafka.topics.features, 1, offset, key, value, reason, f"why {offset}")


def sent(kafka: Kafka) -> list[Read]:
    return read_all(kafka.bootstrap_servers, kafka.topics.features)


def test_listing_filters_and_shows_text_or_hex(kafka: Kafka) -> None:
    refuse(kafka, (record(kafka, 5), []), (record(kafka, 6, reason="future", key=b"B", value=b"\xff\xfe"), []))
    both = run("list").output.splitlines()
    assert both == [
        "1970-01-01T00:00:01.000Z trading.features 1:5 undecodable: why 5 | A | {",
        "1970-01-01T00:00:02.000Z trading.features 1:6 future: why 6 | B | 0xfffe",
    ]
    for one in (["--reason", "future"], ["--symbol", "B"], ["--since", "1970-01-01T00:00:02"], ["--limit", "1"]):
        assert run("list", *one).output.splitlines() == both[1:]
    assert run("list", "--until", "1970-01-01T00:00:02").output.splitlines() == both[:1]
    assert run("list", "--partition", "2").output == ""
    assert run("list", "--since", "2h").output == ""
    rows = [json.loads(line) for line in run("list", "--json").output.splitlines()]
    assert [(r["offset"], r.get("value"), r.get("value_hex")) for r in rows] == [(5, "{", None), (6, None, "fffe")]
    assert run("list", "--since", "yesterday").exit_code == 2


def test_a_replay_sends_the_original_bytes_once_and_says_how_often(kafka: Kafka) -> None:
    one = record(kafka, 5, key=b"\xfe", value=b"\x00bytes")
    refuse(kafka, (one, [("trace", b"7")]), (one, [("trace", b"7")]), (record(kafka, 6, reason="future"), []))
    assert run("replay", "--reason", "undecodable", "--dry-run").output.splitlines()[-1] == "1 to send"
    assert run("replay", "--reason", "undecodable", answer="n\n").exit_code == 1
    assert sent(kafka) == []
    done = run("replay", "--reason", "undecodable", answer="y\n")
    assert done.exit_code == 0
    assert "1 left: the same bytes again" in done.output
    assert done.output.endswith("1 of 1 sent again\n")
    (r,) = sent(kafka)
    assert (r.partition, r.key, r.value) == (1, b"\xfe", b"\x00bytes")
    assert r.headers == {"trace": b"7", "trading-ml.replays": b"1"}


def test_what_is_refused_again_does_not_go_round(kafka: Kafka) -> None:
    refuse(kafka, (record(kafka, 5), []), (record(kafka, 9), [("trading-ml.replays", b"1")]))
    left = run("replay", "--yes").output
    assert left == "2 left: refused after as many replays as allowed\n0 to send\n"
    assert run("replay", "--yes", "--most-replays", "2").output.endswith("1 of 1 sent again\n")
    assert [r.headers for r in sent(kafka)] == [{"trading-ml.replays": b"2"}]


def test_what_cannot_or_must_not_be_sent_is_left(kafka: Kafka) -> None:
    refuse(
        kafka,
        (record(kafka, 5, value=b"x" * (MOST_BYTES + 1)), []),
        (record(kafka, 6, topic="somebody.elses"), []),
    )
    assert run("replay", "--yes").output.splitlines() == [
        "1 left: from a topic the platform does not read",
        "1 left: too large to have been kept here",
        "0 to send",
    ]
    assert sent(kafka) == []
