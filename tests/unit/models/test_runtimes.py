"""Runtimes other than LightGBM: the same bits on the values that could tell them apart, or a refusal."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import lightgbm
import numpy as np
import pytest

from models.errors import RuntimeMissing, SpecError, UntrustedModel
from models.forest import ZERO, parse_trees
from models.runtimes import EXTRAS, check_same_bits, load_forest
from models.score import score
from models.spec import ServingSpec, decode_spec, encode_spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from models.spec import Runtime
    from tests.unit.models.conftest import Data, Store

WIDTH = 6
KINDS: dict[str, tuple[dict[str, Any], int]] = {
    "plain": ({}, 100),
    "no missing values": ({"use_missing": False}, 20),
    "quantile": ({"objective": "quantile"}, 20),
    "huber": ({"objective": "huber"}, 20),
    "dart": ({"boosting": "dart"}, 20),
    "one leaf": ({"min_data_in_leaf": 1_900}, 3),
}
NATIVE_ONLY: dict[str, tuple[dict[str, Any], str]] = {
    "poisson": ({"objective": "poisson"}, "its objective 'poisson' transforms the sum"),
    "root": ({"reg_sqrt": True}, "its objective 'regression sqrt' transforms the sum"),
    "averaged": ({"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}, "it averages its trees"),
    "linear": ({"linear_tree": True}, "its leaves are linear models"),
    "zero missing": ({"zero_as_missing": True}, "takes 0 for missing"),
    "categories": ({"categorical_feature": [0]}, "it splits on categories"),
}


def trained(given: dict[str, Any], rounds: int) -> lightgbm.Booster:
    parameters = dict(given)
    rng = np.random.default_rng(3)
    x = np.round(2.0 * rng.normal(size=(2_000, WIDTH)), 1)
    if "linear_tree" not in parameters and "categorical_feature" not in parameters:
        x[rng.random(x.shape) < 0.1] = np.nan
    x[rng.random(x.shape) < 0.1] = 0.0
    if "categorical_feature" in parameters:
        x = np.abs(np.round(x))
    y = np.abs(np.nan_to_num(x).sum(axis=1) + rng.normal(size=2_000))
    categories = parameters.pop("categorical_feature", "auto")
    fixed = {"verbose": -1, "num_threads": 1, "seed": 3}
    return lightgbm.train({**fixed, **parameters}, lightgbm.Dataset(x, y, categorical_feature=categories), rounds)


def telling_values(text: str) -> NDArray[np.float64]:
    """Every threshold and the floats around it; missing, infinite, denormal, and the edges of LightGBM's zero."""
    found = [t.threshold for t in parse_trees(text, columns=WIDTH)]
    edges = [0.0, -0.0, ZERO, -ZERO, 5e-324, -5e-324, 1e-35, np.nan, np.inf, -np.inf, 1e308, -1e308]
    values = np.concatenate([*found, edges])
    around = np.concatenate([values, np.nextafter(values, np.inf), np.nextafter(values, -np.inf)])
    return np.random.default_rng(4).choice(around, size=(3_000, WIDTH))


@pytest.fixture(name="runtime", params=sorted(EXTRAS))
def fixture_runtime(request: pytest.FixtureRequest) -> Runtime:
    runtime: Runtime = request.param
    needed = {"onnx": ("onnx", "onnxruntime"), "lleaves": ("lleaves",)}[str(runtime)]
    for package in needed:
        pytest.importorskip(package, reason=f"{package} is not installed; the extra {EXTRAS[runtime]!r} brings it")
    return runtime


@pytest.mark.parametrize("kind", KINDS)
def test_answers_have_lightgbms_bits_on_every_side_of_every_threshold(runtime: Runtime, kind: str) -> None:
    text = trained(*KINDS[kind]).model_to_string()
    predict = load_forest(text, columns=WIDTH, runtime=runtime).predict
    x = telling_values(text)
    expected = lightgbm.Booster(model_str=text).predict(x, num_threads=1)
    assert isinstance(expected, np.ndarray)
    assert predict(x).tobytes() == expected.tobytes()
    assert predict(np.asfortranarray(x)).tobytes() == expected.tobytes()
    for rows in (1, 2, 49, 51, 127, 129):  # ONNX Runtime goes other ways below and above some of these
        pieces = [predict(x[i : i + rows]) for i in range(0, 600, rows)]
        assert np.concatenate(pieces)[:600].tobytes() == expected[:600].tobytes()


@pytest.mark.parametrize("kind", NATIVE_ONLY)
def test_what_would_have_other_bits_is_refused(kind: str) -> None:
    parameters, why = NATIVE_ONLY[kind]
    with pytest.raises(SpecError, match=f"{why}.*publish it with runtime='native'"):
        parse_trees(trained(parameters, 5).model_to_string(), columns=WIDTH)


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (("left_child=", "left_child=9 "), "has not 3 splits"),
        (("split_feature=", "split_feature=7e "), "ValueError"),
        (("num_leaves=", "num_leaves=99"), "leaf values"),
        (("leaf_value=", "leaf_value=nan "), "leaf values"),
        (("threshold=", "threshold:"), "KeyError"),
        (("version=v4", "version=v9"), "version v3 or v4"),
        (("Tree=", "Bush="), "it has no trees"),
    ],
)
def test_a_text_no_lightgbm_wrote_is_refused(booster: Any, change: tuple[str, str], wrong: str) -> None:
    text = booster.model_to_string()
    assert parse_trees(text, columns=3)
    with pytest.raises(UntrustedModel, match=wrong):
        parse_trees(text.replace(*change), columns=3)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("left_child", [0, 2, -1]),  # its own child: would never end
        ("left_child", [1, 1, -1]),
        ("left_child", [1, 9, -1]),
        ("right_child", [-2, -2, -3]),
        ("split_feature", [3, 0, 0]),
        ("split_feature", [-1, 0, 0]),
        ("decision_type", [12, 2, 2]),
    ],
)
def test_a_tree_that_leads_outside_itself_is_refused(field: str, values: list[int]) -> None:
    tree = {"left_child": [1, 2, -1], "right_child": [-2, -3, -4], "split_feature": [0, 1, 2], "decision_type": [2, 2, 2]}

    def text(fields: dict[str, list[int]]) -> str:
        lines = [f"{k}={' '.join(map(str, v))}" for k, v in fields.items()]
        head = "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nmax_feature_idx=2\n\n"
        return "\n".join([f"{head}Tree=0", "num_leaves=4", "threshold=1 2 3", "leaf_value=1 2 3 4", *lines, "\nend of trees\n"])

    assert len(parse_trees(text(tree), columns=3)) == 1
    with pytest.raises(UntrustedModel, match=r"nodes point outside it|unknown decision_type"):
        parse_trees(text(tree | {field: values}), columns=3)


