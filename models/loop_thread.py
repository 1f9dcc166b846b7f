"""An event loop in a thread of its own, for callers that must block until asynchronous work is done. Shell."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

from models.errors import EndpointUnavailable

if TYPE_CHECKING:
    from collections.abc import Coroutine

_T = TypeVar("_T")

_GRACE_S: Final = 0.5
"""How much longer than its bound a call is waited for, when the thread itself gets no time."""


class LoopThread:
    """Started by the first `run`; a daemon, so it keeps no process alive."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, work: Coroutine[Any, Any, _T], *, timeout_s: float) -> _T:
        """Run `work` there and wait at most `timeout_s`. Raises `EndpointUnavailable` for whatever goes wrong in it."""

        async def bounded() -> _T:
            async with asyncio.timeout(timeout_s):
                return await work

        future = asyncio.run_coroutine_threadsafe(bounded(), self._started())
        try:
            return future.result(timeout_s + _GRACE_S)
        except EndpointUnavailable:
            raise
        except TimeoutError:
            future.cancel()
            raise EndpointUnavailable(f"the endpoint did not answer within {timeout_s:g} s") from None
        except Exception as e:
            raise EndpointUnavailable(f"asking the endpoint failed with {type(e).__name__}: {e}") from e

    def close(self) -> None:
        """End the thread, and what is still running on it."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_GRACE_S)
            if not loop.is_running():
                loop.close()

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name=self._name, daemon=True)
                self._thread.start()
            return self._loop
