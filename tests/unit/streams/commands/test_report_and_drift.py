"""`report`, `drift explain` and `drift verify` on a warehouse that holds four days of one model."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from typer.testing import CliRunner, Result

from models.errors import RegistryUnreachable
from models.spec import ColumnReference, ColumnSpec, FeatureSetSpec, ServingSpec
from monitoring.drift import drift_report
from monitoring.duckdb import DuckDBWarehouse
from monitoring.panes import AT_ONCE, Panes
from monitoring.record import encode, performance_record
from monitoring.warehouse import arrow_rows
from streams import app as composition
from streams.cli import app
from tests.unit.monitoring import report_world as making

ROOT = Path(__file__).parents[4]


def spec() -> ServingSpec:
    """Whose reference is the world's."""

    def trained(missing: int = 0) -> ColumnReference:
        return ColumnReference(edges=making.DECILES, counts=(1000,) * 10 + (missing,), low=-4.0, high=4.0)

    answers = ColumnReference(
        edges=tuple(making.SCALE * e for e in making.DECILES), counts=(1000,) * 10 + (0,), low=-1.0, high=1.0
    )

    return ServingSpec(
        model=making.MODEL,
        trigger="bars",
        horizon_us=making.HORIZON_US,
        columns=tuple(ColumnSpec(name=c, feature_set="bars", feature=c) for c in making.COLUMNS),
        feature_sets={"bars": FeatureSetSpec(features=making.COLUMNS, bar_us=making.BAR_US, depth_rows=2)},
        reference={c: trained(370 if c == making.COLUMNS[6] else 0) for c in making.COLUMNS},
        prediction_reference=answers,
    )


class Registry:
    """Answers, or not."""

    down = False

    def load_spec(self, name: str, version: str) -> ServingSpec:
        if self.down:
            raise RegistryUnreachable(f"no answer about {name} {version}; start the registry")
        return spec()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("report") / "w.duckdb")


def filled(path: Path, *, late_rows: int = 0) -> Path:
    """The world's rows, with windows counted by the monitor's panes; of the last symbol rows of one instant come `late_rows`."""
    world = making.world(bars=160)
    warehouse = DuckDBWarehouse(path)
    for table, rows in world.tables.items():
        if table != "performance":
            warehouse.append(table, rows)
    warehouse.append("performance", arrow_rows("performance", counted(world, late_rows)))
    warehouse.close()
    return path


def counted(world: making.World, late_rows: int) -> list[dict[str, Any]]:
    panes = Panes(world.reference, pane_us=making.PANE_US, panes=12, grace_panes=1)
    features = world.tables["features"].filter(pc.equal(world.tables["features"]["version"], "3"))
    predictions = world.tables["predictions"].filter(pc.equal(world.tables["predictions"]["version"], "3"))
    vectors = np.stack(features["vector"].to_numpy(zero_copy_only=False))
    values = np.column_stack((vectors, predictions["value"].to_numpy()))
    ts = predictions["ts_event_us"].to_numpy()
    kept = np.ones(len(ts), dtype=bool)
    kept[600 : 600 + late_rows] = False
    n = int(kept.sum())
    closed = panes.add(values[kept], ts[kept], source="s", own=np.arange(n), decided=np.full(n, AT_ONCE))
    quality = {r["window_end_us"]: r for r in world.records}
    made = []
    for w in closed:
        drift = drift_report(
            world.reference, w.counts, threshold=0.1, min_samples=100, false_discovery_rate=0.05, instants=w.instants
        )
        record = performance_record(
            model=making.MODEL,
            version="3",
            role="champion",
            window_start_us=w.start_us,
            window_end_us=w.end_us,
            drift=drift.to_dict(),
            quality=quality.get(w.end_us, {}).get("quality"),
        )
        made.append(json.loads(encode(record)))
    return made


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    at_hand = Registry()
    monkeypatch.setattr(composition, "registry_of", lambda _: at_hand)
    return at_hand


