"""The section `monitoring`, with the list of who is told of alerts; `docs/alerts.md` says how they are."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from config.alert_rules import AlertRules
from config.durations import Duration
from config.errors import ConfigError
from config.fields import Name, Number, Secret, SecretUrl, Variable, Whole, url_fault
from config.keys import Right
from config.section import Section

if TYPE_CHECKING:
    from collections.abc import Mapping

_GROUPS_TEXT = "groups with symbols or patterns of them, such as {energy: [XOM, CVX], currencies: ['*/USD']}"
_MOST_GROUPS = 100
_REST = "other"
Reason = Literal["feature_drift", "prediction_drift", "multivariate_drift", "concept_drift", "quality"]
"""An alert that more training may cure."""
_REASONS_TEXT = f"a list of {', '.join(get_args(Reason))}"


def _groups(value: object) -> object:
    """Groups of symbols, or their JSON. All of it is looked at here, so that what is said names the key."""
    found = _read(value)
    right = isinstance(found, dict) and all(
        isinstance(group, str)
        and group.strip() == group != ""
        and isinstance(symbols, list)
        and symbols
        and all(isinstance(symbol, str) and symbol for symbol in symbols)
        for group, symbols in found.items()
    )
    if not right:
        raise ValueError(f"should be {_GROUPS_TEXT}")
    if _REST in found:
        raise ValueError(f"names a group {_REST!r}, as the symbols are called that are in no group; choose another name")
    if len(found) > _MOST_GROUPS:
        raise ValueError(f"names {len(found)} groups; use at most {_MOST_GROUPS}")
    return found


def _reasons(value: object) -> object:
    found = _read(value)
    if not isinstance(found, list | tuple) or not all(isinstance(r, str) and r in get_args(Reason) for r in found):
        raise ValueError(f"should be {_REASONS_TEXT}")
    return list(dict.fromkeys(found))


def _read(value: object) -> Any:
    """The value, read as JSON where a variable of the environment gave it as text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


SymbolGroups = Annotated[dict[str, list[str]], BeforeValidator(_groups), Right(_GROUPS_TEXT)]
Reasons = Annotated[list[Reason], BeforeValidator(_reasons), Right(_REASONS_TEXT)]


class Receiver(Section):
    """One receiver of alerts."""

    name: Name = Field(description="Its name in metrics and logs, and in the consumer group that remembers what it was told.")
    kind: Literal["alertmanager", "slack", "webhook"] = Field(
        description="Prometheus Alertmanager (its API v2), a Slack-compatible incoming webhook, or a signed webhook."
    )
    url: SecretUrl | None = Field(
        default=None,
        description="Where to send to; of an Alertmanager its root. As good as a password at Slack: then better by url_env.",
    )
    url_env: Variable | None = Field(default=None, description="The environment variable that holds the url.")
    secret: Secret | None = Field(default=None, description="The key a webhook is signed with (HMAC-SHA256).")
    secret_env: Variable | None = Field(default=None, description="The environment variable that holds the secret.")
    min_severity: Literal["warn", "critical"] = Field(default="warn", description="Alerts below it are not sent.")
    allow_private: bool = Field(
        default=False,
        description="Whether http and private addresses (loopback, 10/8, a cluster's own) may be called; "
        "link-local addresses and metadata servers never.",
    )
    resend: Duration = Field(
        default=timedelta(minutes=1),
        description="Time after which an Alertmanager is told again what fires; silent for four of them, it takes it for ended.",
    )

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if (self.url is None) == (self.url_env is None):
            raise ValueError("needs one of url and url_env; set one, not both")
        signed = self.kind == "webhook"
        if signed and (self.secret is None) == (self.secret_env is None):
            raise ValueError("a webhook is signed and needs one of secret and secret_env; set one, not both")
        if not signed and (self.secret is not None or self.secret_env is not None):
            raise ValueError(f"only a webhook is signed; remove secret and secret_env, or change kind {self.kind}")
        if self.resend < timedelta(seconds=1):
            raise ValueError("resend is below a second; 1m is usual")
        if self.url is not None:
            self._allowed(self.url.get_secret_value())
        return self

    def _allowed(self, url: str) -> None:
        if not self.allow_private and not url.lower().startswith("https://"):
            raise ValueError("url is not https; use https, or set allow_private: true for a receiver of your own network")

    def resolved(self, env: Mapping[str, str]) -> Receiver:
        """The same with `url` and `secret` read from the variables that are named. Raises `ConfigError`."""
        found = {}
        for field, variable in (("url", self.url_env), ("secret", self.secret_env)):
            if variable is None:
                continue
            if not env.get(variable):
                raise ConfigError(f"monitoring.notify {self.name}: {field}_env names {variable}, which is not set; set it")
            found[field] = SecretStr(env[variable])
        if "url" in found:
            try:
                url_fault(found["url"].get_secret_value())
                self._allowed(found["url"].get_secret_value())
            except ValueError as e:
                raise ConfigError(f"monitoring.notify {self.name}: {self.url_env}: {e}") from None
        return self.model_copy(update=found)


