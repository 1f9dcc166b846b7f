"""Models made to run code, to reach outside their folder, or to crash: nothing runs, and each is refused by name.

Every folder here starts as a good one and is attacked by someone who may also write the digest: these are the checks
behind the digest. A payload, if it ran, would create the sentinel file.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

import models.artifacts
import models.native_sklearn
from models.artifacts import EXAMPLE_FILE, SPEC_FILE, folder_digest, model_files
from models.errors import ModelError, UntrustedModel
from models.loaders import inspect_folder
from models.registry import load_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.models.conftest import Data, Store


class Payload:
    """Creates the sentinel when unpickled."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.sentinel}",)


@pytest.fixture(name="sentinel")
def fixture_sentinel(tmp_path: Path) -> Path:
    return tmp_path / "sentinel"


@pytest.fixture(scope="session", name="published")
def fixture_published(
    make_store: Callable[[Path], Store], ridge: Any, booster: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with the files of two good versions, `linear` and `boosted`."""
    root = tmp_path_factory.mktemp("published")
    for name, model in (("linear", ridge), ("boosted", booster)):
        (root / name).mkdir()
        make_store(root / name).publish(model)
        (mlmodel,) = (root / name / "artifacts").rglob("MLmodel")
        mlmodel.parent.rename(root / name / "model")
    return root


@pytest.fixture(name="linear")
def fixture_linear(published: Path, tmp_path: Path) -> Path:
    return shutil.copytree(published / "linear" / "model", tmp_path / "victim")


@pytest.fixture(name="boosted")
def fixture_boosted(published: Path, tmp_path: Path) -> Path:
    return shutil.copytree(published / "boosted" / "model", tmp_path / "victim")


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the parsed MLmodel."""
    parsed = yaml.safe_load((folder / "MLmodel").read_text())
    change(parsed["flavors"])
    (folder / "MLmodel").write_text(yaml.safe_dump(parsed))


def load(folder: Path) -> None:
    load_folder(folder, name="m", version="1", digest=folder_digest(folder))


def assert_refused(folder: Path, sentinel: Path, why: str) -> None:
    with pytest.raises(UntrustedModel, match=why):
        load(folder)
    assert not sentinel.exists()


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


@pytest.mark.parametrize("flavors", [["python_function"], ["onnx"], ["lightgbm", "sklearn"], ["sklearn", "spark"], []])
def test_other_flavors(linear: Path, sentinel: Path, flavors: list[str]) -> None:
    def swap(parsed: dict[str, Any]) -> None:
        conf = parsed["sklearn"]
        parsed.clear()
        parsed.update(dict.fromkeys(flavors, conf))

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


def rewrite_skops(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the schema inside a skops file, keeping its arrays."""
    with zipfile.ZipFile(file) as archive:
        members = {n: archive.read(n) for n in archive.namelist()}
    schema = json.loads(members["schema.json"])
    change(schema)
    members["schema.json"] = json.dumps(schema).encode()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


@pytest.mark.parametrize(
    "node",
    [
        {"__loader__": "FunctionNode", "__module__": "os", "__class__": "system", "content": {}},
        {"__loader__": "ObjectNode", "__module__": "subprocess", "__class__": "Popen", "content": None},
        {
            "__loader__": "ObjectNode",
            "__module__": "builtins",
            "__class__": "str",
            "content": None,
            "extra": [{"__loader__": "X"}],
        },
        {"__loader__": "MethodNode", "__module__": "builtins", "__class__": "dict", "content": {}},
        {"__loader__": "OperatorFuncNode", "__module__": "builtins", "__class__": "dict", "content": {}},
        {"__loader__": "ObjectNode", "__module__": "sklearn.preprocessing", "__class__": "FunctionTransformer", "content": None},
        {"__loader__": "ObjectNode", "__module__": "sklearn_evil", "__class__": "Ridge", "content": None},
        {"__loader__": ["ObjectNode"], "__module__": "builtins", "__class__": "dict", "content": {}},
    ],
    ids=lambda n: f"{n['__loader__']} {n['__module__']}.{n['__class__']}",
)
def test_a_skops_file_that_names_what_is_not_on_our_list(linear: Path, sentinel: Path, node: dict[str, Any]) -> None:
    rewrite_skops(linear / "model.skops", lambda schema: schema.update(hidden=[{"deep": node}]))
    assert_refused(linear, sentinel, "it names ")


def test_types_mlmodel_itself_trusts_do_not_count(linear: Path, sentinel: Path, data: Data) -> None:
    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    skops.io.dump(FunctionTransformer(os.system).fit(data.x), linear / "model.skops")
    edit(linear, lambda f: f["sklearn"].update(skops_trusted_types=["posix.system", "os.system"]))
    assert_refused(linear, sentinel, "it names ")


def test_a_skops_file_that_unzips_to_too_much(linear: Path, sentinel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(linear / "model.skops", "a", compression=zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.npy", b"0" * 50_000_000)
    monkeypatch.setattr(models.native_sklearn, "_MAX_UNZIPPED_BYTES", 10_000_000)
    assert_refused(linear, sentinel, "unzips to more")


@pytest.mark.parametrize(
    ("field", "value"), [("left_child", 10_000_000), ("left_child", 0), ("right_child", -7), ("feature", 99_999)]
)
def test_a_tree_whose_nodes_point_outside_it(store: Store, data: Data, field: str, value: int) -> None:
    from sklearn.tree import DecisionTreeRegressor, _tree

    tree = DecisionTreeRegressor(max_depth=3).fit(*data.train).tree_
    state = tree.__getstate__()
    nodes = state["nodes"].copy()
    nodes[field][0] = value
    forged = _tree.Tree(3, np.array([1], dtype=np.intp), 1)
    forged.__setstate__(state | {"nodes": nodes})
    estimator = DecisionTreeRegressor(max_depth=3).fit(*data.train)
    estimator.tree_ = forged
    with pytest.raises(UntrustedModel, match="point outside it"):
        store.publish(estimator)


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


def test_mutilated_skops_files_raise_only_our_errors(linear: Path, sentinel: Path) -> None:
    """Behind the digest too: whatever a flipped byte does to the skops file, loading it ends in one of our errors or a model."""
    file = linear / "model.skops"
    good = file.read_bytes()
    rng = np.random.default_rng(13)
    for at in rng.integers(0, len(good), size=150).tolist():
        bad = bytearray(good)
        bad[at] ^= 1 << int(rng.integers(0, 8))
        file.write_bytes(bad)
        try:
            load(linear)
        except ModelError:
            continue
    assert not sentinel.exists()


def test_inspection_alone_reads_no_model(linear: Path) -> None:
    (linear / "model.skops").write_bytes(b"not a model")
    assert inspect_folder(linear) == "sklearn"
