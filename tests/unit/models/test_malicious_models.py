"""Models made to run code, to reach outside their folder, or to crash: nothing runs, and each is refused by name.

Every folder here starts as a good one and is attacked by someone who may also write the digest: these are the checks
behind the digest. A payload, if it ran, would create the sentinel file.
"""

from __future__ import annotations

import os
import pickle
import shutil
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import models.artifacts
from models.artifacts import EXAMPLE_FILE, SPEC_FILE, folder_digest, model_files
from models.flavors import inspect_folder
from tests.unit.models.malice import Payload, assert_refused, edit, load

if TYPE_CHECKING:
    from pathlib import Path


def test_the_good_folders_load_and_the_payload_is_live(linear: Path, sentinel: Path) -> None:
    load(linear)
    pickle.loads(pickle.dumps(Payload(sentinel)))  # noqa: S301 - proves that the sentinel would appear
    assert sentinel.exists()


def test_the_good_booster_loads(boosted: Path) -> None:
    load(boosted)


@pytest.mark.parametrize("name", ["model.pkl", "model.skops"])
def test_a_pickle_named_in_mlmodel_or_in_place_of_the_skops_file(linear: Path, sentinel: Path, name: str) -> None:
    (linear / name).write_bytes(pickle.dumps(Payload(sentinel)))
    edit(linear, lambda f: f["sklearn"].update(pickled_model=name, serialization_format="cloudpickle"))
    assert_refused(linear, sentinel, "only 'model.skops' is loaded" if name == "model.pkl" else "skops cannot read it")


def test_a_pickle_in_place_of_the_booster(boosted: Path, sentinel: Path) -> None:
    (boosted / "model.lgb").write_bytes(pickle.dumps(Payload(sentinel)))
    assert_refused(boosted, sentinel, "LightGBM text model")


@pytest.mark.parametrize("flavor", ["python_function", "sklearn"])
def test_a_code_folder(linear: Path, sentinel: Path, flavor: str) -> None:
    (linear / "code").mkdir()
    (linear / "code" / "evilmod.py").write_text(f"open({str(sentinel)!r}, 'w')")
    edit(linear, lambda f: f[flavor].update(code="code"))
    assert_refused(linear, sentinel, "may bring code")
    edit(linear, lambda f: f[flavor].update(code=None))
    assert_refused(linear, sentinel, "unexpected files .*code/evilmod.py")


def test_a_loader_module(linear: Path, sentinel: Path) -> None:
    edit(linear, lambda f: f["python_function"].update(loader_module="evilmod"))
    assert_refused(linear, sentinel, "loader_module is 'evilmod'; right is 'mlflow.sklearn'")


@pytest.mark.parametrize("key", ["python_model", "model_code_path", "artifacts", "cloudpickle_version"])
def test_keys_that_bring_code_or_are_unknown(linear: Path, sentinel: Path, key: str) -> None:
    edit(linear, lambda f: f["python_function"].update({key: "model.pkl"}))
    assert_refused(linear, sentinel, f"has .*{key}.*may bring code")


@pytest.mark.parametrize("flavors", [["python_function"], ["pytorch"], ["lightgbm", "sklearn"], ["sklearn", "spark"], []])
def test_other_flavors(linear: Path, sentinel: Path, flavors: list[str]) -> None:
    def swap(parsed: dict[str, Any]) -> None:
        conf = parsed["sklearn"]
        parsed.clear()
        parsed.update({flavor: deepcopy(conf) for flavor in flavors})

    edit(linear, swap)
    assert_refused(linear, sentinel, "served are lightgbm")


def test_yaml_that_builds_objects(linear: Path, sentinel: Path) -> None:
    (linear / "MLmodel").write_text(f"flavors: !!python/object/apply:os.system ['touch {sentinel}']\n")
    assert_refused(linear, sentinel, "not plain YAML")


