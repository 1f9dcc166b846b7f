"""Histograms of a column: cells, bounds, text, SVG."""

from __future__ import annotations

import math
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import numpy as np
import pytest

from models.reference import column_reference
from monitoring.drift import count, psi
from monitoring.errors import BadReferenceError
from monitoring.histogram import cells, histogram_svg, histogram_text
from monitoring.reference import Floats, Ints, Reference, fold

HOSTILE = "a<b>&\"'"


def case(trained: Floats, window: Floats, **options: Any) -> tuple[Reference, Ints]:
    """The reference publishing makes of one column called `HOSTILE`, and the window's judged counts."""
    r = Reference.from_columns([HOSTILE], {HOSTILE: msgspec.to_builtins(column_reference(trained, **options))})
    return r, fold(r, count(r, window[:, None]))


def labels(*of: Any, **options: Any) -> list[str]:
    return [c.label for c in cells(case(*of, **options)[0], HOSTILE, case(*of, **options)[1])]


NORMAL = case(np.random.default_rng(1).normal(size=5000), np.append(np.random.default_rng(2).normal(0.5, 1, 300), np.nan))


def test_the_cells_are_shares_and_their_parts_the_psi() -> None:
    reference, counts = NORMAL
    found = cells(reference, HOSTILE, counts)
    assert len(found) == 11
    assert sum(c.trained for c in found) == pytest.approx(1)
    assert sum(c.seen for c in found) == pytest.approx(1)
    assert sum(c.psi for c in found) == pytest.approx(psi(reference, counts)[0])
    assert found[-1].label == "missing"
    assert found[-1].seen == 1 / 301


def test_bounds_are_said_in_as_many_digits_as_tell_them_apart() -> None:
    near = 1.0 + np.arange(4) * 1e-9
    assert labels(near, near, bins=4) == [
        "< 1",
        "1",
        "(1, 1.000000001]",
        "(1.000000001, 1.000000002]",
        "> 1.000000002",
        "missing",
    ]
    assert labels(np.arange(9.0), near, bins=3) == ["<= 2", "(2, 5]", "> 5", "missing"]


def test_the_bin_split_off_below_the_minimum_is_said_by_the_minimum() -> None:
    zeros = np.array([0.0] * 6 + [1, 2, 3, 4])
    assert labels(zeros, zeros, bins=5) == ["< 0", "0", "(0, 2]", "> 2", "missing"]
    assert labels(np.full(5, 7.0), zeros) == ["< 7", "7", "> 7", "missing"]


def test_levels_are_said_as_they_are() -> None:
    codes = np.array([10.0, 10, 45])
    assert labels(codes, codes, levels="auto") == ["10", "45", "other", "missing"]
    empty = Reference.from_columns(["new"], {})
    (cell, missing) = cells(empty, "new", np.array([[3, 1]]))
    assert (cell.label, missing.label) == ("any", "missing")
    assert math.isnan(cell.trained)
    assert math.isnan(cell.psi)
    assert cell.seen == 0.75


@pytest.mark.parametrize("width", [60, 80, 132])
def test_the_text_has_a_line_for_each_cell_and_stays_within_its_width(width: int) -> None:
    lines = histogram_text(*NORMAL[:1], HOSTILE, NORMAL[1], width=width).splitlines()
    assert len(lines) == 12
    assert max(map(len, lines)) <= width
    assert max(map(len, lines)) >= width - 2
    assert "█" in lines[1]
    nothing = histogram_text(NORMAL[0], HOSTILE, np.zeros_like(NORMAL[1])).splitlines()
    assert nothing[1].endswith(" -")


def test_long_labels_are_cut_rather_than_the_lines() -> None:
    reference, counts = case(np.geomspace(1e-300, 1e300, 40), np.array([1.0]), bins=4)
    assert max(map(len, histogram_text(reference, HOSTILE, counts, width=60).splitlines())) <= 60
    with pytest.raises(ValueError, match="at least 60"):
        histogram_text(reference, HOSTILE, counts, width=20)


def test_the_svg_is_xml_without_scripts_or_colours_of_its_own_for_words() -> None:
    text = histogram_svg(NORMAL[0], HOSTILE, NORMAL[1])
    root = ET.fromstring(text)  # noqa: S314 - our own text
    space = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{space}svg"
    assert root.attrib["fill"] == "currentColor"
    assert root.findtext(f"{space}title") == f"{HOSTILE}: training and window"
    bars = root.findall(f"{space}rect")
    assert len(bars) == 2 * 11
    assert all(float(b.attrib["x"]) + float(b.attrib["width"]) <= 640 for b in bars)
    assert {e.tag for e in root.iter()} == {space + tag for tag in ("svg", "title", "text", "rect")}
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    empty = histogram_svg(NORMAL[0], HOSTILE, np.zeros_like(NORMAL[1]))
    assert 'width="0"' in ET.tostring(ET.fromstring(empty), encoding="unicode")  # noqa: S314 - our own text


def test_what_does_not_belong_is_named() -> None:
    with pytest.raises(BadReferenceError, match="there is no column 'x'; there are a<b>"):
        cells(NORMAL[0], "x", NORMAL[1])
    with pytest.raises(BadReferenceError, match=r"shape \(1, 13\) do not belong to \(1, 11\); `fold` them"):
        cells(NORMAL[0], HOSTILE, np.zeros((1, 13), np.int64))
