"""Results as JSON, and as the table in docs/reliability.md."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.kafka.artifacts import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.chaos.world import Result

RESULTS = Path(__file__).with_name("results.json")
PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- figures: written by `make chaos` -->\n", "<!-- end of figures -->\n"
NAIVE = "naive"
_HEAD = (
    "| fault | times | rows | lost | wrong | contradictory | repeated | back after, median | at most |\n"
    "|---|--:|--:|--:|--:|--:|--:|--:|--:|\n"
)


def write_page(results: Sequence[Result], *, seed: int, minutes: float, command: str) -> None:
    """Write results.json, and the page's table from it."""
    found = {
        "command": command,
        "seed": seed,
        "minutes": round(minutes, 1),
        "kafka": VERSION,
        "python": platform.python_version(),
        "results": [r.summary() for r in results],
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(with_figures(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")


def write_some(results: Sequence[Result], *, command: str) -> None:
    """Put these scenarios' results in the place of those of the last whole run, with the command they came by."""
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    new = {r.scenario: {**r.summary(), "command": command} for r in results}
    kept = [r for r in found["results"] if r["scenario"].strip("`") not in new]
    found["results"] = [*kept, *new.values()]
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(with_figures(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")


def with_figures(page: str, found: Mapping[str, Any]) -> str:
    """The page with this run's figures in their place."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + figures(found) + END + after


def figures(found: Mapping[str, Any]) -> str:
    """The table of one run, and what it is of."""
    results = found["results"]
    ran = [r for r in results if r["skipped"] is None]
    ours = [r for r in ran if r["scenario"] != NAIVE]
    totals = {k: sum(r[k] for r in ours) for k in ("faults", "rows", "lost", "wrong", "contradictory", "repeated")}
    lines = [_line(r) for r in ours]
    lines.append(_row("**all**", totals, "", ""))
    lines += [_line(r) for r in ran if r["scenario"] == NAIVE]
    said = (
        f"\nApache Kafka {found['kafka']}, Python {found['python']}, seed {found['seed']}, {found['minutes']:.0f} minutes; "
        f"repeat with `{found['command']}`.\n"
    )
    notes = [f"- {r['title']}: {r['skipped']}." for r in results if r["skipped"] is not None]
    notes += [f"- {r['title']}: a run of its own, `{r['command']}`." for r in ran if "command" in r]
    notes += [f"- {r['title']}: **not as it must be**: {'; '.join(r['bad'])}." for r in results if r["bad"]]
    return _HEAD + "".join(lines) + said + ("\n" + "\n".join(notes) + "\n" if notes else "")


def _line(r: Mapping[str, Any]) -> str:
    return _row(r["title"], r, _seconds(r["recovery_median_s"]), _seconds(r["recovery_max_s"]))


def _row(title: str, r: Mapping[str, Any], median: str, most: str) -> str:
    numbers = " | ".join(f"{r[k]:,}" for k in ("faults", "rows", "lost", "wrong", "contradictory", "repeated"))
    return f"| {title} | {numbers} | {median} | {most} |\n"


def _seconds(s: float | None) -> str:
    return "" if s is None else f"{s:.1f} s"
