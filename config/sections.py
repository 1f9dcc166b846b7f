"""The sections of the settings tree, each frozen and refusing keys it does not know. `config.settings` puts them together."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from config.durations import Duration
from config.fields import (
    Alias,
    ApiUrl,
    Artifacts,
    Dataset,
    LocalPath,
    Location,
    Name,
    Number,
    Secret,
    Servers,
    Text,
    TopicName,
    TrackingUri,
    Whole,
)
from config.section import Section
from config.security import Security


class Mlflow(Section):
    """The model registry."""

    tracking_uri: TrackingUri = Field(
        description="MLflow tracking server, or its database. Credentials go in MLflow's own variables."
    )
    model_registry: Artifacts = Field(description="Where model artifacts live.")
    allow_code: bool = Field(
        default=False,
        description="Whether pickles and pyfuncs are loaded too; then whoever may publish a version runs code on the workers.",
    )
    webhook_secret: Secret | None = Field(
        default=None,
        description="The secret of MLflow's webhook, which then may hurry a worker at /webhooks/mlflow; without it that is 404.",
    )


class Storage(Section):
    """Folders of a worker."""

    cache_dir: Location = Field(
        description="Where model artifacts are kept between starts. A bucket is shared; each worker has a copy in its state_dir."
    )
    cache_max_bytes: Whole = Field(
        default=4 << 30,
        ge=0,
        description="Bytes of model artifacts kept on a machine; the least recently used go first, none that is in use. "
        "The bucket is not trimmed.",
    )
    state_dir: LocalPath = Field(
        default=Path("./var/state"),
        description="Where state is kept (RocksDB), a folder per group; one worker each. Lost, it is rebuilt from the changelog.",
    )


class DuckdbDatabase(Section):
    """The warehouse as one local file."""

    type: Literal["duckdb"] = Field(description="Which warehouse stores features, predictions, outcomes, alerts and performance.")
    path: LocalPath = Field(
        description="The DuckDB file; one process at a time may open it. The folder `<path>.segments` beside it belongs to it."
    )


class BigqueryDatabase(Section):
    """The warehouse as a BigQuery dataset."""

    type: Literal["bigquery"] = Field(
        description="Which warehouse stores features, predictions, outcomes, alerts and performance."
    )
    project: Name = Field(description="The Google Cloud project of the dataset.")
    dataset: Dataset = Field(description="The BigQuery dataset.")


Database = Annotated[DuckdbDatabase | BigqueryDatabase, Field(discriminator="type")]


class Inference(Section):
    """The inference group."""

    batch_size: Whole = Field(ge=1, le=100_000, description="Rows one chunk holds at most.")
    cache_ttl: Duration = Field(description="How long a resolved model alias is trusted before the registry is asked again.")
    max_concurrent_models: Whole = Field(
        ge=1, description="Model versions kept loaded at most; the least recently used leaves first."
    )
    row_budget: Duration = Field(
        default=timedelta(milliseconds=1),
        description="Time a row may take at most in a batch of 100, measured before a version serves; a slower one is refused.",
    )
    challenger_budget: Duration = Field(
        default=timedelta(milliseconds=250),
        description="Time a chunk waits at most for each challenger's process, once the champion's records are on their way.",
    )
    commit_interval: Duration = Field(
        default=timedelta(seconds=1),
        description="Time between checkpoints of a worker, of either group; a crash repeats at most this much work, identically.",
    )
    max_future: Duration = Field(
        default=timedelta(minutes=5),
        description="A feature row further ahead of the broker's clock than this is rejected.",
    )
    idle_wait: Duration = Field(
        default=timedelta(seconds=1),
        description="Time past its deadline that a row may wait for a feature set, by the wall clock, where no rows come.",
    )
    drain_deadline: Duration = Field(
        default=timedelta(seconds=8),
        description="Time a stopping worker takes at most to finish what it began; keep it below the pod's grace period.",
    )
    switch_ahead: Duration = Field(
        default=timedelta(seconds=10),
        description="Event time from the newest row on after which a new model version takes effect; workers load it meanwhile.",
    )
    load_deadline: Duration = Field(
        default=timedelta(minutes=2),
        description="Time to get a version that is in force in a partition taken over; past it the worker leaves.",
    )
    slack_rows: Whole = Field(
        default=32,
        ge=1,
        description="Rows of one window taken in one piece; a window keeps as many beyond its depth while a chunk is worked on.",
    )


class Topics(Section):
    """The names of the topics; `docs/topics.md` says what each carries."""

    features: TopicName = Field(default="trading.features", description="Feature rows, written by producers.")
    predictions: TopicName = Field(
        default="trading.predictions", description="The champion's predictions, one JSON record per row."
    )
    predictions_shadow: TopicName = Field(
        default="trading.predictions.shadow", description="The challenger's; nobody trades on it."
    )
    inference_log: TopicName = Field(
        default="trading.inference-log", description="Every prediction with its full vector, as Arrow."
    )
    outcomes: TopicName = Field(default="trading.outcomes", description="Realised targets, written by the price side.")
    alerts: TopicName = Field(default="trading.alerts", description="Alert lifecycle events, compacted.")
    performance: TopicName = Field(default="trading.performance", description="Quality and drift per model version and window.")
    model_timeline: TopicName = Field(
        default="trading.model-timeline", description="Which version serves from which event time on, compacted."
    )
    features_rejected: TopicName = Field(
        default="trading.features.rejected", description="Feature records refused, with the reason."
    )

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        owner: dict[str, str] = {}
        for role, topic in self:
            if topic in owner:
                raise ValueError(f"{owner[topic]} and {role} are both {topic!r}; give each its own topic")
            owner[topic] = role
        return self


class Kafka(Section):
    """Brokers, groups and topics."""

    bootstrap_servers: Servers = Field(description="Brokers to begin with.")
    client_id: Name = Field(default="trading-ml", description="The name brokers see in their logs and quotas.")
    inference_group: Name = Field(
        default="trading-ml-inference", description="Consumer group and Faust app id of the inference group."
    )
    monitor_group: Name = Field(default="trading-ml-monitor", description="Consumer group and Faust app id of the monitor group.")
    partitions: Whole = Field(
        default=8, ge=1, description="Partitions of every topic; the same for all, because they are joined by key."
    )
    replication_factor: Whole = Field(default=1, ge=1, description="Copies of every topic that is created.")
    session_timeout: Duration = Field(
        default=timedelta(seconds=10), description="Silence after which the group gives a worker's partitions to the others."
    )
    fetch_max_wait: Duration = Field(
        default=timedelta(milliseconds=500),
        description="Time a broker may hold an empty fetch. The embedded broker always does: there it is the latency.",
    )
    security: Security = Field(default_factory=Security, description="Encryption and login.")
    topics: Topics = Field(default_factory=Topics, description="Topic names.")

    @model_validator(mode="after")
    def _two_groups(self) -> Self:
        if self.inference_group == self.monitor_group:
            raise ValueError(
                f"inference_group and monitor_group are both {self.monitor_group!r}; two groups must not share an id"
            )
        return self


class Canary(Section):
    """A version that scores a share of the symbols in the champion's place."""

    alias: Alias = Field(description="The alias of the version.")
    share: Number = Field(gt=0, le=1, description="Share of the symbols it scores, chosen by a hash of the symbol.")


