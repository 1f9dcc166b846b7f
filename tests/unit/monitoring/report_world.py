"""Four days of one model, made up: two versions and a challenger, a column that drifts, outcomes that come late, alerts.

Records are made by the monitor's own core, so they are what a monitor would have stored.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from monitoring.alerts import AlertPolicy, Observation, decide
from monitoring.drift import count, drift_report
from monitoring.labels import QualityRows
from monitoring.paired import paired_instants, paired_report
from monitoring.quality import quality_report
from monitoring.record import encode, performance_record
from monitoring.reference import Reference
from monitoring.report.page import Material
from monitoring.sums import instants_of
from monitoring.warehouse import arrow_rows, arrow_schema

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

MODEL = "eq_ret_1h"
MINUTE_US = 60_000_000
START_US = 1_767_571_200_000_000  # 2026-01-05
BAR_US, PANE_US, WINDOW_US, HORIZON_US = 10 * MINUTE_US, 30 * MINUTE_US, 360 * MINUTE_US, 60 * MINUTE_US
BARS = 576
SYMBOLS = ("AAPL", "AMZN", "GOOG", "IBM", "JPM", "KO", "META", "MSFT", "NVDA", "ORCL", "PFE", "XOM")
COLUMNS = ("ret_1", "ret_5", "ret_20", "vol_20", "spread", "imbalance", "sentiment", "sector_beta")
DRIFT_BAR, SWITCH_BAR, CHALLENGER_BAR, UNKNOWN_BAR = 400, 250, 200, 548
LEVEL, WIDTH, SCALE = 0.9, 1.6449, 0.22
DECILES = (-1.2816, -0.8416, -0.5244, -0.2533, 0.0, 0.2533, 0.5244, 0.8416, 1.2816)
END_US = START_US + BARS * BAR_US


@dataclass(frozen=True)
class World:
    """Tables of the warehouse."""

    tables: Mapping[str, pa.Table]
    reference: Reference
    records: list[dict[str, Any]]
    events: list[dict[str, Any]]


def reference(columns: tuple[str, ...] = COLUMNS) -> Reference:
    """Trained on a standard normal in every column, the answer among them; a share of the seventh was missing."""
    trained: dict[str, Any] = {"edges": DECILES, "counts": [1000] * 10 + [0], "low": -4.0, "high": 4.0}
    known = dict.fromkeys(columns, trained) | {columns[6]: trained | {"counts": [1000] * 10 + [370]}}
    known["prediction"] = trained | {"edges": [SCALE * edge for edge in DECILES], "low": -1.0, "high": 1.0}
    return Reference.from_columns((*columns, "prediction"), known)


def world(*, model: str = MODEL, columns: tuple[str, ...] = COLUMNS, bars: int = BARS) -> World:
    """The same every time. `model`, `columns`: other names; `bars`: fewer."""
    rng = np.random.default_rng(11)
    vectors = rng.standard_normal((bars, len(SYMBOLS), len(columns)))
    vectors[DRIFT_BAR:, :, 4] += 0.9
    vectors[::7, :3, 6] = np.nan
    signal = np.nan_to_num(vectors[:, :, :4]).sum(axis=2) / 2
    strength = np.where(np.arange(bars) < DRIFT_BAR, 0.22, 0.0)[:, None]
    common = np.repeat(rng.standard_normal((-(-bars // 6), 1)), 6, axis=0)[:bars] * 0.3
    spread = np.where(np.arange(bars) < DRIFT_BAR, 1.0, 1.45)[:, None]
    noise = rng.standard_normal((bars, len(SYMBOLS))) * spread
    outcome = strength * signal + common + noise * 0.9
    known = rng.random((bars, len(SYMBOLS))) < 0.97
    known[UNKNOWN_BAR:] = False
    trained = reference(columns)
    values = {
        ("3", "champion"): (0, SWITCH_BAR, signal),
        ("4", "champion"): (SWITCH_BAR, bars, signal + 0.05 * rng.standard_normal(signal.shape)),
        ("5", "challenger"): (CHALLENGER_BAR, bars, signal + 1.1 * rng.standard_normal(signal.shape)),
    }
    tables: dict[str, list[pa.Table]] = {"predictions": [], "features": []}
    sides: dict[tuple[str, str], QualityRows] = {}
    for (version, role), (first, end, value) in values.items():
        last = min(end, bars)
        if last <= first:
            continue
        side = _side(value[first:last], outcome[first:last], known[first:last], first)
        sides[version, role] = side
        predictions, features = _rows(side, vectors[first:last], model, version, role, rng)
        tables["predictions"].append(predictions)
        tables["features"].append(features)
    named = [{"spec_digest": f"d{v}", "model": model, "version": v, "columns": list(columns)} for v, _ in sides]
    records = _records(sides, vectors, trained, model)
    events = _events(records, model)
    return World(
        {
            **{name: pa.concat_tables(parts) for name, parts in tables.items()},
            "vector_columns": pa.Table.from_pylist(named, schema=arrow_schema("vector_columns")),
            "outcomes": _outcomes(outcome, known),
            "performance": arrow_rows("performance", records),
            "alerts": arrow_rows("alerts", events),
        },
        trained,
        records,
        events,
    )


def material(found: World, *, model: str = MODEL, **changes: Any) -> Material:
    """All of it, as the command would gather it."""
    made = Material(model, START_US, START_US + BARS * BAR_US, made_us=END_US, **changes)
    made.records.add(found.tables["performance"].to_pylist())
    edges = np.linspace(made.start_us, made.end_us, 61).astype(np.int64)
    made.rows.add(model, found.tables["predictions"], found.tables["outcomes"], edges_us=edges)
    made.events = found.events
    return made


def _side(value: NDArray[np.float64], outcome: NDArray[np.float64], known: NDArray[np.bool_], first: int) -> QualityRows:
    bars, symbols = value.shape
    ts = START_US + (first + 1 + np.arange(bars)) * BAR_US
    predicted = value.ravel() * SCALE
    return QualityRows(
        value=predicted,
        lower=predicted - WIDTH * 0.95,
        upper=predicted + WIDTH * 0.95,
        p_up=np.clip(0.5 + 0.36 * predicted, 0.02, 0.98),
        completeness=np.ones(len(predicted)),
        outcome=np.where(known, outcome, np.nan).ravel(),
        symbol_codes=np.tile(np.arange(symbols), bars),
        symbols=SYMBOLS,
        ts_event_us=np.repeat(ts, symbols),
    )


def _rows(
    side: QualityRows, vectors: NDArray[np.float64], model: str, version: str, role: str, rng: np.random.Generator
) -> tuple[pa.Table, pa.Table]:
    n = len(side.value)
    symbols = [SYMBOLS[c] for c in side.symbol_codes.tolist()]
    decided = side.ts_event_us + 2_000_000
    took = (rng.lognormal(np.log(9_000), 0.35, n) + (side.ts_event_us % (PANE_US * 24) == 0) * 60_000).astype(np.int64)
    data: dict[str, Any] = {
        "prediction_id": [f"{model}:{version}:{s}:{t}:0" for s, t in zip(symbols, side.ts_event_us.tolist(), strict=True)],
        "symbol": symbols,
        "model": [model] * n,
        "version": [version] * n,
        "role": [role] * n,
        "reason": [None] * n,
        **{name: getattr(side, name) for name in ("value", "lower", "upper", "p_up", "ts_event_us")},
        "ts_decision_us": decided,
        "ts_published_us": decided + took,
        "horizon_us": [HORIZON_US] * n,
        "revision": [0] * n,
        "level": [LEVEL] * n,
        "abstained": [False] * n,
        "confidence": [0.6] * n,
        "ood": [0.0] * n,
        "completeness": [1.0] * n,
        "vector_hash": ["0" * 16] * n,
        "spec_digest": [f"d{version}"] * n,
        "source_topic": ["trading.features"] * n,
        "source_partition": [0] * n,
        "source_offset": np.arange(n),
        "vector": list(vectors.reshape(n, -1)),
    }
    return tuple(pa.table({f.name: pa.array(data[f.name], f.type) for f in arrow_schema(t)}) for t in ("predictions", "features"))


def _outcomes(outcome: NDArray[np.float64], known: NDArray[np.bool_]) -> pa.Table:
    bar, symbol = np.nonzero(known)
    ts = START_US + (bar + 1) * BAR_US
    data: dict[str, Any] = {
        "symbol": [SYMBOLS[s] for s in symbol.tolist()],
        "ts_event_us": ts,
        "horizon_us": np.full(len(ts), HORIZON_US),
        "value": outcome[bar, symbol],
        "ts_known_us": ts + HORIZON_US,
        "revision": np.zeros(len(ts), np.int64),
    }
    return pa.table(data, schema=arrow_schema("outcomes"))


def _within(side: QualityRows, start_us: int, end_us: int) -> QualityRows:
    some = (side.ts_event_us > start_us) & (side.ts_event_us <= end_us)
    return replace(side, **{f.name: getattr(side, f.name)[some] for f in fields(side) if f.name not in {"symbols", "known"}})


def _records(
    sides: Mapping[tuple[str, str], QualityRows], vectors: NDArray[np.float64], trained: Reference, model: str
) -> list[dict[str, Any]]:
    records = []
    flat = vectors.reshape(-1, vectors.shape[2])
    for (version, role), side in sides.items():
        first, last = int(side.ts_event_us[0]), int(side.ts_event_us[-1])
        for end_us in range(first // PANE_US * PANE_US + PANE_US, last + 1, PANE_US):
            start_us = end_us - WINDOW_US
            seen = (side.ts_event_us > start_us) & (side.ts_event_us <= end_us)
            at = int((first - START_US) // BAR_US - 1) * len(SYMBOLS)
            values = np.column_stack((flat[at : at + len(side.value)][seen], side.value[seen]))
            drift = drift_report(
                trained, count(trained, values), threshold=0.1, min_samples=100, false_discovery_rate=0.05, instants=36
            )
            due = _within(side, start_us - HORIZON_US, end_us - HORIZON_US)
            quality = quality_report(instants_of(due, horizon_us=HORIZON_US), horizon_us=HORIZON_US, bar_us=BAR_US).to_dict()
            paired = None
            if role == "challenger" and len(due.value):
                others = [
                    _within(s, start_us - HORIZON_US, end_us - HORIZON_US) for (_, r), s in sides.items() if r == "champion"
                ]
                champion = max(others, key=lambda s: len(s.value))
                pair = paired_instants(champion, due, horizon_us=HORIZON_US)
                paired = paired_report(pair, bar_us=BAR_US).to_dict() if len(pair) else None
            made = performance_record(
                model=model,
                version=version,
                role=role,
                window_start_us=start_us,
                window_end_us=end_us,
                drift=drift.to_dict(),
                quality={"horizon_us": HORIZON_US, **quality, "by_group": {}} if len(due.value) else None,
                paired=paired,
                estimate={"mae": 0.78 + 0.08 * (end_us > START_US + DRIFT_BAR * BAR_US)},
            )
            records.append(json.loads(encode(made)))
    return records


def _events(records: list[dict[str, Any]], model: str) -> list[dict[str, Any]]:
    state: Any = {}
    events: list[dict[str, Any]] = []
    policy = AlertPolicy(pending_windows=2)
    for record in records:
        if record["role"] != "champion":
            continue
        labels = {"model": model, "version": record["version"], "role": "champion"}
        seen = [
            Observation(
                labels={**labels, "alertname": "feature_drift", "column": c["name"]},
                value=c["psi"] or 0.0,
                raise_at=0.1,
                clear_at=0.08,
                severity="critical" if c["verdict"] == "critical" else "warn",
                significant=c["verdict"] in {"warn", "critical"},
                summary=f"{c['name']} drifted: PSI {c['psi'] or 0:.3f}",
            )
            for c in record["drift"]["columns"]
        ]
        covered = (record["quality"] or {}).get("coverage")
        if covered is not None:
            seen.append(
                Observation(
                    labels={**labels, "alertname": "interval_coverage"},
                    value=covered,
                    raise_at=LEVEL - 0.05,
                    clear_at=LEVEL - 0.03,
                    summary=f"intervals cover {covered:.1%} of outcomes, {LEVEL:.0%} was promised",
                )
            )
        state, new = decide(state, seen, record["window_end_us"], policy=policy)
        events += new
    return events