@pytest.fixture(autouse=True)
def settings(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CONFIG_PATH", str(ROOT / "config" / "local.yaml"))
    monkeypatch.setenv("TRADING_ML__DATABASE__PATH", str(path))
    monkeypatch.chdir(tmp_path)


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_report_writes_the_page_and_says_where(registry: Registry, tmp_path: Path) -> None:
    done = run("report", "--model", making.MODEL, "-o", "r.html")
    assert done.exit_code == 0, done.output
    assert re.match(rf"r\.html: {making.MODEL}, 2025-12-30T\S+Z to 2026-01-06T02:00:00Z, 0\.\d MB\n$", done.output)
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "champion v3, window to 2026-01-06 02:00:00" in page
    assert page.count('<rect class="bar served"') > 11
    assert "read from</dt><dd>the file " in page
    assert "--from 2025-12-30T02:00:00Z --to 2026-01-06T02:00:00Z" in page
    assert registry.down is False


def test_report_leaves_histograms_out_where_the_registry_is_down(registry: Registry, tmp_path: Path) -> None:
    registry.down = True
    done = run("report", "--model", making.MODEL, "--from", "6h", "--to", "2026-01-06", "-o", "r.html")
    assert done.exit_code == 0, done.output
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Histograms are left out: the registry did not say" in page
    assert "2026-01-05 18:00 to 2026-01-06 UTC, 6 h" in page


def test_report_of_a_model_nothing_is_stored_of_says_what_to_do(registry: Registry, tmp_path: Path) -> None:
    done = run("report", "--model", "no such model", "-o", "r.html")
    assert done.exit_code == 0, done.output
    assert "Nothing was stored for this model" in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert registry.down is False


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--from", "yesterday"], "is no time; give ISO 8601"),
        (["--from", "2026-01-06", "--to", "2026-01-05"], "is not before --to 2026-01-05T00:00:00Z"),
    ],
)
def test_times_that_are_wrong_are_told(registry: Registry, words: list[str], why: str) -> None:
    done = run("report", "--model", making.MODEL, *words)
    assert done.exit_code == 2
    assert why in re.sub(r"[\s│]+", " ", done.output)
    assert registry.down is False


def test_a_page_that_cannot_be_written_is_one_line(registry: Registry) -> None:
    done = run("report", "--model", making.MODEL, "-o", "no/folder/r.html")
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    assert "no/folder/r.html cannot be written" in done.output
    assert registry.down is False


def test_explain_prints_verdict_numbers_and_histogram(registry: Registry) -> None:
    done = run("drift", "explain", "--model", making.MODEL, "--column", "sentiment", "--at", "2026-01-06")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0] == f"{making.MODEL} champion version 3, window 2026-01-05T18:00:00Z to 2026-01-06T00:00:00Z"
    assert lines[1].startswith("window      stable: 432 rows, threshold 0.1, at least 100 rows")
    assert lines[2].startswith("column      sentiment: stable")
    assert re.search(r"^missing     0\.0347\d*, in training 0\.03568$", done.output, re.MULTILINE)
    assert re.search(r"^missing .*3\.\d %", done.output, re.MULTILINE)
    assert registry.down is False


def test_explain_writes_svg_and_takes_the_worst_column(registry: Registry, tmp_path: Path) -> None:
    done = run("drift", "explain", "--model", making.MODEL, "--svg", "c.svg")
    assert done.exit_code == 0, done.output
    svg = (tmp_path / "c.svg").read_text(encoding="utf-8")
    assert svg.startswith("<svg ")
    assert re.search(r"c\.svg: histograms of (\w+)$", done.output.strip()).group(1) in svg  # type: ignore[union-attr]  # None fails too
    assert registry.down is False


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["--column", "mood"], 2, "there is no column 'mood'; there are ret_1"),
        (["--version", "9"], 1, f"no window of '{making.MODEL}' version 9 as champion was judged for drift"),
        (["--at", "2020-01-01"], 1, "was judged for drift by 2020-01-01T00:00:00Z"),
    ],
)
def test_explain_says_what_is_not_there(registry: Registry, words: list[str], code: int, why: str) -> None:
    done = run("drift", "explain", "--model", making.MODEL, *words)
    assert done.exit_code == code
    assert why in re.sub(r"[\s│]+", " ", done.output)
    assert registry.down is False


def test_explain_gives_the_numbers_before_it_says_that_the_registry_is_down(registry: Registry) -> None:
    registry.down = True
    done = run("drift", "explain", "--model", making.MODEL)
    assert done.exit_code == 1
    assert "PSI " in done.output
    assert done.output.splitlines()[-1].startswith("RegistryUnreachable: no answer about")


def test_verify_counts_the_same(registry: Registry) -> None:
    done = run("drift", "verify", "--model", making.MODEL, "--from", "7d")
    assert done.exit_code == 0, done.output
    assert re.fullmatch(r"champion version 3: (\d+) windows, \1 equal, counted again from [\d,]+ rows\n", done.output)
    assert registry.down is False


def test_verify_names_windows_columns_and_why(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADING_ML__DATABASE__PATH", str(filled(tmp_path / "late.duckdb", late_rows=2)))
    done = run("drift", "verify", "--model", making.MODEL, "--from", "7d")
    assert done.exit_code == 1
    first, *differing = done.output.splitlines()
    assert re.fullmatch(r"champion version 3: \d+ windows, \d+ equal, counted again from [\d,]+ rows", first)
    assert len(differing) == 12  # a row belongs to 12 windows
    assert all("2 rows are stored that were not counted: they came after the window closed" in line for line in differing)
    assert "ret_1, ret_5, ret_20, vol_20, spread and 4 more" in differing[0]
    assert registry.down is False


def test_verify_of_nothing_fails(registry: Registry) -> None:
    done = run("drift", "verify", "--model", "no such model")
    assert (done.exit_code, done.output.startswith("no window of 'no such model' was recorded")) == (1, True)
    assert registry.down is False
