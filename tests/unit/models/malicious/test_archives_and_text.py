"""Bombs and detours in what is parsed before any model: MLmodel, JSON, archives, links. Refused, quickly, by name."""

from __future__ import annotations

import gzip
import os
import time
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from models.artifacts import EXAMPLE_FILE, SPEC_FILE
from models.errors import ModelError, UntrustedModel
from models.flavors import ALLOWED
from tests.unit.models.malice import assert_refused, edit, load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LAUGHS = "\n".join(["a0: &a0 [lol]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))])


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS + "\nflavors: {lightgbm: {data: *a11}}",
        "flavors: {lightgbm: &a {data: model.lgb}, python_function: *a}",
        "a: &a {x: 1}\nflavors:\n  lightgbm:\n    <<: *a\n    data: model.lgb",
        "flavors: {1: {}, a: {}}",
        "flavors: {lightgbm: {data: 2001-99-99}}",
        f"flavors: {{lightgbm: {{data: {'9' * 5000}}}}}",
        "flavors: {? [a, b] : {}}",
        "flavors: !!python/name:os.system",
        "flavors: {lightgbm: {data: !!binary ////}, python_function: {loader_module: !!python/module:os ''}}",
        "{" * 5000,
        "flavors: {lightgbm: {data: model.lgb}}\n---\nflavors: {}",
    ],
    ids=lambda t: t[:40],
)
def test_yaml_made_to_grow_or_to_fall_over(victim: Callable[[str], Path], sentinel: Path, text: str) -> None:
    folder = victim("lightgbm")
    (folder / "MLmodel").write_text(text)
    began = time.process_time()
    with pytest.raises(UntrustedModel, match="MLmodel") as caught:
        load(folder)
    assert len(str(caught.value)) < 6000
    assert time.process_time() - began < 5.0
    assert not sentinel.exists()


@pytest.mark.parametrize("name", [SPEC_FILE, EXAMPLE_FILE])
@pytest.mark.parametrize("text", ["[" * 100_000, "{" * 100_000, '{"vectors": ' + "[" * 100_000, "\xff", "9" * 10_000, "1e999"])
def test_json_that_is_deep_or_no_json(victim: Callable[[str], Path], name: str, text: str) -> None:
    folder = victim("lightgbm")
    (folder / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert caught.value.check == "spec"


@pytest.mark.parametrize("name", ["MLmodel", EXAMPLE_FILE])
def test_text_beyond_any_need_is_not_read(victim: Callable[[str], Path], sentinel: Path, name: str) -> None:
    folder = victim("lightgbm")
    os.truncate(folder / name, 1 << 26)
    assert_refused(folder, sentinel, "bytes; at most")


@pytest.mark.parametrize("flavor", ["lightgbm", "sklearn", "xgboost", "onnx"])
def test_a_path_that_leaves_the_folder_is_no_name_of_a_model(victim: Callable[[str], Path], sentinel: Path, flavor: str) -> None:
    key = ALLOWED[flavor].key  # type: ignore[index]  # a flavor's name, as text
    for path in ("../outside", "/etc/passwd", "./model.lgb", "extra_files/../../x", ["model.onnx"], 3, None, {"a": "b"}):
        folder = victim(flavor)
        edit(folder, lambda f, path=path: f[flavor].update({key: path}))  # type: ignore[misc]  # bound now
        assert_refused(folder, sentinel, "is loaded, a data-only format")


@pytest.mark.parametrize("flavor", ["lightgbm", "sklearn", "xgboost", "onnx"])
def test_a_hard_link_or_a_symbolic_one_to_a_file_outside(victim: Callable[[str], Path], sentinel: Path, flavor: str) -> None:
    folder = victim(flavor)
    (file,) = (f for f in folder.iterdir() if f.name.startswith("model."))
    outside = folder.parent / "outside"
    os.link(file, outside)
    assert_refused(folder, sentinel, "is a hard link")
    file.unlink()
    file.symlink_to(outside)
    assert_refused(folder, sentinel, "is a link")


@pytest.mark.parametrize("flavor", ["lightgbm", "sklearn", "xgboost", "onnx"])
def test_a_compressed_bomb_in_place_of_the_model_is_not_unpacked(
    victim: Callable[[str], Path], sentinel: Path, flavor: str
) -> None:
    folder = victim(flavor)
    (file,) = (f for f in folder.iterdir() if f.name.startswith("model."))
    file.write_bytes(gzip.compress(b"0" * (1 << 24)))
    assert_refused(folder, sentinel, "LightGBM text model|skops cannot read it|neither JSON nor UBJSON|ONNX model is not loaded")


def rewrite(file: Path, change: Callable[[dict[str, bytes]], dict[str, bytes]]) -> None:
    with zipfile.ZipFile(file) as archive:
        members = {n: archive.read(n) for n in archive.namelist()}
    with zipfile.ZipFile(file, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        for name, data in change(members).items():
            archive.writestr(name, data)


@pytest.mark.parametrize("name", ["../escaped.npy", "/escaped.npy", "..\\escaped.npy"])
def test_archive_members_whose_names_leave_the_folder_are_never_written(
    victim: Callable[[str], Path], sentinel: Path, name: str
) -> None:
    folder = victim("sklearn")
    before = sorted(p.relative_to(folder.parent) for p in folder.parent.rglob("*"))
    rewrite(folder / "model.skops", lambda members: members | {name: b"escaped"})
    load(folder)  # a member nobody asks for is never read
    assert sorted(p.relative_to(folder.parent) for p in folder.parent.rglob("*")) == before
    assert not sentinel.exists()


def test_an_archive_of_a_gigabyte_of_zeros_is_not_unpacked(victim: Callable[[str], Path], sentinel: Path) -> None:
    folder = victim("sklearn")
    with zipfile.ZipFile(folder / "model.skops", "a", compression=zipfile.ZIP_DEFLATED) as archive:
        for i in range(2):
            info = zipfile.ZipInfo(f"bomb{i}.npy")
            archive.writestr(info, b"0")
    with zipfile.ZipFile(folder / "model.skops") as archive:
        names = [i.filename for i in archive.infolist()]
    assert "bomb1.npy" in names
    data = bytearray((folder / "model.skops").read_bytes())
    at = data.rfind(b"bomb0.npy") - 46  # its entry in the central directory
    data[at + 24 : at + 28] = (0xFFFFFFF0).to_bytes(4, "little")  # the size it claims to unzip to
    (folder / "model.skops").write_bytes(data)
    assert_refused(folder, sentinel, "unzips to more than")


@pytest.mark.parametrize("shape", ["(1099511627776,)", "(-1,)", "(2, 3, 4)", "(" + "1," * 3000 + ")"])
def test_arrays_of_a_forged_shape(victim: Callable[[str], Path], sentinel: Path, shape: str) -> None:
    folder = victim("sklearn")

    def forge(members: dict[str, bytes]) -> dict[str, Any]:
        head = ("{'descr': '<f8', 'fortran_order': False, 'shape': " + shape + ", }").encode()
        head += b" " * (63 - (len(head) + 10) % 64) + b"\n"
        forged = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + b"\x00" * 24
        return {n: forged if n.endswith(".npy") else d for n, d in members.items()}

    rewrite(folder / "model.skops", forge)
    with pytest.raises(ModelError):
        load(folder)
    assert not sentinel.exists()
