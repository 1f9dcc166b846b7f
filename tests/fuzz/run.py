"""Bad messages by the million: `python -m tests.fuzz.run --messages 1000000 --seed 7`.

Prints what became of how many, the slowest messages and the memory; exits 1 if anything did not hold, with the messages
in hex. Runs are the same for the same seed and number.
"""

# ruff: noqa: T201 - a program that says what it found

from __future__ import annotations

import argparse
import faulthandler
import os
import pickle
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fuzz.campaign import Campaign, Failure
from tests.fuzz.world import Features, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.fuzz.cases import Message


def main() -> int:
    """Run the campaign that the command line asks for, in a process of its own: Arrow's code may end it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000, help="fuzzed feature messages, besides the named cases")
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        last = Path(folder) / "last"
        code = in_child(lambda: campaign(asked.seed, asked.messages, last))
        if code < 0:
            messages: Sequence[Message] = pickle.loads(last.read_bytes())  # noqa: S301 - written by our own child
            alone = [m for m in messages if in_child(lambda m=m: Features(Tally()).chunk([m])) < 0]  # type: ignore[misc]  # mypy wants no defaults in lambdas
            print(Failure(asked.seed, 0, f"the process died of signal {-code}", alone or messages))
    return int(code != 0)


def in_child(work: Callable[[], int | None]) -> int:
    """The exit code of a forked process that does this; negative if a signal ended it."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = work() or 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def campaign(seed: int, messages: int, last: Path) -> int:
    """Run it and print what it found; what is about to be taken stands in the file `last`."""
    faulthandler.enable()
    before = _peak_mb()
    began = time.monotonic()
    with last.open("wb", buffering=0) as file:

        def watch(some: Sequence[Message]) -> None:
            file.seek(0)
            file.write(pickle.dumps(some))

        done = Campaign(seed, watch=watch)
        done.cases()
        after_cases = _peak_mb()
        done.run(messages)
    tally = done.tally
    features = tally.messages["row"] + tally.messages["frame"]
    print(f"seed {seed}: {features:,} feature records in {time.monotonic() - began:.0f} s, good rows between them included")
    print("messages:", ", ".join(f"{n:,} {kind}" for kind, n in tally.messages.most_common()))
    for fate, n in sorted(tally.fates.items()):
        if n:
            print(f"  {n:11,} {fate}")
    for kind, seconds in tally.slowest_s.items():
        print(f"slowest {kind}: {seconds * 1000:.1f} ms, {len(tally.slowest[kind]):,} bytes")
    print(f"peak RSS: {before:.0f} MB at the start, {after_cases:.0f} MB after the named cases, {_peak_mb():.0f} MB at the end")
    for failure in done.failures:
        print(failure)
    return int(bool(done.failures))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
