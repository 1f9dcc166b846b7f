"""Whether anything from the future enters a vector, found out by trying. Core: no clock, no I/O.

For a sampled prediction every row of its symbol that was not visible is given other values, the rest is left as it
is, and the vector must stay the same bit for bit. A row was visible when

    its true known time <= the decision time the prediction states, and
    it stands in the log no later than the row at which the prediction was decided.

The true known time is the row's own, else its event time plus the set's publication lag as stated to the audit,
which may differ from what the spec believes. As a counter-check the visible rows are changed too: a column that then
moves is one the audit can see.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from streams.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from models.spec import ServingSpec
    from streams.offline import Decided, Identity, Row, Vectorizer

NAMED_PER_COLUMN = 3
"""Leaks of a column that are traced to the row they come from; further ones are counted."""


@dataclass(frozen=True, slots=True)
class Leak:
    """A column of one prediction that moved with a row that was not visible. `number`: the row's place in the input."""

    prediction_id: str
    ts_decision_us: int
    column: str
    feature_set: str
    symbol: str
    ts_event_us: int
    revision: int
    number: int
    ts_known_us: int
    later_in_log: bool
    before: float
    after: float

    @property
    def ahead_us(self) -> int:
        """How far in the future the row was: its true known time less the decision time."""
        return self.ts_known_us - self.ts_decision_us


@dataclass(slots=True)
class AuditReport:
    """What was tried and what came of it.

    `not_yet_known`, `later_in_log`: rows changed that stood in the log already, or came after the decision.
    `sensitive`: columns seen to move with visible rows. `leaks`: by column, how many predictions it moved in; `named`:
    the first of them traced to their rows.
    """

    columns: tuple[str, ...]
    predictions: int = 0
    without_prediction: int = 0
    not_yet_known: int = 0
    later_in_log: int = 0
    sensitive: set[str] = field(default_factory=set)
    leaking_predictions: int = 0
    leaks: Counter[str] = field(default_factory=Counter)
    named: list[Leak] = field(default_factory=list)

    @property
    def blind(self) -> tuple[str, ...]:
        """Columns never seen to move: about them the audit says nothing."""
        return tuple(c for c in self.columns if c not in self.sensitive and c not in self.leaks)


def audit(
    rows: Sequence[Row],
    vectorize: Vectorizer,
    spec: ServingSpec,
    *,
    lags_us: Mapping[str, int],
    samples: int,
    seed: int,
) -> AuditReport:
    """Sample predictions of these rows (in the order of the log) and look for values from the future.

    `lags_us`: the true publication lag of each feature set the spec reads. Raises `AuditError` when there is nothing to
    try, or when no column moves with anything.
    """
    rng = np.random.default_rng(seed)
    report = AuditReport(tuple(c.name for c in spec.columns))
    rows = [row for row in rows if row.feature_set in lags_us]
    chosen = _sample(rows, spec.trigger, lags_us, samples, rng)
    if not chosen:
        raise AuditError(f"no row is of the feature set {spec.trigger!r}, which triggers the predictions of {spec.model!r}")
    own: dict[str, list[Row]] = {row.symbol: [] for row in chosen}
    for row in rows:
        if row.symbol in own:
            own[row.symbol].append(row)
    for symbol, triggers in groupby(sorted(chosen, key=attrgetter("symbol")), key=attrgetter("symbol")):
        subject = _Symbol(own[symbol], vectorize, spec, lags_us, rng)
        for row in triggers:
            subject.examine(row, report)
    if report.predictions == 0:
        raise AuditError(f"none of the {len(chosen)} rows sampled gave a prediction; send them and read why they are rejected")
    if len(report.blind) == len(report.columns):
        raise AuditError("no column moved with any row, visible or not: the rows hold no value of the features the model reads")
    return report


def known_us(row: Row, lags_us: Mapping[str, int]) -> int:
    """When the row was truly known, given the true publication lag of its feature set."""
    return row.ts_event_us + lags_us[row.feature_set] if row.ts_known_us is None else row.ts_known_us


def backfilled(rows: Sequence[Row], lags_us: Mapping[str, int]) -> list[Row]:
    """The rows by event time, as a backfill would send them; of those of one instant the last known first, to tempt."""
    return sorted(rows, key=lambda row: (row.ts_event_us, -known_us(row, lags_us)))


