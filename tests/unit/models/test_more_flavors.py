"""XGBoost and ONNX versions: published, loaded as data, and answering with the same bits in any batch."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xgboost
from onnx import helper

from models.errors import ModelOutputError, RuntimeMissing, SpecError, UntrustedModel
from models.example import check_batches, make_example
from models.loaders import load_file
from models.score import score
from tests.unit.models import graphs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from models.flavors import DataFlavor
    from models.handle import Predict
    from tests.unit.models.conftest import Data, Store

PIECES = (1, 2, 3, 7, 31, 63, 64, 65, 128)


def bits(answers: NDArray[np.float64]) -> list[int]:
    found: list[int] = answers.view(np.int64).tolist()
    return found


def assert_independent(predict: Predict, data: Data) -> None:
    """Any subset, in any order and any pieces, has the bits of the whole."""
    rows = np.concatenate([data.x, np.where(np.random.default_rng(5).random(data.x.shape) < 0.2, np.nan, data.x)])
    whole = predict(rows)
    for n in PIECES:
        assert bits(np.concatenate([predict(rows[i : i + n]) for i in range(0, len(rows), n)])) == bits(whole)
    rng = np.random.default_rng(6)
    for size in (2, 50, 400):
        chosen = rng.permutation(len(rows))[:size]
        assert bits(predict(rows[chosen])) == bits(whole[chosen])


def booster(data: Data, **parameters: Any) -> Any:
    given = {"nthread": 1, "max_depth": 4, "seed": 1}
    return xgboost.train(given | parameters, xgboost.DMatrix(*data.train), 12)


@pytest.fixture(name="saved")
def fixture_saved(tmp_path: Path) -> Callable[[Any, str], Path]:
    def save(model: Any, name: str) -> Path:
        file = tmp_path / name
        if name.endswith(".onnx"):
            file.write_bytes(model.SerializeToString())
        else:
            model.save_model(file)
        return file

    return save


@pytest.mark.parametrize("name", ["model.ubj", "model.json"])
def test_xgboost_answers_as_its_own_predict_does_and_nan_is_missing(
    data: Data, saved: Callable[[Any, str], Path], name: str
) -> None:
    model = booster(data)
    loaded = load_file(saved(model, name), "xgboost", columns=3)
    rows = data.x.copy()
    rows[::3, 1] = np.nan
    assert bits(loaded.predict(rows)) == bits(model.predict(xgboost.DMatrix(rows)).astype(np.float64))
    assert loaded.accepts_missing


@pytest.mark.parametrize(
    "parameters", [{}, {"objective": "reg:absoluteerror"}, {"num_parallel_tree": 3}, {"tree_method": "exact", "gamma": 0.1}]
)
def test_xgboost_rows_are_independent(data: Data, saved: Callable[[Any, str], Path], parameters: dict[str, Any]) -> None:
    assert_independent(load_file(saved(booster(data, **parameters), "model.ubj"), "xgboost", columns=3).predict, data)


def test_xgboost_reads_values_as_float32(data: Data, saved: Callable[[Any, str], Path]) -> None:
    predict = load_file(saved(booster(data), "model.ubj"), "xgboost", columns=3).predict
    assert bits(predict(data.x)) == bits(predict(data.x.astype(np.float32).astype(np.float64)))


@pytest.mark.parametrize(
    ("parameters", "wrong"),
    [({"booster": "dart"}, "is a dart"), ({"booster": "gblinear"}, "is a gblinear"), ({"multi_strategy": "x"}, None)],
)
def test_xgboost_boosters_that_answer_otherwise_are_refused(
    data: Data, saved: Callable[[Any, str], Path], parameters: dict[str, Any], wrong: str | None
) -> None:
    if wrong is None:
        x, y = data.train
        model = xgboost.train({"nthread": 1}, xgboost.DMatrix(x, np.column_stack([y, y])), 2)
        wrong = "gives 2 answers a row"
    else:
        model = booster(data, **parameters)
    with pytest.raises(SpecError, match=wrong):
        load_file(saved(model, "model.ubj"), "xgboost", columns=3)


@pytest.mark.parametrize("kind", ["float64", "float32"])
@pytest.mark.parametrize("activation", ["Tanh", "Relu", "Sigmoid", "Exp"])
def test_networks_in_onnx_answer_independently_of_the_batch(
    data: Data, saved: Callable[[Any, str], Path], kind: str, activation: str
) -> None:
    file = saved(graphs.network(kind, activation), "model.onnx")
    assert_independent(load_file(file, "onnx", columns=3).predict, data)


def test_a_graph_of_exact_operators_and_trees_is_called_on_batches_and_rows_are_independent(
    data: Data, saved: Callable[[Any, str], Path]
) -> None:
    for model in (graphs.tree(), scaled()):
        assert_independent(load_file(saved(model, "model.onnx"), "onnx", columns=3).predict, data)


def scaled() -> Any:
    """The tree, over columns scaled first."""
    (walk,) = graphs.tree().graph.node
    walk.input[0] = "scaled"
    nodes = [helper.make_node("Sub", ["x", "m"], ["d"]), helper.make_node("Div", ["d", "s"], ["scaled"]), walk]
    weights = {"m": np.full((1, 3), 0.1, dtype=np.float32), "s": np.full((1, 3), 0.7, dtype=np.float32)}
    return graphs.graph(nodes, weights, kind="float32")


@pytest.mark.parametrize("kind", ["float64", "float32"])
def test_an_onnx_sum_has_the_answers_of_its_weights_and_a_missing_value_makes_it_abstain(
    data: Data, saved: Callable[[Any, str], Path], kind: str
) -> None:
    loaded = load_file(saved(graphs.linear(kind), "model.onnx"), "onnx", columns=3)
    assert loaded.predict(data.x) == pytest.approx(data.x @ [0.5, -0.25, 0.1], rel=1e-5, abs=1e-6)
    assert np.isnan(loaded.predict(np.array([[1.0, np.nan, 0.0]]))).all()


def test_a_tree_in_onnx_follows_its_branch_for_missing(saved: Callable[[Any, str], Path]) -> None:
    predict = load_file(saved(graphs.tree(), "model.onnx"), "onnx", columns=3).predict
    assert predict(np.array([[0.2, 0, 0], [0.3, 0, 0], [np.nan, 0, 0]])).tolist() == [-0.5, 1.5, -0.5]


@pytest.mark.parametrize(
    ("model", "wrong"),
    [
        (graphs.linear(width=3, rows=7), "has inputs"),
        (graphs.graph([helper.make_node("Cast", ["x"], ["y"], to=7)], {}), "not loaded|outputs of types"),
    ],
)
def test_onnx_graphs_of_another_shape_are_refused(model: Any, wrong: str, saved: Callable[[Any, str], Path]) -> None:
    with pytest.raises((SpecError, UntrustedModel), match=wrong):
        load_file(saved(model, "model.onnx"), "onnx", columns=3)


@pytest.mark.parametrize(("flavor", "name", "module"), [("xgboost", "model.ubj", "xgboost"), ("onnx", "model.onnx", "onnx")])
def test_without_its_package_a_flavor_says_what_to_install(
    flavor: DataFlavor, name: str, module: str, data: Data, saved: Callable[[Any, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = saved(booster(data) if flavor == "xgboost" else graphs.linear(), name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RuntimeMissing, match=rf"pip install 'trading-ml-inference\[{flavor}\]'") as caught:
        load_file(file, flavor, columns=3)
    assert caught.value.check == "runtime"


def test_xgboost_and_onnx_versions_go_through_the_registry(store: Store, data: Data) -> None:
    early = xgboost.XGBRegressor(n_estimators=40, max_depth=3, early_stopping_rounds=2)
    early.fit(*data.train, eval_set=[(data.x[200:], data.y[200:])], verbose=False)
    for name, model in (("boosted", early), ("graph", graphs.network()), ("double", graphs.linear())):
        published = store.publish(model, name=name)
        handle = store.registry().load(name, published.version)
        scores = score(handle, data.x)
        assert not scores.abstained.any()
        if name == "boosted":
            assert early.best_iteration < 39
            assert scores.value.tolist() == early.predict(data.x).astype(np.float64).tolist()


def test_a_classifier_of_xgboost_is_refused(store: Store, data: Data) -> None:
    x, y = data.train
    with pytest.raises(SpecError, match="XGBClassifier does not forecast a number"):
        store.publish(xgboost.XGBClassifier(n_estimators=2).fit(x, y > 0))


def test_a_model_whose_rows_depend_on_the_batch_is_refused_with_that_reason() -> None:
    def predict(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.nextafter(values[:, 0], 9.0) if len(values) == 16 else values[:, 0]

    example = make_example(predict, np.random.default_rng(2).normal(size=(50, 2)))
    with pytest.raises(ModelOutputError, match=r"in pieces of 16 have other bits.*a replay would not give the same") as caught:
        check_batches(predict, example, what="m")
    assert caught.value.check == "output"
    check_batches(lambda v: v[:, 0], example, what="m")


def test_a_model_whose_answer_depends_on_the_place_in_the_batch_is_refused() -> None:
    example = make_example(lambda v: v[:, 0], np.random.default_rng(2).normal(size=(50, 2)))
    with pytest.raises(ModelOutputError, match="in reverse order"):
        check_batches(lambda v: v[:, 0] + (np.arange(len(v)) == 150), example, what="m")
