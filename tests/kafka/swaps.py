"""Three small versions in a registry, rows for them, and what must come of those, worked out from the topics alone."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from models.spec import ColumnSpec, FeatureSetSpec, Lag, ServingSpec
from models.timeline import FROM_THE_START_US
from streams.switches import KEPT, SWITCH, Order, read_switch
from tests.broker.inference_rows import BAR_US, MODEL, START_US
from tests.chaos.reading import Read, read_all
from tests.laws.oracle import Oracle, Row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlflow import MlflowClient

    from tests.chaos.names import Names

SYMBOLS = [f"S{i:02}" for i in range(12)]
FEATURES = {"bars": ("x", "w"), "slow": ("z",)}
_NARROW = (
    ColumnSpec(name="x", feature_set="bars", feature="x"),
    ColumnSpec(name="x2", feature_set="bars", feature="x", lag=Lag(bars=2)),
    ColumnSpec(name="z", feature_set="slow", feature="z", required=False),
)
_WIDE = (
    *_NARROW,
    ColumnSpec(name="x7", feature_set="bars", feature="x", lag=Lag(us=7 * BAR_US)),
    ColumnSpec(name="w1", feature_set="bars", feature="w", lag=Lag(bars=1)),
)
_SLOW = FeatureSetSpec(features=("z",), bar_us=BAR_US, depth_rows=3)


def _spec(columns: tuple[ColumnSpec, ...], *, features: tuple[str, ...], depth: int) -> ServingSpec:
    sets = {"bars": FeatureSetSpec(features=features, bar_us=BAR_US, depth_rows=depth), "slow": _SLOW}
    return ServingSpec(model=MODEL, trigger="bars", horizon_us=BAR_US, columns=columns, feature_sets=sets)


SPECS = {
    "1": _spec(_NARROW, features=("x",), depth=6),
    "2": _spec(_NARROW, features=("x",), depth=6),
    "3": _spec(_WIDE, features=("x", "w"), depth=9),
}
"""By version. The third reads a feature more, and deeper windows."""


def publish_all(folder: Path) -> tuple[str, MlflowClient]:
    """A registry with these versions, the first of them champion; its address, and a client to move the alias with."""
    from sklearn.linear_model import LinearRegression

    from models.mlflow_client import connect
    from models.publish import publish

    uri = f"sqlite:///{folder}/mlflow.db"
    rng = np.random.default_rng(5)
    for version, spec in SPECS.items():
        x = rng.normal(size=(60, len(spec.columns)))
        fitted = LinearRegression().fit(x, x.sum(axis=1) * int(version))
        published = publish(
            fitted,
            name=MODEL,
            columns=spec.columns,
            feature_sets=spec.feature_sets,
            trigger="bars",
            horizon_us=BAR_US,
            x=x,
            residuals=rng.normal(size=20).tolist(),
            tracking_uri=uri,
            artifact_root=folder / "artifacts",
            alias="champion" if version == "1" else None,
        )
        assert published.version == version
    return uri, connect(uri)


def stream(seed: int) -> Iterator[dict[str, Any]]:
    """Bars of all symbols, the slow set now and then, some values missing, some rows up to three bars late."""
    rng = random.Random(seed)  # noqa: S311 - the same rows every time
    for step in itertools.count(10):
        for symbol in SYMBOLS:
            name = "slow" if rng.random() < 0.15 else "bars"
            event = START_US + step * BAR_US
            known = event + rng.choice([0, 1_000_000, 3_000_000])
            if rng.random() < 0.05:
                event += 1 - rng.randint(1, 3) * BAR_US
            values = {f: None if rng.random() < 0.05 else rng.gauss(0, 1) for f in FEATURES[name]}
            body = {"symbol": symbol, "feature_set": name, "ts_event_us": event, "ts_known_us": known, "values": values}
            yield {"key": symbol.encode(), "value": json.dumps(body).encode()}


@dataclass
class Demand:
    """What must come of a features topic. `answers`: by (symbol, event time, revision), version and vector."""

    answers: dict[tuple[str, int, int], tuple[str, list[float]]] = field(default_factory=dict)
    numbers: dict[tuple[str, int, int], int] = field(default_factory=dict)
    switched: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    """By partition, the numbers of the orders in force there, in the order in which they came."""
    repeated: int = 0
    """Switches found again after they were in force."""


@dataclass
class _Partition:
    """What is in force, as (from, order), and an oracle a symbol."""

    held: list[tuple[int, Order]]
    time_us: int = -1
    oracles: dict[str, Oracle] = field(default_factory=dict)

    def layout(self) -> dict[str, tuple[set[str], int]]:
        """By feature set: features kept, and how deep."""
        out: dict[str, tuple[set[str], int]] = {}
        for _, order in self.held[-KEPT:]:
            for name, s in SPECS[order.version].feature_sets.items():
                features, depth = out.get(name, (set(), 0))
                out[name] = features | set(s.features), max(depth, s.depth_rows)
        return out

    def switch(self, order: Order) -> None:
        before = self.layout()
        self.held.append((max(order.effective_from_us, self.time_us + 1, self.held[-1][0] + 1), order))
        after = self.layout()
        for oracle in self.oracles.values():
            oracle.depth = {name: depth for name, (_, depth) in after.items()}
            kept: list[Row] = []
            for name, (_, depth) in before.items():
                rows = sorted((k for k in oracle.kept if k.feature_set == name), key=lambda k: (k.event, k.revision))
                kept += rows[-depth:]
            oracle.kept = kept

    def read(self, r: Read, out: Demand) -> None:
        d = json.loads(r.value or b"")
        self.time_us = max(self.time_us, d["ts_known_us"])
        layout = self.layout()
        features, _ = layout[d["feature_set"]]
        given = {f: v for f, v in d["values"].items() if f in features and v is not None}
        values = {f: given.get(f, math.nan) for f in FEATURES[d["feature_set"]]}
        row = Row(r.offset, d["symbol"], d["feature_set"], d["ts_event_us"], d["ts_known_us"], 0, values)
        come = [order for from_us, order in self.held[-KEPT:] if from_us <= row.event] or [self.held[-KEPT:][0][1]]
        depth = {name: depth for name, (_, depth) in layout.items()}
        oracle = self.oracles.setdefault(row.symbol, Oracle(SPECS["1"], depth))
        oracle.spec = SPECS[come[-1].version]
        assert oracle.read(row) == "kept"
        for answer in oracle.answers:
            at = row.symbol, row.event, row.revision
            out.answers[at] = come[-1].version, answer.vector
            out.numbers[at] = come[-1].seq
        oracle.answers.clear()
        for name, (_, deep) in layout.items():  # what is deeper is nowhere any more
            mine = sorted((k for k in oracle.kept if k.feature_set == name), key=lambda k: (k.event, k.revision))
            for gone in mine[: -deep or None]:
                oracle.kept.remove(gone)


def orders(names: Names) -> dict[int, Order]:
    """Those that count, by number."""
    out: dict[int, Order] = {}
    for r in read_all(names.servers, names.topics.model_timeline):
        order = msgspec.json.decode(r.value or b"", type=Order)
        out.setdefault(order.seq, order)
    return out


def switches(names: Names) -> list[tuple[int, int]]:
    """(partition, number) of each switch in the features topic."""
    found = read_all(names.servers, names.topics.features)
    some = [(r.partition, read_switch(r.value)) for r in found if r.headers.get("content-type") == SWITCH]
    return [(p, s.seq) for p, s in some if s is not None]


def demand(names: Names) -> Demand:
    """Each row by the version of its event time, in the order of offsets."""
    given = orders(names)
    first = in_force_first(given[1])
    partitions: defaultdict[int, _Partition] = defaultdict(lambda: _Partition([first]))
    out = Demand()
    for r in read_all(names.servers, names.topics.features):
        at = partitions[r.partition]
        if r.headers.get("content-type") != SWITCH:
            at.read(r, out)
            continue
        switch = read_switch(r.value)
        assert switch is not None
        if switch.seq > at.held[-1][1].seq:
            at.switch(given[switch.seq])
            out.switched[r.partition].append(switch.seq)
        else:
            out.repeated += 1
    return out


def in_force_first(order: Order) -> tuple[int, Order]:
    """The first order, in force from the beginning of time."""
    assert order.effective_from_us == FROM_THE_START_US
    return FROM_THE_START_US, order
