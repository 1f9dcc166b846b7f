"""The monitor's figures counted again from the log and the outcomes, and its warehouse held against the topics.

The monitor runs with one pane as long as twenty days of event time, so that windows do not overlap, no row of a run comes
too late for its own, and every figure can be had by counting: which rows a window has does not depend on how workers died.
A last row far ahead in event time closes all windows that have rows.
"""

from __future__ import annotations

import json
import math
import zlib
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from tests.broker.inference_rows import BAR_US, COLUMNS, START_US, message
from tests.chaos.feeding import NUMBER, Feed
from tests.chaos.ledger import bits
from tests.chaos.reading import Following, read_all
from tests.laws.oracle import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.names import Names
    from tests.chaos.world import Run

PANE_US = 480 * 3_600_000_000
HORIZON_US = BAR_US
CLOSER_US = START_US + 4 * PANE_US
_NEAR = 1e-9


def monitor_settings() -> dict[str, str]:
    """Settings of the monitor for a run that is recounted."""
    return {"MONITORING__METRICS_WINDOW": "480h", "MONITORING__PANES": "1", "MONITORING__MIN_SAMPLES": "10"}


class Outcomes:
    """Outcomes for the rows that flow: nine of ten, some revised later. Taps the run's rows; `send` sends what is due."""

    def __init__(self, run: Run) -> None:
        self._rng = run.rng
        self._due: list[dict[str, Any]] = []
        self._feed = Feed(run.names.servers, run.names.topics.outcomes)
        run.rows = self._tap(run.rows)
        self.group = [
            Following(run.names.servers, run.names.kafka.monitor_group, topic)
            for topic in (run.names.topics.inference_log, run.names.topics.outcomes)
        ]

    def _tap(self, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for r in rows:
            yield r
            if any(name == "expect" for name, _ in r["headers"]):
                continue
            d = json.loads(r["value"])
            if d["feature_set"] == "bars" and zlib.crc32(r["value"]) % 10:
                self._due.append({"symbol": d["symbol"], "ts_event_us": d["ts_event_us"]})

    def send(self) -> None:
        """All that is due, and new revisions of a few. An outcome twice, as some are, changes nothing."""
        due, self._due = self._due, []
        again = [{**o, "revision": 1} for o in due if self._rng.random() < 0.05]
        for o in [*due, *again]:
            value = self._rng.gauss(0, 1)
            body = {**o, "horizon_us": HORIZON_US, "value": value}
            self._feed.send([{"key": o["symbol"].encode(), "value": json.dumps(body).encode()}])
        self._feed.flush()


def close_windows(run: Run, outcomes: Outcomes) -> None:
    """Let the monitor take everything, then send the row that closes its windows, and let it take that too."""

    def taken() -> None:
        run.crew.wait("the monitor took all", lambda: all(g.past()() for g in outcomes.group), 120)

    outcomes.send()
    taken()
    row = Row(0, "S00", "bars", CLOSER_US, CLOSER_US + 1_000_000, 0, {"x": 0.5, "y": 0.5})
    run.feed.send([{**message(row), "headers": [(NUMBER, str(run.feed.sent).encode())], "timestamp": CLOSER_US // 1000 + 60_000}])
    run.feed.flush()
    run.crew.wait("the last row", run.group.past(), 60)
    taken()


def judge_monitor(run: Run) -> None:
    """Hold what the monitor published and stored against the log and the outcomes; after its worker has ended."""
    logged = _logged(run.names)
    told = _told(run.names)
    _judge_windows(run, logged, told)
    _judge_warehouse(run, logged, told)


def judge_warehouse(run: Run) -> None:
    """The warehouse alone, for a run whose windows overlap."""
    _judge_warehouse(run, _logged(run.names), _told(run.names))


def _logged(names: Names) -> dict[str, dict[str, Any]]:
    """Distinct rows of the inference log by id."""
    import pyarrow as pa

    rows: dict[str, dict[str, Any]] = {}
    for r in read_all(names.servers, names.topics.inference_log):
        for row in pa.ipc.open_stream(r.value).read_all().to_pylist():
            rows.setdefault(row["prediction_id"], row)
    return rows


def _told(names: Names) -> dict[tuple[str, int, int], float]:
    """(symbol, event time, revision) → the outcome first told for it."""
    found: dict[tuple[str, int, int], float] = {}
    for r in read_all(names.servers, names.topics.outcomes):
        d = json.loads(r.value or b"")
        found.setdefault((d["symbol"], d["ts_event_us"], d.get("revision", 0)), d["value"])
    return found


def _judge_windows(run: Run, logged: dict[str, dict[str, Any]], told: dict[tuple[str, int, int], float]) -> None:
    published: dict[str, dict[str, Any]] = {}
    for r in read_all(run.names.servers, run.names.topics.performance):
        body = json.loads(r.value or b"")
        before = published.setdefault(body["performance_id"], body)
        run.result.must("performance records do not contradict", hold=before == body, found=[before, body])
    windows: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in logged.values():
        if row["ts_event_us"] < CLOSER_US:
            windows[(row["ts_event_us"] - 1) // PANE_US].append(row)
    ends = {(pane + 1) * PANE_US for pane in windows}
    found = {b["window_end_us"] for b in published.values()}
    run.result.must("every window is reported", hold=ends == found, found=[sorted(ends), sorted(found)])
    for body in published.values():
        want: dict[str, Any] = {
            "drift": _drift(windows[body["window_end_us"] // PANE_US - 1]),
            "quality": _quality(logged, told, end_us=body["window_end_us"]),
        }
        got = {
            "drift": {c["name"]: [c["rows"], c["missing_rate"]] for c in body["drift"]["columns"]},
            "quality": {k: (body["quality"] or {}).get(k) for k in want["quality"]},
        }
        run.result.must(f"window {body['window_end_us']} recounted", hold=_alike(got, want), found=[got, want])


def _drift(rows: list[dict[str, Any]]) -> dict[str, list[float]]:
    columns = {c.name: [r["vector"][i] for r in rows] for i, c in enumerate(COLUMNS)}
    columns["prediction"] = [math.nan if r["value"] is None else r["value"] for r in rows]
    return {name: [len(values), sum(map(math.isnan, values)) / max(1, len(values))] for name, values in columns.items()}


def _quality(logged: dict[str, dict[str, Any]], told: dict[tuple[str, int, int], float], *, end_us: int) -> dict[str, float]:
    newest: dict[tuple[str, int], dict[str, Any]] = {}
    for row in logged.values():
        key = row["symbol"], row["ts_event_us"]
        in_window = end_us - PANE_US - HORIZON_US < key[1] <= end_us - HORIZON_US
        if in_window and row["value"] is not None and row["revision"] >= newest.get(key, row)["revision"]:
            newest[key] = row
    errors = []
    for (symbol, event), row in newest.items():
        outcome = told.get((symbol, event, 1), told.get((symbol, event, 0)))
        if outcome is not None:
            errors.append(abs(row["value"] - outcome))
    return {"published": len(newest), "rows": len(errors), "mae": math.fsum(errors) / max(1, len(errors))}


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_alike(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_alike(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) and isinstance(b, (int, float)):
        return math.isclose(a, b, rel_tol=_NEAR)
    return bool(a == b)


def _judge_warehouse(run: Run, logged: dict[str, dict[str, Any]], told: dict[tuple[str, int, int], float]) -> None:
    import duckdb

    with duckdb.connect(str(run.folder / "m.duckdb"), read_only=True) as db:
        predictions = db.sql("SELECT prediction_id, value, vector_hash FROM predictions").fetchall()
        features = db.sql("SELECT prediction_id, vector FROM features").fetchall()
        outcomes = db.sql("SELECT symbol, ts_event_us, revision, value FROM outcomes").fetchall()
    want = sorted((pid, r["value"], r["vector_hash"]) for pid, r in logged.items())
    run.result.must("warehouse predictions are the log's", hold=sorted(predictions) == want, found=[len(predictions), len(want)])
    stored = {pid: bits(vector) for pid, vector in features}
    same = len(features) == len(logged) and all(stored.get(pid) == bits(r["vector"]) for pid, r in logged.items())
    run.result.must("warehouse vectors are the log's", hold=same, found=[len(features), len(logged)])
    held = {(s, e, r): v for s, e, r, v in outcomes}
    run.result.must("warehouse outcomes are the topic's", hold=held == told and len(held) == len(outcomes), found=len(held))
