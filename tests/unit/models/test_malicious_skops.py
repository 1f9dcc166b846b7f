"""Skops files made to run code or to crash, behind the digest: refused by name, and nothing runs."""

from __future__ import annotations

import json
import os
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import models.native_sklearn
from models.errors import ModelError, UntrustedModel
from tests.unit.models.malice import assert_refused, edit, load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.models.conftest import Data, Store


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
