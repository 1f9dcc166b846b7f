"""Alerts about how the platform runs: input that is late or does not come, predictions that are late, records rejected. Core.

Like `streams.watch`, for the flow of all models instead of the distributions of one: counts, alerts and the events not yet
said are stored as one value, so that none can be ahead of the others.

| alert                | labels | judged                                                                                 |
|----------------------|--------|----------------------------------------------------------------------------------------|
| `prediction_latency` | model  | at each minute of the log with rows of the model, over five minutes                    |
| `input_lag`          | model  | the same, once it is known how its rows come (`expect`)                                |
| `rejected_share`     |        | at each minute of the log with rows or rejected records                                |
| `input_silence`      | model  | when `silence` is called, by the wall clock; only of models that had live rows before  |

A challenger's rows are no rows here: they follow the champion's. Rows that an inference worker repeats after a crash are new
records of the log, and count again. What is stamped further ahead of the monitor's clock than `AHEAD_US` counts as of what stands
beside it in its partition, or of now: else one record of a producer whose clock is wrong would make all others late, and keep its
model from ever being silent.

Packed: u16 layout number, then MessagePack of (alert records, packed flow, events not yet said).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from monitoring.alerts import AlertPolicy, decide, fingerprint, rebuild, withdraw
from monitoring.errors import StateError
from monitoring.flow import Flow
from monitoring.operational import flow_observations, silence_observations
from monitoring.rules import unwatched
from monitoring.silence import Awaited
from streams.records import MAX_TS_US

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from numpy.typing import NDArray

    from monitoring.alerts import Alert, Observation
    from monitoring.flow import FlowWindow
    from monitoring.rules import AlertRules
    from streams.logrows import LogRows
    from streams.wire import PartitionRecords

LAYOUT = 1
"""Number of the packed layout written by this version; it stands first in the bytes."""

REASON = "__connect.errors.exception.class.name"
"""Header of a rejected record that says why (`streams.rejections`)."""
NO_REASON = "unknown"

AHEAD_US = 60_000_000
"""How far ahead of the monitor's clock a record may be: more than clocks that are kept are apart, less than makes others late."""
SAY_AGAIN_US = 3_600_000_000
"""Least time between two words about records of one partition that are ahead."""

_CHALLENGER = "challenger"
_USUAL = AlertPolicy()  # each observation brings its own


class _Packed(msgspec.Struct, array_like=True):
    alerts: list[dict[str, Any]]
    flow: bytes
    unsaid: list[dict[str, Any]] = []


class Ahead(NamedTuple):
    """Records of this partition came from the future, by so much."""

    topic: str
    partition: int
    by_us: int


class _Part(NamedTuple):
    """Rows of one model in one record (`log_us` int), or the rejected records of one chunk and pane."""

    pane: int
    order: tuple[str, int]  # topic, partition
    model: str  # "" of rejected records
    log_us: NDArray[np.int64]
    decision_us: NDArray[np.int64]
    event_us: NDArray[np.int64]
    abstained: NDArray[np.bool_]
    reasons: tuple[str, ...] = ()


