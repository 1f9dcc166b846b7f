"""Flip bits of a model folder and load what comes out, digest forged: what the trial lets pass must load here, unharmed.

    python -m tests.unit.models.malicious.flips SEED COUNT FOLDER...

Each folder is tried as `models.trial` does, in a fork of this process instead of a new interpreter, which takes a
hundredth of the time. Prints for each folder how many were refused, ended their trial otherwise, or served; exits 0 if
this process, which loads what passed, lived to say so.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
from pathlib import Path

import numpy as np

from models.artifacts import model_files
from models.errors import ModelError
from models.example import check_batches
from models.folder import load_folder, read_example

REFUSED = 3


def load(folder: Path) -> None:
    """As a worker loads, but for the digest."""
    handle = load_folder(folder, name="m", version="1", digest="forged")
    check_batches(handle.predict, read_example(folder, handle.spec), what="m")


def tried(folder: Path) -> int:
    """How the trial ended: 0, `REFUSED`, or anything else."""
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            load(folder)
        except ModelError:
            os._exit(REFUSED)
        except BaseException:  # noqa: BLE001 - a child that comes back would go on as the parent
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def flipped(folder: Path, *, seed: int, count: int) -> dict[str, int]:
    """Flip, try, load, `count` times."""
    load(folder)  # the library is imported once, before any fork
    files = list(model_files(folder).values())
    (model,) = (f for f in files if f.name.startswith("model."))
    rng = np.random.default_rng(seed)
    found = {"refused": 0, "ended": 0, "served": 0}
    for number in range(count):
        file = files[number % len(files)] if number % 4 == 0 else model
        good = file.read_bytes()
        bad = bytearray(good)
        for at in rng.integers(0, len(good), size=int(rng.integers(1, 4))).tolist():
            bad[at] ^= 1 << int(rng.integers(0, 8))
        file.write_bytes(bad)
        ended = tried(folder)
        if ended == 0:
            load(folder)
        found["served" if ended == 0 else "refused" if ended == REFUSED else "ended"] += 1
        file.write_bytes(good)
    return found


def main() -> None:
    """Each folder in turn."""
    seed, count, *folders = sys.argv[1:]
    found = [flipped(Path(folder), seed=int(seed), count=int(count)) for folder in folders]
    sys.stdout.write("\n" + json.dumps(found))


if __name__ == "__main__":
    os.chdir(tempfile.gettempdir())
    main()
