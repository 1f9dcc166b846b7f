"""scikit-learn models saved by skops: checked against our own list of types, then predicted row-independently. Shell.

A skops file is a zip of JSON and arrays; loading one builds the types it names. skops has a list of types it trusts,
long enough to hold some that crash when their arrays lie (libsvm, tree nodes). Ours is short and closed; a file that
names anything else is refused before skops reads it, and trees are checked node by node after.

scikit-learn's answers for a row depend on the batch where BLAS is used (``X @ coef_`` sums in another order by
shape), so not every estimator may be called on a batch:

| final step                                 | how it is predicted                                    | cost         |
|--------------------------------------------|--------------------------------------------------------|--------------|
| linear (`LINEAR`)                          | intercept, then column by column, in order             | 0.05 us/row  |
| trees and forests (`TREES`)                | as a batch, one thread: rows walk trees independently  | 0.1-2 us/row |
| `ROW_BY_ROW`                               | one row at a time                                      | 60 us/row    |

Steps before it in a Pipeline may be scalers and imputers (elementwise, so row-independent). An estimator that
refuses missing values answers NaN for such rows, and for those only.
"""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from models.errors import ModelError, SpecError, UntrustedModel
from models.loaders import NativeModel
from models.skops_linear import read_weights

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from models.handle import Predict

    Array = NDArray[np.float64]

