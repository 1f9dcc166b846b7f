"""The settings of one process, as a frozen tree. Read once, in the composition root, by `load_settings`.

    defaults  <  the YAML file named by CONFIG_PATH  <  environment variables TRADING_ML__SECTION__KEY

`docs/settings.md` lists every key; `trading-ml config show` prints what is in effect and where it came from.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from config import problems, sources
from config.errors import ConfigError
from config.keys import keys_of
from config.monitoring import Monitoring
from config.sections import Database, Inference, Kafka, Mlflow, ServedModel, Storage, Vertex, Web

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Settings(BaseSettings):
    """Everything an operator may set. Building it directly reads no file and no environment; `load_settings` does."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    environment: Literal["local", "feature-branch", "development", "production"] = Field(description="Which deployment this is.")
    mlflow: Mlflow = Field(description="The model registry.")
    storage: Storage = Field(description="Folders of a worker.")
    database: Database = Field(description="The warehouse.")
    inference: Inference = Field(description="The inference group.")
    monitoring: Monitoring = Field(description="The monitor group.")
    kafka: Kafka = Field(description="Brokers, groups and topics.")
    models: tuple[ServedModel, ...] = Field(min_length=1, description="The registered models to serve, at least one.")
    web: Web = Field(default_factory=Web, description="Health, metrics and dashboard.")
    vertex: Vertex = Field(default_factory=Vertex, description="Scoring by a Vertex AI endpoint.")

    @classmethod
    def settings_customise_sources(  # the signature is pydantic-settings'
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values only from the call: pydantic-settings' own environment reader passes over names it does not know."""
        return (init_settings,)

    @model_validator(mode="after")
    def _models_once(self) -> Self:
        names = [model.name for model in self.models]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"models names {name!r} twice; list each model once")
        return self

    @model_validator(mode="after")
    def _endpoint_fits(self) -> Self:
        names = [model.name for model in self.models]
        if self.vertex.enabled and self.vertex.model is None and len(names) > 1:
            raise ValueError(f"vertex.model is missing; an endpoint has one model: name one of {', '.join(names)}")
        if self.vertex.model is not None and self.vertex.model not in names:
            raise ValueError(f"vertex.model is {self.vertex.model!r}, which is not served; name one of {', '.join(names)}")
        if self.vertex.enabled and 2 * self.vertex.timeout > self.kafka.session_timeout:
            raise ValueError(
                "vertex.timeout is longer than half of kafka.session_timeout; a worker that waits sends no sign of life meanwhile"
            )
        return self


KEYS = keys_of(Settings)
"""Every setting, in the order of the tree."""


def load_settings(path: Path | None = None, env: Mapping[str, str] | None = None) -> Settings:
    """Read the file (`path`, else CONFIG_PATH, else config/local.yaml), lay the overrides of `env` over it, and check all.

    `env` defaults to the process's environment. A relative path that is not there is looked for beside
    this package, so that an installed copy finds the four files it ships. Raises `ConfigError`.
    """
    return build(sources.read(KEYS, path, os.environ if env is None else env))


def build(layers: sources.Layers) -> Settings:
    """Settings from layers already read; raises `ConfigError` with one line per wrong key, naming the file or variable."""
    tree: dict[str, Any] = layers.merged()
    try:
        return Settings(**tree)
    except ValidationError as e:
        raise ConfigError(*problems.explain(e, tree, KEYS, layers)) from None
