"""One scorer under watch: drift counts, alerts, what its errors did, which windows closed; stored as one value. Core.

As one value none of them can be ahead of another. Packed: u16 layout number, then MessagePack of `_Packed`.

An event is said (`streams.reports`) only once the state it comes from is durable: until then a crash takes it back, and the
rows that come again, in another order perhaps, decide afresh. So what the topic says is never taken back.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from monitoring.alerts import decide, rebuild, withdraw
from monitoring.concept import Concept
from monitoring.errors import StateError
from monitoring.panes import Panes
from monitoring.retrain import RetrainState
from monitoring.rules import unwatched

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from monitoring.alerts import Alert, Observation
    from monitoring.joined import Scorer
    from monitoring.panes import Window
    from streams.logrows import LogRows
    from streams.rules import Rules
    from streams.trained import Trained

LAYOUT = 2
"""Number of the packed layout written by this version; it stands first in the bytes. Layout 1, the first four fields, is read."""

NEVER = -1


class _Packed(msgspec.Struct, array_like=True):
    newest_us: int
    alerts: list[dict[str, Any]]
    panes: bytes
    unsaid: list[dict[str, Any]] = []
    first_us: int = NEVER
    closed: dict[int, int] = {}
    concept: bytes = b""
    retrain: bytes = b""
    requests: list[dict[str, Any]] = []


class Watch:
    """One scorer. Without its reference (`arm`) it only keeps what was stored."""

    def __init__(self, scorer: Scorer, rules: Rules) -> None:
        self.scorer = scorer
        self.newest_us = NEVER
        self.first_us = NEVER
        """Event time of the first row counted."""
        self.closed: dict[int, int] = {}
        """Ends of the windows that closed and may still be revised, ascending → how much was known of them when reported."""
        self.outdated: set[int] = set()
        """Those of them whose labels may have changed since; not stored: what is read back is looked at whole."""
        self.alerts: dict[str, Alert] = {}
        self.unsaid: list[dict[str, Any]] = []
        """Alert events decided and not yet said, in order."""
        self.concept = _fresh_concept(rules)
        self.retrain: RetrainState | None = None
        self.requests: list[dict[str, Any]] = []
        """Retrain requests decided and not yet said."""
        self.served = True
        """Whether the settings name its model; of one that they do not name nothing rises."""
        self.trained: Trained | None = None
        self.panes: Panes | None = None
        self._rules = rules
        self._packed_panes = b""

    def arm(self, trained: Trained) -> StateError | None:
        """Measure against this reference; the fault if stored counts do not fit it and start afresh."""
        if self.trained is trained:
            return None
        rules, fault = self._rules, None
        packed = self._packed_panes if self.panes is None else self.panes.pack()
        self.trained, self.panes, self._packed_panes = trained, None, b""
        if packed:
            try:
                self.panes = _fitting(Panes.unpack(trained.reference, packed), rules)
            except StateError as e:
                fault = e
        if self.panes is None:
            self.panes = Panes(trained.reference, pane_us=rules.pane_us, panes=rules.panes, grace_panes=rules.grace_panes)
        return fault

    def count(self, records: Sequence[LogRows]) -> list[Window]:
        """Count records, in order, and return the windows they closed. Only after `arm`.

        Rows counted before, in this record or, repeated by an inference worker that was killed, in another, are passed over.
        """
        if self.panes is None or self.trained is None:
            raise RuntimeError("a watch counts only once it has its reference")
        self.newest_us = max(self.newest_us, *(int(r.ts_event_us.max()) for r in records))
        first_us = min(int(r.ts_event_us.min()) for r in records)
        self.first_us = first_us if self.first_us == NEVER else min(self.first_us, first_us)
        value, ts_event_us, own, decided = (
            _one([getattr(r, name) for r in records]) for name in ("value", "ts_event_us", "own", "decided")
        )
        rows = self.trained.rows([r.vectors for r in records], value)
        sources = [(r.source, len(r)) for r in records]
        return self.panes.add_all(rows, ts_event_us, sources=sources, own=own, decided=decided)

    def observe(self, seen: Iterable[Observation], now_us: int) -> list[dict[str, Any]]:
        """Decide alerts by one window's observations, at its end; the events, which are still to be said."""
        self.alerts, events = decide(self.alerts, seen if self.served else (), now_us, policy=self._rules.policy)
        gone = unwatched(self._rules.alerts, self.alerts)
        if gone:
            self.alerts, ended = withdraw(self.alerts, gone, now_us, reason="the settings no longer watch it")
            events += ended
        self.unsaid += events
        return events

    def open_alerts(self) -> list[str]:
        """Fingerprints of alerts pending or firing."""
        return [key for key, alert in self.alerts.items() if alert.state in {"pending", "firing"}]

    def open_columns(self) -> set[str]:
        """Columns with an alert pending or firing."""
        return {self.alerts[key].labels.get("column", "") for key in self.open_alerts()}

    def withdraw(self, now_us: int, *, reason: str) -> None:
        """End what is pending or firing: nothing will observe this scorer any more."""
        self.alerts, events = withdraw(self.alerts, self.open_alerts(), now_us, reason=reason)
        self.unsaid += events

    def serve(self, *, served: bool) -> bool:
        """Whether the settings name its model; if not, what is open ends. True where something did.

        It ends in the time of its rows, not by the clock: should the model come back with its history, that is heard again.
        """
        self.served = served
        still = [] if served else self.open_alerts()
        if still:
            last_us = max(self.alerts[key].updated_us for key in still)
            self.withdraw(max(self.newest_us, last_us + 1), reason="the model is not served any more")
        return bool(still)

    def close(self, end_us: int, *, known: int) -> None:
        """A window closed, of which so much is known; those that can no longer be revised are forgotten, but for the newest one.

        Of that one label coverage is judged: with gaps in trading, or panes that do not divide the time, there is no other.
        """
        until = end_us - self._rules.revise_within_us
        again = bool(self.closed) and end_us < next(reversed(self.closed))  # counts started afresh, and time with them
        self.closed[end_us] = known
        if again:
            self.closed = dict(sorted(self.closed.items()))
        while len(self.closed) > 1:
            first, second = itertools.islice(self.closed, 2)
            if second > until:
                break
            del self.closed[first]
            self.outdated.discard(first)

    def pack(self) -> bytes:
        """The whole state as bytes."""
        packed = _Packed(
            self.newest_us,
            [self.alerts[key].record() for key in sorted(self.alerts)],
            self._packed_panes if self.panes is None else self.panes.pack(),
            self.unsaid,
            self.first_us,
            self.closed,
            self.concept.pack(),
            b"" if self.retrain is None else self.retrain.pack(),
            self.requests,
        )
        return LAYOUT.to_bytes(2, "little") + msgspec.msgpack.encode(packed)

    @classmethod
    def unpack(cls, scorer: Scorer, rules: Rules, data: bytes) -> Watch:
        """Read `pack`'s bytes. Raises `StateError` on another layout or damage; counts are only looked at by `arm`."""
        found = int.from_bytes(data[:2], "little")
        if found not in (1, LAYOUT):
            raise StateError(f"the watch of {':'.join(scorer)} has layout {found}, this version reads {LAYOUT}; it starts afresh")
        try:
            packed = msgspec.msgpack.decode(data[2:], type=_Packed)
        except msgspec.MsgspecError as e:
            raise StateError(f"the watch of {':'.join(scorer)} cannot be read ({e}); it starts afresh") from e
        self = cls(scorer, rules)
        self.newest_us, self.alerts, self._packed_panes = packed.newest_us, rebuild(packed.alerts), packed.panes
        self.unsaid, self.requests = packed.unsaid, packed.requests
        self.first_us, self.closed = packed.first_us, packed.closed
        self.outdated = set(self.closed)  # labels may know more than when this was packed, and have told it to nobody else
        if packed.concept:
            self.concept = Concept.unpack(packed.concept)
        if packed.retrain:
            self.retrain = RetrainState.unpack(packed.retrain)
        return self


def _fresh_concept(rules: Rules) -> Concept:
    rule = rules.alerts.concept_drift
    return Concept() if rule is None else Concept(delta=rule.delta)


def _one(arrays: list[Any]) -> Any:  # arrays of one kind, whichever
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _fitting(panes: Panes, rules: Rules) -> Panes:
    if (panes.pane_us, panes.panes, panes.grace_panes) != (rules.pane_us, rules.panes, rules.grace_panes):
        raise StateError(
            f"counts were kept in {panes.panes} panes of {panes.pane_us} us, the settings say {rules.panes} of {rules.pane_us}; "
            "they start afresh"
        )
    return panes
