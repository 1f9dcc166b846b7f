"""Checks several settings files: each by itself, then against each other, for what would mix two deployments."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from config import sources
from config.errors import ConfigError
from config.sections import BigqueryDatabase
from config.settings import KEYS, Settings, build

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from config.keys import Key

_LOCAL = "local"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_OWN_SHAPE = (("database",), ("models",), ("vertex",), ("kafka", "security"), ("monitoring", "notify"))
"""Sections and lists that may rightly differ from file to file."""


@dataclass(frozen=True, slots=True)
class _Checked:
    layers: sources.Layers
    settings: Settings

    @property
    def name(self) -> str:
        return str(self.layers.path)

    def states(self, key: Key) -> bool:
        return self.layers.stated(key.path)


def compare_files(paths: Sequence[Path]) -> tuple[str, ...]:
    """Every problem of these files, one line each; empty when all is well. Reads no environment.

    By itself a file must be valid, hold no secret, and, unless it is `local`, use stores that several machines share.
    Together: each environment once, the same keys stated in all, and no bucket, dataset, tracking server,
    or group and topic of the same brokers used by two.
    """
    problems: list[str] = []
    checked: list[_Checked] = []
    for path in paths:
        try:
            layers = sources.read(KEYS, path, {})
            checked.append(_Checked(layers, build(layers)))
        except ConfigError as e:
            problems.extend(e.problems)
    for one in checked:
        problems.extend(_alone(one))
    problems.extend(_same_keys(checked))
    problems.extend(_shared(checked))
    return tuple(problems)


def _alone(one: _Checked) -> Iterator[str]:
    for key in KEYS:
        if key.secret and one.states(key):
            yield f"{one.name}: {key.dotted} is a secret written in a file; remove it and set {key.variable}"
    for n, receiver in enumerate(one.settings.monitoring.notify):
        for field in sorted({"url", "secret"} & receiver.model_fields_set):
            if field == "secret" or receiver.kind != "alertmanager":  # whose address gives no right to anything
                yield (
                    f"{one.name}: monitoring.notify[{n}].{field} is a secret written in a file; "
                    f"remove it and name its variable in {field}_env"
                )
    settings = one.settings
    if settings.environment == _LOCAL:
        return
    stores = {"storage.cache_dir": settings.storage.cache_dir, "mlflow.model_registry": settings.mlflow.model_registry}
    for name, location in stores.items():
        if not location.startswith(("gs://", "mlflow-artifacts:/")):
            yield f"{one.name}: {name} = {location!r}: should be gs://bucket/path, which all replicas share{_deployed(one)}"
    if settings.mlflow.tracking_uri.startswith("sqlite:"):
        yield f"{one.name}: mlflow.tracking_uri is a local file: should be a server all replicas share{_deployed(one)}"
    if not isinstance(settings.database, BigqueryDatabase):
        yield f"{one.name}: database.type = 'duckdb': should be bigquery; a DuckDB file serves one process{_deployed(one)}"
    servers = settings.kafka.bootstrap_servers
    if any(server.strip().rpartition(":")[0] in _LOOPBACK for server in servers.split(",")):
        yield f"{one.name}: kafka.bootstrap_servers = {servers!r}: should not be loopback{_deployed(one)}"


def _deployed(one: _Checked) -> str:
    return f" (environment {one.settings.environment})"


def _same_keys(checked: Sequence[_Checked]) -> Iterator[str]:
    for key in KEYS:
        if key.secret or any(key.path[: len(own)] == own for own in _OWN_SHAPE):
            continue
        with_it = [one.name for one in checked if one.states(key)]
        without = [one.name for one in checked if not one.states(key)]
        if with_it and without:
            yield f"{', '.join(without)}: {key.dotted} is missing, but stated in {', '.join(with_it)}; state it in all or in none"


def _shared(checked: Sequence[_Checked]) -> Iterator[str]:
    """Things only one of the files may use, with the files that use them."""
    users: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in checked:
        for thing in dict.fromkeys(_owned(one.settings)):
            users[thing].append(one.name)
    for (what, value), files in users.items():
        if len(files) > 1:
            yield f"{' and '.join(files)}: {what} {value!r} is used by {len(files)} files; give each its own"


def _owned(settings: Settings) -> Iterable[tuple[str, str]]:
    yield "environment", settings.environment
    for location in (settings.mlflow.model_registry, settings.storage.cache_dir):
        scheme, _, rest = location.partition("://")
        if scheme == "gs":
            yield "bucket", rest.partition("/")[0]
    if settings.mlflow.tracking_uri.startswith("http"):
        yield "mlflow.tracking_uri", settings.mlflow.tracking_uri.rstrip("/")
    if isinstance(settings.database, BigqueryDatabase):
        yield "BigQuery dataset", f"{settings.database.project}.{settings.database.dataset}"
    if settings.vertex.enabled:
        yield "Vertex AI endpoint", f"{settings.vertex.project}/{settings.vertex.location}/{settings.vertex.endpoint_id}"
    kafka = settings.kafka
    for server in kafka.bootstrap_servers.split(","):
        yield "Kafka group of the same broker", f"{kafka.inference_group} at {server.strip()}"
        yield "Kafka group of the same broker", f"{kafka.monitor_group} at {server.strip()}"
        for _, topic in kafka.topics:
            yield "Kafka topic of the same broker", f"{topic} at {server.strip()}"
