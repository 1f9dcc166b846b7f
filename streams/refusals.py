"""Alerts about versions that are not put to use: raised by the leader, told like every other alert. Shell.

One alert a (model, role), `alertname` version_refused: firing while the alias names a version that fails a check, resolved when
it names one that serves. The topic `alerts` is the state, so whoever leads next goes on with it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from monitoring.alerts import Alert, AlertPolicy, Observation, decide, rebuild
from streams.errors import LayoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from config.sections import Kafka

NAME = "version_refused"
_AT_ONCE = AlertPolicy(pending_windows=1, cooldown_us=0)


def check_of(error: Exception) -> str:
    """The name of the check that an error says was failed; else the error's."""
    return "layout" if isinstance(error, LayoutError) else str(getattr(error, "check", None) or type(error).__name__)


class Refusals:
    """What the leader knows of them; `read` comes first."""

    def __init__(self, read: Callable[[], Iterable[bytes]], send: Callable[[list[dict[str, Any]]], None]) -> None:
        """`read`: the alert records there are, in order; `send`: hands events over."""
        self._read = read
        self._send = send
        self._alerts: dict[str, Alert] | None = None

    def read(self) -> None:
        """Read the topic, if that was not done yet; blocks. Raises what `alert_values` raises, and `StateError`."""
        if self._alerts is None:
            records = (msgspec.json.decode(value) for value in self._read())
            self._alerts = rebuild(r for r in records if r.get("labels", {}).get("alertname") == NAME)

    def say(self, model: str, role: str, refused: tuple[str, Exception] | None) -> None:
        """(version, why) of one that failed a check, while the one before serves on; None: what the alias names is ordered."""
        if self._alerts is None:
            raise RuntimeError("the topic was not read yet")
        summary, description = f"{model} ({role}): what its alias names serves", ""
        if refused is not None:
            version, error = refused
            summary = f"{model} version {version} ({role}) is refused: {check_of(error)}; what is in force goes on"
            description = str(error)
        labels = {"alertname": NAME, "model": model, "role": role}
        seen = Observation(
            labels=labels,
            value=0.0 if refused is None else 1.0,
            raise_at=1.0,
            clear_at=0.5,
            severity="critical",
            summary=summary,
            description=description,
        )
        self._alerts, events = decide(self._alerts, [seen], time.time_ns() // 1000, policy=_AT_ONCE)
        if events:
            self._send(events)


def alert_values(kafka: Kafka) -> Iterable[bytes]:
    """The values of the topic `alerts` up to where it ends now. Raises `BrokerError`."""
    from streams.reading import records_of

    for record in records_of(kafka, kafka.topics.alerts, from_beginning=True, follow=False):
        value = record.value()
        if value is not None:
            yield value
