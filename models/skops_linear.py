"""The weights of a linear model out of a skops file, without importing scikit-learn (some 90 MB, and a second). Shell.

A linear estimator's answer is its `coef_` and `intercept_` alone, two arrays and plain JSON beside them. Only files of
the protocol known here, whose schema `models.native_sklearn` has audited, are read so; for any other file the answer is
None, and skops itself reads or refuses it.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from numpy.typing import NDArray

PROTOCOL: Final = 2
"""The skops protocol whose nodes are known here."""


_MODULES: Final = ("sklearn.linear_model.", "sklearn.svm.")


class Weights(NamedTuple):
    """Of one linear model. `coefficients` float64 as stored, `intercept` float64[n > 0]; `columns` None if not told."""

    coefficients: NDArray[np.float64]
    intercept: NDArray[np.float64]
    columns: int | None


def read_weights(file: Path, schema: object, *, kinds: Collection[str]) -> Weights | None:
    """The weights of an audited file that holds one estimator of these kinds and nothing around it; else None."""
    if not isinstance(schema, dict) or schema.get("protocol") != PROTOCOL or schema.get("__class__") not in kinds:
        return None
    if schema.get("__loader__") != "ObjectNode" or not str(schema.get("__module__")).startswith(_MODULES):
        return None
    try:
        fields: dict[str, Any] = schema["content"]["content"]
        with zipfile.ZipFile(file) as archive:
            coefficients = _numbers(archive, fields["coef_"])
            intercept = _numbers(archive, fields["intercept_"])
            columns = _numbers(archive, fields["n_features_in_"]) if "n_features_in_" in fields else None
    except Exception:  # noqa: BLE001 - a file can be wrong in any way; skops says in which
        return None
    if intercept.size == 0 or (columns is not None and columns.size != 1):
        return None
    return Weights(coefficients, intercept, None if columns is None else int(columns.item()))


def _numbers(archive: zipfile.ZipFile, node: dict[str, Any]) -> NDArray[np.float64]:
    """The real numbers of a node; raises `ValueError` for any other content."""
    kind = node["__loader__"]
    if kind == "JsonNode":
        content = json.loads(node["content"])
        if not isinstance(content, int | float) or isinstance(content, bool):
            raise ValueError("not a number")
        return np.array([content], dtype=np.float64)
    if kind != "NdArrayNode" or node["type"] != "numpy":
        raise ValueError("not an array of numbers")
    array = np.load(io.BytesIO(archive.read(node["file"])), allow_pickle=False)
    if array.dtype.kind not in "fiu":
        raise ValueError("not an array of real numbers")
    return np.asarray(array, dtype=np.float64)
