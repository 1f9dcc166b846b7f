"""Laws of repeated rows: whatever inference workers repeat and monitors read again, each row counts for drift exactly once."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.alerts import AlertPolicy
from monitoring.drift import count
from monitoring.joined import Scorer
from monitoring.panes import AT_ONCE
from monitoring.reference import Reference
from monitoring.retrain import RetrainPolicy
from monitoring.rules import AlertRules
from streams.aligning import Aligned, together
from streams.inference_log import PLACES, decode_log, encode_log
from streams.logrows import LogRows, read_log
from streams.pipeline import Pipeline
from streams.records import PartitionRecords
from streams.rules import Rules
from streams.trained import Trained
from streams.watch import Watch
from streams.wire import true_offset
from tests.laws.test_frames_laws import HEADERS, frame
from tests.laws.test_windows_laws import (
    IMPATIENT,
    PARTITIONS,
    SPEC,
    WAITING,
    handle_of,
    home,
    one_partition,
    reader_of,
    streams,
    wire,
)
from tests.record import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.spec import ServingSpec

STEPS = 8
"""Workers read, commit and die at eighths of each partition's records."""
SPECS = st.sampled_from([SPEC, WAITING, WAITING, IMPATIENT])
COLUMNS = [c.name for c in SPEC.columns]
_BINS = {"edges": [-1.0, 0.0, 2.0, 9.0, 25.0], "counts": [1] * 6 + [0], "low": -9, "high": 99}
TRAINED = Trained(
    columns=(*COLUMNS, "prediction"),
    reference=Reference.from_columns([*COLUMNS, "prediction"], dict.fromkeys([*COLUMNS, "prediction"], _BINS)),
    reconstruct=None,
    prediction="prediction",
    error="reconstruction_error",
    sets={},
    set_of={},
    losses={},
    residuals=None,
    level=0.9,
    horizon_us=10,
    bar_us=10,
    usual_lag_us=0,
    sessions=(),
    reach=(),
)
RULES = Rules(
    partitions=PARTITIONS,
    pane_us=1,
    panes=1,
    grace_panes=10**6,
    label_timeout_us=1,
    labels_kept_us=1,
    most_rows=1,
    threshold=0.1,
    min_samples=1,
    false_discovery_rate=0.1,
    policy=AlertPolicy(pending_windows=1, cooldown_us=0),
    alerts=AlertRules(),
    symbol_groups={},
    revise_within_us=0,
    retrain=RetrainPolicy(),
)
"""A window for each instant, none of which closes: counts show each row's event time."""

Topic = dict[int, list[Record]]
"""By partition: its records in order."""


@st.composite
def topics(draw: st.DrawFn, *, frames: bool = True) -> Topic:
    """Rows of two sets, many of which wait, as JSON records and frames in any mixture."""
    rows = [replace(row, offset=at) for at, row in enumerate(draw(st.one_of(streams(), one_partition())))]
    topic: Topic = {}
    for partition in sorted({home(r.symbol) for r in rows}):
        left, offset = [r for r in rows if home(r.symbol) == partition], draw(st.integers(0, 3))
        topic[partition] = []
        while left:
            n = draw(st.integers(0, 9)) if frames else 0
            some, left = left[: max(n, 1)], left[max(n, 1) :]
            value, headers = (frame(some, batches=1, nan=False), HEADERS) if n else (wire(some[0]).value, ())
            topic[partition].append(Record(offset, 10**9, some[0].symbol.encode(), value, headers))
            offset += draw(st.integers(1, 2))
    return topic


@dataclass(frozen=True)
class Life:
    """A worker that goes on from the last commit, commits at `commits` and dies at `dies`.

    Of the checkpoint it dies in only these `written` entries are; if none, its last `unsent` log records are lost.
    """

    commits: int
    dies: int
    cuts: frozenset[int]
    written: frozenset[int]
    unsent: int


steps = st.integers(0, STEPS)
lives = st.lists(
    st.builds(Life, steps, steps, st.frozensets(steps, max_size=4), st.frozensets(st.integers(0, 4)), st.integers(0, 9)),
    max_size=4,
)
TO_THE_END = Life(STEPS, STEPS, frozenset(range(1, STEPS, 3)), frozenset(), 0)


