"""ONNX files: a graph of listed operators read as data, computed by ONNX Runtime on one thread. Shell.

One input, float64 or float32 [rows, columns]; one output, float64 or float32 [rows] or [rows, 1]. Values are rounded to
float32 for an input so declared, and answers widened to float64. What the graph makes of NaN is its own affair: a sum
answers NaN, and the row abstains; a tree may have a branch for it.

| every operator is in | how it is predicted                                                                | one row |
|----------------------|------------------------------------------------------------------------------------|---------|
| `EXACT`              | as a batch: elementwise and correctly rounded, or trees, which rows walk alone     | 10 us   |
| `SERVED`             | one row at a time: a product may add in another order by shape or kernel           | 20 us   |

Nothing else is served: no other domain, no functions, no control flow, no random numbers, no data outside the file.
Optimizations are off, so the graph is computed as it is written. An extra, `onnx`, installs the packages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from models.errors import SpecError, UntrustedModel
from models.loaders import NativeModel
from models.onnx_session import session as open_session
from models.onnx_trees import TREE_OPERATORS, check_trees

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

EXACT: Final = TREE_OPERATORS | frozenset(
    "Abs Add And Cast Ceil Clip Constant Div Equal Floor Greater GreaterOrEqual Identity Imputer IsInf IsNaN Less LessOrEqual "
    "Max Min Mul Neg Not Or Relu Round Scaler Sign Sqrt Sub Where Xor".split()
)
SERVED: Final = EXACT | frozenset(
    "BatchNormalization Celu Concat Elu Erf Exp Flatten Gather Gelu Gemm HardSigmoid HardSwish LayerNormalization LeakyRelu "
    "LinearRegressor Log MatMul Mish Normalizer PRelu Pow Reciprocal ReduceMax ReduceMean ReduceMin ReduceSum Reshape Selu Shape "
    "Sigmoid Slice Softmax Softplus Softsign Split Squeeze Tanh ThresholdedRelu Transpose Unsqueeze".split()
)
DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml"})
MAX_BYTES: Final = 1 << 28


def load_onnx(file: Path, *, columns: int) -> NativeModel:
    """An ONNX file. Raises `UntrustedModel`, `SpecError`, and `ImportError` where the packages are not installed."""
    import onnx

    if file.stat().st_size > MAX_BYTES:
        raise _refused(f"it has {file.stat().st_size} bytes; at most {MAX_BYTES} are read")
    try:
        model = onnx.load_model_from_string(file.read_bytes())
        _check_parts(model)
        del model.metadata_props[:]  # ONNX Runtime can take settings from there
        onnx.checker.check_model(model.SerializeToString(), full_check=True)
        check_trees(onnx.shape_inference.infer_shapes(model, strict_mode=True))
    except UntrustedModel:
        raise
    except Exception as e:  # protobuf, the checker and shape inference each have errors of their own
        raise _refused(f"{type(e).__name__}: {str(e)[:500]}") from e
    name, dtype, one_row = _input(model, columns)
    try:
        session = open_session(model.SerializeToString(), as_written=True)
    except ImportError:
        raise
    except Exception as e:
        raise _refused(f"ONNX Runtime cannot load it ({type(e).__name__}: {str(e)[:500]})") from e

    def answer(values: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(over="ignore"):  # beyond float32 is an infinity, and the graph's affair
            (answers,) = session.run(None, {name: np.ascontiguousarray(values, dtype=dtype)})
        if answers.shape not in {(len(values),), (len(values), 1)}:
            msg = f"the ONNX graph answers {len(values)} rows with shape {answers.shape}; right is (rows,) or (rows, 1)"
            raise ValueError(msg)
        return np.asarray(answers, dtype=np.float64).reshape(-1)

    def answer_alone(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([answer(values[i : i + 1]) for i in range(len(values))]) if len(values) else np.empty(0)

    alone = one_row or not {n.op_type for n in model.graph.node} <= EXACT
    return NativeModel(answer_alone if alone else answer, accepts_missing=True)


def _check_parts(model: Any) -> None:
    graph = model.graph
    domains = {o.domain for o in model.opset_import} | {n.domain for n in graph.node}
    if domains - DOMAINS:
        raise _refused(f"it has operators of domains {sorted(domains - DOMAINS)}")
    operators = {n.op_type for n in graph.node}
    if operators - SERVED:
        raise _refused(f"it has operators {sorted(operators - SERVED)}; served are {', '.join(sorted(SERVED))}")
    if model.functions or model.training_info or graph.sparse_initializer:
        raise _refused("it has functions, training parts or sparse weights")
    for node in graph.node:
        for a in node.attribute:
            if a.HasField("g") or a.graphs or a.HasField("sparse_tensor") or a.sparse_tensors or a.ref_attr_name:
                raise _refused(f"attribute {a.name!r} of {node.op_type} holds a graph or a sparse tensor")
    for tensor in _tensors(graph):
        if tensor.data_location or tensor.external_data:
            where = {e.key: e.value for e in tensor.external_data}
            raise _refused(f"tensor {tensor.name!r} is kept outside the file ({where}); save all in one file")


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        for a in node.attribute:
            if a.HasField("t"):
                yield a.t
            yield from a.tensors


def _input(model: Any, columns: int) -> tuple[str, type[np.float32 | np.float64], bool]:
    """(name, dtype, whether it takes one row only) of the one input. Raises `SpecError` for other ones."""
    kinds: dict[int, type[np.float32 | np.float64]] = {1: np.float32, 11: np.float64}  # TensorProto.FLOAT, DOUBLE
    inputs = [i for i in model.graph.input if i.name not in {t.name for t in model.graph.initializer}]
    described = [(i.type.tensor_type.elem_type, [d.dim_value for d in i.type.tensor_type.shape.dim]) for i in inputs]
    outputs = [o.type.tensor_type.elem_type for o in model.graph.output]
    shapes = [shape for kind, shape in described if kind in kinds and shape in ([0, columns], [1, columns])]
    if len(described) != 1 or not shapes or len(outputs) != 1 or outputs[0] not in kinds:
        msg = (
            f"the ONNX graph has inputs (type, shape) {described} and outputs of types {outputs}; right is one input, float (1) "
            f"or double (11), of shape [0 for any, {columns}: the serving spec's columns], and one output, float or double"
        )
        raise SpecError(msg)
    return str(inputs[0].name), kinds[described[0][0]], shapes[0][0] == 1


def _refused(why: str) -> UntrustedModel:
    return UntrustedModel(f"the ONNX model is not loaded: {why}", check="model")
