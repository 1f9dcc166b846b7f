"""`audit leaks` from the command line: its table, its JSON, its exit codes, and what it refuses."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from models.spec import ColumnSpec, FeatureSetSpec, ServingSpec, encode_spec
from streams.commands import audit

if TYPE_CHECKING:
    from pathlib import Path

MINUTE = 60_000_000

SPEC = ServingSpec(
    model="m",
    trigger="bars",
    horizon_us=MINUTE,
    columns=(
        ColumnSpec(name="x", feature_set="bars", feature="x"),
        ColumnSpec(name="news", feature_set="sentiment", feature="score"),
    ),
    feature_sets={
        "bars": FeatureSetSpec(features=("x",), bar_us=MINUTE, publication_lag_us=1_000_000, depth_rows=5),
        "sentiment": FeatureSetSpec(features=("score",), bar_us=MINUTE, depth_rows=5),
    },
)


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    """Twenty bars and scores in a file without known times, and the spec of a model that reads them: arguments that name both."""
    rows = []
    for n in range(1, 21):
        for name, feature in (("sentiment", "score"), ("bars", "x"), ("unread", "q")):
            rows.append({"symbol": "GOOG", "feature_set": name, "ts_event_us": n * MINUTE, "values": {feature: n / 4}})
    (tmp_path / "rows.ndjson").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "spec.json").write_bytes(encode_spec(SPEC))
    return ["leaks", "--rows", str(tmp_path / "rows.ndjson"), "--spec", str(tmp_path / "spec.json")]


def invoke(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(audit.app, [*words])
    return result.exit_code, result.output


def test_a_clean_model_gets_a_short_table_and_exit_code_0(given: list[str]) -> None:
    code, text = invoke(*given)
    assert code == 0
    lines = text.splitlines()
    assert lines[0].startswith("model          m as in ")
    assert (
        lines[1] == "known times    0 in the rows, 0 by --publication-lag, 40 by the lag in the spec, which is taken to be true"
    )
    assert lines[2] == "rows not read  20 of feature sets the model does not read"
    assert lines[3] == "columns        2, of which 2 were seen to move with visible rows"
    assert [line.split()[:3] for line in lines[-2:]] == [["as", "they", "stand"], ["by", "event", "time"]]
    assert [line.split()[3] for line in lines[-2:]] == ["20", "20"]
    assert [line.split()[-1] for line in lines[-2:]] == ["0", "0"]


def test_a_leak_is_named_in_one_line_and_the_exit_code_is_1(given: list[str]) -> None:
    code, text = invoke(*given, "--publication-lag", "sentiment=90s")
    assert code == 1
    leaks = [line for line in text.splitlines() if "leak of news in m:spec:GOOG:" in line]
    assert len(leaks) == 6
    assert (
        "decided at 1970-01-01T00:01:01Z, holds 0.25 from row 1 (sentiment, event 1970-01-01T00:01:00Z, revision 0), " in leaks[0]
    )
    assert leaks[0].endswith("known 89s after the decision")
    assert "as they stand: 17 more leaks of news" in text


def test_json_says_the_same(given: list[str]) -> None:
    code, text = invoke(*given, "--publication-lag", "sentiment=90s", "--publication-lag", "bars=0", "--json")
    assert code == 1
    found = json.loads(text)
    assert found["leaks"] == 40
    assert found["known_times"] == {"from_rows": 0, "from_stated_lag": 40, "from_spec": 0, "not_read": 20}
    assert found["moved_with_visible_rows"] == ["x"]  # of a score known in time there is none that is read
    assert found["nothing_proved_about"] == []
    order = found["orders"][0]
    assert order["order"] == "as they stand"
    assert order["leaks_by_column"] == {"news": 20}
    leak = order["traced"][0]
    assert (leak["column"], leak["feature_set"], leak["number"], leak["ahead_us"]) == ("news", "sentiment", 1, 89_000_000)


def test_a_table_of_one_feature_set_is_read_and_what_it_cannot_prove_is_said(given: list[str], tmp_path: Path) -> None:
    lines = ["symbol,ts_event_us,x", *(f"GOOG,{n * MINUTE},{n}" for n in range(1, 9))]
    (tmp_path / "bars.csv").write_text("\n".join(lines))
    code, text = invoke("leaks", "--rows", str(tmp_path / "bars.csv"), "--feature-set", "bars", *given[3:])
    assert code == 0
    assert text.splitlines()[-1] == "nothing is proved about news: no visible row moved it"


def test_the_demo_has_no_leak() -> None:
    code, text = invoke("leaks", "--demo", "--samples", "16")
    assert code == 0, text
    assert "goog_ret_5d of the demo" in text
    assert "29, of which 29 were seen to move" in text


def test_a_model_comes_from_the_registry(given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    registry = SimpleNamespace(resolve=lambda _name, alias: f"7{alias}", load_spec=lambda _name, _version: SPEC)
    monkeypatch.setattr("config.load_settings", lambda: None)
    monkeypatch.setattr("streams.app.registry_of", lambda _settings: registry)
    code, text = invoke(*given[:3], "--model", "m", "--alias", "challenger")
    assert code == 0
    assert "m version 7challenger (challenger)" in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["leaks"], "give either --rows FILE or --demo"),
        (["leaks", "--demo", "--publication-lag", "news=60s"], "it reads bars_1d, market"),
        (["leaks", "--demo", "--publication-lag", "market=soon"], "a duration such as"),
    ],
)
def test_wrong_words_are_refused_with_what_would_be_right(words: list[str], says: str) -> None:
    code, text = invoke(*words)
    assert code == 2
    assert says in " ".join(text.replace("│", " ").split())


def test_rows_without_a_model_are_refused(given: list[str]) -> None:
    code, text = invoke(*given[:3])
    assert code == 2
    assert "give either --model NAME or --spec FILE" in text


def test_a_file_that_cannot_be_read_is_one_line_and_exit_code_1(given: list[str], tmp_path: Path) -> None:
    (tmp_path / "bad.ndjson").write_text("{}")
    code, text = invoke("leaks", "--rows", str(tmp_path / "bad.ndjson"), *given[3:])
    assert code == 1
    assert text.startswith("RowFileError: ")
    assert len(text.splitlines()) == 1