@pytest.mark.parametrize("text", ["", "[]", "flavors: 3", "flavors: {sklearn: 3}", "\x00", "[" * 10_000])
def test_mlmodel_that_is_no_mlmodel(linear: Path, sentinel: Path, text: str) -> None:
    (linear / "MLmodel").write_text(text)
    assert_refused(linear, sentinel, "MLmodel")


@pytest.mark.parametrize("path", ["../outside.skops", "/etc/passwd", "extra_files/../../outside.skops", ["model.skops"], None])
def test_a_path_that_leaves_the_folder(linear: Path, sentinel: Path, path: Any) -> None:
    shutil.copy(linear / "model.skops", linear.parent / "outside.skops")
    edit(linear, lambda f: f["sklearn"].update(pickled_model=path))
    assert_refused(linear, sentinel, "only 'model.skops' is loaded")


@pytest.mark.parametrize("name", ["model.skops", SPEC_FILE, "MLmodel"])
def test_a_symbolic_link_to_a_file(linear: Path, sentinel: Path, name: str) -> None:
    outside = shutil.move(linear / name, linear.parent / "outside")
    (linear / name).symlink_to(outside)
    assert_refused(linear, sentinel, f"'{name}' is a link")


def test_a_symbolic_link_to_a_folder(linear: Path, sentinel: Path) -> None:
    outside = shutil.move(linear / "extra_files", linear.parent / "outside")
    (linear / "extra_files").symlink_to(outside)
    assert_refused(linear, sentinel, "'extra_files' is a link")


def test_a_pipe_that_would_block_the_reader(linear: Path, sentinel: Path) -> None:
    (linear / "requirements.txt").unlink()
    os.mkfifo(linear / "requirements.txt")
    assert_refused(linear, sentinel, "special file")


def test_too_many_files_and_too_many_bytes(linear: Path, sentinel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("MAX_FILES", "MAX_BYTES"):
        with monkeypatch.context() as patched:
            patched.setattr(models.artifacts, limit, 3)
            assert_refused(linear, sentinel, "at most")


@pytest.mark.parametrize("keep", [0, 1, 100, 1000])
def test_a_booster_cut_short(boosted: Path, sentinel: Path, keep: int) -> None:
    file = boosted / "model.lgb"
    file.write_bytes(file.read_bytes()[:keep])
    assert_refused(boosted, sentinel, "LightGBM text model")


@pytest.mark.parametrize("name", [EXAMPLE_FILE, SPEC_FILE, "model.skops", "MLmodel"])
def test_a_file_left_out(linear: Path, sentinel: Path, name: str) -> None:
    (linear / name).unlink()
    assert_refused(linear, sentinel, "missing files|no MLmodel")


def test_any_flipped_byte_is_another_digest(linear: Path) -> None:
    registered = folder_digest(linear)
    rng = np.random.default_rng(12)
    for file in model_files(linear).values():
        good = file.read_bytes()
        for at in {0, len(good) - 1, *rng.integers(0, len(good), size=20).tolist()}:
            bad = bytearray(good)
            bad[at] ^= 1 << int(rng.integers(0, 8))
            file.write_bytes(bad)
            assert folder_digest(linear) != registered
        file.write_bytes(good)
    assert folder_digest(linear) == registered


def test_renaming_or_moving_bytes_between_files_is_another_digest(tmp_path: Path) -> None:
    digests: set[str] = set()
    for layout in ({"a": b"bc"}, {"ab": b"c"}, {"a": b"b", "c": b""}, {"a": b"", "c": b"b"}, {"a": b"bc", "d": b""}):
        folder = tmp_path / str(len(digests))
        folder.mkdir()
        for name, data in layout.items():
            (folder / name).write_bytes(data)
        digests.add(folder_digest(folder))
    assert len(digests) == 5


def test_inspection_alone_reads_no_model(linear: Path) -> None:
    (linear / "model.skops").write_bytes(b"not a model")
    assert inspect_folder(linear) == "sklearn"
