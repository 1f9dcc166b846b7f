"""Both levels of the cache: a folder of this machine, and behind it a bucket that all workers share. Shell.

    artifact    local → bucket (within `ARTIFACT_BOUND_S`) → the registry; what the registry gave goes to both
    index       written locally at once; read from the bucket (within `INDEX_BOUND_S`) only when the registry is away

Nobody waits for a write to the bucket: one daemon thread does them, once each, and again after a failure when the
registry is next asked. A bucket that fails is not read for `REST_S`, so a start loses one bound to it, not one a model.
What comes from the bucket is verified like everything else. What does not verify is ignored, and written over, exactly
that generation of it, once verified bytes have come from the registry; it is never deleted there.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from models.bounded import within
from models.bucket import ABSENT, Bucket
from models.cache import ArtifactCache, Held
from models.errors import BucketError, RegistryUnreachable, UntrustedModel
from models.index import ROUNDS, Answer, Known, LocalIndex, now_us
from models.packed import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")
log = structlog.get_logger()

INDEX_BOUND_S: Final = 5.0
ARTIFACT_BOUND_S: Final = 30.0
PATIENT_BOUND_S: Final = 600.0
"""For an artifact when neither this machine nor the registry has it: then there is nothing to go on with."""
REST_S: Final = 60.0


class _Absent(Exception):
    """The bucket does not have it: a way out of `ArtifactCache.add`."""


class SharedCache:
    """The cache in the folder `root`, at most `max_bytes` of it, and in `bucket` (``gs://bucket/prefix``) if one is given.

    `ask_alias(name, alias)`: the registry's answer now, for writing the bucket's index. `counts`: what happened so far:
    artifacts by where they came from (`local`, `bucket`, `registry`), `unverified` ones of the bucket, `bucket_failures`.
    """

    def __init__(
        self,
        root: Path,
        *,
        ask_alias: Callable[[str, str], Answer],
        bucket: str | None = None,
        max_bytes: int | None = None,
        index_bound_s: float = INDEX_BOUND_S,
        artifact_bound_s: float = ARTIFACT_BOUND_S,
    ) -> None:
        self._index = LocalIndex(root)
        self._artifacts = ArtifactCache(root, max_bytes=max_bytes, keep=self._index.served_digests)
        self._ask_alias = ask_alias
        self._bucket = None if bucket is None else Bucket(bucket)
        self._index_bound_s = index_bound_s
        self._artifact_bound_s = artifact_bound_s
        self.counts: Counter[str] = Counter()
        self._bad: dict[str, int] = {}
        self._published: set[str] = set()
        self._failing: set[str] = set()
        self._rest_until_s = 0.0
        self._changed = threading.Condition()
        self._todo: dict[tuple[str, str], Callable[[Bucket], None]] = {}
        self._failed: dict[tuple[str, str], Callable[[Bucket], None]] = {}
        self._writing: threading.Thread | None = None

    def note(self, name: str, ask: Callable[[], Answer]) -> Answer:
        """Ask the registry and keep its answer here, and in the bucket soon. Raises what `ask` raises."""
        answer = self._index.note(name, ask)
        with self._changed:
            again, self._failed = self._failed, {}
            for key, work in again.items():
                self._soon(key, work)
            self._soon(("index", name), partial(self._publish_index, name))
        return answer

    def version_of(self, name: str, alias: str) -> str | None:
        """The version the alias named when last seen, by any worker if the bucket answers; for when the registry does not."""
        self._look_up(name)
        return self._index.known(name).aliases.get(alias)

    def digest_of(self, name: str, version: str) -> str | None:
        """The digest of the version when last seen, likewise."""
        digest = self._index.known(name).versions.get(version)
        if digest is None:
            self._look_up(name)
            digest = self._index.known(name).versions.get(version)
        return digest

    def get(self, digest: str, *, what: str, patient: bool = False) -> Held | None:
        """The verified folder, from here or from the bucket; None if neither has it, or the bucket has it not in time."""
        held = self._artifacts.get(digest, what=what)
        if held is not None:
            self.counts["local"] += 1
            self._offer(digest, what)
            return held
        bound_s = PATIENT_BOUND_S if patient else self._artifact_bound_s
        try:
            held = self._read(lambda bucket: self._fetch(bucket, digest, what, bound_s), bound_s, even_resting=patient)
        except UntrustedModel as e:
            self.counts["unverified"] += 1
            log.warning("artifact in the bucket ignored: it does not verify", error=str(e))
            return None
        if held is not None:
            self.counts["bucket"] += 1
        return held

    def add(self, digest: str, download: Callable[[Path], Path], *, what: str) -> Held:
        """The folder as `download` fills it, verified, here, and in the bucket soon. Raises as `ArtifactCache.add`."""
        held = self._artifacts.add(digest, download, what=what)
        self.counts["registry"] += 1
        self._offer(digest, what)
        return held

    def flush(self, timeout_s: float) -> bool:
        """Wait until the bucket has all that is to be written, or refused it; False if that takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: self._writing is None, timeout_s)

    # What is read from the bucket.

    def _look_up(self, name: str) -> None:
        """Take over from the bucket's index what it says later than the local one."""
        found = self._read(lambda bucket: bucket.read_index(bound_s=self._index_bound_s), self._index_bound_s)
        if found is not None and name in found[0]:
            self._index.adopt(name, found[0][name])

    def _fetch(self, bucket: Bucket, digest: str, what: str, bound_s: float) -> Held | None:
        generation = ABSENT

        def download(to: Path) -> Path:
            nonlocal generation
            generation = bucket.fetch(digest, to / "packed", bound_s=bound_s)
            if generation == ABSENT:
                raise _Absent
            (to / "model").mkdir()
            with (to / "packed").open("rb") as packed:
                unpack(packed, to / "model")
            return to / "model"

        try:
            return self._artifacts.add(digest, download, what=what)
        except _Absent:
            return None
        except UntrustedModel:
            self._bad[digest] = generation
            raise

    def _read(self, work: Callable[[Bucket], T], bound_s: float, *, even_resting: bool = False) -> T | None:
        """What `work` reads within the bound; None without a bucket, while it rests, and when it fails."""
        bucket = self._bucket
        if bucket is None or (time.monotonic() < self._rest_until_s and not even_resting):
            return None
        try:
            found = within(bound_s, lambda: work(bucket))
        except (BucketError, OSError) as e:
            self._rest_until_s = time.monotonic() + REST_S
            self._failure("reading", e)
            return None
        self._rest_until_s = 0.0
        self._success("reading")
        return found

    # What is written to the bucket.

    def _offer(self, digest: str, what: str) -> None:
        with self._changed:
            self._soon(("artifact", digest), partial(self._publish_artifact, digest, what))

    def _soon(self, key: tuple[str, str], work: Callable[[Bucket], None]) -> None:
        if self._bucket is None:
            return
        self._todo[key] = work
        if self._writing is None:
            self._writing = threading.Thread(target=self._write_all, args=(self._bucket,), daemon=True, name="cache bucket")
            self._writing.start()

    def _write_all(self, bucket: Bucket) -> None:
        while True:
            with self._changed:
                if not self._todo:
                    self._writing = None
                    self._changed.notify_all()
                    return
                key = next(iter(self._todo))
                work = self._todo.pop(key)
            try:
                work(bucket)
            except RegistryUnreachable:
                self._again(key, work)  # and nothing said: that is said where the registry is followed
            except (BucketError, OSError) as e:
                self._again(key, work)
                self._failure(f"writing {key[0]}", e)
            except Exception as e:  # noqa: BLE001 - whatever fails, the registry and this machine have what is needed
                self._failure(f"writing {key[0]}", e)
            else:
                self._success(f"writing {key[0]}")

    def _again(self, key: tuple[str, str], work: Callable[[Bucket], None]) -> None:
        with self._changed:
            self._failed[key] = work

    def _publish_artifact(self, digest: str, what: str, bucket: Bucket) -> None:
        bad = self._bad.get(digest, ABSENT)
        if bad == ABSENT and (digest in self._published or bucket.has(digest)):
            self._published.add(digest)
            return
        held = self._artifacts.get(digest, what=what)
        if held is None:
            return
        with held, self._artifacts.scratch() as folder:
            packed = folder / "packed"
            with packed.open("wb") as to:
                pack(held.folder, to)
            bucket.put(digest, packed, replacing=bad)  # False: somebody else has put it there, which is as good
        self._bad.pop(digest, None)
        self._published.add(digest)

    def _publish_index(self, name: str, bucket: Bucket) -> None:
        """Make the bucket's index say what the registry says now, if it says something else than this machine's."""
        for _ in range(ROUNDS):
            index, generation = bucket.read_index(bound_s=self._index_bound_s)
            known, ours = index.setdefault(name, Known()), self._index.known(name)
            before = dict(known.aliases), dict(known.versions)
            known.versions |= ours.versions
            for alias, version in ours.aliases.items():
                if version != known.aliases.get(alias):
                    asked_us = now_us()  # asked after the index was read: newer than all it says
                    known.note(self._ask_alias(name, alias), asked_us=asked_us)
            if (known.aliases, known.versions) == before or bucket.write_index(index, replacing=generation):
                self._index.adopt(name, known)
                return
        raise BucketError(f"the index in the bucket was written by others {ROUNDS} times while we tried")

    # What is said about it.

    def _failure(self, what: str, error: Exception) -> None:
        """Once until it works again, one line."""
        self.counts["bucket_failures"] += 1
        if what not in self._failing:
            log.warning("cache bucket fails, work goes on without it", what=what, error=str(error) or type(error).__name__)
        self._failing.add(what)

    def _success(self, what: str) -> None:
        if what in self._failing:
            log.info("cache bucket serves again", what=what)
        self._failing.discard(what)
