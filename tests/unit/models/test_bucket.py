"""The bucket through Google's own client, against a server that speaks its protocol and fails in its ways."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from models import bucket as bucket_module
from models.bounded import within
from models.bucket import ABSENT, Bucket
from models.errors import BucketError, UntrustedModel
from models.index import Known
from tests.unit.models.gcs_server import FakeStorage, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("google.cloud.storage", reason="the extra gcp is not installed")

DIGEST = "0" * 64
NAME = f"p/q/artifacts/{DIGEST}.tar"
INDEX = "p/q/index.json"


@pytest.fixture(name="storage")
def fixture_storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeStorage]:
    storage = FakeStorage()
    with serving(storage) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        monkeypatch.setattr(bucket_module, "_RETRY_S", 0.3)
        monkeypatch.setattr(bucket_module, "_TIMEOUT_S", (3.0, 4.0))
        yield storage


@pytest.fixture(name="bucket")
def fixture_bucket(storage: FakeStorage) -> Bucket:  # noqa: ARG001 - it must answer first
    return Bucket("gs://bucket/p/q/")


def file_of(tmp_path: Path, data: bytes) -> Path:
    (tmp_path / "packed").write_bytes(data)
    return tmp_path / "packed"


@pytest.mark.parametrize(
    ("location", "name"),
    [("gs://bucket", "artifacts/"), ("gs://bucket/", "artifacts/"), ("gs://bucket/a/b/", "a/b/artifacts/")],
)
def test_objects_lie_below_the_prefix(storage: FakeStorage, location: str, name: str, tmp_path: Path) -> None:
    assert Bucket(location).put(DIGEST, file_of(tmp_path, b"x"))
    assert set(storage.objects) == {f"{name}{DIGEST}.tar"}


@pytest.mark.parametrize(("size_bytes", "kind"), [(0, "multipart"), (1_000, "multipart"), ((8 << 20) + 7, "piece")])
def test_what_was_put_is_fetched(storage: FakeStorage, bucket: Bucket, tmp_path: Path, size_bytes: int, kind: str) -> None:
    data = bytes(range(256)) * (size_bytes // 256) + b"\r\n--=" * (size_bytes % 256)
    assert not bucket.has(DIGEST)
    assert bucket.fetch(DIGEST, tmp_path / "to", bound_s=5) == ABSENT
    assert bucket.put(DIGEST, file_of(tmp_path, data))
    assert bucket.has(DIGEST)
    assert bucket.fetch(DIGEST, tmp_path / "to", bound_s=5) == storage.objects[NAME].generation
    assert (tmp_path / "to").read_bytes() == data
    assert kind in storage.kinds()


def test_of_two_writers_the_second_changes_nothing(storage: FakeStorage, bucket: Bucket, tmp_path: Path) -> None:
    assert bucket.put(DIGEST, file_of(tmp_path, b"first"))
    assert not bucket.put(DIGEST, file_of(tmp_path, b"second"))
    assert storage.objects[NAME].data == b"first"


def test_only_the_generation_known_to_be_bad_is_written_over(storage: FakeStorage, bucket: Bucket, tmp_path: Path) -> None:
    bad = storage.put(NAME, b"bad")
    good = file_of(tmp_path, b"good")
    assert not bucket.put(DIGEST, good, replacing=bad - 1)
    assert bucket.put(DIGEST, good, replacing=bad)
    assert not bucket.put(DIGEST, file_of(tmp_path, b"late"), replacing=bad)
    assert storage.objects[NAME].data == b"good"


@pytest.mark.parametrize(("kind", "size_bytes"), [("multipart", 100_000), ("piece", 9 << 20)])
def test_an_upload_that_is_cut_off_leaves_nothing(
    storage: FakeStorage, bucket: Bucket, tmp_path: Path, kind: str, size_bytes: int
) -> None:
    storage.cut_bytes[kind] = 50_000
    with pytest.raises(BucketError, match=f"gs://bucket/{NAME}"):
        bucket.put(DIGEST, file_of(tmp_path, bytes(size_bytes)))
    assert storage.objects == {}
    storage.cut_bytes.clear()
    assert bucket.put(DIGEST, file_of(tmp_path, bytes(size_bytes)))


def test_an_answer_lost_after_the_upload_is_made_up_for(
    storage: FakeStorage, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The retry finds its own object there: as good as another writer's."""
    monkeypatch.setattr(bucket_module, "_RETRY_S", 10.0)
    storage.status["multipart"], storage.times["multipart"] = 503, 1
    storage.before["multipart"] = lambda _: storage.objects or storage.put(NAME, b"data")  # carried out, answered with 503
    assert not bucket.put(DIGEST, file_of(tmp_path, b"data"))
    assert storage.objects[NAME].data == b"data"


