"""Metrics and tags on a model version that serves: on its run, its logged model and itself. Shell, over MLflow's client.

MLflow keeps one value for a name, step and timestamp, so what is logged again changes nothing. All calls block.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from models.mlflow_client import registry_errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

MOST_KNOWN: Final = 1_000
"""Versions remembered; the one not asked for the longest is looked up again."""


MOST_AT_ONCE: Final = 100
"""Metrics of one call. MLflow's store (3.17) looks for those it has by a hundred names, and refuses a repeat of more."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Metrics of one instant by name; all finite."""

    metrics: Mapping[str, float]
    step: int
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class _Page:
    """Where a version's metrics go."""

    run_id: str | None
    model_id: str | None
    tags: Mapping[str, str]


class VersionMetrics:
    """Logs on the versions of one registry. Raises `RegistryUnreachable` where it does not answer; then nothing is lost."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client
        self._pages: OrderedDict[tuple[str, str], _Page] = OrderedDict()

    def tags(self, name: str, version: str) -> Mapping[str, str]:
        """The version's tags as of its first use here and what was set here since. Raises `RegistryError` if it is gone."""
        return self._page(name, version).tags

    def log(self, name: str, version: str, measured: Sequence[Measured], *, on_model: bool = True) -> None:
        """Log all of it. Raises `RegistryError` if the version or its run is gone.

        `on_model`: on the logged model too, where there is one.
        """
        from mlflow.entities import Metric

        page = self._page(name, version)
        if page.run_id is None:
            return
        model_id = page.model_id if on_model else None
        batch = [
            Metric(key, value, m.timestamp_ms, m.step, model_id=model_id) for m in measured for key, value in m.metrics.items()
        ]
        with registry_errors(f"metrics of model {name!r} version {version}"):
            for first in range(0, len(batch), MOST_AT_ONCE):
                self._client.log_batch(page.run_id, metrics=batch[first : first + MOST_AT_ONCE])

    def tag(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        """Set tags of the version, those that are otherwise now. Raises `RegistryError` if it is gone."""
        page = self._page(name, version)
        for key, value in tags.items():
            if page.tags.get(key) != value:
                with registry_errors(f"tags of model {name!r} version {version}"):
                    self._client.set_model_version_tag(name, version, key, value)
        self._pages[name, version] = _Page(page.run_id, page.model_id, {**page.tags, **tags})

    def forget(self, name: str, version: str) -> None:
        """Look it up again when it is next asked for."""
        self._pages.pop((name, version), None)

    def _page(self, name: str, version: str) -> _Page:
        if (name, version) not in self._pages:
            with registry_errors(f"model {name!r} version {version}"):
                found = self._client.get_model_version(name, version)
                page = _Page(found.run_id or None, self._model_id(found), dict(found.tags))
            self._pages[name, version] = page
            if len(self._pages) > MOST_KNOWN:
                self._pages.popitem(last=False)
        self._pages.move_to_end((name, version))
        return self._pages[name, version]

    def _model_id(self, found: ModelVersion) -> str | None:
        """The logged model a version was made of; MLflow's own registry does not say it, so its files' place must."""
        from mlflow.exceptions import MlflowException

        if getattr(found, "model_id", None) or not found.run_id:
            return getattr(found, "model_id", None)
        try:
            experiment = self._client.get_run(found.run_id).info.experiment_id
            logged = self._client.search_logged_models([experiment], filter_string=f"source_run_id = '{found.run_id}'")
        except MlflowException as e:
            if e.error_code in {"ENDPOINT_NOT_FOUND", "RESOURCE_DOES_NOT_EXIST"}:  # a server before MLflow 3; no run any more
                return None
            raise
        for model in logged:
            if str(found.source) in {model.artifact_location, f"models:/{model.model_id}"}:
                return str(model.model_id)
        return None
