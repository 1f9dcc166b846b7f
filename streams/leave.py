"""Leaving the process at once, with one clear line, so that its supervisor starts it again. Shell."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from typing import NoReturn

EX_SOFTWARE = 70
"""Our own error: a chunk could not be processed."""
EX_TEMPFAIL = 75
"""Something around us failed (broker, disk): starting again is the cure."""
EX_CONFIG = 78
"""The settings are wrong: starting again does not help."""


def leave(code: int, message: str) -> NoReturn:
    """Say why and end the process without unwinding: nothing may be acknowledged on the way out."""
    sys.stderr.write(f"trading-ml: {message}\n")
    sys.stderr.flush()
    os._exit(code)


def leave_within(seconds: float) -> None:
    """From now on a process told to stop (SIGTERM, SIGINT) is gone after so long, though a model holds the event loop for good.

    For the main thread, after asyncio's signal handlers are in place: they run on the loop, and a loop that is held never
    comes to them. The interpreter's wake-up call does not wait for it; a thread hears that, sets the clock and passes it on.
    """
    ear, mouth = socket.socketpair()
    mouth.setblocking(False)  # noqa: FBT003 - the socket module's signature
    onward = signal.set_wakeup_fd(mouth.fileno())

    def listen() -> None:
        told = False
        while heard := ear.recv(1):
            if heard[0] in _STOP and not told:
                told = True
                message = f"not drained within {seconds:g} s; what was not committed will be read again"
                clock = threading.Timer(seconds, leave, (EX_TEMPFAIL, message))
                clock.daemon = True
                clock.start()
            if onward >= 0:
                with contextlib.suppress(OSError):  # the loop has closed it: the process ends anyway
                    os.write(onward, heard)

    threading.Thread(target=listen, name="stop-clock", daemon=True).start()
    _held.append(mouth)


_STOP = frozenset({signal.SIGTERM, signal.SIGINT})
_held: list[socket.socket] = []
"""What the interpreter knows by its number only must not be closed."""
