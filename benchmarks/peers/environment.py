"""The peers' own environment: made with what `requirements.txt` pins when it is missing or made from something else."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.surroundings import ROOT, BenchmarkFailed

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER: Final = ROOT / ".venv-peers"
REQUIREMENTS: Final = Path(__file__).with_name("requirements.txt")
_MADE_FROM: Final = "made-from"


def environment(
    folder: Path = FOLDER, requirements: Path = REQUIREMENTS, *, say: Callable[[str], object], uv: str | None = None
) -> Path:
    """The environment's interpreter; makes the environment first, if need be. Raises `BenchmarkFailed`.

    `uv` defaults to the one on the path, else the one that made the project's own environment; without any, pip does it.
    """
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    mark = folder / _MADE_FROM
    python = folder / "bin" / "python"
    if mark.exists() and mark.read_text() == wanted and python.exists():
        return python
    say(f"installing the other frameworks into {folder.name} (once, a minute)")
    shutil.rmtree(folder, ignore_errors=True)
    for step in _steps(folder, python, requirements, uv or _uv()):
        done = subprocess.run(step, env=_env(), capture_output=True, text=True, check=False)  # noqa: S603 - our own steps
        if done.returncode:
            raise BenchmarkFailed(
                f"the other frameworks cannot be installed into {folder.name}:\n{(done.stderr or done.stdout)[-2_000:]}\n"
                "Bytewax has wheels for Python 3.11 and 3.12 only; --without-peers leaves the frameworks out"
            )
    mark.write_text(wanted)
    return python


def _steps(folder: Path, python: Path, requirements: Path, uv: str | None) -> list[list[str]]:
    if uv is None:
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        return [[sys.executable, "-m", "venv", str(folder)], [*pip, "-r", str(requirements)]]
    install = [uv, "pip", "install", "--quiet", "--python", str(python), "-r", str(requirements)]
    return [[uv, "venv", "--quiet", "--python", sys.executable, str(folder)], install]


def _uv() -> str | None:
    ours = ROOT / ".venv-bootstrap" / "bin" / "uv"
    return shutil.which("uv") or (str(ours) if ours.exists() else None)


def _env() -> dict[str, str]:
    # As in .ci/setup: the system's certificates, no downloads of interpreters, no other environment in between.
    rules = {"UV_SYSTEM_CERTS": "1", "UV_PYTHON_DOWNLOADS": "never"}
    return {k: v for k, v in os.environ.items() if k not in {"VIRTUAL_ENV", "CONDA_PREFIX"}} | rules
