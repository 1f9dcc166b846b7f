"""A worker's Vertex AI endpoint: from the settings to the function that puts a loaded version behind it, counted. Shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from prometheus_client import Counter, Gauge, Histogram

from streams import metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from config import Settings
    from config.sections import Vertex
    from models.handle import ModelHandle
    from models.vertex import Scored
    from models.vertex_settings import EndpointSettings

log = structlog.get_logger()

ROWS = Counter("trading_ml_endpoint_rows", "Rows by who scored them", ["model", "by"], registry=metrics.REGISTRY)
FAILURES = Counter("trading_ml_endpoint_failures", "Calls the endpoint did not answer", ["model"], registry=metrics.REGISTRY)
OPEN = Gauge(
    "trading_ml_endpoint_open", "1 while the endpoint is left alone after failures", ["model"], registry=metrics.REGISTRY
)
SECONDS = Histogram(
    "trading_ml_endpoint_seconds",
    "Time of a call, retries and fallback included",
    ["model"],
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
    registry=metrics.REGISTRY,
)
DEPLOYED = Gauge(
    "trading_ml_endpoint_deployed_model",
    "1 for the deployed model that last answered",
    ["model", "version", "deployed_model_id", "vertex_model", "vertex_model_version"],
    registry=metrics.REGISTRY,
)


def through_endpoint(settings: Settings) -> Callable[[ModelHandle], ModelHandle]:
    """What makes of a champion's loaded handle the handle that scores.

    It gives back the same handle for a model the endpoint is not for, or when no endpoint is set. Otherwise it blocks
    (network): call it where the registry is called, once for each version loaded. It raises `EndpointUnavailable` as
    `models.vertex.served_by_endpoint` does.
    """
    if not settings.vertex.enabled:
        return lambda handle: handle
    from models.vertex import Endpoint, served_by_endpoint

    mine = settings.models[0].name if settings.vertex.model is None else settings.vertex.model
    endpoint = Endpoint(endpoint_settings(settings.vertex), seen=Watch())
    return lambda handle: served_by_endpoint(handle, endpoint) if handle.name == mine else handle


def endpoint_settings(vertex: Vertex) -> EndpointSettings:
    """The settings section as the models package knows it; complete once `vertex.enabled` was accepted."""
    from models.vertex_settings import EndpointSettings

    return EndpointSettings(
        project=vertex.project or "",
        location=vertex.location or "",
        endpoint_id=vertex.endpoint_id or "",
        timeout_s=vertex.timeout.total_seconds(),
        fallback=vertex.fallback,
        max_request_bytes=vertex.max_request_bytes,
        calls_at_once=vertex.max_concurrent_calls,
        api_url=vertex.api_endpoint,
        predict_url=vertex.predict_endpoint,
        credentials_file=vertex.credentials_file,
    )


class Watch:
    """Counts every call, and logs when another scores than before: not every call of an outage."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[str, str | None]] = {}

    def __call__(self, scored: Scored) -> None:
        """Take note of one call."""
        ROWS.labels(scored.model, scored.by).inc(scored.rows)
        SECONDS.labels(scored.model).observe(scored.seconds)
        OPEN.labels(scored.model).set(scored.breaker != "closed")
        deployed = scored.deployed_model
        if scored.by != "endpoint":
            FAILURES.labels(scored.model).inc()
        now = (scored.by, None if deployed is None else deployed.id)
        if self._last.get(scored.model) == now:
            return
        self._last[scored.model] = now
        if deployed is None:
            log.warning("the endpoint fails", model=scored.model, version=scored.version, scored_by=scored.by, error=scored.error)
            return
        DEPLOYED.clear()
        DEPLOYED.labels(scored.model, scored.version, deployed.id, deployed.model, deployed.model_version_id).set(1)
        log.info(
            "the endpoint scores",
            model=scored.model,
            version=scored.version,
            deployed_model_id=deployed.id,
            vertex_model=deployed.model_name,
        )
