"""A window that closed → its performance record, its alerts, perhaps a retrain request. Core.

    counts → drift          ┐
    labels → quality, paired ├→ observations → alert events → retrain request
    counts → estimate        │
    errors → concept         ┘→ record

A window is judged when it closes, by what is known then. Outcomes that come later, or revise others, change its quality: it is
reported again with a greater `revision`, which is how much is known of its rows; so the same knowledge has the same number,
whatever was killed in between. Alerts look at the newest window only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from monitoring.concept import blocks
from monitoring.drift import drift_report
from monitoring.groups import SymbolGroups
from monitoring.observed import (
    concept_observations,
    coverage_observations,
    drift_observations,
    label_coverage_observations,
    quality_observations,
    set_silence_observations,
    silent_sets,
)
from monitoring.record import performance_record
from monitoring.reference import fold
from monitoring.retrain import decide_retrain
from monitoring.silence import inhibited_columns, missing_rates, silence_of_sets
from streams.quality_windows import Asked, QualityWindows

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from monitoring.alerts import Observation
    from monitoring.drift import DriftReport
    from monitoring.joined import Scorer
    from monitoring.labels import Labels
    from monitoring.panes import Window
    from monitoring.quality import QualityReport
    from monitoring.retrain import RetrainState
    from streams.rules import Rules
    from streams.trained import Trained
    from streams.watch import Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A window's record, and the reports it was made of; those are None in a revision, or where nothing is known."""

    record: dict[str, Any]
    drift: DriftReport | None
    quality: QualityReport | None


