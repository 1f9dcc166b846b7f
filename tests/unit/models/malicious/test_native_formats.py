"""LightGBM, XGBoost and ONNX files that no library wrote: trees that lead outside or round, claims without substance, detours."""

from __future__ import annotations

import json
import pickle
import re
from typing import TYPE_CHECKING, Any

import onnx
import pytest
import xgboost
from onnx import TensorProto, helper

from models.errors import ModelError, SpecError, UntrustedModel
from tests.unit.models import graphs
from tests.unit.models.malice import Payload, assert_refused, load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HUGE = 2_000_000_000
DEEP = b"{L" + (1).to_bytes(8, "big") + b"a" + b"[" * 1_000_000
"""UBJSON nested so deep that XGBoost's own reader runs out of stack, and takes the process with it."""


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("left_child", "0", "point outside it, or not each once"),
        ("right_child", str(HUGE), "point outside it, or not each once"),
        ("split_feature", "77", "point outside it, or not each once"),
        ("num_leaves", str(HUGE), "has not"),
        ("num_cat", "1_0", "not whole numbers"),
        ("decision_type", "1", "KeyError: 'cat_boundaries'|names a set"),
        ("is_linear", "1", "KeyError: 'num_features'"),
        ("tree_sizes", "1", "tree_sizes are not those"),
    ],
)
def test_lightgbm_trees_that_lead_astray(victim: Callable[[str], Path], sentinel: Path, field: str, value: str, why: str) -> None:
    folder = victim("lightgbm")
    file = folder / "model.lgb"
    text = re.sub(rf"(?m)^({field}=)-?\d+", rf"\g<1>{value}", file.read_text(), count=1)
    if field != "tree_sizes":
        text = resized(text)
    file.write_text(text)
    assert_refused(folder, sentinel, why)


def resized(text: str) -> str:
    """With the tree_sizes that the trees now have."""
    blocks = re.split(r"(?m)^(?=Tree=\d+\n)", text.partition("\nend of trees\n")[0] + "\n")[1:]
    return re.sub(r"(?m)^tree_sizes=.*$", "tree_sizes=" + " ".join(str(len(b)) for b in blocks), text)


def test_a_lightgbm_field_that_stands_twice(victim: Callable[[str], Path], sentinel: Path) -> None:
    file = victim("lightgbm") / "model.lgb"
    file.write_text(resized(file.read_text().replace("num_cat=0\n", "num_cat=0\nnum_cat=0\n", 1)))
    assert_refused(file.parent, sentinel, "a field stands twice")


