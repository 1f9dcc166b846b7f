"""A process told to stop ends in time, whatever holds its event loop; one that can end in good order does."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import asyncio, signal, sys, time
from streams.leave import leave_within

async def main():
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for s in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(s, stop.set)
    leave_within(0.5)
    print("ready", flush=True)
    if sys.argv[1] == "hung":
        time.sleep(60)
    await stop.wait()
    await asyncio.sleep(float(sys.argv[2]))
    print("in good order", flush=True)

asyncio.run(main())
"""


def told(number: signal.Signals, *arguments: str, times: int = 1) -> tuple[int, str, str, float]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    started = time.monotonic()
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.05)
    said, complaint = process.communicate(timeout=20)
    return process.returncode, said, complaint, time.monotonic() - started


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_held_event_loop_ends_when_the_time_is_over(number: signal.Signals) -> None:
    code, said, complaint, took = told(number, "hung", "0", times=3)
    assert (code, said) == (75, "")
    assert complaint == "trading-ml: not drained within 0.5 s; what was not committed will be read again\n"
    assert 0.4 < took < 5


def test_asyncio_still_hears_the_signal() -> None:
    code, said, complaint, took = told(signal.SIGTERM, "well", "0.1")
    assert (code, said, complaint) == (0, "in good order\n", "")
    assert took < 5


def test_good_order_that_takes_too_long_is_ended() -> None:
    code, said, _, took = told(signal.SIGTERM, "well", "60")
    assert (code, said) == (75, "")
    assert took < 10


def test_another_signal_starts_no_clock() -> None:
    """SIGUSR1 is Faust's: it prints where every task is."""
    program = PROGRAM.replace("signal.SIGINT", "signal.SIGUSR1").replace("stop.set", "lambda: None")
    process = subprocess.Popen([sys.executable, "-c", program, "well", "0"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGUSR1)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.2)
    process.kill()
    process.communicate()