def _sample(rows: Sequence[Row], trigger: str, lags_us: Mapping[str, int], samples: int, rng: np.random.Generator) -> list[Row]:
    """Trigger rows of different identity, in the order of the log.

    Up to half of them follow, in the log, a row known only later than they are: there a leak is nearest at hand.
    """
    seen: set[Identity] = set()
    candidates: list[Row] = []
    tempting: list[bool] = []
    latest_us: dict[str, int] = {}
    for row in rows:
        known, latest = known_us(row, lags_us), latest_us.get(row.symbol, 0)
        if row.feature_set == trigger and row.identity not in seen:
            seen.add(row.identity)
            candidates.append(row)
            tempting.append(known < latest)
        latest_us[row.symbol] = max(known, latest)
    order = rng.permutation(len(candidates))
    first = order[np.array(tempting, dtype=bool)[order]][: samples // 2]
    picked = np.concatenate([first, order[~np.isin(order, first)]])[:samples]
    return [candidates[i] for i in np.sort(picked).tolist()]


class _Symbol:
    """One symbol's rows, and what comes of changing some of them."""

    def __init__(
        self, rows: list[Row], vectorize: Vectorizer, spec: ServingSpec, lags_us: Mapping[str, int], rng: np.random.Generator
    ) -> None:
        self._rows = rows
        self._vectorize = vectorize
        self._spec = spec
        self._rng = rng
        self._known = np.array([known_us(row, lags_us) for row in rows], dtype=np.int64)
        self._places = np.arange(len(rows))
        self._place_of: dict[Identity, int] = {}
        for at, row in enumerate(rows):
            if row.feature_set == spec.trigger:
                self._place_of.setdefault(row.identity, at)
        self._found = vectorize(rows)

    def examine(self, trigger: Row, report: AuditReport) -> None:
        """Try one prediction."""
        decided = self._found.get(trigger.identity)
        if decided is None:
            report.without_prediction += 1
            return
        report.predictions += 1
        at = self._decided_at(trigger)
        later = self._places > at
        hidden = later | (self._known > decided.ts_decision_us)
        report.later_in_log += int(later.sum())
        report.not_yet_known += int((hidden & ~later).sum())
        if len(report.sensitive) < len(report.columns):
            moved, _ = self._moved(trigger, decided, self._changed(~hidden))
            report.sensitive |= {c for c, m in zip(report.columns, moved.tolist(), strict=True) if m}
        changed = self._changed(hidden)
        moved, _ = self._moved(trigger, decided, changed)
        if not moved.any():
            return
        report.leaking_predictions += 1
        unnamed = []
        for column in np.flatnonzero(moved).tolist():
            if report.leaks[report.columns[column]] < NAMED_PER_COLUMN:
                unnamed.append(column)
            report.leaks[report.columns[column]] += 1
        report.named += self._trace(trigger, decided, changed, unnamed, at)

    def _decided_at(self, trigger: Row) -> int:
        """Place of the row at which the prediction is decided: the end of the shortest log that yields it."""
        at = self._place_of[trigger.identity]
        if self._spec.deadline_us == 0:
            return at
        # The trigger row may have waited for a row that stands later in the log.
        none, there = at, at + 1
        while trigger.identity not in self._vectorize(self._rows[:there]):
            none, there = there, min(len(self._rows), there + 2 * (there - at))
        while there - none > 1:
            middle = (none + there) // 2
            if trigger.identity in self._vectorize(self._rows[:middle]):
                there = middle
            else:
                none = middle
        return there - 1

    def _changed(self, which: NDArray[np.bool_]) -> dict[int, Row]:
        """The rows marked, by place, with other values and the same identity."""
        return {at: self._other_values(self._rows[at]) for at in np.flatnonzero(which).tolist()}

    def _other_values(self, row: Row) -> Row:
        names = tuple(dict.fromkeys((*self._spec.feature_sets[row.feature_set].features, *row.values)))
        noise = (self._rng.standard_normal(len(names)) * 10.0 ** self._rng.uniform(-3, 6)).tolist()
        flip = (self._rng.random(len(names)) < 1 / 4).tolist()
        values = {}
        for name, other, to_missing in zip(names, noise, flip, strict=True):
            now = row.values.get(name, math.nan)
            values[name] = math.nan if to_missing and not math.isnan(now) else other if other != now else other + 1.0
            if self._spec.deadline_us and math.isnan(now) != math.isnan(values[name]):
                # A value that comes or goes may end a wait: that is a decision at another time, not a leak.
                values[name] = now if math.isnan(now) else other
        return dataclasses.replace(row, values=values)

    def _moved(self, trigger: Row, decided: Decided, changed: Mapping[int, Row]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Which columns of the vector differ when these rows are changed, and the vector then."""
        again = self._vectorize([changed.get(at, row) for at, row in enumerate(self._rows)]).get(trigger.identity)
        if again is None:  # that it is gone is the greatest of moves
            return np.ones(len(decided.vector), dtype=bool), np.full(len(decided.vector), np.nan)
        return _bits(again.vector) != _bits(decided.vector), again.vector

    def _trace(self, trigger: Row, decided: Decided, changed: Mapping[int, Row], columns: Sequence[int], at: int) -> list[Leak]:
        """For each column the row whose change moved it: bisected over how many of the rows, in log order, are changed."""
        places = sorted(changed)

        @functools.cache
        def first(count: int) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
            return self._moved(trigger, decided, {place: changed[place] for place in places[:count]})

        leaks = []
        for column in columns:
            still, moves = 0, len(places)
            while moves - still > 1:
                middle = (still + moves) // 2
                if first(middle)[0][column]:
                    moves = middle
                else:
                    still = middle
            guilty = places[moves - 1]
            row = self._rows[guilty]
            leaks.append(
                Leak(
                    prediction_id=decided.prediction_id,
                    ts_decision_us=decided.ts_decision_us,
                    column=self._spec.columns[column].name,
                    feature_set=row.feature_set,
                    symbol=row.symbol,
                    ts_event_us=row.ts_event_us,
                    revision=row.revision,
                    number=row.number,
                    ts_known_us=int(self._known[guilty]),
                    later_in_log=guilty > at,
                    before=float(decided.vector[column]),
                    after=float(first(moves)[1][column]),
                )
            )
        return leaks


def _bits(vector: NDArray[np.float64]) -> NDArray[np.int64]:
    """A vector's bits, every missing value as the one quiet NaN."""
    return np.where(np.isnan(vector), np.nan, vector).view(np.int64)
