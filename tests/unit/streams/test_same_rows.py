"""The rows two versions share, against a loop over dictionaries."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.warehouse import arrow_rows
from streams.same_rows import OUTCOMES, PREDICTIONS, horizon_of, of_versions, same_rows

if TYPE_CHECKING:
    from monitoring.labels import QualityRows

HORIZON = 20


def predictions(rows: list[dict[str, Any]]) -> pa.Table:
    return arrow_rows("predictions", [{"horizon_us": HORIZON, "completeness": 1.0} | row for row in rows]).select(
        list(PREDICTIONS)
    )


def outcomes(rows: list[dict[str, Any]]) -> pa.Table:
    return arrow_rows("outcomes", [{"horizon_us": HORIZON} | row for row in rows]).select(list(OUTCOMES))


def shown(rows: QualityRows) -> list[tuple[str, int, float, float | None]]:
    told = [None if math.isnan(y) else y for y in rows.outcome.tolist()]
    names = [rows.symbols[c] for c in rows.symbol_codes.tolist()]
    return list(zip(names, rows.ts_event_us.tolist(), rows.value.tolist(), told, strict=True))


def expected(said: list[dict[str, Any]], known: list[dict[str, Any]], of: str) -> list[tuple[str, int, float, float | None]]:
    """What `shown` must show of version `of`, by the definition."""
    held: dict[str, dict[tuple[int, str], dict[str, Any]]] = {"1": {}, "2": {}}
    for p in said:
        if p["version"] in held and p["value"] is not None:
            at = (p["ts_event_us"], p["symbol"])
            before = held[p["version"]].get(at)
            if before is None or p["revision"] > before["revision"]:
                held[p["version"]][at] = p
    newest = max((t for side in held.values() for t, _ in side), default=0)
    truth: dict[tuple[int, str], dict[str, Any]] = {}
    for y in known:
        at = (y["ts_event_us"], y["symbol"])
        if y.get("horizon_us", HORIZON) == HORIZON and (at not in truth or y["revision"] > truth[at]["revision"]):
            truth[at] = y
    both = sorted(at for at in held["1"].keys() & held["2"].keys() if at[0] + HORIZON <= newest)
    return [(s, t, held[of][t, s]["value"], truth[t, s]["value"] if (t, s) in truth else None) for t, s in both]


SYMBOLS, TIMES = st.sampled_from("CAB"), st.sampled_from([10, 20, 30, 40, 60])
NUMBERS = st.floats(-1, 1)
SAID = st.lists(
    st.fixed_dictionaries(
        {
            "symbol": SYMBOLS,
            "ts_event_us": TIMES,
            "version": st.sampled_from("123"),
            "revision": st.integers(0, 2),
            "value": st.none() | NUMBERS,
        }
    ),
    max_size=40,
    unique_by=lambda p: (p["symbol"], p["ts_event_us"], p["version"], p["revision"]),
)
KNOWN = st.lists(
    st.fixed_dictionaries(
        {
            "symbol": st.sampled_from("ABCD"),
            "ts_event_us": st.sampled_from([10, 20, 25, 30, 70]),
            "revision": st.integers(0, 2),
            "value": NUMBERS,
            "horizon_us": st.sampled_from([HORIZON, HORIZON, 5]),
        }
    ),
    max_size=20,
    unique_by=lambda y: (y["symbol"], y["ts_event_us"], y["horizon_us"], y["revision"]),
)


@settings(max_examples=200, deadline=None)
@given(said=SAID, known=KNOWN)
def test_they_are_those_of_the_definition(said: list[dict[str, Any]], known: list[dict[str, Any]]) -> None:
    table = of_versions(predictions(said), "1", "2")
    found = same_rows(table, outcomes(known), champion="1", challenger="2", horizon_us=HORIZON)
    assert shown(found.champion) == expected(said, known, "1")
    assert shown(found.challenger) == expected(said, known, "2")
    assert list(found.champion.symbols) == sorted(found.champion.symbols)


def test_level_and_horizon_are_said_only_where_there_is_one() -> None:
    rows = [
        {"symbol": "A", "ts_event_us": t, "version": v, "revision": 0, "value": 0.1, "level": 0.9 if t < 30 else 0.8}
        for t in (10, 20, 30, 60)
        for v in "12"
    ]
    nothing = outcomes([])
    some, all_ = predictions(rows[:4]), predictions(rows)
    # One newer row, so that the others are due.
    due = pa.concat_tables([some, all_.slice(6).set_column(10, "level", pa.array([0.9, 0.9]))])
    assert same_rows(due, nothing, champion="1", challenger="2", horizon_us=HORIZON).level == 0.9
    assert same_rows(all_, nothing, champion="1", challenger="2", horizon_us=HORIZON).level is None
    assert (horizon_of(all_), horizon_of(all_.slice(0, 0))) == (HORIZON, None)
    assert horizon_of(predictions([{"horizon_us": 1}, {"horizon_us": 2}])) == 0
    assert np.isnan(same_rows(all_, nothing, champion="1", challenger="2", horizon_us=HORIZON).champion.outcome).all()