def log_of(topic: Topic, spec: ServingSpec, some_lives: Iterable[Life], *, slack: int = 3) -> Topic:
    """The inference log that these workers leave, one after another, and a last one that reads to the end."""
    table: dict[tuple[int, str], bytes] = {}
    log: list[tuple[int, bytes]] = []
    committed = 0
    for life in [*some_lives, TO_THE_END]:
        worker = Pipeline([handle_of(spec)], partitions=PARTITIONS, max_future_us=10**15, slack_rows=slack)
        commits = max(committed, life.commits)
        log += _work(worker, topic, table, [committed, *life.cuts, commits])
        table.update({(p, k.decode()): v for p, k, v in worker.take_dirty()})
        committed = commits
        after = _work(worker, topic, table, [committed, *life.cuts, max(committed, life.dies)])
        table.update({(p, k.decode()): v for i, (p, k, v) in enumerate(worker.take_dirty()) if i in life.written})
        log += after if life.written else after[: max(0, len(after) - life.unsent)]
    held: defaultdict[int, list[Record]] = defaultdict(list)
    for partition, data in log:
        held[partition].append(Record(len(held[partition]), 0, None, data))
    return dict(held)


def _work(worker: Pipeline, topic: Topic, table: dict[tuple[int, str], bytes], bounds: Sequence[int]) -> list[tuple[int, bytes]]:
    """What comes of the steps from the first bound to the last, cut at those between."""
    logs: list[tuple[int, bytes]] = []
    for start, stop in pairwise([bounds[0], *sorted(b for b in bounds[1:-1] if bounds[0] < b < bounds[-1]), bounds[-1]]):
        pieces = {p: held[len(held) * start // STEPS : len(held) * stop // STEPS] for p, held in topic.items()}
        parts = [PartitionRecords("f", p, some) for p, some in pieces.items() if some]
        logs += worker.step(parts, *reader_of(table)).logs if parts else []
    return logs


def read_rows(log: Topic) -> dict[int, list[LogRows]]:
    found = {}
    for partition, records in log.items():
        found[partition], rejected = read_log(PartitionRecords("log", partition, records))
        assert rejected == []
    return found


Reading = tuple[int, int]
"""A monitor's chunk: how many records of each partition, and whether it restarts before, that many records back."""


def counted(log: Topic, readings: Sequence[Reading]) -> Watch:
    """A monitor that reads the log so, over and over; a restart keeps what was stored, which is ahead of what was committed."""
    watch, rows = Watch(Scorer("m", "1", "champion"), RULES), read_rows(log)
    watch.arm(TRAINED)
    unheard: Any = None  # a chunk that is not told when it is finished
    at, turn = 0, 0
    while at < max(map(len, rows.values()), default=0):
        size, back = readings[turn % len(readings)] if turn < 20 * len(readings) else (10**6, 0)
        if back:
            watch = Watch.unpack(watch.scorer, RULES, watch.pack())
            assert watch.arm(TRAINED) is None
            at = max(0, at - back)
        aligned = Aligned(pane_us=RULES.pane_us, grace_panes=0)
        aligned.add([r for held in rows.values() for r in held[at : at + size]], unheard, now_s=0.0)
        for some in together(aligned.take((), now_s=0.0)):
            assert watch.count(some) == []
        at, turn = at + size, turn + 1
    return watch


readings_of = st.lists(st.tuples(st.integers(1, 9), st.sampled_from([0, 0, 1, 5])), min_size=1, max_size=4)


def assert_each_counts(watch: Watch, log: Topic, *, times: int = 1) -> None:
    """Every distinct row of the log is counted so many times."""
    rows: defaultdict[int, dict[str, list[float]]] = defaultdict(dict)
    for r in (r for held in read_rows(log).values() for r in held):
        values = np.column_stack((r.vectors, r.value)).tolist()
        for pid, event, row in zip(r.table["prediction_id"].to_pylist(), r.ts_event_us.tolist(), values, strict=True):
            rows[event][pid] = row
    panes: Any = watch.panes
    total = 0
    for event, held in rows.items():
        expected = times * count(TRAINED.reference, np.array(list(held.values())))
        assert panes.window(event).counts.tolist() == expected.tolist()
        total += times * len(held)
    assert sum(int(p.counts[0].sum()) for p in panes._panes.values()) == total


@settings(max_examples=120)
@given(topics(), lives, readings_of, SPECS, st.integers(1, 6))
def test_each_row_counts_once_whatever_is_repeated(
    topic: Topic, some_lives: list[Life], readings: list[Reading], spec: ServingSpec, slack: int
) -> None:
    log = log_of(topic, spec, some_lives, slack=slack)
    undisturbed = read_rows(log_of(topic, spec, []))
    ids = {pid for held in undisturbed.values() for r in held for pid in r.table["prediction_id"].to_pylist()}
    assert ids == {pid for held in read_rows(log).values() for r in held for pid in r.table["prediction_id"].to_pylist()}
    assert_each_counts(counted(log, readings), log)


@settings(max_examples=60)
@given(topics(), lives, st.integers(1, 3), readings_of, SPECS)
def test_how_a_log_is_cut_into_records_changes_no_count(
    topic: Topic, some_lives: list[Life], most_rows: int, readings: list[Reading], spec: ServingSpec
) -> None:
    log = log_of(topic, spec, some_lives)
    small: Topic = {}
    for partition, records in log.items():
        batches = [b for r in records for b in decode_log(r.value or b"").table.to_batches(max_chunksize=most_rows)]
        small[partition] = [Record(i, 0, None, encode_log(b)) for i, b in enumerate(batches)]
    assert_each_counts(counted(small, readings), log)


@settings(max_examples=50)
@given(topics(), st.frozensets(steps), SPECS, st.integers(1, 6))
def test_rows_of_either_kind_come_in_one_order_however_the_stream_is_cut(
    topic: Topic, cuts: frozenset[int], spec: ServingSpec, slack: int
) -> None:
    def orders(log: Topic) -> dict[int, tuple[list[tuple[int, str]], list[tuple[int, int, str]]]]:
        found = {}
        for partition, held in read_rows(log).items():
            assert {r.source for r in held} == {f"f-{partition}"}
            rows = [
                row
                for r in held
                for row in zip(r.decided.tolist(), r.own.tolist(), r.table["prediction_id"].to_pylist(), strict=True)
            ]
            found[partition] = [row[1:] for row in rows if row[0] == AT_ONCE], [row for row in rows if row[0] != AT_ONCE]
        return found

    whole = orders(log_of(topic, spec, [Life(STEPS, STEPS, cuts, frozenset(), 0)], slack=slack))
    assert whole == orders(log_of(topic, spec, []))
    for at_once, waited in whole.values():
        assert at_once == sorted(at_once)
        assert waited == sorted(waited)
        places = [own for own, _ in at_once] + [own for _, own, _ in waited]
        assert len(places) == len(set(places))


@settings(max_examples=50)
@given(topics(frames=False), SPECS)
def test_a_wait_is_decided_by_the_record_with_which_the_answer_comes(topic: Topic, spec: ServingSpec) -> None:
    worker = Pipeline([handle_of(spec)], partitions=PARTITIONS, max_future_us=10**15, slack_rows=3)
    for partition, records in topic.items():
        for record in records:
            for _, data in worker.step([PartitionRecords("f", partition, [record])], lambda _p, _s: None).logs:
                (rows,) = read_rows({partition: [Record(0, 0, None, data)]})[partition]
                ends = [
                    true_offset(own if decided == AT_ONCE else decided)
                    for own, decided in zip(rows.own, rows.decided, strict=True)
                ]
                assert set(ends) == {record.offset}


@settings(max_examples=30)
@given(topics(), lives, readings_of, SPECS)
def test_rows_of_an_earlier_release_are_known_by_their_records(
    topic: Topic, some_lives: list[Life], readings: list[Reading], spec: ServingSpec
) -> None:
    """A monitor that reads them again counts them once; those that a worker repeated count again, as they did then."""
    log = log_of(topic, spec, some_lives)
    old: Topic = {}
    for partition, records in log.items():
        tables = [decode_log(r.value or b"").table.drop_columns(list(PLACES)) for r in records]
        old[partition] = [Record(i, 0, None, encode_log(t.combine_chunks().to_batches()[0])) for i, t in enumerate(tables)]
    watch: Any = counted(old, readings)
    of_old = sum(len(r) for h in read_rows(old).values() for r in h)
    assert sum(int(p.counts[0].sum()) for p in watch.panes._panes.values()) == of_old
    # What this release adds to the log is counted beside it.
    log = log_of(topic, spec, [])
    both = {p: [*old.get(p, ()), *(replace(r, offset=len(old.get(p, ())) + r.offset) for r in held)] for p, held in log.items()}
    watch, extra = counted(both, readings), sum(len(r) for h in read_rows(log).values() for r in h)
    assert sum(int(p.counts[0].sum()) for p in watch.panes._panes.values()) == extra + of_old
