"""Where an endpoint is and how it is asked: the settings section `vertex`, as the models package knows it. Shell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from models.vertex_payload import PUBLIC_LIMIT_BYTES

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSettings:
    """Where the endpoint is and how it is asked; the settings section `vertex`.

    `api_url`, `predict_url`: None for the region's own host; resources are read from the first, predictions asked of the
    second (default: the first).
    """

    project: str
    location: str
    endpoint_id: str
    timeout_s: float = 2.0
    fallback: Literal["local", "abstain"] = "local"
    max_request_bytes: int = PUBLIC_LIMIT_BYTES
    calls_at_once: int = 8
    api_url: str | None = None
    predict_url: str | None = None
    credentials_file: Path | None = None

    @property
    def api(self) -> str:
        """The base of the resources' URLs."""
        return (self.api_url or f"https://{self.location}-aiplatform.googleapis.com").rstrip("/") + "/v1/"

    @property
    def resource(self) -> str:
        """The endpoint's resource name."""
        return f"projects/{self.project}/locations/{self.location}/endpoints/{self.endpoint_id}"

    @property
    def predict(self) -> str:
        """The URL predictions are asked of."""
        base = self.api if self.predict_url is None else self.predict_url.rstrip("/") + "/v1/"
        return f"{base}{self.resource}:predict"
