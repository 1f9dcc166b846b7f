"""Coverage-guided fuzzing of one decoder, where atheris is installed.

    python -m tests.fuzz.coverage_guided frames FOLDER -max_total_time=60

Targets: rows, frames, outcomes, logs, predictions, state, text. The folder keeps the messages that reach new code; valid
ones are put there to begin with. Further arguments are libFuzzer's.
"""

from __future__ import annotations

import importlib
import json
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

Target = tuple["Callable[[bytes], None]", "Callable[[random.Random], bytes]"]
"""Takes a message, raising if it is not treated as it must be; makes a valid one."""


def targets() -> dict[str, Target]:
    """By name. What is to be instrumented is imported here, not before."""
    from tests.fuzz import seeds
    from tests.fuzz.cases import FRAME
    from tests.fuzz.world import Features, Others, Tally

    features, others, key = Features(Tally()), Others(Tally()), seeds.SYMBOLS[0].encode()
    return {
        "rows": (lambda d: features.chunk([(key, d, ())]), lambda rng: json.dumps(seeds.row(rng)).encode()),
        "frames": (lambda d: features.chunk([(None, d, FRAME)]), seeds.frame),
        "outcomes": (lambda d: others.outcomes([(key, d, ())]), lambda rng: json.dumps(seeds.outcome(rng)).encode()),
        "logs": (lambda d: others.logs([(None, d, FRAME)]), seeds.log),
        "predictions": (others.predictions, lambda _: seeds.predictions()),
        "state": (others.state, seeds.state),
        "text": (lambda d: others.text((None, d, FRAME if d[:1] == b"\xff" else ())), seeds.frame),
    }


def main(arguments: list[str]) -> None:
    """Fuzz until libFuzzer is content."""
    try:
        atheris: Any = importlib.import_module("atheris")
    except ImportError:
        sys.exit("atheris is not installed here: pip install atheris")
    with atheris.instrument_imports(include=["streams"]):
        known = targets()
    if len(arguments) < 3 or arguments[1] not in known:
        sys.exit(f"name a target ({', '.join(known)}) and a folder")
    call, valid = known[arguments[1]]
    folder, rng = Path(arguments[2]), random.Random(7)  # noqa: S311 - the same messages every time
    folder.mkdir(exist_ok=True)
    for i in range(10):
        (folder / f"valid-{i}").write_bytes(valid(rng))
    atheris.Setup([arguments[0], *arguments[2:]], call)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
