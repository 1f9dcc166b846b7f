"""One source partition's predictions and outcomes: joined, kept for quality windows, and journalled. Core.

`pending` joins, `matured` keeps what quality windows need, `journal` is the only thing stored: a restart reads its rows
and joins them again, which gives the same. Rows at or below the journal's mark of their source were taken before and are
skipped, so a replay changes nothing.

Time is the greatest event time among the partition's predictions, nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring.journal import Journal, Outcomes, Predictions
from monitoring.matured import MaturedRows
from monitoring.pending import Pending

if TYPE_CHECKING:
    from collections.abc import Iterable

    from monitoring.errors import StateError
    from monitoring.joined import Matured, Scorer
    from monitoring.journal import Block


class Labels:
    """The labels of one source partition. One owner, one thread."""

    def __init__(self, *, timeout_us: int, pane_us: int, most: int) -> None:
        """`timeout_us`: how long after it is due an outcome may come; `pane_us`: pane of quality windows; `most`: keys held."""
        self.pending = Pending(timeout_us=timeout_us, most=most)
        self.matured = MaturedRows(pane_us=pane_us, most=most)
        # A key has a prediction and an outcome, and a revision now and then.
        self.journal = Journal(timeout_us=timeout_us, most_rows=3 * most)
        self.now_us = -1
        self.matured_rows = 0
        self.faults: tuple[StateError, ...] = ()

    def taken(self, source: str) -> int:
        """The source offset up to which rows were taken before, -1 if none."""
        return self.journal.marks.get(source, -1)

    def add_predictions(self, block: Predictions, *, source: str, offset: int) -> None:
        """Take the predictions of one source record, abstentions left out."""
        if offset > self.taken(source):
            self._predictions(block)
            self._journal(block, source, offset)

    def add_outcomes(self, block: Outcomes, *, source: str, offset: int) -> None:
        """Take outcomes from offsets not taken yet, the last of them `offset`."""
        self._outcomes(block)
        self._journal(block, source, offset)

    def advance(self) -> dict[Scorer, int]:
        """Give up what is past its deadline; how many predictions ended without an outcome, per scorer."""
        self.pending.expire(self.now_us)
        self.journal.forget(self.now_us)
        return self.pending.take_unlabelled()

    def _journal(self, block: Block, source: str, offset: int) -> None:
        if len(block):
            self.journal.append(block)
            self.journal.mark(source, offset)

    def _predictions(self, block: Predictions) -> None:
        if not len(block):
            return
        (ts_event_us, revision), (value, lower, upper, p_up) = block.columns()
        self.now_us = max(self.now_us, int(ts_event_us.max()))
        self.matured.publish(block.scorer, symbols=block.symbols, ts_event_us=ts_event_us)
        self._ripened(
            self.pending.add_predictions(
                block.scorer,
                prediction_ids=block.prediction_ids,
                symbols=block.symbols,
                ts_event_us=ts_event_us,
                horizon_us=block.horizon_us,
                revision=revision,
                value=value,
                lower=lower,
                upper=upper,
                p_up=p_up,
            )
        )

    def _outcomes(self, block: Outcomes) -> None:
        (ts_event_us, horizon_us, revision), value = block.columns()
        self._ripened(
            self.pending.add_outcomes(
                symbols=block.symbols, ts_event_us=ts_event_us, horizon_us=horizon_us, value=value, revision=revision
            )
        )

    def _ripened(self, groups: list[Matured]) -> None:
        for rows in groups:
            self.matured.add(rows)
            self.matured_rows += len(rows)

    @classmethod
    def restore(cls, entries: Iterable[tuple[int, bytes]], *, timeout_us: int, pane_us: int, most: int) -> Labels:
        """The labels whose journal was written as these (slot, bytes). What cannot be read is passed over: see `faults`."""
        self = cls(timeout_us=timeout_us, pane_us=pane_us, most=most)
        self.journal, blocks, faults = Journal.restore(entries, timeout_us=timeout_us, most_rows=self.journal.most_rows)
        self.faults = tuple(faults)
        for block in blocks:
            if isinstance(block, Predictions):
                self._predictions(block)
            else:
                self._outcomes(block)
        self.advance()  # counted as unlabelled before the restart
        self.matured_rows = 0
        return self
