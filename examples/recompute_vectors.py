"""Recompute the demo's vectors from the raw rows by brute force, and hold them against those the workers logged.

python examples/recompute_vectors.py [var/demo/market]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "var/demo/market")
spec = json.loads(next(folder.glob("models/**/serving_spec.json")).read_bytes())
lines = [json.loads(line) for line in (folder / "features.ndjson").open()]
rows = pd.DataFrame([{**line, **{f"v.{k}": v for k, v in line.pop("values").items()}} for line in lines])  # in log order
logged = (
    duckdb.connect(str(folder / "ml.duckdb"), read_only=True).sql("select symbol, ts_event_us, vector from features").fetchall()
)

wrong = checked = 0
for symbol, event, vector in logged:
    own = rows[rows.symbol == symbol]
    trigger = own[(own.feature_set == spec["trigger"]) & (own.ts_event_us == event)]
    if trigger.empty:
        continue  # a synthetic run keeps the rows of a few symbols only
    expected = []
    for c in spec["columns"]:
        part = spec["feature_sets"][c["feature_set"]]
        bars, us = (c["lag"] or {}).get("bars"), (c["lag"] or {}).get("us") or 0
        instant = event - (us if bars is None else bars * part["bar_us"])
        max_age = part["bar_us"] - 1 if bars is not None and c["max_age_us"] is None else c["max_age_us"]
        seen = own[(own.feature_set == c["feature_set"]) & (own.index <= trigger.index[0])]
        seen = seen.sort_values(["ts_event_us", "revision"]).tail(part["depth_rows"])
        past = seen[(seen.ts_known_us <= trigger.ts_known_us.iloc[0]) & (seen.ts_event_us <= instant)]
        there = len(past) > 0 and (max_age is None or instant - past.ts_event_us.iloc[-1] <= max_age)
        expected.append(past[f"v.{c['feature']}"].iloc[-1] if there else np.nan)
    checked += 1
    wrong += not np.array_equal(np.array(expected, float), np.array(vector, float), equal_nan=True)

print(f"{checked} vectors recomputed, {wrong} differ")
sys.exit(1 if wrong or not checked else 0)
