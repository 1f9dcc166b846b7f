"""A challenger's child with a predict that misbehaves when its vectors say so; the real child in all else.

The greatest value of the first column is a cue; if it is none, the answers are the sums of the rows.
"""

from __future__ import annotations

import os
import sys
import time
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from models.apart_child import main

if TYPE_CHECKING:
    from numpy.typing import NDArray

COMMAND = (sys.executable, "-P", "-s", "-m", "tests.unit.models.apart_actor")


class Cue(IntEnum):
    """What a call is to do; larger than any value of the tests' rows."""

    RAISE = 1001
    NAN = 1002
    SHORT = 1003
    WORDS = 1004
    HANG = 1005
    ABORT = 1006
    MEMORY = 1007
    CHATTER = 1008
    CLOSE = 1009
    NONSENSE = 1010
    EXIT = 1011
    WRITE = 1012


def total(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum of each row, a missing value counting nothing."""
    result: NDArray[np.float64] = np.nan_to_num(x).sum(axis=1)
    return result


def predict(x: NDArray[np.float64]) -> Any:
    """As cued."""
    cue = float(np.nan_to_num(x[:, 0]).max())
    if cue == Cue.RAISE:
        raise ValueError("no")
    if cue == Cue.WRITE:
        x[0, 0] = 0.0
    wrong = {Cue.NAN: np.full(len(x), np.nan), Cue.SHORT: np.zeros((len(x), 2)), Cue.WORDS: total(x).astype(str)}
    if cue in wrong:
        return wrong[Cue(int(cue))]
    disturb(cue)
    return total(x)


def disturb(cue: float) -> None:
    """What the process would not survive, or should not be troubled by."""
    if cue == Cue.HANG:
        while True:
            time.sleep(60)
    if cue == Cue.ABORT:
        os.abort()
    if cue == Cue.MEMORY:
        np.ones(1 << 30)
    if cue == Cue.CHATTER:
        sys.stdout.write("word " * 100_000)
        sys.stdout.flush()
        os.write(2, b"word " * 100_000)
    if cue == Cue.CLOSE:
        os.closerange(3, 256)
    if cue == Cue.NONSENSE:
        for pipe in range(3, 256):
            try:
                os.write(pipe, b"\xff" * 64)
            except OSError:
                continue
    if cue == Cue.EXIT:
        sys.exit(3)


if __name__ == "__main__":
    main(predict)