class ServedModel(Section):
    """One registered model to serve."""

    name: Name = Field(description="The registered model's name in MLflow.")
    champion_alias: Alias = Field(default="champion", description="The alias of the version that is traded on.")
    challenger_alias: Alias | None = Field(default=None, description="The alias of a version scored beside it, published apart.")
    canary: Canary | None = Field(default=None, description="A version that scores a share of the symbols.")
    publish: Literal["rows", "frames"] = Field(
        default="rows",
        description="Whether predictions go out as JSON, a record for each row, or as Arrow frames of many rows, for a fraction.",
    )

    @model_validator(mode="after")
    def _two_aliases(self) -> Self:
        if self.challenger_alias == self.champion_alias:
            raise ValueError(f"challenger_alias is the champion's, {self.champion_alias!r}; name another or leave it out")
        if self.canary is not None and self.canary.alias == self.champion_alias:
            raise ValueError(f"canary.alias is the champion's, {self.canary.alias!r}; name another or leave it out")
        return self


class Web(Section):
    """Health, metrics and dashboard of a worker."""

    host: Text = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0 where a probe or scraper must reach it.")
    port: Whole = Field(default=8000, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")


class Vertex(Section):
    """A Vertex AI endpoint that scores instead of a loaded model; docs/vertex.md."""

    enabled: bool = Field(default=False, description="Whether to score through the endpoint.")
    project: Name | None = Field(default=None, description="The Google Cloud project of the endpoint.")
    location: Name | None = Field(default=None, description="The region of the endpoint, such as us-central1.")
    endpoint_id: Name | None = Field(default=None, description="The endpoint's id.")
    model: Name | None = Field(
        default=None, description="The served model whose champion the endpoint has; default the only one of `models`."
    )
    timeout: Duration = Field(default=timedelta(seconds=2), description="Time after which a call, retries included, has failed.")
    fallback: Literal["local", "abstain"] = Field(
        default="local",
        description="What scores a failed call's rows: the registry's copy of the same version, loaded here, or nothing.",
    )
    max_request_bytes: Whole = Field(
        default=1_500_000,
        ge=10_000,
        le=10_000_000,
        description="Largest request: 1.5 MB at a shared public endpoint, 10 MB at a dedicated or private one.",
    )
    max_concurrent_calls: Whole = Field(default=8, ge=1, le=256, description="Requests under way at once, for each worker.")
    api_endpoint: ApiUrl | None = Field(
        default=None, description="Where the API is, default https://<location>-aiplatform.googleapis.com."
    )
    predict_endpoint: ApiUrl | None = Field(
        default=None, description="Where predictions are asked, default `api_endpoint`; the own host of a dedicated endpoint."
    )
    credentials_file: LocalPath | None = Field(
        default=None, description="Service account key (JSON); default what GOOGLE_APPLICATION_CREDENTIALS or the machine gives."
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = [name for name in ("project", "location", "endpoint_id") if getattr(self, name) is None]
        if self.enabled and missing:
            raise ValueError(f"enabled needs {', '.join(missing)}; set them, or set enabled: false")
        return self
