"""The rig itself, without Kafka: the ledger finds every kind of damage, the plan keeps its time and repeats itself."""

from __future__ import annotations

import json
import math
import random
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import pytest

from models.handle import ModelHandle
from streams.partitioner import partition_of
from streams.pipeline import Pipeline
from streams.records import PartitionRecords
from streams.rejections import fit, rejection_headers
from tests.broker.inference_rows import FEATURE_SETS, MODEL, PARTITIONS, SPEC, VERSION
from tests.chaos import ledger, report
from tests.chaos.feeding import TIMESTAMP_MS, numbered
from tests.chaos.names import Names
from tests.chaos.reading import Read
from tests.chaos.run import OVERHEAD_S, fitting, plan_of
from tests.chaos.scenarios import SCENARIOS
from tests.chaos.scenarios.kills import moments
from tests.chaos.world import Result
from tests.laws.oracle import Oracle, Row
from tests.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = 3000
Topics = dict[str, list[Read]]


@pytest.fixture(scope="module")
def names() -> Names:
    return Names("none:1", "t")


@pytest.fixture(scope="module")
def topics(names: Names) -> Topics:
    """What the pipeline itself makes of numbered rows, one partition in three chunks, as it would lie in Kafka."""
    at: dict[int, list[Record]] = {p: [] for p in range(PARTITIONS)}
    reads: Topics = {t: [] for _, t in names.topics}
    for r in numbered(7, ROWS):
        partition = r.get("partition", partition_of(r["key"], PARTITIONS))
        headers = dict(r["headers"])
        record = Record(len(at[partition]), TIMESTAMP_MS, r["key"], r["value"])
        at[partition].append(record)
        reads[names.topics.features].append(Read(partition, record.offset, r["key"], r["value"], headers))
    handle = ModelHandle(
        name=MODEL, version=VERSION, digest="", spec=SPEC, predict=lambda x: cast("Any", np.nan_to_num(x).sum(axis=1))
    )
    pipeline = Pipeline([handle], partitions=PARTITIONS, max_future_us=300_000_000, slack_rows=8)
    for third in range(3):
        parts = [
            PartitionRecords(names.topics.features, p, held[third * len(held) // 3 : (third + 1) * len(held) // 3])
            for p, held in at.items()
        ]
        out = pipeline.step(parts, lambda _partition, _symbol: None)
        for partition, key, value in out.predictions:
            _append(reads[names.topics.predictions], partition, key, value)
        for partition, data in out.logs:
            _append(reads[names.topics.inference_log], partition, None, data)
        for x in map(fit, out.rejected):
            _append(reads[names.topics.features_rejected], x.partition, x.key, x.value, dict(rejection_headers(x)))
    return reads


def _append(topic: list[Read], partition: int, key: bytes | None, value: bytes | None, headers: Any = None) -> None:
    topic.append(Read(partition, len(topic), key, value, headers or {}))


def audited(names: Names, topics: Topics, monkeypatch: pytest.MonkeyPatch, **changed: list[Read]) -> ledger.Ledger:
    held = topics | {getattr(names.topics, role): reads for role, reads in changed.items()}
    monkeypatch.setattr(ledger, "read_all", lambda _servers, topic: held[topic])
    return ledger.audit(names, sent=ROWS)


def test_what_the_pipeline_makes_is_clean_and_every_row_is_accounted_for(
    names: Names, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = audited(names, topics, monkeypatch)
    assert found.faults == {}
    assert found.rows == ROWS == sum(found.fates.values())
    assert found.repeated == 0


def changed_body(read: Read, **fields: Any) -> Read:
    return Read(read.partition, read.offset, read.key, json.dumps(json.loads(read.value or b"") | fields).encode(), read.headers)


def changed_log(read: Read, column: str, change: Callable[[list[Any]], None]) -> Read:
    table = pa.ipc.open_stream(read.value).read_all()
    values = table[column].to_pylist()
    change(values)
    at = table.schema.get_field_index(column)
    table = table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    return Read(read.partition, read.offset, read.key, sink.getvalue().to_pybytes(), read.headers)


def _double_first(values: list[Any]) -> None:
    values[0] = [2 * v for v in values[0]]


def _shift_first(values: list[Any]) -> None:
    values[0] += 1


DAMAGE: list[tuple[str, str, Callable[[list[Read]], list[Read]]]] = [
    ("lost", "predictions", lambda r: r[1:]),
    ("lost", "inference_log", lambda r: r[1:]),
    ("lost", "features_rejected", lambda r: r[1:]),
    ("not_written", "features", lambda r: r[:-1]),
    ("contradictory", "predictions", lambda r: [*r, changed_body(r[0], ood=9.0)]),
    ("contradictory", "inference_log", lambda r: [*r, changed_log(r[0], "vector", _double_first)]),
    ("unknown", "predictions", lambda r: [*r, changed_body(r[0], prediction_id="m:1:S00:1:0")]),
    ("wrong", "predictions", lambda r: [changed_body(r[0], value=1e9), *r[1:]]),
    ("wrong", "predictions", lambda r: [changed_body(r[0], missing=["nothing"]), *r[1:]]),
    ("wrong", "inference_log", lambda r: [changed_log(r[0], "vector", _double_first), *r[1:]]),
    ("wrong", "inference_log", lambda r: [changed_log(r[0], "source_offset", _shift_first), *r[1:]]),
    ("wrong", "features_rejected", lambda r: [Read(r[0].partition, r[0].offset, r[0].key, b"other", r[0].headers), *r[1:]]),
]


@pytest.mark.parametrize(("kind", "role", "damage"), DAMAGE, ids=[f"{k}-{r}-{i}" for i, (k, r, _) in enumerate(DAMAGE)])
def test_the_ledger_finds(
    kind: str,
    role: str,
    damage: Callable[[list[Read]], list[Read]],
    names: Names,
    topics: Topics,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = audited(names, topics, monkeypatch, **{role: damage(topics[getattr(names.topics, role)])})
    assert kind in found.faults


def test_an_exact_repetition_is_counted_and_no_fault(names: Names, topics: Topics, monkeypatch: pytest.MonkeyPatch) -> None:
    again = {role: [*topics[getattr(names.topics, role)]] * 2 for role in ("predictions", "inference_log", "features_rejected")}
    found = audited(names, topics, monkeypatch, **again)
    assert found.faults == {}
    assert found.repeated == len(topics[names.topics.predictions]) + len(topics[names.topics.features_rejected])


def test_the_forgetful_oracle_answers_as_the_one_that_keeps_everything() -> None:
    rng = random.Random(2)  # noqa: S311 - the same rows every time
    depth = {n: f.depth_rows for n, f in FEATURE_SETS.items()}
    plain, forgetful = Oracle(SPEC, depth), ledger.NewestRows(SPEC, depth)
    for offset in range(1500):
        name = rng.choice(["bars", "bars", "slow"])
        event = 10**12 + rng.randint(0, 30 + offset // 20) * 30_000_000
        values = {f: rng.choice([1.0, 2.0, math.nan]) for f in FEATURE_SETS[name].features}
        row = Row(offset, "A", name, event, event + rng.choice([1, 10**8]), rng.randint(0, 1), values)
        assert plain.read(row) == forgetful.read(row)
    assert len(forgetful.kept) == sum(depth.values())
    assert repr(plain.answers) == repr(forgetful.answers)  # NaN is not equal to itself


def test_the_whole_plan_fits_an_hour_and_every_scenario_is_in_it() -> None:
    plan = plan_of(fitting(60), minutes=60)
    assert plan.keys() == SCENARIOS.keys()
    assert sum(plan.values()) + OVERHEAD_S * len(plan) <= 60 * 60 + 1e-6
    assert plan["kills"] > 600


def test_a_short_run_leaves_out_what_would_take_most_of_it() -> None:
    plan = plan_of(fitting(8), minutes=8)
    assert SCENARIOS.keys() - plan.keys() == {"away_held", "away_killed", "away_long", "burst"}
    assert sum(plan.values()) + OVERHEAD_S * len(plan) <= 8 * 60 + 1e-6
    assert min(plan.values()) > 5


def test_the_same_seed_plans_the_same_kills() -> None:
    rounds = [[moments(rng) for _ in range(50)] for rng in (random.Random("1:kills"), random.Random("1:kills"))]  # noqa: S311 - a plan, no secret
    assert rounds[0] == rounds[1]
    assert rounds[0] != [moments(random.Random("2:kills")) for _ in range(50)]  # noqa: S311 - as above


def test_the_page_says_what_was_measured_and_what_was_not() -> None:
    good = Result("kills", 1, title="kill -9", faults=3, rows=1200, repeated=4, recoveries_s=[1.0, 2.0, 9.0])
    bad = Result("slow", 1, title="slow", lost=1, bad={"ledger": {}})
    naive = Result("naive", 1, title="the ordinary way", faults=3, wrong=7)
    skipped = Result("clock", 1, title="clock", skipped="no library")
    found = {
        "command": "make it so",
        "seed": 1,
        "minutes": 2.0,
        "kafka": "4",
        "python": "3",
        "results": [r.summary() for r in (good, bad, naive, skipped)],
    }
    text = report.figures(found)
    assert "| kill -9 | 3 | 1,200 | 0 | 0 | 0 | 4 | 2.0 s | 9.0 s |\n" in text
    assert "| **all** | 3 | 1,200 | 1 | 0 | 0 | 4 |  |  |\n" in text
    assert text.index("the ordinary way") > text.index("**all**")
    assert "- clock: no library.\n" in text
    assert "repeat with `make it so`.\n" in text
    assert "- slow: **not as it must be**: ledger.\n" in text


def test_the_committed_page_holds_the_committed_figures() -> None:
    page = report.PAGE.read_text(encoding="utf-8")
    assert report.with_figures(page, json.loads(report.RESULTS.read_text(encoding="utf-8"))) == page, "run `make chaos`"