def forged_xgboost(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the content of the model, which becomes JSON under its name."""
    file = folder / "model.ubj"
    booster = xgboost.Booster({"nthread": 1}, model_file=str(file))
    content = json.loads(booster.save_raw("json"))
    change(content["learner"])
    file.write_text(json.dumps(content))


def tree_of(learner: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = learner["gradient_booster"]["model"]["trees"][0]
    return found


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda m: tree_of(m)["left_children"].__setitem__(0, 0), "nodes point outside it, or round in it"),
        (lambda m: tree_of(m)["right_children"].__setitem__(0, HUGE), "nodes point outside it, or round"),
        (
            lambda m: tree_of(m)["right_children"].__setitem__(0, tree_of(m)["left_children"][0]),
            "nodes point outside it, or round",
        ),
        (lambda m: tree_of(m)["split_indices"].__setitem__(0, 77), "nodes point outside it, or round"),
        (lambda m: tree_of(m)["parents"].__setitem__(1, HUGE), "name other parents"),
        (lambda m: tree_of(m)["tree_param"].update(num_nodes=str(HUGE)), "not loaded"),
        (lambda m: tree_of(m)["left_children"].pop(), "not loaded"),
        (lambda m: m["gradient_booster"]["model"]["tree_info"].__setitem__(0, 9), "not loaded"),
        (lambda m: m["gradient_booster"]["model"]["iteration_indptr"].__setitem__(-1, 99), "not loaded"),
        (lambda m: m["gradient_booster"].pop("model"), "not loaded"),
        (lambda m: m["objective"].update(name="reg:nothing"), "not loaded"),
    ],
)
def test_xgboost_trees_that_lead_astray(
    victim: Callable[[str], Path], sentinel: Path, change: Callable[[dict[str, Any]], object], why: str
) -> None:
    folder = victim("xgboost")
    forged_xgboost(folder, change)
    assert_refused(folder, sentinel, why)


def test_xgboost_claims_of_other_dimensions_are_refused(victim: Callable[[str], Path]) -> None:
    for field, value in (("num_feature", HUGE), ("num_class", 3), ("num_target", 2)):
        folder = victim("xgboost")
        forged_xgboost(folder, lambda m, f=field, v=value: m["learner_model_param"].update({f: str(v)}))  # type: ignore[misc]  # bound now
        with pytest.raises((SpecError, UntrustedModel)):
            load(folder)


@pytest.mark.parametrize(
    "content",
    [
        b'{"a":' * 100_000,
        b'{"learner": [' + b"[" * 1_000_000,
        b'{"learner": 3}',
        b"{",
        b"",
        b"binf" + b"\x00" * 200,
        b'{"a"',
        DEEP,
    ],
    ids=["deep maps", "deep lists", "no learner", "brace", "empty", "old binary", "cut", "deep UBJSON"],
)
def test_xgboost_json_that_is_deep_or_no_model(victim: Callable[[str], Path], sentinel: Path, content: bytes) -> None:
    folder = victim("xgboost")
    (folder / "model.ubj").write_bytes(content)
    assert_refused(folder, sentinel, "XGBoost model is not loaded")


@pytest.mark.parametrize("flavor", ["lightgbm", "sklearn", "xgboost", "onnx"])
def test_a_pickle_in_place_of_any_file_is_never_unpickled(victim: Callable[[str], Path], sentinel: Path, flavor: str) -> None:
    folder = victim(flavor)
    for file in [f for f in folder.rglob("*") if f.is_file()]:
        good = file.read_bytes()
        file.write_bytes(pickle.dumps(Payload(sentinel)))
        try:
            load(folder)
        except ModelError:
            assert file.name not in {"conda.yaml", "python_env.yaml", "requirements.txt"}  # nobody reads those
        assert not sentinel.exists()
        file.write_bytes(good)


def outside(location: str) -> Any:
    model = graphs.linear()
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    return model


def of_domain(domain: str, **opset: int) -> Any:
    model = graphs.linear()
    model.graph.node[0].domain = domain
    model.opset_import.extend([helper.make_opsetid(domain, opset.get("version", 1))])
    return model


def with_function() -> Any:
    model = graphs.linear()
    function = helper.make_function("", "MatMul", ["a", "b"], ["c"], [helper.make_node("Add", ["a", "b"], ["c"])], [])
    model.functions.extend([function])
    return model


def of_operator(operator: str, **attributes: Any) -> Any:
    return graphs.graph([helper.make_node(operator, ["x"], ["y"], **attributes)], {})


def hidden_outside() -> Any:
    """External data in the attribute of a Constant, not in a weight."""
    tensor = outside("/etc/passwd").graph.initializer[0]
    tensor.name = "k"
    nodes = [helper.make_node("Constant", [], ["k"], value=tensor), helper.make_node("MatMul", ["x", "k"], ["y"])]
    return graphs.graph(nodes, {})


def huge() -> Any:
    model = graphs.linear()
    model.graph.initializer[0].dims[:] = [1 << 40, 1 << 20]
    return model


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (outside("/etc/passwd"), "kept outside the file .*/etc/passwd"),
        (outside("../../../../etc/passwd"), "kept outside the file"),
        (outside("MLmodel"), "kept outside the file"),
        (hidden_outside(), "kept outside the file .*/etc/passwd"),
        (of_domain("com.microsoft"), r"operators of domains \['com.microsoft'\]"),
        (of_domain("evil.custom"), r"operators of domains \['evil.custom'\]"),
        (of_domain("ai.onnx.preview.training"), "operators of domains"),
        (with_function(), "it has functions"),
        (of_operator("Loop", body=graphs.linear().graph), r"operators \['Loop'\]"),
        (of_operator("Scan", body=graphs.linear().graph, num_scan_inputs=1), r"operators \['Scan'\]"),
        (of_operator("RandomNormalLike"), r"operators \['RandomNormalLike'\]"),
        (of_operator("Identity", extra=graphs.linear().graph), "holds a graph"),
        (of_operator("Nothing"), r"operators \['Nothing'\]"),
        (huge(), "ONNX model is not loaded"),
        (graphs.tree(nodes_featureids=[77, 0, 0]), "nodes point outside it, or round"),
        (graphs.tree(nodes_truenodeids=[0, 0, 0]), "nodes point outside it, or round"),
        (graphs.tree(nodes_truenodeids=[2, 0, 0]), "nodes point outside it, or round"),
        (graphs.tree(nodes_falsenodeids=[HUGE, 0, 0]), "nodes point outside it, or round"),
        (graphs.tree(target_nodeids=[1, 99]), "at nodes that are no leaves"),
        (graphs.tree(target_ids=[0, 3]), "more than one target"),
        (graphs.tree(n_targets=HUGE), "ONNX model is not loaded"),
        (graphs.tree(nodes_values=[0.25]), "parts differ in length"),
    ],
)
def test_onnx_graphs_that_reach_outside_or_lead_astray(
    victim: Callable[[str], Path], sentinel: Path, model: Any, why: str
) -> None:
    folder = victim("onnx")
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    assert_refused(folder, sentinel, why)


def test_a_linear_operator_of_too_few_coefficients(victim: Callable[[str], Path], sentinel: Path) -> None:
    node = helper.make_node("LinearRegressor", ["x"], ["y"], domain="ai.onnx.ml", coefficients=[0.5], intercepts=[0.0], targets=1)
    folder = victim("onnx")
    (folder / "model.onnx").write_bytes(graphs.graph([node], {}, kind="float32").SerializeToString())
    assert_refused(folder, sentinel, "has not 3 coefficients")


def test_settings_of_the_runtime_in_the_file_are_not_taken(
    victim: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORT_LOAD_CONFIG_FROM_MODEL", "1")
    folder = victim("onnx")
    model = onnx.load(folder / "model.onnx")
    helper.set_model_props(model, {"ort_config": "no settings at all"})
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    load(folder)
