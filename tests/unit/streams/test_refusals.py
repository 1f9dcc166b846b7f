"""Alerts about refused versions: one incident from the first refusal to the first version that serves, whoever leads."""

from __future__ import annotations

from typing import Any

import msgspec

from models.errors import UntrustedModel
from streams.errors import LayoutError
from streams.refusals import Refusals, check_of


class Topic:
    """The alerts topic."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def leader(self) -> Refusals:
        refusals = Refusals(lambda: [msgspec.json.encode(e) for e in self.events], self.events.extend)
        refusals.read()
        return refusals

    def states(self) -> list[str]:
        return [e["state"] for e in self.events]


def test_one_firing_and_one_resolved_whoever_leads_in_between() -> None:
    topic = Topic()
    bad = UntrustedModel("its bytes are others")
    first = topic.leader()
    first.say("m", "champion", None)
    assert topic.events == []
    first.say("m", "champion", ("4", bad))
    first.say("m", "champion", ("4", bad))
    second = topic.leader()
    second.say("m", "champion", ("4", bad))
    assert topic.states() == ["firing"]
    assert "version 4" in topic.events[0]["annotations"]["summary"]
    assert topic.events[0]["annotations"]["description"] == str(bad)
    second.say("m", "challenger", None)
    assert topic.states() == ["firing"]
    second.say("m", "champion", None)
    topic.leader().say("m", "champion", None)
    assert topic.states() == ["firing", "resolved"]
    assert len({e["incident_id"] for e in topic.events}) == 1


def test_the_check_is_named() -> None:
    assert check_of(LayoutError("other lags")) == "layout"
    assert check_of(ValueError("odd")) == "ValueError"


def test_other_alerts_on_the_topic_are_not_its_business() -> None:
    topic = Topic()
    topic.events.append({"labels": {"alertname": "feature_drift"}, "state": "firing"})
    topic.leader().say("m", "champion", ("4", ValueError("odd")))
    assert topic.states() == ["firing", "firing"]