def test_a_download_cut_short_goes_on_where_it_was(
    storage: FakeStorage, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_module, "_RETRY_S", 10.0)
    data = bytes(range(256)) * 2_000
    storage.put(NAME, data)
    storage.cut_bytes["media"] = 300_000
    bucket.fetch(DIGEST, tmp_path / "to", bound_s=20)
    assert (tmp_path / "to").read_bytes() == data
    assert storage.kinds()["media"] > 1


def test_an_object_replaced_while_it_is_read_is_read_again_whole(storage: FakeStorage, bucket: Bucket, tmp_path: Path) -> None:
    storage.put(NAME, b"old")

    def replace(_: object) -> None:
        storage.before.clear()
        storage.put(NAME, b"new and longer")

    storage.before["media"] = replace
    assert bucket.fetch(DIGEST, tmp_path / "to", bound_s=5) == storage.objects[NAME].generation
    assert (tmp_path / "to").read_bytes() == b"new and longer"


def test_an_object_too_large_is_not_read(
    storage: FakeStorage, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_module, "MAX_PACKED_BYTES", 10)
    storage.put(NAME, bytes(11))
    with pytest.raises(BucketError, match="11 bytes; at most 10"):
        bucket.fetch(DIGEST, tmp_path / "to", bound_s=5)
    assert "media" not in storage.kinds()


def test_a_hiccup_is_retried(storage: FakeStorage, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_module, "_RETRY_S", 10.0)
    storage.status["meta"], storage.times["meta"] = 503, 1
    assert not bucket.has(DIGEST)


@pytest.mark.parametrize(
    ("code", "right"),
    [
        (403, "give its account roles/storage.objectUser"),
        (401, "check the account: GOOGLE_APPLICATION_CREDENTIALS"),
        (503, "check storage.cache_dir"),
    ],
)
def test_a_refusal_is_one_line_that_names_the_object_and_what_is_right(
    storage: FakeStorage, bucket: Bucket, code: int, right: str, tmp_path: Path
) -> None:
    storage.status = dict.fromkeys(("meta", "media", "multipart"), code)
    for call in (
        lambda: bucket.fetch(DIGEST, tmp_path / "to", bound_s=5),
        lambda: bucket.put(DIGEST, file_of(tmp_path, b"x")),
        lambda: bucket.read_index(bound_s=5),
    ):
        with pytest.raises(BucketError, match=rf"gs://bucket/p/q/.*{right}") as caught:
            call()
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500


def test_a_bucket_that_says_nothing_is_given_up(storage: FakeStorage, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_module, "_TIMEOUT_S", (1.0, 0.5))
    storage.silent.add("meta")
    before_s = time.monotonic()
    with pytest.raises(BucketError, match=r"check storage\.cache_dir and the network"):
        bucket.has(DIGEST)
    assert time.monotonic() - before_s < 8


def test_a_bucket_that_drips_is_given_up_at_the_bound(storage: FakeStorage, bucket: Bucket, tmp_path: Path) -> None:
    storage.put(NAME, bytes(100_000))
    storage.drip_s = 0.1  # never silent long enough for a read timeout
    before_s = time.monotonic()
    with pytest.raises(TimeoutError, match=r"no answer within 0\.5 s"):
        within(0.5, lambda: bucket.fetch(DIGEST, tmp_path / "to", bound_s=0.5))
    assert time.monotonic() - before_s < 10  # all of it would drip for hours


def test_the_index_is_written_only_over_what_was_read(storage: FakeStorage, bucket: Bucket) -> None:
    index, generation = bucket.read_index(bound_s=5)
    assert (index, generation) == ({}, ABSENT)
    index["m"] = Known(aliases={"champion": "3"}, versions={"3": DIGEST})
    assert bucket.write_index(index, replacing=generation)
    assert not bucket.write_index({}, replacing=generation)
    assert bucket.read_index(bound_s=5) == (index, storage.objects[INDEX].generation)


def test_an_index_that_cannot_be_read_is_empty_and_may_be_written_over(storage: FakeStorage, bucket: Bucket) -> None:
    storage.put(INDEX, b'{"m": {"alia')
    index, generation = bucket.read_index(bound_s=5)
    assert index == {}
    assert bucket.write_index({"m": Known()}, replacing=generation)


def test_a_digest_that_is_no_digest_never_becomes_an_object(bucket: Bucket) -> None:
    with pytest.raises(UntrustedModel, match="is not a SHA-256"):
        bucket.has("../index.json")


def test_without_the_extra_the_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "google.cloud.storage", None)
    with pytest.raises(BucketError, match=r"needs the extra gcp: install trading-ml-inference\[gcp\]"):
        Bucket("gs://bucket").has(DIGEST)
