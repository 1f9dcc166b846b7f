"""Every error the platform raises on purpose, on one page; each message says what is wrong and what would be right.

    StreamsError
    ├── BrokerError        Kafka, or the embedded broker, cannot be reached or refuses
    ├── AccessError        Kafka refuses us, or cannot be believed: certificates, login, token
    ├── TopicError         a topic is missing or has another partition count than its partners
    ├── DeliveryError      a record could not be delivered; the worker starts again from the last checkpoint
    ├── LayoutError        two served models contradict each other about a feature set
    ├── StateLayoutError   a table value has another layout, or is damaged
    ├── StateFolderInUse   another worker holds the state folder
    ├── RowFileError       a file given to `trading-ml produce` or `audit` cannot be read as rows
    ├── AuditError         `trading-ml audit` finds nothing it could try
    └── RolloutError       `trading-ml models` cannot bring a version into force, or did not see it come
    config.ConfigError     the settings are wrong
    models.ModelError      SpecError, RegistryError, UntrustedModel, ModelOutputError and more: see `models.errors`
    monitoring.MonitoringError   BadReferenceError, StateError, WarehouseError: see `monitoring.errors`

A bad record is not an error but a value (`streams.records.Rejected`): it goes to the rejected topic and the rest goes on.
"""

from __future__ import annotations


class StreamsError(Exception):
    """Base of everything the streams package raises on purpose."""


class BrokerError(StreamsError):
    """Kafka is out of reach or refuses. Action: check `kafka.bootstrap_servers`, or start `trading-ml broker`."""


class AccessError(StreamsError):
    """Kafka refuses us, or a certificate, key or token is wrong. Action: correct the key of `kafka.security` that is named."""


class TopicError(StreamsError):
    """A topic is missing or has the wrong partition count. Action: run `trading-ml topics create`, or recreate it."""


class DeliveryError(StreamsError):
    """A record was not delivered; nothing after the last checkpoint is committed. Action: check broker and topic limits."""


class LayoutError(StreamsError):
    """Two served models contradict each other about a feature set. Action: publish them with the same feature-set facts."""


class StateLayoutError(StreamsError):
    """A table value has another layout or is damaged. Action: run the release that wrote it, or delete the state folder."""


class StateFolderInUse(StreamsError):
    """Another worker holds the state folder. Action: stop it, or set `storage.state_dir` to another folder."""


class RowFileError(StreamsError):
    """A file of rows cannot be read as rows. Action: correct the line or column the message names."""


class AuditError(StreamsError):
    """An audit has nothing to try, so would prove nothing. Action: give it the rows and the model that belong together."""


class RolloutError(StreamsError):
    """A version is not to be brought into force, or did not come into force in time. Action: what the message says."""
