"""What of a record is logged at the registry."""

from __future__ import annotations

import math
import re

from monitoring.logged import MOST_METRICS, metrics_of, place_of, tags_of
from tests.unit.monitoring import a_record


def test_every_number_of_a_record_has_a_name_mlflow_takes() -> None:
    record = a_record.window()
    found = metrics_of(record)
    assert found["monitor.challenger.drift_verdict"] == 3
    assert found["monitor.challenger.columns_critical"] == sum(c["verdict"] == "critical" for c in record["drift"]["columns"])
    assert found["monitor.challenger.worst_psi"] == max(c["psi"] for c in record["drift"]["columns"])
    for name in ("ic", "ic_se", "rank_ic", "hit_rate", "rmse", "skill", "coverage", "label_coverage", "turnover_se"):
        assert found[f"monitor.challenger.{name}"] == record["quality"][name]
    assert found["monitor.challenger.paired.squared_error.p_value"] == record["paired"]["squared_error"]["p_value"]
    assert found["monitor.challenger.estimate.mae"] == 0.21
    assert found["monitor.challenger.concept.mean_now"] == 0.71
    assert all(re.fullmatch(r"[\w.\- /]{1,250}", name) for name in found)
    assert all(math.isfinite(value) for value in found.values())
    assert not [name for name in found if "_us" in name or "group" in name or "tech" in name]


def test_of_a_revision_there_is_what_it_says() -> None:
    record = a_record.window() | {"revision": 3, "drift": None, "paired": None, "estimate": None, "concept": None}
    assert "monitor.challenger.drift_verdict" not in metrics_of(record)
    assert metrics_of(record)["monitor.challenger.ic"] == record["quality"]["ic"]
    assert set(tags_of(record)) == {"monitor.window_end"}
    step, at_ms = place_of(record)
    assert (step * 1000, at_ms) == (a_record.END_US // 1000, a_record.END_US // 1000 + 3)


def test_there_is_a_bound() -> None:
    record = {"role": "champion", "quality": {f"m{k}": float(k) for k in range(2 * MOST_METRICS)}}
    assert len(metrics_of(record)) == MOST_METRICS
    assert metrics_of({"role": "champion"}) == {}
    drift = {"verdict": "insufficient_data", "columns": [{"psi": None, "verdict": "insufficient_data"}]}
    assert "monitor.champion.worst_psi" not in metrics_of({"role": "champion", "drift": drift})