LINEAR: Final = frozenset(
    "ARDRegression BayesianRidge ElasticNet ElasticNetCV HuberRegressor Lars LarsCV Lasso LassoCV LassoLars LassoLarsCV "
    "LassoLarsIC LinearRegression LinearSVR OrthogonalMatchingPursuit QuantileRegressor Ridge RidgeCV SGDRegressor "
    "TheilSenRegressor".split()
)
TREES: Final = frozenset(
    "DecisionTreeRegressor ExtraTreeRegressor RandomForestRegressor ExtraTreesRegressor GradientBoostingRegressor".split()
)
ROW_BY_ROW: Final = frozenset("MLPRegressor PoissonRegressor GammaRegressor".split())
ELEMENTWISE: Final = frozenset("StandardScaler MinMaxScaler MaxAbsScaler RobustScaler SimpleImputer".split())
_PARTS: Final = frozenset(  # what the estimators above are made of
    "Pipeline DummyRegressor Tree MissingIndicator AdamOptimizer SGDOptimizer LabelBinarizer HalfSquaredError HalfPoissonLoss "
    "HalfGammaLoss AbsoluteError PinballLoss HuberLoss CyHalfSquaredError CyHalfPoissonLoss CyHalfGammaLoss CyAbsoluteError "
    "CyPinballLoss CyHuberLoss IdentityLink LogLink Interval SquaredLoss Huber EpsilonInsensitive "
    "SquaredEpsilonInsensitive".split()
)
_SKLEARN: Final = LINEAR | TREES | ROW_BY_ROW | ELEMENTWISE | _PARTS
_PLAIN: Final[dict[str, frozenset[str]]] = {
    "builtins": frozenset("bool dict float int list NoneType set slice str tuple".split()),
    "numpy": frozenset("bool bool_ dtype float32 float64 int32 int64 intp ndarray uint8 uint32 uint64".split()),
    "numpy.random.mtrand": frozenset({"RandomState"}),
    "numpy.random._generator": frozenset({"Generator"}),
}
_NODES: Final = frozenset(  # skops' node kinds that hold data; method, function, partial and operator nodes are not here
    "DTypeNode DictNode JsonNode ListNode LossNode NdArrayNode ObjectNode RandomGeneratorNode RandomStateNode SetNode "
    "SliceNode TreeNode TupleNode TypeNode".split()
)
TRUSTED_BEYOND_SKOPS: Final = frozenset(
    {
        "numpy.dtype",
        "sklearn.tree._tree.Tree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    }
)
"""Types we let skops build though its own list leaves them out. Trees are checked by `_check_tree` before use."""

_MAX_UNZIPPED_BYTES: Final = 1 << 30
_MAX_SCHEMA_BYTES: Final = 1 << 26


def load_skops(file: Path, *, columns: int) -> NativeModel:
    """A skops file to a native model. Raises `UntrustedModel`, or `SpecError` when it wants other columns."""
    weights = read_weights(file, _audit(file), kinds=LINEAR)
    if weights is not None:
        _check_columns(columns if weights.columns is None else weights.columns, columns)
        return guarded(linear_predict(weights.coefficients, weights.intercept, width=columns), columns)
    import skops.io

    try:
        beyond = set(skops.io.get_untrusted_types(file=file)) - TRUSTED_BEYOND_SKOPS
        estimator = None if beyond else skops.io.load(file, trusted=sorted(TRUSTED_BEYOND_SKOPS))
    except Exception as e:
        raise _refused(f"skops cannot read it ({type(e).__name__}: {e})") from e
    if beyond:
        raise _refused(f"it names types {sorted(beyond)}")
    try:
        return native(estimator, columns=columns)
    except ModelError:
        raise
    except Exception as e:  # attributes can be anything; an estimator that is not whole fails in its own way
        raise _refused(f"it is not a whole estimator ({type(e).__name__}: {e})") from e


def native(estimator: Any, *, columns: int) -> NativeModel:
    """A row-independent float64 predict of a fitted estimator. Raises `SpecError` or `UntrustedModel`."""
    steps = [step for _, step in estimator.steps] if type(estimator).__name__ == "Pipeline" else [estimator]
    *before, final = [s for s in steps if s not in (None, "passthrough")] or [None]
    if any(type(t).__name__ not in ELEMENTWISE for t in before) or type(final).__name__ not in LINEAR | TREES | ROW_BY_ROW:
        raise _refused(f"its steps are {[type(s).__name__ for s in steps]}")
    _check_columns(getattr(estimator, "n_features_in_", columns), columns)

    def prepare(values: Array) -> Array:
        for step in before:
            values = step.transform(values)
        return values

    for step in (*before, final):
        if hasattr(step, "feature_names_in_"):
            del step.feature_names_in_  # or scikit-learn warns at every call that arrays have no names

    width = prepare(np.zeros((1, columns))).shape[1]
    last = _final_step(final, width)
    return guarded(lambda values: last(prepare(values)), columns)


def _check_columns(wanted: int, columns: int) -> None:
    if wanted != columns:
        msg = f"the scikit-learn model reads {wanted} columns; the serving spec has {columns}"
        raise SpecError(msg)


def guarded(answer: Predict, columns: int) -> NativeModel:
    """A predict that calls `answer` for the rows it can answer, and answers NaN for the others."""
    accepts_missing = _answers_missing(answer, columns)

    def predict(values: Array) -> Array:
        usable = ~np.isinf(values).any(axis=1) if accepts_missing else np.isfinite(values).all(axis=1)
        if usable.all():
            return answer(values)
        out = np.full(values.shape[0], np.nan)
        if usable.any():
            out[usable] = answer(values[usable])
        return out

    return NativeModel(_one_by_one_after_error(predict), accepts_missing=accepts_missing)


def _final_step(final: Any, width: int) -> Predict:
    kind = type(final).__name__
    if kind in LINEAR:
        return linear_predict(np.asarray(final.coef_, dtype=np.float64), final.intercept_, width=width)
    if kind in TREES:
        for tree in _trees(final):
            _check_tree(tree, width)
        if hasattr(final, "n_jobs"):
            final.n_jobs = 1  # threads would add the trees up in the order they finish

        def walk(values: Array) -> Array:
            with np.errstate(over="ignore"):  # a value beyond float32 is refused by scikit-learn itself
                return np.asarray(final.predict(values), dtype=np.float64)

        return walk
    return lambda values: np.array([final.predict(row[None, :]).item() for row in values], dtype=np.float64)


def linear_predict(coefficients: Array, intercept: Any, *, width: int) -> Predict:
    """Sum intercept + x[0] c[0] + x[1] c[1] + ..., added in that order for every row: the same bits in any batch.

    >>> predict = linear_predict(np.array([2.0, -1.0]), 0.5, width=2)
    >>> predict(np.array([[1.0, 1.0], [0.0, np.nan]])).tolist()
    [1.5, nan]
    """
    start = float(np.asarray(intercept, dtype=np.float64).reshape(-1)[0])
    weights = coefficients.reshape(-1)
    if weights.size != width or (coefficients.ndim > 1 and coefficients.shape[0] != 1):
        msg = f"the linear model has coefficients of shape {coefficients.shape}; right is ({width},), one answer a row"
        raise SpecError(msg)

    def predict(values: Array) -> Array:
        total = np.full(values.shape[0], start)
        term = np.empty_like(total)
        with np.errstate(over="ignore", invalid="ignore"):  # scoring abstains on what is not finite
            for j in range(width):  # two roundings an element, never fused, whatever the batch
                np.multiply(values[:, j], weights[j], out=term)
                np.add(total, term, out=total)
        return total

    return predict


def _answers_missing(predict: Predict, columns: int) -> bool:
    """Whether a row with every value missing gets a finite answer."""
    try:
        return bool(np.isfinite(predict(np.full((1, columns), np.nan))).all())
    except ValueError:  # scikit-learn's "Input X contains NaN"
        return False


def _one_by_one_after_error(predict: Predict) -> Predict:
    """If a batch raises, halve it, so that only the rows at fault answer NaN; raise if every row is at fault.

    scikit-learn checks a batch as a whole (trees refuse a value beyond float32), and one bad row must not silence
    the others.
    """

    def isolated(values: Array) -> Array:
        try:
            return predict(values)
        except ValueError:
            rows = values.shape[0]
            if rows == 1:
                raise
            halves = []
            failure: ValueError | None = None
            for half in (values[: rows // 2], values[rows // 2 :]):
                try:
                    halves.append(isolated(half))
                except ValueError as e:
                    failure = e
                    halves.append(np.full(half.shape[0], np.nan))
            if failure is not None and all(np.isnan(h).all() for h in halves):
                raise failure from None
            return np.concatenate(halves)

    return isolated


def _trees(final: Any) -> Iterator[Any]:
    """The tree structures `final.predict` will walk, and certainly all of them."""
    if type(final).__name__ == "GradientBoostingRegressor":
        boosted = np.asarray(final.estimators_, dtype=object)
        if boosted.shape != (len(boosted), 1) or final.n_trees_per_iteration_ != 1:
            raise _refused("it boosts more than one tree a round")
        if type(final.init_).__name__ not in {"DummyRegressor", "str"}:
            raise _refused(f"its init estimator {type(final.init_).__name__} may answer differently in a batch; leave init unset")
    members = np.ravel(np.asarray(final.estimators_, dtype=object)) if hasattr(final, "estimators_") else [final]
    for member in members:
        if type(member).__name__ not in {"DecisionTreeRegressor", "ExtraTreeRegressor"}:
            raise _refused(f"its ensemble holds a {type(member).__name__}")
        yield member.tree_


def _check_tree(tree: Any, width: int) -> None:
    """Refuse nodes that would make scikit-learn's unchecked walk leave its arrays or never end."""
    count = tree.node_count
    left, right, feature = tree.children_left, tree.children_right, tree.feature
    at = np.arange(count)
    leaf = (left == -1) & (right == -1)
    inner = (left > at) & (left < count) & (right > at) & (right < count) & (feature >= 0) & (feature < width)
    if count < 1 or not (leaf | inner).all() or tree.value.shape != (count, 1, 1):
        raise _refused("it holds a tree whose nodes point outside it")


def _audit(file: Path) -> object:
    """The schema of a skops file; refuses one that names a node kind or type outside our lists, or unzips to too much."""
    try:
        with zipfile.ZipFile(file) as archive:
            if sum(i.file_size for i in archive.infolist()) > _MAX_UNZIPPED_BYTES:
                raise _refused(f"it unzips to more than {_MAX_UNZIPPED_BYTES} bytes")
            if archive.getinfo("schema.json").file_size > _MAX_SCHEMA_BYTES:
                raise _refused(f"its schema.json has more than {_MAX_SCHEMA_BYTES} bytes")
            schema = json.loads(archive.read("schema.json"))
    except (OSError, KeyError, ValueError, RecursionError, zipfile.BadZipFile, NotImplementedError) as e:
        raise _refused(f"skops cannot read it ({type(e).__name__}: {e})") from e
    _audit_node(schema)
    found: object = schema
    return found


def _audit_node(top: object) -> None:
    waiting = [top]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting.extend(node)
        if not isinstance(node, dict):
            continue
        waiting.extend(node.values())
        if "__loader__" in node and not _known(node):
            raise _refused(f"it names {node.get('__module__')}.{node.get('__class__')} ({node['__loader__']})")


def _known(node: dict[str, Any]) -> bool:
    module, name = str(node.get("__module__")), str(node.get("__class__"))
    ours = name in _SKLEARN if module.partition(".")[0] == "sklearn" else name in _PLAIN.get(module, ())
    return ours and str(node["__loader__"]) in _NODES


def _refused(why: str) -> UntrustedModel:
    return UntrustedModel(
        f"the scikit-learn model is not loaded: {why}. Served are {', '.join(sorted(LINEAR | TREES | ROW_BY_ROW))}, "
        f"alone or in a Pipeline after {', '.join(sorted(ELEMENTWISE))}; for others, publish a LightGBM model",
        check="model",
    )
