"""What is told at the end, and the live lines, from figures known beforehand."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from streams.demo.ledger import FeatureHead, Ledger, Place, PredictionHead
from streams.demo.progress import Display, Snapshot, line
from streams.demo.rows import Outcomes
from streams.demo.signals import Signals, Truth
from streams.demo.summary import Summary, judge, percentiles
from streams.demo.verify import Verified

DAY_US = 86_400_000_000


def ledger(n: int = 40) -> Ledger:
    books = Ledger(trigger="bars")
    for t in range(1, n + 1):
        books.feature(FeatureHead("A", "bars", t * DAY_US), partition=0, offset=t, logged_ms=1000)
        value = float(np.sin(t))
        made = PredictionHead(f"m:1:A:{t * DAY_US}:0", "A", "1", t * DAY_US, value, value - 1, value + 1, 0.5, "00", Place(0, t))
        books.prediction(made, str(t).encode(), logged_ms=1000 + t)
    return books


def outcomes(n: int = 40) -> Outcomes:
    t = np.arange(1, n - 4)
    return Outcomes(5 * DAY_US, ("A",) * len(t), t * DAY_US, (t + 5) * DAY_US, 2 * np.sin(t))


def alert(state: str, at_us: int, *, column: str = "ret_1") -> dict[str, object]:
    labels = {"alertname": "feature_drift", "column": column, "model": "m", "version": "1"}
    return {
        "event_id": f"{state}{at_us}{column}", "fingerprint": column, "incident_id": column, "labels": labels, "state": state,
        "severity": "critical", "value": 0.4, "updated_us": at_us,
    }  # fmt: skip


def drift(end_us: int, **psi: float) -> dict[str, object]:
    columns = [{"name": k, "psi": v, "verdict": "critical" if v >= 0.25 else "stable"} for k, v in psi.items()]
    return {"window_end_us": end_us, "drift": {"verdict": "critical", "columns": columns}}


def signals() -> Signals:
    said = Signals()
    for record in (alert("pending", DAY_US), alert("firing", 3 * DAY_US), alert("firing", 2 * DAY_US, column="vol_5")):
        said.alert(record)
    for window in (drift(DAY_US, ret_1=0.5, gap=0.1), drift(2 * DAY_US, ret_1=0.3, vol_5=0.9)):
        said.performance(window)
    said.performance({"quality": {}})
    return said


def summary(*problems: str) -> Summary:
    books = ledger()
    return Summary(
        title="a run", seconds=31.4, outcomes=35, ledger=books, signals=signals(),
        quality=judge(books, [outcomes()], bar_us=DAY_US),
        level=0.9, truth=Truth(("vol_5",), DAY_US), verified=Verified(40, 40, None),
        folder=Path("/data"), notes=["a note"], next_steps=["do this", "or that"],
        problems=problems,
    )  # fmt: skip


def test_signals_count_events_once_and_keep_the_worst_window() -> None:
    said = signals()
    said.alert(alert("firing", 3 * DAY_US))
    assert (len(said.events), len(said.incidents), said.firing, said.windows) == (2, 2, 2, 2)
    assert said.first is not None
    assert (said.first.what, said.first.column) == ("feature_drift", "vol_5")
    assert [(w.column, w.psi, w.end_us) for w in said.most_drifted()] == [("vol_5", 0.9, 2 * DAY_US), ("ret_1", 0.5, DAY_US)]
    said.alert(alert("resolved", 4 * DAY_US))
    assert said.firing == 1


def test_drift_over_time_is_the_worst_window_of_each_stretch() -> None:
    said = Signals()
    for day in range(100):
        said.performance(drift(day * DAY_US, ret_1=0.3, gap=0.3 + day % 10 / 10, vol_5=0.5 if day == 42 else 0.0))
    told = said.over_time(4)
    assert [w.end_us // DAY_US for w in told] == [9, 42, 59, 79]
    assert [w.drifted for w in told] == [2, 3, 2, 2]
    assert Signals().over_time() == []


def test_a_column_known_to_drift_that_raised_nothing_is_said() -> None:
    assert (
        signals().against(Truth(("f02", "vol_5"), 0))
        == "f02 NOT raised, vol_5 raised 172800 s after; other columns raised: ret_1"
    )


def test_quality_is_judged_on_matured_predictions() -> None:
    report = judge(ledger(), [outcomes()], bar_us=DAY_US)
    assert (report.rows, report.published) == (35, 40)
    assert report.rank_ic == pytest.approx(1.0)
    assert (report.hit_rate, report.coverage) == (1.0, 1.0)
    assert report.effective_rows == 7.0


def test_the_summary_tells_everything() -> None:
    text = summary().text()
    for said in (
        "a run: 31 s", "40 features, 35 outcomes", "40 for 40 trigger rows", "p50 20 ms", "40 of 40 recomputed", "rank IC +1.000",
        "hit rate 100.0%", "90% interval held 100.0%", "vol_5 (PSI 0.90, window to 1970-01-03)",
        "1970-01-03 00:00:00 UTC in market time: feature_drift vol_5", "/data", "do this",
        "1970-01-03 00:00:00  2 of 2 columns judged, most vol_5 (PSI 0.90)",
        "vol_5 raised 86400 s after; other columns raised: ret_1",
    ):  # fmt: skip
        assert said in text, said
    assert "FAILED" not in text
    assert "FAILED           a row is lost" in summary("a row is lost").text()


def test_a_run_without_outcomes_or_latencies_still_has_a_summary() -> None:
    assert np.isnan(percentiles([])).all()
    empty = judge(Ledger(trigger="bars"), [], bar_us=DAY_US)
    assert empty.rows == 0


def snapshot() -> Snapshot:
    return Snapshot("replay", 12, 473, 10, 2, 0, "m:1", "critical", "ret_1 PSI 0.50", 1, 3, 1_205_182_800_000_000)


def test_a_line_says_all() -> None:
    assert line(snapshot(), 41.5) == (
        "replay: 2008-03-10 21:00:00  rows 12/473  predictions 10 (42/s)  waiting 2  rejected 0  model m:1  "
        "drift critical (ret_1 PSI 0.50)  alerts 3 (1 firing)"
    )


@pytest.mark.parametrize("terminal", [True, False])
def test_the_display_works_on_terminals_and_in_logs(*, terminal: bool) -> None:
    out = io.StringIO()
    with Display(Console(file=out, force_terminal=terminal, width=120)) as display:
        display.show(snapshot())
        display.show(snapshot())
    assert "2008-03-10 21:00" in out.getvalue()
    if not terminal:
        assert out.getvalue().count("\n") == 1
