"""MLflow's registry to model handles: resolve, download, verify, load, warm up, keep. Shell.

    alias --resolve--> version --load--> digest tag --> cached or downloaded folder, bytes verified
                                     --> MLmodel checked as data --> native predict
                                     --> its own example scored and compared bit for bit --> ModelHandle

Everything that asks or loads blocks (network, disk, building a model): call it from a thread. It may be called from
several; one loads at a time. `pin`, `unpin` and `loaded` answer at once, whatever is being loaded. When the registry does
not answer, the last thing it said stands, from the index in `cache_dir` or its bucket.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import structlog

from models.artifacts import DIGEST_TAG
from models.errors import RegistryError, RegistryUnreachable, UntrustedModel
from models.flavors import inspect_folder
from models.folder import load_folder, read_spec
from models.index import Answer
from models.mlflow_client import connect, registry_errors
from models.shared import SharedCache
from models.trials import Trials

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from models.cache import Held
    from models.handle import ModelHandle
    from models.spec import ServingSpec

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Resolution:
    """What an alias names, and whether the registry said so now or the cache remembers it."""

    version: str
    from_cache: bool


class VersionFolder(NamedTuple):
    """A version as files, verified and inspected, that stay while `held` is held; no model of it was built."""

    digest: str
    spec: ServingSpec
    held: Held


class Registry:
    """The registry at `tracking_uri`, with model folders kept in `cache_dir` and at most `max_concurrent_models` loaded.

    `bucket`: ``gs://bucket/prefix``, a second level of the cache that workers share. `cache_max_bytes`: what `cache_dir`
    is trimmed to; None: never. `trial`: whether an artifact not seen before is first loaded in a process of its own, where a
    row may take `row_budget_us`. `allow_code`: whether pickles and pyfuncs are loaded. Nothing is contacted until the first call.
    """

    def __init__(
        self,
        tracking_uri: str,
        cache_dir: Path,
        *,
        max_concurrent_models: int = 4,
        bucket: str | None = None,
        cache_max_bytes: int | None = None,
        trial: bool = True,
        row_budget_us: float = 1000.0,
        allow_code: bool = False,
    ) -> None:
        if max_concurrent_models < 1:
            msg = f"max_concurrent_models is {max_concurrent_models}; at least 1 is right"
            raise RegistryError(msg)
        self._tracking_uri = tracking_uri
        self._cache = SharedCache(Path(cache_dir), ask_alias=self._ask_alias, bucket=bucket, max_bytes=cache_max_bytes)
        self._max_concurrent_models = max_concurrent_models
        self._handles: OrderedDict[tuple[str, str], tuple[ModelHandle, Held]] = OrderedDict()
        self._pins: Counter[tuple[str, str]] = Counter()
        self._warned = False
        self._trials = Trials(Path(cache_dir) / "trials", row_budget_us=row_budget_us) if trial else None
        self._allow_code = allow_code
        self._client: MlflowClient | None = None
        self._lock = threading.Lock()  # held for moments
        self._loading = threading.Lock()  # held while a model is built
        self._connecting = threading.Lock()

    def resolve(self, name: str, alias: str) -> str:
        """The version the alias names. Raises `RegistryError` if there is none, or none is known while it is down."""
        return self.lookup(name, alias).version

    def lookup(self, name: str, alias: str) -> Resolution:
        """As `resolve`, and say whether the answer is from cache because the registry did not answer."""
        try:
            answer = self._cache.note(name, lambda: self._ask_alias(name, alias))
        except RegistryUnreachable:
            known = self._cache.version_of(name, alias)
            if known is None:
                raise
            return Resolution(known, from_cache=True)
        if answer.version is None:
            raise answer.refusal or RegistryError(f"model {name!r} has no alias {alias!r}; set it")
        return Resolution(answer.version, from_cache=False)

    def load(self, name: str, version: str) -> ModelHandle:
        """The version as a handle that has just given its logged answers; the same object while it is kept.

        Raises `UntrustedModel` (files not those registered, or able to run code), `SpecError` (spec and model do not
        fit), `ModelOutputError` (its example does not score to its logged answers), `RegistryError`.
        """
        kept = self._kept(name, version)
        if kept is not None:
            return kept
        with self._loading:
            kept = self._kept(name, version)  # another thread may just have loaded it
            if kept is not None:
                return kept
            digest, held = self._folder(name, version)
            handle = load_folder(
                held.folder, name=name, version=version, digest=digest, allow_code=self._allow_code, trials=self._trials
            )
            with self._lock:
                self._handles[(name, version)] = handle, held
                self._let_go(but=(name, version))
            return handle

    def pin(self, name: str, version: str) -> None:
        """Keep this version, once loaded, until `unpin` has been called as often as `pin`."""
        with self._lock:
            self._pins[(name, version)] += 1

    def unpin(self, name: str, version: str) -> None:
        """Take back one `pin`; of a version that has none left, nothing happens. Versions over the maximum go now."""
        with self._lock:
            self._pins -= Counter({(name, version): 1})  # keeps positive counts only
            self._let_go()

    def _kept(self, name: str, version: str) -> ModelHandle | None:
        with self._lock:
            if (name, version) not in self._handles:
                return None
            self._handles.move_to_end((name, version))
            return self._handles[(name, version)][0]

    def _let_go(self, but: tuple[str, str] | None = None) -> None:
        """Drop the least recently used handles over the maximum, of those not pinned."""
        over = len(self._handles) - self._max_concurrent_models
        free = [key for key in self._handles if key not in self._pins and key != but]
        for key in free[: max(over, 0)]:
            _, held = self._handles.pop(key)
            held.close()
        if over > len(free) and not self._warned:
            log.warning(
                "more model versions are needed at once than inference.max_concurrent_models",
                loaded=len(self._handles),
                max_concurrent_models=self._max_concurrent_models,
            )
        self._warned = over > len(free)

    def folder(self, name: str, version: str, *, tried: bool = True) -> VersionFolder:
        """The version for another process to load. `tried`: once it has passed its trial, if there are trials.

        Raises as `load`, but for what only loading shows.
        """
        with self._loading:
            digest, held = self._folder(name, version)
            inspect_folder(held.folder, allow_code=self._allow_code)
            spec = read_spec(held.folder, name)
            if tried and self._trials is not None:
                self._trials.require(held.folder, name=name, version=version, digest=digest, allow_code=self._allow_code)
            return VersionFolder(digest, spec, held)

    def load_spec(self, name: str, version: str) -> ServingSpec:
        """The version's serving spec alone; no model is built."""
        _, held = self._folder(name, version)
        with held:
            inspect_folder(held.folder, allow_code=self._allow_code)
            return read_spec(held.folder, name)

    def loaded(self) -> list[tuple[str, str]]:
        """(name, version) of the handles kept, least recently used first."""
        with self._lock:
            return list(self._handles)

    def cache_counts(self) -> dict[str, int]:
        """What the artifact cache did so far; see `SharedCache`."""
        return dict(self._cache.counts)

    def flush_cache(self, timeout_s: float) -> bool:
        """Wait until the bucket has what was loaded; False if that takes longer. For commands that end at once."""
        return self._cache.flush(timeout_s)

    def _mlflow(self) -> MlflowClient:
        with self._connecting:
            if self._client is None:
                self._client = connect(self._tracking_uri)
            return self._client

    def _ask_alias(self, name: str, alias: str) -> Answer:
        """What the registry says the alias names now. Raises `RegistryUnreachable`; another no is an answer."""
        try:
            with registry_errors(f"model {name!r}, alias {alias!r}"):
                found = self._mlflow().get_model_version_by_alias(name, alias)
        except RegistryUnreachable:
            raise
        except RegistryError as e:
            return Answer(None, alias, refusal=e)
        return Answer(str(found.version), alias, found.tags.get(DIGEST_TAG))

    def _ask_version(self, name: str, version: str) -> Answer:
        """What the registry says the version's digest is."""
        with registry_errors(f"model {name!r} version {version}"):
            found = self._mlflow().get_model_version(name, version)
        return Answer(version, digest=found.tags.get(DIGEST_TAG))

    def _folder(self, name: str, version: str) -> tuple[str, Held]:
        """(digest, verified local folder) of a version, from the cache or downloaded."""
        what = f"model {name!r} version {version}"
        digest = self._digest(name, version, what)
        held = self._cache.get(digest, what=what)
        if held is not None:
            return digest, held
        try:
            return digest, self._cache.add(digest, lambda to: self._download(name, version, to), what=what)
        except RegistryUnreachable:
            held = self._cache.get(digest, what=what, patient=True)
            if held is None:
                raise
            return digest, held

    def _digest(self, name: str, version: str, what: str) -> str:
        try:
            digest = self._cache.note(name, lambda: self._ask_version(name, version)).digest
        except RegistryUnreachable:
            digest = self._cache.digest_of(name, version)
            if digest is None:
                raise
        if digest is None:
            msg = f"{what} has no tag {DIGEST_TAG!r}, so its bytes cannot be verified; publish it with models.publish"
            raise UntrustedModel(msg)
        return digest

    def _download(self, name: str, version: str, to: Path) -> Path:
        with registry_errors(f"download of model {name!r} version {version}"):
            client = self._mlflow()
            from mlflow.artifacts import download_artifacts

            # By storage location, not by models:/ URI: that one asks MLflow's process-wide registry, not this one.
            source = client.get_model_version_download_uri(name, version)
            return Path(download_artifacts(artifact_uri=source, dst_path=str(to), tracking_uri=self._tracking_uri))
