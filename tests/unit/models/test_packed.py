"""Archives: the same folder, the same bytes; and nothing is unpacked but what `pack` writes."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import pytest

from models import packed
from models.artifacts import MAX_FILES, folder_digest
from models.errors import UntrustedModel
from models.packed import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(name="model")
def fixture_model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "extra_files").mkdir(parents=True)
    (folder / "MLmodel").write_bytes(b"a" * 512)
    (folder / "empty").write_bytes(b"")
    (folder / "extra_files" / "serving_spec.json").write_bytes(b"b" * 1_000)
    return folder


def packed_bytes(folder: Path) -> bytes:
    to = io.BytesIO()
    pack(folder, to)
    return to.getvalue()


def tar(*members: tuple[str, bytes, dict[str, object]], style: int = tarfile.USTAR_FORMAT) -> bytes:
    to = io.BytesIO()
    with tarfile.open(fileobj=to, mode="w", format=style) as archive:
        for name, data, changes in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for key, value in changes.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(data))
    return to.getvalue()


def test_a_folder_comes_back_with_its_digest_and_any_tar_reads_it(model: Path, tmp_path: Path) -> None:
    data = packed_bytes(model)
    (tmp_path / "to").mkdir()
    unpack(io.BytesIO(data), tmp_path / "to")
    assert folder_digest(tmp_path / "to") == folder_digest(model)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames() == ["MLmodel", "empty", "extra_files/serving_spec.json"]


def test_the_same_folder_gives_the_same_bytes_whenever_and_by_whomever_it_was_made(model: Path, tmp_path: Path) -> None:
    import os
    import shutil

    other = shutil.copytree(model, tmp_path / "other")
    os.utime(other / "MLmodel", (1, 1))
    (other / "MLmodel").chmod(0o600)
    (other / "registered_model_meta").write_text("left by a download")
    assert packed_bytes(other) == packed_bytes(model)


SPARSE: dict[str, object] = {"type": tarfile.GNUTYPE_SPARSE}


@pytest.mark.parametrize(
    ("archive", "wrong"),
    [
        (tar(("../escape", b"x", {})), "not a path below the model folder"),
        (tar(("/escape", b"x", {})), "not a path below the model folder"),
        (tar(("a/../../escape", b"x", {})), "not a path below the model folder"),
        (tar(("./a", b"x", {})), "not a path below the model folder"),
        (tar(("a\\b", b"x", {})), "not a path below the model folder"),
        (tar(("a", b"", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"})), "something other than a plain file"),
        (tar(("a", b"", {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"})), "something other than a plain file"),
        (tar(("a", b"", {"type": tarfile.FIFOTYPE})), "something other than a plain file"),
        (tar(("a", b"", {"type": tarfile.CHRTYPE})), "something other than a plain file"),
        (tar(("a", b"", {"type": tarfile.DIRTYPE})), "something other than a plain file"),
        (tar(("a", b"x", SPARSE)), "something other than a plain file"),
        (tar(("a", b"x", {"mode": 0o4755})), "something other than a plain file"),
        (tar(("a" * 300, b"x", {}), style=tarfile.PAX_FORMAT), "names '././@PaxHeader'"),
        (tar(("a" * 300, b"x", {}), style=tarfile.GNU_FORMAT), "names '././@LongLink'"),
        (tar(("a", b"x", {}), ("a", b"y", {})), "'a' twice"),
        (tar(("a", b"x", {}), ("a/b", b"y", {})), "as a file and as a folder"),
        (tar(*((f"f{i}", b"", {}) for i in range(MAX_FILES + 1))), f"more than {MAX_FILES} files"),
        (tar(("a", b"x", {})) + b"tail", "goes on after its end"),
        (b"", "cut short"),
        (b"\x1f\x8b" + bytes(600), "damaged"),
        (bytes(512), "goes on after its end"),
    ],
)
def test_anything_pack_does_not_write_is_refused_and_stays_inside(archive: bytes, wrong: str, tmp_path: Path) -> None:
    to = tmp_path / "in" / "to"
    to.mkdir(parents=True)
    with pytest.raises(UntrustedModel, match=wrong):
        unpack(io.BytesIO(archive), to)
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]
    assert [entry.name for entry in (tmp_path / "in").iterdir()] == ["to"]


def test_cut_anywhere_it_is_refused(model: Path, tmp_path: Path) -> None:
    data = packed_bytes(model)
    for i, length in enumerate(range(0, len(data), 100)):
        to = tmp_path / f"{i}"
        to.mkdir()
        with pytest.raises(UntrustedModel):
            unpack(io.BytesIO(data[:length]), to)


def test_a_size_that_is_not_there_reserves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = tarfile.TarInfo("a")
    header.size = 4 << 30
    with pytest.raises(UntrustedModel, match="more than"):
        unpack(io.BytesIO(header.tobuf(tarfile.USTAR_FORMAT)), tmp_path)
    monkeypatch.setattr(packed, "MAX_BYTES", 10)
    with pytest.raises(UntrustedModel, match="more than"):
        unpack(io.BytesIO(tar(("b", b"x" * 6, {}), ("c", b"x" * 6, {}))), tmp_path)
    assert not (tmp_path / "a").exists()


def test_a_name_too_long_for_the_format_is_not_packed(tmp_path: Path, make_folder: Callable[[str], Path]) -> None:
    with pytest.raises(UntrustedModel, match="does not fit"):
        packed_bytes(make_folder("a" * 200))
    assert tmp_path.is_dir()


@pytest.fixture(name="make_folder")
def fixture_make_folder(tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        (tmp_path / "long").mkdir()
        (tmp_path / "long" / name).write_bytes(b"")
        return tmp_path / "long"

    return make
