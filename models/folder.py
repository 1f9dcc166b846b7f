"""A verified model folder to a warmed handle: every check after the digest. Shell; `models.registry` brings the folder.

folder --inspect (`flavors`)--> --trial in a process of its own, once for a digest (`trials`)-->
       --spec, example, native predict (`loaders`)--> --its own example, bit for bit--> ModelHandle
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.artifacts import EXAMPLE_FILE, SPEC_FILE
from models.confidence import check_residuals
from models.errors import SpecError
from models.example import check_example, decode_example
from models.flavors import inspect_folder
from models.handle import ModelHandle
from models.loaders import load_model
from models.spec import decode_spec

if TYPE_CHECKING:
    from pathlib import Path

    from models.example import Example
    from models.spec import ServingSpec
    from models.trials import Trials


def load_folder(
    folder: Path, *, name: str, version: str, digest: str, allow_code: bool = False, trials: Trials | None = None
) -> ModelHandle:
    """Raises as `Registry.load`. Without `trials`, native parsers see the files in this process first."""
    inspect_folder(folder, allow_code=allow_code)
    spec = read_spec(folder, name)
    if trials is not None:
        trials.require(folder, name=name, version=version, digest=digest, allow_code=allow_code)
    example = read_example(folder, spec)
    model = load_model(folder, spec, allow_code=allow_code)
    check_example(model.predict, example, what=f"model {name!r} version {version}")
    return ModelHandle(name=name, version=version, digest=digest, spec=spec, predict=model.predict)


def read_spec(folder: Path, name: str) -> ServingSpec:
    """The serving spec of an inspected folder; raises `SpecError` if it is another model's."""
    spec = decode_spec((folder / SPEC_FILE).read_bytes())
    if spec.model != name:
        msg = f"model {name!r} has a serving spec written for {spec.model!r}; publish it under its own name"
        raise SpecError(msg)
    check_residuals(spec.residuals, level=spec.level, model=name)
    return spec


def read_example(folder: Path, spec: ServingSpec) -> Example:
    """The logged example of an inspected folder. Raises `SpecError`."""
    return decode_example((folder / EXAMPLE_FILE).read_bytes(), spec)