class Judging:
    """Judges windows of all scorers. Keeps sums that can be made again, nothing else."""

    def __init__(self, rules: Rules, labels: Mapping[int, Labels], watches: Mapping[Scorer, Watch], *, outcomes: str) -> None:
        """`labels`, `watches`: the state's own mappings; `outcomes`: the topic they come from."""
        groups = SymbolGroups(rules.symbol_groups) if rules.symbol_groups else None
        self.windows = QualityWindows(labels, pane_us=rules.pane_us, panes=rules.panes, groups=groups)
        self._rules = rules
        self._labels = labels
        self._watches = watches
        self._outcomes = outcomes
        self.again = False
        """Whether rows are counted that a worker which died may have counted: what it said of a window that closes now it may
        have said knowing other outcomes. So the window is reported once more, as a revision, when its labels have settled."""

    def close(self, watch: Watch, window: Window, *, silent_models: Collection[str]) -> Judged:
        """Judge a window that closed; alert events and requests are left in the watch, to be said."""
        trained = _trained(watch)
        self._look(watch)
        drift = self._drift(watch, trained, window)
        asked = self._asked(watch, window.end_us)
        summed = self.windows.summed(asked)
        watch.close(window.end_us, known=0 if self.again else summed.known)
        if self.again:
            watch.outdated.add(window.end_us)
        quality = self.windows.report(asked, summed)
        described = None if quality is None else self.windows.described(asked, summed, quality)
        values, ends_us = blocks(summed.whole, bar_us=trained.bar_us, until_us=asked.end_us - asked.horizon_us)
        watch.concept.update(values.tolist(), ends_us.tolist())
        concept = watch.concept.report()
        record = performance_record(
            **watch.scorer._asdict(),
            window_start_us=window.start_us,
            window_end_us=window.end_us,
            drift=drift.to_dict(),
            quality=described,
            paired=self._paired(watch, asked),
            estimate=_estimate(trained, window, quality),
            concept=concept if concept["n"] else None,
        )
        seen = [
            *self._of_inputs(watch, trained, window, drift, silent=watch.scorer.model in silent_models),
            *self._of_labels(watch, asked, described, concept),
        ]
        events = watch.observe(seen, window.end_us)
        self._ask_for_training(watch, events, record, window.end_us)
        return Judged(record=record, drift=drift, quality=quality)

    def revise(self, watch: Watch, *, most: int) -> list[Judged]:
        """Records of windows whose labels changed after they were reported, at most so many, oldest first.

        Windows that changed since the last call are left to settle, so that a flood of outcomes is not reported row by row:
        call it at checkpoints.
        """
        if watch.trained is None or not watch.closed:
            return []
        settled = watch.outdated
        watch.outdated = set()
        self._look(watch)
        due = sorted(settled - watch.outdated)
        watch.outdated |= set(due[most:])
        return [judged for end_us in due[:most] if (judged := self._revised(watch, end_us)) is not None]

    def _revised(self, watch: Watch, end_us: int) -> Judged | None:
        asked = self._asked(watch, end_us)
        after_us = asked.start_us - asked.horizon_us
        if not all(part.whole(after_us=after_us, horizon_us=asked.horizon_us) for part in self._labels.values()):
            return None  # some of its rows were given up: what was reported says more
        summed = self.windows.summed(asked)
        if summed.known <= watch.closed[end_us]:
            return None
        watch.closed[end_us] = summed.known
        quality = self.windows.report(asked, summed)
        record = performance_record(
            **watch.scorer._asdict(),
            window_start_us=asked.start_us,
            window_end_us=end_us,
            revision=summed.known,
            quality=None if quality is None else self.windows.described(asked, summed, quality),
            paired=self._paired(watch, asked),
        )
        return Judged(record=record, drift=None, quality=quality)

    def _look(self, watch: Watch) -> None:
        """Find the reported windows whose labels changed."""
        changed = self.windows.changed(watch.scorer)
        if not changed:
            return
        if watch.trained is None:  # a champion none of whose rows came since the restart: any window may be among them
            watch.outdated |= watch.closed.keys()
            return
        # A pane is in the windows that end after its start, moved on by the horizon, and before a window's length after its end.
        # Windows end where panes end, so these few are looked up; weeks of them may be held.
        pane_us, horizon_us = self._rules.pane_us, _trained(watch).horizon_us
        length_us = (self._rules.panes + 1) * pane_us
        for start_us in (pane * pane_us + horizon_us for pane in changed):
            first_us = (start_us // pane_us + 1) * pane_us
            watch.outdated.update(e for e in range(first_us, start_us + length_us, pane_us) if e in watch.closed)

    def _asked(self, watch: Watch, end_us: int) -> Asked:
        trained = _trained(watch)
        start_us = end_us - self._rules.panes * self._rules.pane_us
        return Asked(watch.scorer, start_us, end_us, trained.horizon_us, trained.bar_us, trained.residuals)

    def _drift(self, watch: Watch, trained: Trained, window: Window) -> DriftReport:
        rules = self._rules
        return drift_report(
            trained.reference,
            window.counts,
            threshold=rules.threshold,
            min_samples=rules.min_samples,
            false_discovery_rate=rules.false_discovery_rate,
            instants=window.instants,
            warming=trained.warming(first_us=watch.first_us, start_us=window.start_us),
        )

    def _of_inputs(
        self, watch: Watch, trained: Trained, window: Window, drift: DriftReport, *, silent: bool
    ) -> Iterable[Observation]:
        alerts, labels = self._rules.alerts, watch.scorer._asdict()
        names = trained.reference.names
        missing = [missing_rates(names, counts, trained.reference.counts) for counts in window.by_pane] if trained.sets else []
        silences = silence_of_sets(missing, trained.sets)
        own = [name for name in names if name not in trained.set_of]
        inhibited = names if silent else inhibited_columns(silent_sets(silences, alerts), trained.set_of, model=own)
        yield from set_silence_observations(silences, alerts, labels)
        yield from drift_observations(
            drift,
            alerts,
            labels,
            prediction=trained.prediction,
            reconstruction=trained.error,
            inhibited=inhibited,
            open_=watch.open_columns(),
        )

    def _of_labels(
        self, watch: Watch, asked: Asked, described: Mapping[str, Any] | None, concept: Mapping[str, Any]
    ) -> Iterable[Observation]:
        alerts, labels = self._rules.alerts, watch.scorer._asdict()
        if described is not None:
            yield from quality_observations(described, alerts, labels)
            yield from coverage_observations(described, alerts, labels, level=_trained(watch).level)
        yield from concept_observations(concept, alerts, labels)
        rule = alerts.label_coverage
        # From the newest on, which the rule's age is much nearer to than the oldest.
        aged = () if rule is None else (e for e in reversed(watch.closed) if e <= asked.end_us - rule.after_us)
        old_us = next(iter(aged), None)
        if rule is not None and old_us is not None:
            expected = any(part.taken(self._outcomes) >= 0 for part in self._labels.values())
            yield from label_coverage_observations(
                self._label_coverage(watch, old_us), alerts, labels, age_us=asked.end_us - old_us, expected=expected
            )

    def _label_coverage(self, watch: Watch, end_us: int) -> dict[str, float | None]:
        published, known = self.windows.labelled(self._asked(watch, end_us))
        return {"published": float(published), "label_coverage": known / published if published else None}

    def _paired(self, watch: Watch, asked: Asked) -> dict[str, Any] | None:
        """A challenger against the champion that served last, of those it has rows with: today's may be newer."""
        model, _, role = watch.scorer
        champions = [w for s, w in self._watches.items() if role == "challenger" and (s.model, s.role) == (model, "champion")]
        for champion in sorted(champions, key=lambda w: (w.newest_us, w.scorer), reverse=True):
            self._look(champion)
            report = self.windows.paired(asked, champion.scorer)
            if report is not None:
                return {"champion": champion.scorer.version, **report.to_dict()}
        return None

    def _ask_for_training(self, watch: Watch, events: list[dict[str, Any]], record: dict[str, Any], now_us: int) -> None:
        model, _, role = watch.scorer
        known = [w.retrain for s, w in self._watches.items() if (s.model, s.role) == (model, role) and w.retrain is not None]
        last: RetrainState | None = max(known, key=lambda state: (state.requested_us, state.suppressed), default=None)
        state, request = decide_retrain(last, fired=events, record=record, now_us=now_us, policy=self._rules.retrain)
        if state is not last:
            watch.retrain = state
        if request is not None:
            watch.requests.append(request)


def _trained(watch: Watch) -> Trained:
    if watch.trained is None:
        raise RuntimeError("a watch is judged only once it has its reference")
    return watch.trained


def _estimate(trained: Trained, window: Window, quality: QualityReport | None) -> dict[str, Any] | None:
    """The errors to expect by the inputs of the window alone, and by the published probabilities of those that are due."""
    judged = fold(trained.reference, window.counts)
    found: dict[str, Any] = {}
    if "absolute" in trained.losses:
        found["mae"] = trained.losses["absolute"].mean(judged)
    if "squared" in trained.losses:
        found["rmse"] = max(0.0, trained.losses["squared"].mean(judged)) ** 0.5
    if quality is not None:
        found |= {"hit_rate": quality.expected_hit_rate, "brier": quality.expected_brier}
    return found or None