def test_mutilated_texts_raise_only_our_errors(booster: Any) -> None:
    """LightGBM's own parser ends the process on some of these."""
    good = booster.model_to_string().partition("end of trees")[0].encode()
    rng = np.random.default_rng(14)
    refused = 0
    for at in rng.integers(0, len(good), size=600).tolist():
        bad = bytearray(good)
        bad[at] = int(rng.choice(np.frombuffer(b"0123456789 -.=e\n", dtype=np.uint8)))
        try:
            parse_trees(bad.decode() + "end of trees\n", columns=3)
        except (SpecError, UntrustedModel):
            refused += 1
    assert refused > 100


def test_a_version_published_with_a_runtime_is_served_by_it(store: Store, booster: Any, data: Data, runtime: Runtime) -> None:
    published = store.publish(booster, runtime=runtime)
    handle = store.registry().load("m", "1")
    assert handle.spec.runtime == published.spec.runtime == runtime
    assert score(handle, data.x).value.tolist() == booster.predict(data.x).tolist()
    native = store.publish(booster)
    assert native.spec == replace_runtime(published.spec, "native")
    assert native.spec.digest() != published.spec.digest()


def replace_runtime(spec: ServingSpec, runtime: Runtime) -> ServingSpec:
    import msgspec

    return msgspec.structs.replace(spec, runtime=runtime)


@pytest.mark.parametrize("runtime", ["onnx", "lleaves"])
def test_a_runtime_that_is_not_installed_names_its_extra(
    store: Store, booster: Any, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("onnxruntime", "lleaves"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(RuntimeMissing, match=rf"runtime '{runtime}' is not installed here .*\[{EXTRAS[runtime]}\]"):
        store.publish(booster, runtime=runtime)


def test_a_scikit_learn_model_has_no_other_runtime(store: Store, ridge: Any) -> None:
    with pytest.raises(SpecError, match="runtime 'onnx' computes LightGBM models"):
        store.publish(ridge, runtime="onnx")


def test_one_other_bit_on_the_training_rows_is_refused() -> None:
    def right(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return x[:, 0]

    def wrong(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(x[:, 0] == 7.0, np.nextafter(7.0, 8.0), x[:, 0])

    x = np.arange(20.0)[:, None]
    check_same_bits(right, right, x, what="it")
    with pytest.raises(SpecError, match=r"it answers 1 of 20 rows otherwise than LightGBM, such as \[7\.0\]"):
        check_same_bits(wrong, right, x, what="it")


def test_a_spec_without_a_runtime_is_native_and_keeps_its_text(make_spec: Callable[..., ServingSpec]) -> None:
    native = make_spec()
    assert b"runtime" not in encode_spec(native)
    assert decode_spec(encode_spec(native)).runtime == "native"
    named = replace_runtime(native, "onnx")
    assert decode_spec(encode_spec(named)) == named
    assert encode_spec(named) == encode_spec(native)[:-1] + b',"runtime":"onnx"}'
    with pytest.raises(SpecError, match="runtime"):
        decode_spec(encode_spec(named).replace(b"onnx", b"torch"))


def test_a_worker_with_another_runtime_never_opens_lightgbm(store: Store, booster: Any, runtime: Runtime) -> None:
    store.publish(booster, runtime=runtime)
    (folder,) = (f.parent for f in store.root.glob("artifacts/**/MLmodel"))
    program = (
        "import sys; from pathlib import Path; from models.folder import load_folder;"
        f"load_folder(Path({str(folder)!r}), name='m', version='1', digest='');"
        "sys.exit(any(m in sys.modules for m in ('lightgbm', 'sklearn', 'mlflow')))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_tree_too_deep_for_lleaves_is_refused() -> None:
    pytest.importorskip("lleaves", reason="lleaves is not installed; the extra 'lleaves' brings it")
    from models.runtime_lleaves import lleaves_predict

    (tree,) = parse_trees(trained({"num_leaves": 4}, 1).model_to_string(), columns=WIDTH)
    nodes = 5_000
    at = np.arange(nodes)
    deep = replace(
        tree,
        feature=np.zeros(nodes, dtype=np.int64),
        threshold=np.linspace(1.0, 2.0, nodes),
        missing_left=np.zeros(nodes, dtype=np.bool_),
        left=np.where(at + 1 < nodes, at + 1, ~nodes),
        right=~at,
        leaf_value=np.zeros(nodes + 1),
    )
    with pytest.raises(SpecError, match="too deep for lleaves"):
        lleaves_predict([deep], columns=WIDTH)
