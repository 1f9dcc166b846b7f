"""The report says what the records say, of all of it or of nothing, and whatever data holds stays data."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from monitoring.joined import Scorer
from monitoring.report.alerted import incidents
from monitoring.report.charts import MOST_COLUMNS, MOST_WINDOWS
from monitoring.report.drifting import drift_map
from monitoring.report.page import Material, report_page
from monitoring.report.records import Records, Window
from monitoring.report.verdict import standing
from tests.unit.monitoring import report_world as making

if TYPE_CHECKING:
    from collections.abc import Sequence

EVIL = "</title><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\x00\x1b\u202e"
VOID = {"meta", "br", "img", "input", "link"}


class Page(HTMLParser):
    """Elements, attributes and text of a page; elements must close as they opened."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.words += " "
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words += data


@pytest.fixture(scope="module")
def world() -> making.World:
    return making.world()


@pytest.fixture(scope="module")
def html(world: making.World) -> str:
    return report_page(making.material(world, reference=lambda _: world.reference, how=[("command", "trading-ml report")]))


def test_the_verdict_comes_first_and_says_why(html: str) -> None:
    words = re.sub(r"\s+", " ", Page(html).words)
    before_quality = words[: words.index("Quality")]
    assert re.search(
        r"degraded champion v4 newest window to 2026-01-09 00:00:00 UTC Column spread drifted \(PSI 0\.\d\d, threshold 0\.1\); "
        r"rank IC fell from 0\.\d{3} to -?0\.\d{3} ± 0\.\d{3} in the newest 4 windows; "
        r"intervals cover 7\d(\.\d)?% in the newest 4 windows, 90% was promised; alert interval_coverage fires\.",
        before_quality,
    )
    assert re.search(r"Outcomes 9\d\.\d% of predictions due", before_quality)
    assert re.search(r"degraded challenger v5", before_quality)
    assert "Versions that served before: champion v3 (healthy)" in before_quality


def test_every_part_is_there_with_its_numbers(html: str) -> None:
    page = Page(html)
    words = re.sub(r"\s+", " ", page.words)
    for part in ("Rank IC", "IC", "Interval coverage", "Calibration of p_up", "Drift of the champion's columns", "PSI by column"):
        assert f"Numbers: {part}" in words or part in words
    assert "challenger v5 is worse in" in words
    assert "feature_drift, column spread" in words
    assert words.count("training and window") == 5
    drawings = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert len(drawings) == 13
    assert all(d["role"] == "img" and d["aria-labelledby"] for d in drawings)
    ids = [str(attrs["id"]) for _, attrs in page.tags if attrs.get("id")]
    assert len(ids) == len(set(ids))
    assert {i for d in drawings for i in str(d["aria-labelledby"]).split()} <= set(ids)


def test_it_needs_nothing_but_itself(html: str) -> None:
    assert "://" not in html
    assert "url(" not in html
    assert "@import" not in html
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "form"} & {tag for tag, _ in page.tags}
    assert not {"src", "href", "xlink:href"} & {name for _, attrs in page.tags for name in attrs}


def test_drawings_are_well_formed(html: str) -> None:
    for drawing in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        root = ET.fromstring(drawing)  # noqa: S314 - made here
        assert root.find("title") is not None
        assert not re.search(r"nan|inf", " ".join(e.get("d") or "" for e in root.iter()))


def test_what_data_holds_is_text(world: making.World) -> None:
    columns = tuple(f"{EVIL}{i}" for i in range(8))
    evil = making.world(model=EVIL, columns=columns, bars=460)
    for event in evil.events:
        event["annotations"] = {"summary": EVIL}
    made = making.material(evil, model=EVIL, reference=lambda _: evil.reference, how=[(EVIL, EVIL)])
    made.records.add([record | {"version": EVIL, "role": "canary"} for record in evil.records[-3:]])
    html = report_page(made)
    page, plain = Page(html), Page(report_page(making.material(world, reference=lambda _: world.reference)))
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in plain.tags}
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert "<script" not in html
    assert html.count("&lt;script&gt;") > 50
    for drawing in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        ET.fromstring(drawing)  # noqa: S314 - made here


def test_of_nothing_it_says_what_is_missing_and_what_to_do() -> None:
    words = re.sub(r"\s+", " ", Page(report_page(Material("m", 0, 3_600_000_000))).words)
    assert "Nothing was stored for this model in this span" in words
    assert "widen --from and --to" in words
    assert "No outcome has come for this span. Send outcomes" in words
    assert "The version needs a training reference" in words
    assert "No alert was open" in words
    assert "Verdict" not in words


def test_without_outcomes_and_records_rows_alone_are_told(world: making.World) -> None:
    made = making.material(world)
    made.records, made.events, made.rows = Records(), (), type(made.rows)()
    edges = np.array([made.start_us, made.end_us])
    made.rows.add(making.MODEL, world.tables["predictions"], world.tables["outcomes"].slice(0, 0), edges_us=edges)
    words = re.sub(r"\s+", " ", Page(report_page(made)).words)
    assert "insufficient data champion v4 No window has closed; no outcome has come, so quality is not known." in words
    assert "3,912" in words


def test_a_quiet_week_is_healthy() -> None:
    quiet = making.world(bars=240)
    made = making.material(quiet)
    words = re.sub(r"\s+", " ", Page(report_page(made)).words)
    assert re.search(
        r"healthy champion v3 newest window to [-\d: ]{19} UTC No column drifts \(worst \w+, PSI 0\.\d\d\), quality is",
        words[:2000],
    )


