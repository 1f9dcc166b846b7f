"""A hostile version in the registry, its digest forged: refused by name; what served goes on, and the cache is as it was."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from models.artifacts import DIGEST_TAG, folder_digest
from models.errors import UntrustedModel
from models.folder import load_folder
from models.mlflow_client import connect
from tests.unit.models.malice import Payload

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.models.conftest import Data, Store


def listing(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def forge(store: Store, version: str, file: str, content: bytes) -> None:
    """Replace a version's file in the artifact store, and the digest in the registry."""
    client = connect(store.tracking_uri)
    folder = store.root / "artifacts"
    newest = max(folder.rglob("MLmodel"), key=lambda f: f.stat().st_mtime_ns).parent
    (newest / file).write_bytes(content)
    client.set_model_version_tag("m", version, DIGEST_TAG, folder_digest(newest))


def without_leaf_values(good: str) -> bytes:
    """A text over which LightGBM's C++ ends the process it is in."""
    text = re.sub(r"(?m)^leaf_value=.*\n", "", good, count=1)
    sizes = [len(b) for b in re.split(r"(?m)^(?=Tree=\d+\n)", text.partition("\nend of trees\n")[0] + "\n")[1:]]
    return re.sub(r"(?m)^tree_sizes=.*$", f"tree_sizes={' '.join(map(str, sizes))}", text).encode()


@pytest.mark.parametrize(
    ("crashes", "check", "why"),
    [
        (True, "trial", "model 'm' version 2 is not loaded: its trial was ended by SIGABRT"),
        (False, "model", "cannot be read as a LightGBM text model"),
    ],
    ids=["abort in a C++ parser", "pickle"],
)
def test_a_hostile_version_changes_nothing(
    store: Store,
    data: Data,
    booster: Any,
    sentinel: Path,
    *,
    crashes: bool,
    check: str,
    why: str,
) -> None:
    registry = store.registry(trial=crashes)
    store.publish(booster)
    old = registry.load("m", "1")
    answers = old.predict(data.x).tolist()
    store.publish(booster, bins=5)
    hostile = without_leaf_values(booster.model_to_string()) if crashes else pickle.dumps(Payload(sentinel))
    forge(store, "2", "model.lgb", hostile)
    cache = store.root / "cache"
    before = listing(cache)
    for _ in range(2):
        with pytest.raises(UntrustedModel, match=why) as caught:
            registry.load("m", "2")
        assert caught.value.check == check
    assert registry.loaded() == [("m", "1")]
    assert registry.load("m", "1") is old
    assert old.predict(data.x).tolist() == answers
    after = listing(cache)
    assert {p: b for p, b in after.items() if p in before and "index" not in p} == {
        p: b for p, b in before.items() if "index" not in p
    }
    added = {p.split("/")[0] for p in after if p not in before}
    assert added <= {"artifacts"}  # the refused bytes themselves, under their own digest; no verdict
    assert not sentinel.exists()


def test_loading_leaves_nothing_in_the_folder(every_flavor: Path, tmp_path: Path) -> None:
    for flavor in ("lightgbm", "sklearn", "xgboost", "onnx", "onnx_trees"):
        folder = shutil.copytree(every_flavor / flavor / "model", tmp_path / flavor)
        before = listing(tmp_path)
        load_folder(folder, name="m", version="1", digest="")
        assert listing(tmp_path) == before


def test_every_refusal_names_its_check(victim: Callable[[str], Path]) -> None:
    harms: dict[str, tuple[str, Callable[[Path], Any]]] = {
        "files": ("lightgbm", lambda f: (f / "extra.py").write_text("")),
        "flavor": ("lightgbm", lambda f: (f / "MLmodel").write_text("flavors: {spark: {}}")),
        "model": ("onnx", lambda f: (f / "model.onnx").write_bytes(b"\xff")),
        "spec": ("xgboost", lambda f: (f / "extra_files/serving_spec.json").write_text("{}")),
        "example": ("sklearn", lambda f: rewrite_answers(f / "extra_files/example.json")),
    }
    for check, (flavor, harm) in harms.items():
        folder = victim(flavor)
        harm(folder)
        with pytest.raises(Exception, match=r".") as caught:
            load_folder(folder, name="m", version="1", digest="")
        assert getattr(caught.value, "check", None) == check


def rewrite_answers(file: Path) -> None:
    example = json.loads(file.read_text())
    example["answers"][0] += 1.0
    file.write_text(json.dumps(example))
