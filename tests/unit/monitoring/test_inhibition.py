"""A feature set that falls silent is one alert: its drift does not rise for as long as the silence is in the window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from monitoring.alerts import Alert, AlertPolicy, decide
from monitoring.drift import count, drift_report
from monitoring.observed import drift_observations, set_silence_observations, silent_sets
from monitoring.reference import Reference
from monitoring.rules import AlertRules
from monitoring.silence import inhibited_columns, missing_rates, silence_of_sets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from monitoring.reference import Ints

NAMES = ["ret", "tone", "tone.lag1", "prediction"]
COLUMN = {"edges": [-0.5, 0.0, 0.5], "counts": [308, 192, 192, 308, 0], "low": -4, "high": 4}
REFERENCE = Reference.from_columns(NAMES, dict.fromkeys(NAMES, COLUMN))
SET_OF = {"ret": "bars", "tone": "news", "tone.lag1": "news"}
RULES, LABELS, PANES = AlertRules(), {"model": "m"}, 6


def pane(rng: np.random.Generator, *, silent: float = 0.0, shift: float = 0.0) -> Ints:
    values = rng.standard_normal((200, 4))
    gone = rng.random(200) < silent
    values[gone, 1] = values[gone, 2] = np.nan
    values[gone, 3] = 2.0  # what the model answers without news
    values[:, 0] += shift
    return count(REFERENCE, values)


def events(panes: Sequence[Ints], *, inhibit: bool = True) -> list[tuple[int, str, str]]:
    """(pane, alertname and column or set, state) of everything that fired or ended."""
    state: dict[str, Alert] = {}
    told: list[tuple[int, str, str]] = []
    for n in range(len(panes)):
        held = panes[max(0, n + 1 - PANES) : n + 1]
        rates = [missing_rates(NAMES, counts, REFERENCE.counts) for counts in held]
        silences = silence_of_sets(rates, {"news": ["tone"]})
        explained = inhibited_columns(silent_sets(silences, RULES), SET_OF, model=["prediction"]) if inhibit else ()
        report = drift_report(REFERENCE, np.sum(held, axis=0), threshold=0.1, min_samples=100, false_discovery_rate=0.05)
        seen = set_silence_observations(silences, RULES, LABELS)
        seen += drift_observations(report, RULES, LABELS, inhibited=explained)
        state, changes = decide(state, seen, n, policy=AlertPolicy())
        told += [
            (n, e["labels"].get("column", e["labels"].get("feature_set")), e["state"])
            for e in changes
            if e["state"] == "firing" or e["resolved_us"] == e["updated_us"]
        ]
    return told


def test_a_set_that_falls_silent_and_comes_back_is_one_alert() -> None:
    rng = np.random.default_rng(1)
    shares = [0.0] * 8 + [0.4] + [1.0] * 5 + [0.3] + [0.0] * 12
    panes = [pane(rng, silent=share) for share in shares]
    assert events(panes) == [(10, "news", "firing"), (15, "news", "resolved")]
    loud = {name for _, name, state in events(panes, inhibit=False) if state == "firing"}
    assert loud == {"news", "tone", "tone.lag1", "prediction"}


def test_drift_of_other_sets_rises_meanwhile() -> None:
    rng = np.random.default_rng(2)
    panes = [pane(rng, silent=0.0 if n < 8 else 1.0, shift=0.0 if n < 8 else 1.5) for n in range(16)]
    assert {name for _, name, state in events(panes) if state == "firing"} == {"news", "ret"}


def test_what_fired_before_the_silence_fires_on_and_may_clear_in_it() -> None:
    rng = np.random.default_rng(3)
    drifted = [count(REFERENCE, rng.standard_normal((200, 4)) + np.array([0, 1.5, 0, 0])) for _ in range(8)]
    silent = [pane(rng, silent=1.0) for _ in range(3)]
    assert [name for _, name, _ in events(drifted + silent)] == ["tone", "news"]
