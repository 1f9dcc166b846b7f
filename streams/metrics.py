"""What a worker counts for Prometheus. Shell; one registry a process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

ROWS = Counter("trading_ml_rows", "Records taken from source topics", ["group"], registry=REGISTRY)
PREDICTIONS = Counter("trading_ml_predictions", "Predictions sent, abstentions included", registry=REGISTRY)
ABSTAINED = Counter("trading_ml_abstained", "Predictions that are abstentions", registry=REGISTRY)
REJECTED = Counter("trading_ml_rejected", "Records sent to the rejected topic", ["reason"], registry=REGISTRY)
ROW_EVENTS = Counter("trading_ml_row_events", "Rows that were late, duplicate or replayed", ["what"], registry=REGISTRY)
FRAMES = Counter("trading_ml_frames", "Records of the features topic that were Arrow frames", registry=REGISTRY)
UNREAD = Counter("trading_ml_unread_features", "Feature values that no served model reads", registry=REGISTRY)
CHUNK_SECONDS = Histogram(
    "trading_ml_chunk_seconds",
    "Time a chunk takes from bytes to outbox",
    ["group"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2),
    registry=REGISTRY,
)
CHALLENGER_SECONDS = Histogram(
    "trading_ml_challenger_seconds",
    "Time a chunk takes from its champions' records sent to its challengers' sent",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1),
    registry=REGISTRY,
)
CHECKPOINT_SECONDS = Gauge("trading_ml_checkpoint_seconds", "Duration of the last checkpoint", ["group"], registry=REGISTRY)
LAG = Gauge("trading_ml_lag_records", "Records in assigned partitions not yet taken", ["group"], registry=REGISTRY)
UNCONFIRMED = Gauge("trading_ml_unconfirmed_records", "Records sent and not yet acknowledged", ["group"], registry=REGISTRY)
READY = Gauge("trading_ml_ready", "1 when partitions are assigned and state is recovered", ["group"], registry=REGISTRY)
SYMBOLS = Gauge("trading_ml_resident_symbols", "Symbols whose windows are in memory", registry=REGISTRY)
MODEL = Gauge("trading_ml_model", "1 for each model version in service", ["model", "version", "role"], registry=REGISTRY)
CLOCK_RECORDS = Counter("trading_ml_clock_records", "Clock records appended to idle partitions", registry=REGISTRY)
WAITED = Counter("trading_ml_waited", "Trigger rows that waited for another feature set", ["end"], registry=REGISTRY)
MODEL_TROUBLES = Counter("trading_ml_model_troubles", "Chunks in which a model misbehaved", ["model"], registry=REGISTRY)
REGISTRY_FAILURES = Counter("trading_ml_registry_failures", "Failed looks at the model registry", registry=REGISTRY)
WEBHOOKS = Counter("trading_ml_webhooks", "Calls of the registry's webhook: taken, or why not", ["result"], registry=REGISTRY)
REFUSED = Counter("trading_ml_refused_versions", "Model versions refused, by the check", ["model", "check"], registry=REGISTRY)
SWITCHES = Counter("trading_ml_switches", "Orders put in force in a partition", ["model", "role"], registry=REGISTRY)
SWITCHED_LATE = Counter(
    "trading_ml_switches_late", "Of those, in force from a later event time than ordered", ["model", "role"], registry=REGISTRY
)
ALERTS = Counter("trading_ml_alerts", "Alert events published", ["state"], registry=REGISTRY)
ALERTS_NOW = Gauge("trading_ml_alerts_now", "Alerts by state", ["state"], registry=REGISTRY)
DRIFT_PSI = Gauge(
    "trading_ml_drift_psi", "PSI of a column in the last closed window", ["model", "version", "role", "column"], registry=REGISTRY
)
DRIFT_VERDICT = Gauge(
    "trading_ml_drift_verdict",
    "Worst verdict of the last closed window: 0 insufficient_data, 1 stable, 2 warn, 3 critical",
    ["model", "version", "role"],
    registry=REGISTRY,
)
QUALITY = Gauge(
    "trading_ml_quality",
    "A metric of the last closed window's quality",
    ["model", "version", "role", "metric"],
    registry=REGISTRY,
)
WINDOWS_REVISED = Counter(
    "trading_ml_windows_revised", "Windows reported again since outcomes came late or were revised", ["model"], registry=REGISTRY
)
RETRAIN_REQUESTS = Counter("trading_ml_retrain_requests", "Requests to train a model anew", ["model"], registry=REGISTRY)
WINDOWS_CLOSED = Counter("trading_ml_windows_closed", "Drift and quality windows reported", ["model"], registry=REGISTRY)
DRIFT_SKIPPED = Counter("trading_ml_drift_skipped_rows", "Rows not counted for drift: no reference yet", registry=REGISTRY)
DRIFT_WAITING = Gauge(
    "trading_ml_drift_waiting_rows", "Rows that wait to be counted until other partitions have come as far", registry=REGISTRY
)
DRIFT_LATE = Gauge("trading_ml_drift_late_rows", "Rows that came after every window they belong to had closed", registry=REGISTRY)
MATURED = Counter("trading_ml_matured_rows", "Predictions that met their outcome", registry=REGISTRY)
UNLABELLED = Counter("trading_ml_unlabelled_rows", "Predictions given up without an outcome", registry=REGISTRY)
PENDING = Gauge("trading_ml_pending_keys", "Predictions held that have no outcome yet", registry=REGISTRY)
LABELS_EVICTED = Gauge(
    "trading_ml_labels_evicted", "Predictions and outcomes let go early: too many were held", registry=REGISTRY
)
WAREHOUSE_WAITING = Gauge("trading_ml_warehouse_waiting_rows", "Rows on disk that the warehouse did not take", registry=REGISTRY)
WAREHOUSE_FAILURES = Counter("trading_ml_warehouse_failures", "Appends the warehouse refused", registry=REGISTRY)
STATE_FAULTS = Counter("trading_ml_state_faults", "Stored pieces that could not be read and started afresh", registry=REGISTRY)
NOTIFICATIONS = Counter(
    "trading_ml_notifications",
    "Attempts to tell a receiver of an alert: delivered, or why not; dead: given up",
    ["receiver", "outcome"],
    registry=REGISTRY,
)
NOTIFICATIONS_WAITING = Gauge(
    "trading_ml_notifications_waiting", "Alert events read that a receiver was not told of yet", ["receiver"], registry=REGISTRY
)
REGISTRY_METRICS = Counter(
    "trading_ml_registry_metrics",
    "Windows whose metrics were for the registry: logged; gone: their version is not there; away: attempts it did not answer",
    ["outcome"],
    registry=REGISTRY,
)