class Retrain(Section):
    """When a new training is asked for."""

    enabled: bool = Field(default=True, description="Whether requests are published, with their evidence.")
    cooldown: Duration = Field(
        default=timedelta(days=1),
        description="Time after a request for a model before the next; what fires meanwhile is counted.",
    )
    on: Reasons = Field(
        default=list(get_args(Reason)),
        description="Alerts that ask for it when they begin to fire: drift only as critical, the others always.",
    )


class Monitoring(Section):
    """The monitor group: drift, quality, alerts."""

    metrics_window: Duration = Field(description="Event time one drift or quality window spans.")
    alert_threshold: Number = Field(gt=0, description="PSI at which drift is a warning; 2.5 times it is critical.")
    panes: Whole = Field(default=12, ge=1, description="Steps in which the window advances; it must divide evenly into them.")
    min_samples: Whole = Field(default=100, ge=1, description="Rows below which a window's verdict is insufficient_data.")
    false_discovery_rate: Number = Field(
        default=0.05, gt=0, lt=1, description="Share of drift alarms that may be false, across features (Benjamini-Hochberg)."
    )
    pending_windows: Whole = Field(default=2, ge=1, description="Windows in a row that must be bad before an alert fires.")
    cooldown: Duration = Field(default=timedelta(hours=1), description="Time after an alert resolves before it may fire again.")
    label_timeout: Duration = Field(
        default=timedelta(days=30), description="Time after its horizon at which a prediction without outcome is given up."
    )
    revise_within: Duration = Field(
        default=timedelta(days=1),
        description="Event time after a window's end in which late or revised outcomes still change what was reported of it; "
        "`label_timeout` at most.",
    )
    symbol_groups: SymbolGroups = Field(
        default={},
        description="Groups whose quality is reported too, each with symbols or patterns (*, ?, [abc]); in a variable as JSON.",
    )
    log_to_registry: bool = Field(
        default=True, description="Whether each window's quality and drift are logged at the model version's run in MLflow."
    )
    retrain: Retrain = Field(default_factory=Retrain, description="When a new training is asked for.")
    rules: AlertRules = Field(default_factory=AlertRules, description="What alerts watch; docs/alerts.md.")
    notify: tuple[Receiver, ...] = Field(default=(), max_length=16, description="Who is told of alerts; docs/alerts.md.")

    @model_validator(mode="after")
    def _receivers_once(self) -> Self:
        names = [receiver.name for receiver in self.notify]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"notify names {name!r} twice; give each receiver a name of its own")
        return self

    @model_validator(mode="after")
    def _even_panes(self) -> Self:
        if (self.metrics_window // timedelta(microseconds=1)) % self.panes:
            raise ValueError(
                f"metrics_window does not divide into {self.panes} panes of whole microseconds; change one of the two"
            )
        return self
