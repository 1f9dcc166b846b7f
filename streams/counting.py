"""Rows of the log counted for drift, in the order of event time; windows that close reported, versions gone retired. Shell."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import structlog

from streams import metrics
from streams.aligning import Aligned, together
from streams.judging import Judging

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from monitoring.joined import Scorer
    from streams.aligning import Finished
    from streams.logrows import LogRows
    from streams.monitor_state import MonitorState
    from streams.references import References
    from streams.reports import Reports
    from streams.rules import Rules
    from streams.trained import Trained
    from streams.watch import Watch

log = structlog.get_logger()
MOST_REVISED = 64
"""Windows of one scorer that are reported again at once; more wait for the next look."""


class Counting:
    """What happens to rows once labels have them. Owned by the monitor's handler."""

    def __init__(
        self,
        rules: Rules,
        state: MonitorState,
        references: References,
        reports: Reports,
        *,
        outcomes: str,
        clock: Callable[[], float],
    ) -> None:
        """`outcomes`: the topic they come from; `clock`: seconds, never going back."""
        self._rules = rules
        self._state = state
        self._references = references
        self._reports = reports
        self._clock = clock
        self._judging = Judging(rules, state.labels, state.watches, outcomes=outcomes)
        self._expected: dict[str, Trained] = {}
        self._aligned = Aligned(pane_us=rules.pane_us, grace_panes=rules.grace_panes)

    def add(self, records: Sequence[LogRows], chunk: Finished) -> bool:
        """Take a chunk's records; whether there were any. If so the chunk is finished once they are counted, perhaps later."""
        return self._aligned.add(records, chunk, now_s=self._clock())

    @property
    def waiting(self) -> int:
        """Rows that wait for partitions that are behind."""
        return len(self._aligned)

    def count(self, behind: Collection[int], *, anew: bool = False) -> None:
        """Count what need not wait for partitions that are behind. `anew`: these rows may have been counted before a crash."""
        self._judging.again = anew
        ready = self._aligned.take(behind, now_s=self._clock())
        alike: dict[tuple[Scorer, tuple[str, ...]], list[LogRows]] = {}
        for rows in ready:
            alike.setdefault((rows.scorer, rows.columns), []).append(rows)
        for records in alike.values():
            self._count(records)
        self._aligned.settle()
        metrics.DRIFT_WAITING.set(self.waiting)

    def revise(self) -> None:
        """Report windows again whose labels changed."""
        for scorer, watch in self._state.watches.items():
            if watch.trained is None and watch.closed:  # outcomes may come where rows no longer do
                trained = self._references.known(scorer.model, scorer.version)
                if trained is not None:
                    watch.arm(trained)
            for judged in self._judging.revise(watch, most=MOST_REVISED):
                self._reports.window(watch, judged)
                self._state.touch(scorer)

    def expect(self) -> None:
        """See to it that it is known of every model how its rows come."""
        newest_first = sorted(self._state.watches.values(), key=lambda watch: watch.newest_us, reverse=True)
        for scorer in (watch.scorer for watch in newest_first if watch.served):
            if scorer.role == "champion" and not self._state.operations.expects(scorer.model):
                self._expect(scorer.model, self._references.known(scorer.model, scorer.version))

    def clear(self) -> None:
        """Partitions were revoked: what waits comes again, what was summed is of labels that are gone."""
        self._aligned.clear()
        self._expected.clear()
        self._judging.windows.clear()

    def _count(self, records: list[LogRows]) -> None:
        """Rows of one scorer and its columns, in order."""
        scorer = records[0].scorer
        trained = self._references.get(scorer.model, scorer.version, records[0].columns)
        if trained is None:
            metrics.DRIFT_SKIPPED.inc(sum(len(r) for r in records))
            return
        watch = self._state.watch(scorer)
        if scorer.role == "champion" and self._expected.get(scorer.model) is not trained:
            self._expect(scorer.model, trained)
        fault = watch.arm(trained)
        if watch.panes is not None and watch.panes.note:
            log.warning("counts start afresh", scorer=":".join(scorer), why=watch.panes.note)
            watch.panes.note = ""
        if fault is not None:
            metrics.STATE_FAULTS.inc()
            log.warning("stored counts could not be used, they start afresh", scorer=":".join(scorer), error=str(fault))
        for window in itertools.chain.from_iterable(watch.count(some) for some in together(records)):
            judged = self._judging.close(watch, window, silent_models=self._state.operations.silent_models())
            self._reports.window(watch, judged)
            self._retire_others(watch, start_us=window.start_us, end_us=window.end_us)

    def _expect(self, model: str, trained: Trained | None) -> None:
        if trained is not None:
            self._expected[model] = trained
            self._state.operations.expect(
                model, bar_us=trained.bar_us, sessions=trained.sessions, usual_lag_us=trained.usual_lag_us
            )

    def _retire_others(self, watch: Watch, *, start_us: int, end_us: int) -> None:
        """End the alerts of versions that this one has replaced for a whole window; drop those silent for long."""
        model, version, role = watch.scorer
        for scorer, other in list(self._state.watches.items()):
            if (scorer.model, scorer.role) != (model, role) or scorer.version == version or other.newest_us > start_us:
                continue
            self._reports.hide(other)
            if other.open_alerts():
                reason = f"version {version} serves in place of {scorer.version}"
                self._state.watch(scorer).withdraw(end_us, reason=reason)
            if not other.unsaid and not other.requests and other.newest_us + self._rules.label_timeout_us < start_us:
                if not self._state.drop(scorer):
                    continue
                self._judging.windows.forget(scorer)
                for labels in self._state.labels.values():
                    labels.forget(scorer)
