"""MLflow's registry to model handles: resolve, download, verify, load, warm up, keep. Shell.

    alias --resolve--> version --load--> digest tag --> cached or downloaded folder, bytes verified
                                     --> MLmodel checked as data --> native predict
                                     --> its own example scored and compared bit for bit --> ModelHandle

Everything here blocks (network, disk, building a model): call it from a thread. It may be called from several; one
loads at a time. When the registry does not answer, the last thing it said stands, from the index in `cache_dir`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.artifacts import DIGEST_TAG, EXAMPLE_FILE
from models.cache import ArtifactCache
from models.confidence import check_residuals
from models.errors import RegistryError, RegistryUnreachable, SpecError, UntrustedModel
from models.example import check_example, decode_example
from models.handle import ModelHandle
from models.loaders import inspect_folder, load_model, read_spec
from models.mlflow_client import connect, registry_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from models.spec import ServingSpec


@dataclass(frozen=True, slots=True)
class Resolution:
    """What an alias names, and whether the registry said so now or the cache remembers it."""

    version: str
    from_cache: bool


class Registry:
    """The registry at `tracking_uri`, with model folders kept in `cache_dir` and at most `max_concurrent_models` loaded.

    Nothing is contacted until the first call.
    """

    def __init__(self, tracking_uri: str, cache_dir: Path, *, max_concurrent_models: int = 4) -> None:
        if max_concurrent_models < 1:
            msg = f"max_concurrent_models is {max_concurrent_models}; at least 1 is right"
            raise RegistryError(msg)
        self._tracking_uri = tracking_uri
        self._cache = ArtifactCache(Path(cache_dir))
        self._max_concurrent_models = max_concurrent_models
        self._handles: OrderedDict[tuple[str, str], ModelHandle] = OrderedDict()
        self._client: MlflowClient | None = None
        self._lock = threading.RLock()

    def resolve(self, name: str, alias: str) -> str:
        """The version the alias names. Raises `RegistryError` if there is none, or none is known while it is down."""
        return self.lookup(name, alias).version

    def lookup(self, name: str, alias: str) -> Resolution:
        """As `resolve`, and say whether the answer is from cache because the registry did not answer."""
        try:
            with registry_errors(f"model {name!r}, alias {alias!r}"):
                found = self._mlflow().get_model_version_by_alias(name, alias)
        except RegistryUnreachable:
            known = self._cache.version_of(name, alias)
            if known is None:
                raise
            return Resolution(known, from_cache=True)
        self._cache.remember(name, version=str(found.version), alias=alias, digest=found.tags.get(DIGEST_TAG))
        return Resolution(str(found.version), from_cache=False)

    def load(self, name: str, version: str) -> ModelHandle:
        """The version as a handle that has just given its logged answers; the same object while it is kept.

        Raises `UntrustedModel` (files not those registered, or able to run code), `SpecError` (spec and model do not
        fit), `ModelOutputError` (its example does not score to its logged answers), `RegistryError`.
        """
        with self._lock:
            handle = self._handles.get((name, version))
            if handle is None:
                digest, folder = self._folder(name, version)
                handle = load_folder(folder, name=name, version=version, digest=digest)
            self._handles[(name, version)] = handle
            self._handles.move_to_end((name, version))
            while len(self._handles) > self._max_concurrent_models:
                self._handles.popitem(last=False)
            return handle

    def load_spec(self, name: str, version: str) -> ServingSpec:
        """The version's serving spec alone; no model is built."""
        _, folder = self._folder(name, version)
        inspect_folder(folder)
        return _spec_of(folder, name)

    def loaded(self) -> list[tuple[str, str]]:
        """(name, version) of the handles kept, least recently used first."""
        with self._lock:
            return list(self._handles)

    def _mlflow(self) -> MlflowClient:
        with self._lock:
            if self._client is None:
                self._client = connect(self._tracking_uri)
            return self._client

    def _folder(self, name: str, version: str) -> tuple[str, Path]:
        """(digest, verified local folder) of a version, downloaded if it is not cached."""
        what = f"model {name!r} version {version}"
        digest = self._digest(name, version, what)
        folder = self._cache.get(digest, what=what)
        if folder is None:
            folder = self._cache.add(digest, lambda to: self._download(name, version, to), what=what)
        return digest, folder

    def _digest(self, name: str, version: str, what: str) -> str:
        try:
            with registry_errors(what):
                found = self._mlflow().get_model_version(name, version)
        except RegistryUnreachable:
            known = self._cache.digest_of(name, version)
            if known is None:
                raise
            return known
        digest = found.tags.get(DIGEST_TAG)
        if digest is None:
            msg = f"{what} has no tag {DIGEST_TAG!r}, so its bytes cannot be verified; publish it with models.publish"
            raise UntrustedModel(msg)
        self._cache.remember(name, version=version, digest=digest)
        return str(digest)

    def _download(self, name: str, version: str, to: Path) -> Path:
        with registry_errors(f"download of model {name!r} version {version}"):
            client = self._mlflow()
            from mlflow.artifacts import download_artifacts

            # By storage location, not by models:/ URI: that one asks MLflow's process-wide registry, not this one.
            source = client.get_model_version_download_uri(name, version)
            return Path(download_artifacts(artifact_uri=source, dst_path=str(to), tracking_uri=self._tracking_uri))


def load_folder(folder: Path, *, name: str, version: str, digest: str) -> ModelHandle:
    """A verified model folder to a warmed handle: every check of `Registry.load` after the digest."""
    inspect_folder(folder)
    spec = _spec_of(folder, name)
    example = decode_example((folder / EXAMPLE_FILE).read_bytes(), spec)
    model = load_model(folder, columns=len(spec.columns), runtime=spec.runtime)
    check_example(model.predict, example, what=f"model {name!r} version {version}")
    return ModelHandle(name=name, version=version, digest=digest, spec=spec, predict=model.predict)


def _spec_of(folder: Path, name: str) -> ServingSpec:
    spec = read_spec(folder)
    if spec.model != name:
        msg = f"model {name!r} has a serving spec written for {spec.model!r}; publish it under its own name"
        raise SpecError(msg)
    check_residuals(spec.residuals, level=spec.level, model=name)
    return spec