@pytest.mark.parametrize(
    ("change", "word", "why"),
    [
        ({}, "healthy", r"No column drifts \(worst a, PSI 0\.02\), quality is as it should be, no alert fires\."),
        ({"verdict": "warn", "psi": 0.2}, "degraded", r"Column a drifted \(PSI 0\.20, threshold 0\.1\)\."),
        ({"rank_ic": -0.2}, "degraded", r"Rank IC -0\.200 ± 0\.007 is below zero\."),
        ({"coverage": 0.8}, "degraded", r"Intervals cover 80% in the newest 4 windows, 90% was promised\."),
        ({"coverage": 0.8, "coverage_se": 0.3}, "healthy", "No column drifts"),
        ({"rows": 0, "rank_ic": None, "coverage": None}, "insufficient data", r"No outcome has come, so quality is not known\."),
        ({"verdict": "insufficient_data"}, "insufficient data", r"No window had enough rows to judge drift\."),
    ],
)
def test_the_word_follows_from_what_was_measured(change: dict[str, Any], word: str, why: str) -> None:
    quality = {"rows": 100, "published": 110, "labelled_instants": 10, "rank_ic": 0.05, "rank_ic_se": 0.02, "coverage": 0.9}
    quality |= {"coverage_se": 0.01} | {k: v for k, v in change.items() if k not in {"verdict", "psi"}}
    verdict, psi = change.get("verdict", "stable"), change.get("psi", 0.02)
    # Every other one shares rows with its neighbours.
    windows = [Window(at, at + 10, verdict, {"a": (psi, verdict)}, revision=0, quality=quality) for at in range(0, 80, 5)]
    scorer = Scorer("m", "1", "champion")
    served = making.material(making.world(bars=20)).rows.served[Scorer(making.MODEL, "3", "champion")]
    found = standing(scorer, windows, served, [], threshold=0.1)
    assert found.word == word
    assert re.search(why, found.sentence), found.sentence


def test_the_map_is_cut_to_what_can_be_seen_and_says_so() -> None:
    names = [f"c{k:03}" for k in range(MOST_COLUMNS + 7)]
    calm = dict.fromkeys(names, (0.01, "stable"))
    windows = [Window(i * 10, i * 10 + 10, "stable", dict(calm)) for i in range(MOST_WINDOWS * 2 + 1)]
    windows[3].psi["c066"] = (0.5, "critical")
    chart = drift_map("champion", {Scorer("m", "1", "champion"): windows}, threshold=0.1)
    assert "Each cell is the worst of 3 windows, 401 in all. 7 columns that drifted less are left out." in chart.lead
    assert chart.table is not None
    assert chart.table.rows[0][0] == "c066"
    assert len(chart.table.rows) == MOST_COLUMNS
    assert chart.svg is not None
    (critical,) = re.findall(r'class="cell h-critical" d="([^"]*)"', chart.svg)
    assert critical.count("M") == 1


def test_a_revision_changes_quality_and_leaves_drift() -> None:
    records = Records()
    base = {"model": "m", "version": "1", "role": "champion", "window_start_us": 0, "window_end_us": 10}
    first = {"drift": '{"verdict":"warn","columns":[{"name":"a","psi":0.2,"verdict":"warn"}]}', "estimate": '{"mae":1.0}'}
    later = {"drift": None, "estimate": None, "paired": None}
    rows = [
        base | first | {"revision": 0, "quality": '{"ic":0.1}', "paired": '{"rows":1}'},
        base | later | {"revision": 2, "quality": {"ic": 0.3}},
        base | later | {"revision": 1, "quality": {"ic": 0.2}},
    ]
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        records = Records()
        for k in order:
            records.add([rows[k]])
        (window,) = records.windows()[Scorer("m", "1", "champion")]
        assert (window.verdict, window.psi, window.quality) == ("warn", {"a": (0.2, "warn")}, {"ic": 0.3})
        assert (window.estimate, window.paired) == ({"mae": 1.0}, {"rows": 1})


def test_incidents_are_open_until_they_end() -> None:
    def event(n: int, state: str, at: int, **more: Any) -> dict[str, Any]:
        body = {"incident_id": str(n), "state": state, "severity": "warn", "updated_us": at, "started_us": 1, "fired_us": None}
        return (
            body | {"labels": {"model": "m", "alertname": f"a{n}"}, "annotations": None, "value": None, "threshold": 0.1} | more
        )

    events = [
        event(1, "pending", 1),
        event(1, "firing", 2, severity="critical"),
        event(2, "firing", 2),
        event(2, "resolved", 5, severity="warn"),
        event(3, "firing", 2) | {"labels": '{"model":"other"}'},
        event(4, "pending", 3),
        event(4, "inactive", 30),
    ]
    told = {i.name: (i.state, i.severity, i.ended_us) for i in incidents(events[::-1], model="m", start_us=5, end_us=20)}
    assert told == {"a1": ("firing", "critical", None), "a4": ("pending", "warn", None)}
    told = {i.name: (i.state, i.severity, i.ended_us) for i in incidents(events, model="m", start_us=4, end_us=40)}
    assert told == {"a1": ("firing", "critical", None), "a2": ("resolved", "warn", 5), "a4": ("inactive", "warn", 30)}
    assert all(math.isnan(i.value) for i in incidents(events, model="m", start_us=0, end_us=40))
