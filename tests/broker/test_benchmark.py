"""The benchmark's harness and the tuned loop against the embedded broker: few rows, nothing timed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.contenders import CONTENDERS, PER_BATCH, WRITE_BEHIND, Setup
from benchmarks.job import Feed, Job
from benchmarks.measure import run_once
from benchmarks.reference import Reference
from benchmarks.served import read_model, write_model
from benchmarks.surroundings import cores

if TYPE_CHECKING:
    from benchmarks.measure import Figures

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(
        not hasattr(os, "sched_getaffinity"), reason="the benchmark pins processes and reads /proc, as Linux has them"
    ),
]

JOB = Job(symbols=40, warm_up_rows=800, rows=1_600, paced=((2_000, 800),))
CONFIG = Path(__file__).parents[2] / "config" / "local.yaml"


@pytest.mark.parametrize("name", [PER_BATCH, WRITE_BEHIND])
def test_the_loop_answers_every_row_rightly_and_commits_it(tmp_path: Path, name: str) -> None:
    setup = Setup(JOB, tmp_path, CONFIG)
    folder = setup.model_folder("linear")
    write_model(JOB, "linear", folder)
    feed = Feed(JOB)
    reference = Reference(feed, "linear", read_model(folder).spec, features_topic=setup.kafka().topics.features)
    contender = CONTENDERS[name]
    figures: Figures = run_once(contender, setup, feed, reference, where=cores(), number=1, folder=tmp_path / name)
    assert figures.records_checked == 3_200
    assert figures.vectors_checked > 50
    assert 800 <= figures.rows <= 1_600
    assert figures.rows_per_s > 0
    assert figures.p50_ms is not None
    assert figures.p99_ms is not None
    assert figures.p99_ms >= figures.p50_ms >= 0
    assert figures.p99_ms_5000 is None
    assert figures.rss_mb > 0
