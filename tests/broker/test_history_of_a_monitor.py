"""While a monitor writes its warehouse, commands read it through the monitor; what it counted it stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from config import load_settings
from config.sections import Kafka
from monitoring.report.page import report_page
from streams.broker import EmbeddedBroker
from streams.drift_check import check
from streams.history import history_of
from streams.report_material import gather, newest_us
from streams.topics import all_topics
from streams.trainings import Trainings
from tests.broker.inference_world import Worker, wait_until
from tests.broker.test_monitor_killed import COMMAND, group_took, send
from tests.unit.streams.monitor_world import BARS, PARTITIONS, START_US, SYMBOLS, Market, Registry

if TYPE_CHECKING:
    from config import Settings

pytestmark = pytest.mark.broker

LOCAL = Path(__file__).parents[2] / "config" / "local.yaml"


def by_file(folder: Path) -> Settings:
    """Settings that know the file and nothing of the monitor's port."""
    return load_settings(LOCAL, {"TRADING_ML__DATABASE__PATH": str(folder / "ml.duckdb"), "TRADING_ML__WEB__PORT": "1"})


def test_the_running_monitor_is_asked_and_it_counted_nothing_it_did_not_store(tmp_path: Path) -> None:
    plans = all_topics(Kafka(bootstrap_servers="none:1", partitions=PARTITIONS))
    rows = Market(drift_bar=30).stream()
    with EmbeddedBroker({p.name: p.partitions for p in plans}) as broker:
        settings = {
            "KAFKA__PARTITIONS": str(PARTITIONS),
            "MONITORING__METRICS_WINDOW": "20m",
            "MONITORING__PANES": "4",
            "MONITORING__MIN_SAMPLES": "50",
            "DATABASE__PATH": str(tmp_path / "ml.duckdb"),
        }
        send(broker.bootstrap_servers, rows)
        with Worker(tmp_path, broker.bootstrap_servers, command=COMMAND, **settings) as monitor:
            wait_until(lambda: group_took(broker.bootstrap_servers, rows), 40, alive=monitor)
            history = history_of(by_file(tmp_path))
            assert history.source == f"the monitor at http://127.0.0.1:{monitor.port}"
            end_us = newest_us(history, "m")
            assert end_us is not None
            made = gather(history, by_file(tmp_path), "m", start_us=START_US - 1, end_us=end_us, alerts_until_us=end_us)
            (checked,) = check(history, Trainings(Registry(), "m"), "m", start_us=START_US - 1, end_us=end_us)
            assert monitor.stop() == 0
    assert 0 < made.rows.predictions <= BARS * len(SYMBOLS)
    assert "Column b drifted" in report_page(made)
    assert checked.windows == len(made.records.windows()[checked.scorer])
    assert checked.windows > 5
    # Rows of one partition that were read after the other had closed a window are late for it; none is counted but not stored.
    assert [d for d in checked.differences if d.lacking or not d.late] == []
    direct = history_of(by_file(tmp_path))
    assert direct.source == f"the file {tmp_path / 'ml.duckdb'}"
    direct.close()
