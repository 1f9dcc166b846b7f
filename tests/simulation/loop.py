"""An event loop in virtual time, one callback a step: whoever steps it decides what happens between two awaits."""

from __future__ import annotations

import asyncio
import heapq
import inspect
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Callback = Callable[..., object]


class Loop:
    """What `asyncio.Task`, `Future`, `Queue`, `sleep`, `shield` and `to_thread` need of a loop; no I/O, no threads.

    A process that is killed is a loop no longer stepped; one that is paused is not stepped for a while.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._me: Any = self  # asyncio asks no more of a loop than what is here
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbered = 0
        self.tasks: list[asyncio.Task[Any]] = []
        self.errors: list[dict[str, Any]] = []

    def step(self) -> bool:
        """Run the next callback that is ready or due; False when there is none."""
        now = self._clock()
        while self._timers and self._timers[0][0] <= now:
            self._ready.append(heapq.heappop(self._timers)[2])
        while self._ready:
            handle = self._ready.popleft()
            if handle.cancelled():
                continue
            asyncio._set_running_loop(self._me)
            try:
                handle._run()
            finally:
                asyncio._set_running_loop(None)
            return True
        return False

    def next_due(self) -> float | None:
        """When something is to run, None for never."""
        if self._ready:
            return self._clock()
        return self._timers[0][0] if self._timers else None

    def abandon(self) -> None:
        """Nothing of this loop runs any more."""
        self._ready.clear()
        self._timers.clear()
        for task in self.tasks:
            unfinished: Any = task
            unfinished._log_destroy_pending = False
            if inspect.getcoroutinestate(unfinished.get_coro()) == inspect.CORO_CREATED:
                unfinished.get_coro().close()  # it has not begun, and Python would say so
        self.tasks.clear()

    def time(self) -> float:
        return self._clock()

    def call_soon(self, callback: Callback, *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self._me, context)
        self._ready.append(handle)
        return handle

    def call_later(self, delay: float, callback: Callback, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        return self.call_at(self._clock() + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Callback, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self._me, context)
        self._numbered += 1
        heapq.heappush(self._timers, (when, self._numbered, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is skipped when it is due."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self._me)

    def create_task(self, coro: Any, **_: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self._me)
        self.tasks = [t for t in self.tasks if not t.done()] if len(self.tasks) > 32 else self.tasks
        self.tasks.append(task)
        return task

    def start(self, coro: Coroutine[Any, Any, object]) -> asyncio.Task[Any]:
        """Begin a coroutine as this loop's own."""
        return self.create_task(coro)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """A thread's work is done at once, some steps later."""
        done = self.create_future()

        def work() -> None:
            try:
                done.set_result(func(*args))
            except Exception as e:  # noqa: BLE001 - a thread hands whatever it raises to who waits
                done.set_exception(e)

        assert executor is None
        self.call_later(0.001, work)
        return done

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.errors.append(context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False
