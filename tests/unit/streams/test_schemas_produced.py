"""What our code really writes: the golden records byte for byte, and everything both groups send fits its schema."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from jsonschema import Draft202012Validator

from config import load_settings
from models.errors import ChallengerUnavailable, EndpointUnavailable
from models.handle import ModelHandle
from models.spec import decode_spec, encode_spec
from monitoring.alerts import AlertPolicy, Observation, decide
from monitoring.panes import AT_ONCE
from streams import schemas
from streams.chunks import Chunk
from streams.cloudevents import PERFORMANCE
from streams.inference_log import CONTENT_TYPE, PLACES
from streams.logrows import read_log
from streams.monitor import MonitorHandler
from streams.pipeline import Pipeline
from streams.records import PartitionRecords
from streams.rejections import rejection_headers
from streams.spans import SpanTracker
from streams.switches import SWITCH
from streams.wire import position_of
from tests.record import Record
from tests.unit.streams import wire

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from models.handle import Predict
    from models.spec import ServingSpec
    from monitoring.alerts import Alert


def validate(name: str, value: object) -> None:
    Draft202012Validator(schemas.load(name)).validate(value)


def row(at_us: int, value: float | None, **more: object) -> bytes:
    return json.dumps(
        {"symbol": "GOOG", "feature_set": "bars_1d", "ts_event_us": at_us, "values": {"ret_1": value, "vol_20": 0.2}} | more
    ).encode()


def test_the_golden_spec_is_what_is_published_and_reads_back() -> None:
    assert encode_spec(wire.spec()) == wire.golden("serving_spec.json")
    assert decode_spec(wire.golden("serving_spec.json")) == wire.spec()


def test_the_golden_row_leads_to_the_golden_predictions() -> None:
    given, none = (value for _, _, value in wire.predicted().predictions)
    assert given == wire.golden("prediction.json")
    assert none == wire.golden("prediction_abstained.json")
    assert json.loads(none)["supersedes"] == json.loads(given)["prediction_id"]


@pytest.mark.parametrize("file", ["inference_log.arrow", "inference_log_without_places.arrow"])
def test_a_golden_log_of_this_release_or_an_earlier_one_can_be_read(file: str) -> None:
    data = (wire.GOLDEN / file).read_bytes()
    (read,), rejected = read_log(PartitionRecords("trading.inference-log", 1, wire.part([data], first=7).records))
    assert rejected == []
    assert read.table["prediction_id"].to_pylist() == [
        json.loads(wire.golden(f))["prediction_id"] for f in ("prediction.json", "prediction_abstained.json")
    ]
    ((_, now),) = wire.predicted().logs
    (again,), _ = read_log(wire.part([now]))
    if file == "inference_log.arrow":
        assert again.table.schema.equals(read.table.schema, check_metadata=True)
        assert (again.source, again.own.tolist(), again.decided.tolist()) == (read.source, read.own.tolist(), [AT_ONCE] * 2)
        assert (read.source, read.own.tolist()) == ("trading.features-1", [position_of(41), position_of(42)])
    else:
        assert set(again.table.schema.names) - set(read.table.schema.names) == set(PLACES)
        assert (read.source, read.own.tolist(), read.decided.tolist()) == ("trading.inference-log-1", [0, 1], [7, 7])
    np.testing.assert_array_equal(again.vectors, read.vectors)
    np.testing.assert_array_equal(again.value, read.value)
    words = [f.name for f in read.table.schema if str(f.type) != "double" and f.name != "vector"]
    assert again.table.select(words).equals(read.table.select(words))


def is_away(_values: NDArray[np.float64]) -> NDArray[np.float64]:
    raise EndpointUnavailable("no answer within 2 s")


def is_gone(_values: NDArray[np.float64]) -> NDArray[np.float64]:
    raise ChallengerUnavailable("its process was ended by SIGABRT")


def refuses(_values: NDArray[np.float64]) -> NDArray[np.float64]:
    raise RuntimeError("no")


@pytest.mark.parametrize("residuals", [(), wire.spec().residuals])
@pytest.mark.parametrize(
    ("predict", "reasons"),
    [
        (wire.answer, {None, "incomplete"}),
        (lambda x: x[:, 0] / 0.0, {"model_output_not_finite"}),
        (lambda x: x[:1, 0], {"model_output_length"}),
        (lambda x: x[:, 0].astype(str), {"model_output_type"}),
        (refuses, {"model_raised"}),
        (is_away, {"endpoint_unavailable"}),
        (is_gone, {"challenger_unavailable"}),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_predictions_of_every_kind_fit(residuals: tuple[float, ...], predict: Predict, reasons: set[str | None]) -> None:
    serving = msgspec.structs.replace(wire.spec(), residuals=residuals)
    values = [0.01, None, 1e308, -5.0, 0.0]
    rows = [row(i * wire.DAY_US, v) for i, v in enumerate(values)]
    out = wire.pipeline(serving, predict=predict).step([wire.part(rows)], wire.nothing)
    records = [json.loads(value) for _, _, value in out.predictions]
    assert len(records) == len(values)
    assert {r["reason"] for r in records} == reasons
    for record in records:
        validate("prediction", record)


def test_a_prediction_too_late_for_a_shallow_model_fits() -> None:
    deep = wire.spec()
    sets = {name: msgspec.structs.replace(s, depth_rows=2) for name, s in deep.feature_sets.items()}
    shallow = msgspec.structs.replace(deep, model="shallow", feature_sets=sets)
    handles = [ModelHandle(name=s.model, version="3", digest="", spec=s, predict=wire.answer) for s in (deep, shallow)]
    pipeline = Pipeline(handles, partitions=wire.PARTITIONS, max_future_us=0, slack_rows=1000)
    out = pipeline.step([wire.part([row(day * wire.DAY_US, 0.01) for day in (1, 2, 3, 4, 0)])], wire.nothing)
    late = [record for _, _, value in out.predictions if (record := json.loads(value))["ts_event_us"] == 0]
    assert [record["reason"] for record in late] == [None, "expired"]
    for record in late:
        validate("prediction", record)


def test_every_reason_of_rejection_fits() -> None:
    good = row(100 * wire.DAY_US, 0.1)
    known_later = row(101 * wire.DAY_US, 0.1, ts_known_us=-1)
    values = [b"no", None, row(0, 0.1, feature_set="bars"), known_later, row(8_000_000_000_000_000, 0.1)]
    parts = [wire.part([*values, good, row(100 * wire.DAY_US, 0.2), *(row(i * wire.DAY_US, 0.1) for i in range(101, 1200))])]
    parts += [wire.part([row(0, 0.1)], first=5000), wire.part([good], symbol="MSFT")]
    parts += [PartitionRecords("trading.features", (parts[0].partition + 1) % wire.PARTITIONS, wire.part([good]).records)]
    nobodys = Record(9000, 0, None, b'{"model": "m", "role": "champion", "seq": 2}', (("content-type", SWITCH),))
    parts += [PartitionRecords("trading.features", parts[0].partition, [nobodys])]
    rejected = wire.pipeline(wire.spec()).step(parts, wire.nothing).rejected
    for r in rejected:
        validate("rejected_headers", {name: value.decode() for name, value in rejection_headers(r)})
    enum = schemas.load("rejected_headers")["properties"]["__connect.errors.exception.class.name"]["enum"]
    assert {r.reason for r in rejected} == set(enum)


def test_the_life_of_an_alert_fits() -> None:
    labels = {"alertname": "feature_drift", "column": "ret_1", "model": "goog_ret_5d", "role": "champion", "version": "3"}
    state: dict[str, Alert] = {}
    events = []
    for at_us, value in ((1, 0.31), (2, 0.0), (3, 0.2), (4, 0.31), (5, 0.9), (6, 0.01), (7, 0.5), (8, 0.01)):
        severity: Any = "critical" if value > 0.25 else "warn"
        summary = f"ret_1 drifted: PSI {value:.3f}, {value / 0.1:.1f} times the threshold 0.1"
        seen = Observation(
            labels=labels, value=value, raise_at=0.1, clear_at=0.08, severity=severity, summary=summary, description="in words"
        )
        state, more = decide(state, [seen], at_us * wire.DAY_US, policy=AlertPolicy(pending_windows=2))
        events += more
    assert [e["state"] for e in events] == ["pending", "inactive", "pending", "firing", "resolved", "pending", "resolved"]
    for event in events:
        validate("alert", json.loads(msgspec.json.encode(event)))
    assert msgspec.json.encode(events[3]) == wire.golden("alert.json")


class Sent:
    """An outbox that keeps what it is given: (topic, key, value, headers)."""

    def __init__(self) -> None:
        self.records: list[tuple[str, bytes | None, bytes | None, dict[str, str]]] = []

    def send(
        self, topic: str, *, partition: int, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        assert partition in range(wire.PARTITIONS)
        self.records.append((topic, key, value, {k: v.decode() for k, v in headers}))

    def of(self, topic: str) -> list[tuple[bytes | None, dict[str, Any], dict[str, str]]]:
        return [(key, json.loads(value or b""), headers) for t, key, value, headers in self.records if t == topic]


class Stubs:
    """A registry, a warehouse and a table in one: it knows the spec, takes every row, holds what is written."""

    def __init__(self) -> None:
        self.entries: dict[tuple[int, bytes], bytes] = {}

    def load_spec(self, _name: str, _version: str) -> ServingSpec:
        return wire.spec()

    def append(self, _table: str, rows: Any) -> int:
        return len(rows)

    def items(self, _partition: int) -> list[tuple[bytes, bytes]]:
        return []

    def get(self, partition: int, key: bytes) -> bytes | None:
        return self.entries.get((partition, key))


@pytest.fixture(scope="module", name="sent")
def fixture_sent(tmp_path_factory: pytest.TempPathFactory) -> Sent:
    """What the monitor group sends for a year of one symbol that is not what it was in training, and a record that is none."""
    settings = load_settings(
        env={
            "TRADING_ML__MONITORING__METRICS_WINDOW": "60d",
            "TRADING_ML__MONITORING__PANES": "2",
            "TRADING_ML__MONITORING__MIN_SAMPLES": "20",
            "TRADING_ML__MONITORING__PENDING_WINDOWS": "1",
            "TRADING_ML__STORAGE__STATE_DIR": str(tmp_path_factory.mktemp("state")),
        }
    )
    days = range(1, 366)
    values = np.random.default_rng(3).normal(scale=0.5, size=len(days)).tolist()
    rows = [row(day * wire.DAY_US, v) for day, v in zip(days, values, strict=True)]
    logs = [data for _, data in wire.pipeline(wire.spec()).step([wire.part(rows)], wire.nothing).logs]
    outcomes = [
        json.dumps({"symbol": "GOOG", "ts_event_us": day * wire.DAY_US, "horizon_us": 5 * wire.DAY_US, "value": v}).encode()
        for day, v in zip(days, values, strict=True)
    ]
    topics, at = settings.kafka.topics, wire.part([]).partition
    parts = [
        PartitionRecords(topics.inference_log, at, wire.part([*logs, b"no stream"]).records),
        PartitionRecords(topics.outcomes, at, wire.part(outcomes).records),
    ]
    sent, stubs = Sent(), Stubs()
    monitor: Any = MonitorHandler
    handler = monitor(settings, stubs, sent, stubs, clock=lambda: 0.0)
    handler.use_table(stubs)
    chunk = Chunk(parts, [], SpanTracker())
    asyncio.run(handler.prepare(chunk))
    handler.process(chunk)
    stubs.entries = {(partition, key): value for partition, key, value in handler.take_dirty()}
    handler.say()
    return sent


def headers_fit(message: str, headers: Mapping[str, str]) -> None:
    Draft202012Validator(schemas.load("asyncapi")["components"]["messages"][message]["headers"]).validate(headers)


def test_what_the_monitor_sends_about_windows_fits(sent: Sent) -> None:
    found = [r for r in sent.of("trading.performance") if r[2]["ce_type"] == PERFORMANCE]
    assert len(found) > 1
    for key, record, headers in found:
        validate("performance", record)
        headers_fit("performance", headers)
        assert key == record["model"].encode()
        assert headers["ce_id"] == record["performance_id"]
    assert any(record["quality"] is not None for _, record, _ in found)
    like = json.loads(wire.golden("performance.json"))
    assert list(found[-1][1]) == list(like)
    assert list(found[-1][1]["quality"]) == list(like["quality"])
    assert list(found[-1][1]["drift"]["columns"][0]) == list(like["drift"]["columns"][0])


def test_what_the_monitor_asks_of_training_fits(sent: Sent) -> None:
    found = [r for r in sent.of("trading.performance") if r[2]["ce_type"] != PERFORMANCE]
    assert found
    windows = {r["performance_id"] for _, r, _ in sent.of("trading.performance") if "performance_id" in r}
    for key, record, headers in found:
        validate("retrain_request", record)
        headers_fit("retrainRequest", headers)
        assert key == record["model"].encode()
        assert headers["ce_id"] == record["request_id"]
        assert record["evidence"]["performance_id"] in windows


def test_what_the_monitor_sends_about_alerts_fits(sent: Sent) -> None:
    found = sent.of("trading.alerts")
    assert found
    for key, record, headers in found:
        validate("alert", record)
        headers_fit("alert", headers)
        assert key == record["fingerprint"].encode()
        assert headers["ce_id"] == record["event_id"]


def test_what_the_monitor_refuses_fits(sent: Sent) -> None:
    refused = [headers for topic, _, _, headers in sent.records if topic == "trading.features.rejected"]
    assert [h["__connect.errors.topic"] for h in refused] == ["trading.inference-log"]
    validate("rejected_headers", refused[0])
    headers_fit("inferenceLog", {"content-type": CONTENT_TYPE.decode()})
