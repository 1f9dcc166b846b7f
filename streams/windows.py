"""Lag windows of every symbol this worker holds, joined over feature sets. Core: no clock, no I/O.

A hot cache over the table: a symbol is admitted from its table value when first seen, marked dirty when rows are
applied, and packed again at the checkpoint. `ring` says what a window is and what a row sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from streams.lookups import find, rows_to_come
from streams.ring import REPLAYED, SetWindows, View, sort_key
from streams.snapshots import packed
from streams.state import SetState, SymbolState, pack
from streams.wire import position_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.layout import Layout
    from streams.plan import VectorPlan
    from streams.records import FeatureBatch
    from streams.switches import Cut, Grown
    from streams.waiting import Waiting

Slots = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Vectors:
    """A model's inputs. `values` float64 (rows, columns), NaN = missing; `stale` bool (rows, columns).

    `missing` bool (rows, columns) is where values are NaN; a stale column is missing too. `supersedes`:
    by row, the greatest earlier revision of the trigger row seen, where there is one. `expired` bool (rows,): the
    trigger row is older than all this model's depth reaches, though windows kept it for a deeper model; None if no row is.
    `incomplete` bool (rows,): a required column of another set found no row to read, or only a stale one.
    """

    values: NDArray[np.float64]
    missing: NDArray[np.bool_]
    stale: NDArray[np.bool_]
    supersedes: dict[int, int]
    incomplete: NDArray[np.bool_]
    expired: NDArray[np.bool_] | None = None

    def take(self, rows: NDArray[np.intp]) -> Vectors:
        """The vectors of just these rows, in the order given."""
        return Vectors(
            self.values[rows],
            self.missing[rows],
            self.stale[rows],
            {i: self.supersedes[r] for i, r in enumerate(rows.tolist()) if r in self.supersedes},
            self.incomplete[rows],
            None if self.expired is None else self.expired[rows],
        )


class LagWindows:
    """Windows of all resident symbols; a slot is a symbol of one source partition."""

    def __init__(self, layout: Layout, *, slack_rows: int) -> None:
        self.layout = layout
        self.slack_rows = slack_rows
        self.sets = {
            s.feature_set: SetWindows(len(s.features), depth_rows=s.depth_rows, slack_rows=slack_rows) for s in layout.values()
        }
        self.grown: dict[int, tuple[Grown, ...]] = {}
        self.cuts: dict[int, tuple[Cut, ...]] = {}
        self._slot_of: dict[str, int] = {}
        self._owner: list[tuple[int, str] | None] = []
        self._free: list[int] = []
        self._applied = np.zeros(0, dtype=np.int64)
        self._dirty: set[int] = set()
        self._waiting: dict[int, tuple[Waiting, ...]] = {}

    def __len__(self) -> int:
        return len(self._owner) - len(self._free)

    def absent(self, batch: FeatureBatch) -> list[tuple[int, str]]:
        """(partition, symbol) of the batch's symbols not resident yet, each once, in order."""
        have = self._slot_of
        return list(dict.fromkeys((int(p), s) for p, s in zip(batch.partition, batch.symbols, strict=True) if s not in have))

    def admit(self, partition: int, symbol: str, state: SymbolState | None) -> None:
        """Make a symbol resident with the windows its table value holds, empty ones if it has none."""
        if self._free:
            slot = self._free.pop()
        else:
            slot = len(self._owner)
            self._owner.append(None)
            if slot >= len(self._applied):
                room = max(64, 2 * slot)
                self._applied = np.concatenate([self._applied, np.full(room - len(self._applied), -1, dtype=np.int64)])
                for w in self.sets.values():
                    w.grow(room)
        self._owner[slot] = (partition, symbol)
        self._slot_of[symbol] = slot
        self._applied[slot] = -1 if state is None else state.applied_offset
        if state is not None and state.waiting:
            self._waiting[slot] = state.waiting
        for name, w in self.sets.items():
            w.grown[slot] = [
                (position_of(g.offset), g.depth_rows) for g in self.grown.get(partition, ()) if g.feature_set == name
            ]
            held = None if state is None else self._after_cuts(partition, name, state)
            if held is None:
                w.clear(slot)
            else:
                w.restore(slot, held.key, held.known, held.offset, self._as_laid_out(name, held))

    def slots(self, symbols: Sequence[str]) -> Slots:
        """Slots of resident symbols."""
        have = self._slot_of
        return np.array([have[s] for s in symbols], dtype=np.intp)

    def push(self, batches: Sequence[FeatureBatch]) -> list[NDArray[np.int8]]:
        """Apply a chunk's rows; returns a status per row of each batch (`ring.APPENDED` …).

        Every symbol must be resident, and no window may receive more than `slack_rows` rows in one call. Rows at
        or below the symbol's applied offset are `REPLAYED`: their outputs were confirmed before the state was written.
        """
        placed = [self.slots(b.symbols) for b in batches]
        fresh = [b.offset > self._applied[s] for b, s in zip(batches, placed, strict=True)]
        statuses = []
        for b, slots, new in zip(batches, placed, fresh, strict=True):
            status = np.full(len(slots), REPLAYED, dtype=np.int8)
            rows = np.flatnonzero(new)
            if len(rows):
                key = sort_key(b.ts_event_us[rows], b.revision[rows])
                status[rows] = self.sets[b.feature_set].push(
                    slots[rows], key, b.ts_known_us[rows], b.offset[rows], b.values[rows]
                )
                self._dirty.update(slots[rows].tolist())
            statuses.append(status)
        for b, slots in zip(batches, placed, strict=True):
            np.maximum.at(self._applied, slots, b.offset)
        return statuses

    def vectors(self, plan: VectorPlan, trigger: FeatureBatch) -> Vectors:
        """Vectors for trigger rows already pushed; `ts_known_us` is the decision time, `offset` the offset cut."""
        n = len(trigger.symbols)
        slots = self.slots(trigger.symbols)
        values = np.full((n, plan.columns), np.nan)
        stale = np.zeros((n, plan.columns), dtype=bool)
        incomplete = np.zeros(n, dtype=bool)
        for feature_set, looks in plan.lookups.items():
            w = self.sets[feature_set]
            for found in find(w, looks, slots, trigger, rows_to_come(slots) if feature_set == plan.trigger else 0):
                look, absent = found.look, found.event < 0
                picked = w.values_at(slots, found.place, look.features)
                if absent.any():
                    picked[absent] = np.nan
                    if look.awaited:
                        incomplete |= absent
                if found.max_age_us is not None:
                    old = ~absent & (found.instant - found.event > found.max_age_us)
                    if old.any():
                        picked[old] = np.nan
                        stale[np.ix_(old, np.arange(plan.columns)[look.columns])] = True
                        if look.awaited:
                            incomplete |= old
                values[:, look.columns] = picked
        windows = self.sets[plan.trigger]
        depth_rows = windows.depth if plan.trigger_depth is None else plan.trigger_depth  # the model's own
        supersedes = _supersedes(trigger, slots, windows, depth_rows)
        return Vectors(values, np.isnan(values), stale, supersedes, incomplete, self._expired(plan, trigger, slots))

    def waiting(self) -> list[tuple[int, str, tuple[Waiting, ...]]]:
        """(partition, symbol, rows) of all resident symbols with waiting rows."""
        return [(*owner, rows) for slot, rows in self._waiting.items() if (owner := self._owner[slot]) is not None]

    def wait(self, symbol: str, rows: tuple[Waiting, ...]) -> None:
        """These are the symbol's waiting rows from now on."""
        slot = self._slot_of[symbol]
        if self._waiting.get(slot, ()) == rows:
            return
        if rows:
            self._waiting[slot] = rows
        else:
            del self._waiting[slot]
        self._dirty.add(slot)

    def take_dirty(self) -> list[tuple[int, str, bytes]]:
        """(partition, symbol, table value) of every symbol changed since the last call, trimmed to the layout's depth."""
        dirty = [slot for slot in sorted(self._dirty) if self._owner[slot] is not None]
        self._dirty.clear()
        plain = np.array([slot for slot in dirty if slot not in self._waiting], dtype=np.intp)
        values = dict(zip(plain.tolist(), packed(self.sets, self.layout, plain, self._applied[plain]), strict=True))
        values.update({slot: pack(self._state(slot)) for slot in dirty if slot in self._waiting})
        return [(*owner, values[slot]) for slot in dirty if (owner := self._owner[slot]) is not None]

    def holds(self, symbol: str) -> bool:
        """Whether a symbol is resident."""
        return symbol in self._slot_of

    def move(self, partition: int, other: LagWindows) -> None:
        """Copy a partition's windows to those of another layout: features kept by name, of rows no more than promised here."""
        for slot, owner in enumerate(self._owner):
            if owner is not None and owner[0] == partition:
                other.admit(*owner, self._state(slot))
                if slot in self._dirty:
                    other._dirty.add(other._slot_of[owner[1]])

    def drop(self, partition: int) -> None:
        """Forget a partition's symbols (it was revoked; its checkpoint is done)."""
        for slot, owner in enumerate(self._owner):
            if owner is not None and owner[0] == partition:
                del self._slot_of[owner[1]]
                self._owner[slot] = None
                self._dirty.discard(slot)
                self._waiting.pop(slot, None)
                self._free.append(slot)

    def _state(self, slot: int) -> SymbolState:
        sets = {}
        for name, w in self.sets.items():
            p = w.ordered(slot)[-w.depth :]
            sets[name] = SetState(
                self.layout[name].features, w.key[slot, p], w.known[slot, p], w.offset[slot, p], w.values[slot, p]
            )
        return SymbolState(int(self._applied[slot]), sets, self._waiting.get(slot, ()))

    def _after_cuts(self, partition: int, name: str, state: SymbolState) -> SetState | None:
        """What a state holds of a set, less what windows have lost since the symbol's last row: they had it in no layout then."""
        held = state.sets.get(name)
        for c in self.cuts.get(partition, ()) if held is not None else ():
            if c.feature_set == name and held is not None and position_of(c.offset) > state.applied_offset:
                rows = slice(max(0, len(held.key) - c.depth_rows), None)
                kept = [i for i, f in enumerate(held.features) if f not in c.lost]
                features = tuple(held.features[i] for i in kept)
                columns = held.values[rows][:, kept]
                held = SetState(features, held.key[rows], held.known[rows], held.offset[rows], columns)
        return held

    def _as_laid_out(self, name: str, held: SetState) -> NDArray[np.float64]:
        wanted = self.layout[name].features
        if held.features == wanted:
            return held.values
        # The served models read other features than when this was written: keep by name, the rest is not known.
        values = np.full((len(held.key), len(wanted)), np.nan)
        for at, feature in enumerate(wanted):
            if feature in held.features:
                values[:, at] = held.values[:, held.features.index(feature)]
        return values

    def _expired(self, plan: VectorPlan, trigger: FeatureBatch, slots: Slots) -> NDArray[np.bool_] | None:
        if plan.trigger_depth is None:
            return None
        view = View(self.sets[plan.trigger], slots, trigger.ts_known_us, trigger.offset)
        expired = view.newer_than(sort_key(trigger.ts_event_us, trigger.revision)) >= plan.trigger_depth
        return expired if expired.any() else None


def _supersedes(trigger: FeatureBatch, slots: Slots, windows: SetWindows, depth_rows: int) -> dict[int, int]:
    revised = np.flatnonzero(trigger.revision > 0)
    if not len(revised):
        return {}
    view = View(windows, slots[revised], trigger.ts_known_us[revised], trigger.offset[revised])
    out: dict[int, int] = {}
    for i, row in enumerate(revised.tolist()):
        before = view.revision_before(int(trigger.ts_event_us[row]), int(trigger.revision[row]), i, depth_rows=depth_rows)
        if before is not None:
            out[row] = before
    return out