class Operations:
    """What flows, over all models and partitions. One owner, one thread.

    A chunk's records are taken in (`take_log`, `take_rejected`), then `close` counts them in the order of the log's time
    over all partitions, and judges the windows that closed.
    """

    def __init__(self, rules: AlertRules) -> None:
        self.alerts: dict[str, Alert] = {}
        self.unsaid: list[dict[str, Any]] = []
        """Alert events decided and not yet said, in order."""
        self.flow = Flow()
        self.dirty = False
        """Whether anything of what `pack` stores changed since this was set to False."""
        self._rules = rules
        self.ahead: list[Ahead] = []
        """What is still to be said of records from the future; each partition now and then."""
        self._awaited: dict[str, Awaited] = {}
        self._queues: dict[tuple[str, int], list[_Part]] = {}
        self._told_us: dict[tuple[str, int], int] = {}

    def expect(self, model: str, *, bar_us: int, sessions: Sequence[tuple[int, int]] = (), usual_lag_us: int = 0) -> None:
        """How the model's trigger rows come: a bar each `bar_us`, in `sessions` only if there are any.

        `usual_lag_us`: its publication lag and the deadline of the spec, within which input is not late. Nothing of it is stored.
        """
        self._awaited[model] = Awaited.of(bar_us=bar_us, sessions=sessions, usual_lag_us=usual_lag_us)

    def expects(self, model: str) -> bool:
        """Whether it is known how the model's rows come."""
        return model in self._awaited

    def take_log(self, rows: LogRows) -> None:
        """Take a record of the inference log; one that was taken before is passed over."""
        if self.flow.seen(rows.topic, rows.partition, rows.offset) or rows.scorer.role == _CHALLENGER or rows.log_us < 0:
            return
        decision_us = rows.table["ts_decision_us"].to_numpy()
        log_us = np.full(len(rows), rows.log_us)
        self._queue(
            _Part(0, (rows.topic, rows.partition), rows.scorer.model, log_us, decision_us, rows.ts_event_us, rows.abstained)
        )

    def take_rejected(self, part: PartitionRecords) -> None:
        """Take records of the rejected topic, by their reason. Their bytes are not looked at."""
        times: list[int] = []
        reasons: list[str] = []
        for r in part.records:
            if self.flow.seen(part.topic, part.partition, r.offset) or not 0 <= r.timestamp < MAX_TS_US // 1000:
                continue
            times.append(r.timestamp * 1000)
            reasons.append(
                next((v.decode(errors="replace") for name, v in r.headers if name == REASON and v is not None), NO_REASON)
            )
        none = np.empty(0, np.int64)
        log_us = np.array(times, np.int64)
        pane = log_us // self.flow.pane_us
        for index in dict.fromkeys(pane.tolist()):
            (at,) = np.nonzero(pane == index)
            some = tuple(reasons[i] for i in at.tolist())
            self._queue(_Part(0, (part.topic, part.partition), "", log_us[at], none, none, none.astype(np.bool_), some))

    def close(self, now_us: int | None = None) -> list[FlowWindow]:
        """Count what was taken and judge the windows that closed, oldest first; the events are in `unsaid`.

        `now_us`: by the clock, to know what is from the future; without it nothing is.
        """
        if now_us is not None:
            self._come_back(now_us)
        parts = sorted((p for q in self._queues.values() for p in self._placed(q)), key=lambda p: p.pane)  # stable in a partition
        self._queues.clear()
        closed: list[FlowWindow] = []
        for together in _alike(parts):
            if together[0].model:
                awaited = self._awaited.get(together[0].model)
                closed += self.flow.add(
                    together[0].model,
                    log_us=np.concatenate([p.log_us for p in together]),
                    decision_us=np.concatenate([p.decision_us for p in together]),
                    event_us=np.concatenate([p.event_us for p in together]),
                    abstained=np.concatenate([p.abstained for p in together]),
                    usual_lag_us=None if awaited is None else awaited.usual_lag_us,
                )
            else:
                reasons = [reason for p in together for reason in p.reasons]
                closed += self.flow.reject(log_us=np.concatenate([p.log_us for p in together]), reasons=reasons)
        for window in closed:
            self._decide(flow_observations(window, self._rules, self._awaited), window.end_us)
        return closed

    def silence(self, now_us: int, *, caught_up: bool) -> None:
        """Judge by the wall clock which models get no input; end alerts whose rule is no longer watched.

        `caught_up`: the monitor has read the log to its end. If it has not, a silence may be its own, and none is raised.
        """
        self._end(unwatched(self._rules, self.alerts), now_us, reason="its rule is not enabled any more")
        seen = silence_observations(self.flow.live_us, self._rules, self._awaited, now_us=now_us, caught_up=caught_up)
        self._decide([o for o in seen if self._tells(o, now_us, caught_up=caught_up)], now_us)

    def _tells(self, seen: Observation, now_us: int, *, caught_up: bool) -> bool:
        """Whether it may change an alert. One that waits for its cooldown would else be an event at each look at the clock."""
        alert = self.alerts.get(fingerprint(seen.labels))
        if not caught_up and not seen.under:
            return False
        if alert is None or alert.state != "pending" or alert.resolved_us is None or not seen.over:
            return True
        policy = _USUAL if seen.policy is None else seen.policy
        return now_us >= alert.resolved_us + policy.cooldown_us

    def silent_models(self) -> frozenset[str]:
        """Models whose silence fires: drift of their columns is not to rise meanwhile."""
        return frozenset(
            alert.labels["model"]
            for alert in self.alerts.values()
            if alert.state == "firing" and alert.labels["alertname"] == "input_silence"
        )

    def serve(self, models: Collection[str], now_us: int) -> None:
        """These models are served and no others: what was raised of others ends, and nothing of them is awaited."""
        about = {key: self.alerts[key].labels.get("model") for key in self.open_alerts()}
        gone = [key for key, model in about.items() if model is not None and model not in models]
        self._end(gone, now_us, reason="the model is not served any more")
        self._awaited = {model: awaited for model, awaited in self._awaited.items() if model in models}

    def open_alerts(self) -> list[str]:
        """Fingerprints of alerts pending or firing."""
        return [key for key, alert in self.alerts.items() if alert.state in {"pending", "firing"}]

    def pack(self) -> bytes:
        """The whole state as bytes. Only after `close`: what was taken and not counted is not in it."""
        if self._queues:
            raise RuntimeError("records were taken that are not counted yet; call close first")
        records = [self.alerts[key].record() for key in sorted(self.alerts)]
        return LAYOUT.to_bytes(2, "little") + msgspec.msgpack.encode(_Packed(records, self.flow.pack(), self.unsaid))

    @classmethod
    def unpack(cls, rules: AlertRules, data: bytes) -> Operations:
        """Read `pack`'s bytes. Raises `StateError` on another layout or damage."""
        found = int.from_bytes(data[:2], "little")
        if found != LAYOUT:
            raise StateError(f"the operational state has layout {found}, this version reads {LAYOUT}; it starts afresh")
        try:
            packed = msgspec.msgpack.decode(data[2:], type=_Packed)
        except msgspec.MsgspecError as e:
            raise StateError(f"the operational state cannot be read ({e}); it starts afresh") from e
        self = cls(rules)
        self.alerts, self.flow, self.unsaid = rebuild(packed.alerts), Flow.unpack(packed.flow), packed.unsaid
        return self

    def _queue(self, part: _Part) -> None:
        if len(part.log_us):
            self.dirty = True
            self._queues.setdefault(part.order, []).append(part)

    def _placed(self, parts: list[_Part]) -> Iterator[_Part]:
        """Parts of one partition in their panes: time does not go back within it."""
        newest = -1
        for part in parts:
            newest = max(newest, int(part.log_us[0]) // self.flow.pane_us)
            yield part._replace(pane=newest)

    def _come_back(self, now_us: int) -> None:
        """Have what is from the future count as it should, and time itself, which an earlier version may have let run on."""
        limit_us = now_us + AHEAD_US
        for order, parts in self._queues.items():
            by_us = max(int(p.log_us.max()) for p in parts) - now_us
            if by_us <= AHEAD_US:
                continue
            self._queues[order] = list(_credible(parts, limit_us, now_us))
            if now_us >= self._told_us.get(order, now_us):
                self._told_us[order] = now_us + SAY_AGAIN_US
                self.ahead.append(Ahead(*order, by_us))
        if self.flow.newest is not None and self.flow.newest > limit_us // self.flow.pane_us:
            ran_on, self.flow, self.dirty = self.flow, Flow(), True
            self.flow.watermarks = ran_on.watermarks
            self.flow.last_us = {model: min(us, now_us) for model, us in ran_on.last_us.items()}
            self.flow.live_us = {model: min(us, now_us) for model, us in ran_on.live_us.items()}

    def _decide(self, seen: list[Observation], now_us: int) -> None:
        self._change(*decide(self.alerts, seen, now_us, policy=_USUAL))

    def _end(self, fingerprints: list[str], now_us: int, *, reason: str) -> None:
        if fingerprints:
            self._change(*withdraw(self.alerts, fingerprints, now_us, reason=reason))

    def _change(self, after: dict[str, Alert], events: list[dict[str, Any]]) -> None:
        if events:
            self.alerts, self.dirty = after, True
            self.unsaid += events


def _credible(parts: list[_Part], limit_us: int, now_us: int) -> Iterator[_Part]:
    """Parts of one partition, those beyond the limit as of the one before, the first as of the next; now where all are."""
    at_us = next((int(p.log_us[0]) for p in parts if p.log_us[0] <= limit_us), now_us)
    for part in parts:
        told = part._replace(log_us=np.where(part.log_us > limit_us, at_us, part.log_us))
        at_us = int(told.log_us[-1])
        yield told


def _alike(parts: list[_Part]) -> list[list[_Part]]:
    """Parts in the order given, those of one pane and model together: their order among themselves is that of arrival."""
    groups: dict[tuple[int, str], list[_Part]] = {}
    for part in parts:
        groups.setdefault((part.pane, part.model), []).append(part)
    return list(groups.values())
