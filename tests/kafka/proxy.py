"""A TCP proxy in front of a node: connections cut, refused, swallowed, delayed or throttled while they are open."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import Literal, Self

PIECE = 64 * 1024
_IN_FLIGHT = 64
"""Pieces on their way in one direction; more are left in the sender's own buffers, as on a real wire."""

Mode = Literal["open", "refuse", "swallow"]


class Proxy:
    """Listens on `port` and passes everything on to `target`, on the same loopback address. Close it when done.

    - `mode` "refuse": whoever connects is hung up on; "swallow": whoever connects gets no answer, and open connections none
      either, as when a cable is pulled. "open" again: what was swallowed before is gone with its connections.
    - `delay_s`: each piece arrives that much later, in each direction.
    - `bytes_per_s`: what passes in each direction of each connection, at most.
    """

    def __init__(self, *, port: int, target: int) -> None:
        self.port = port
        self.delay_s = 0.0
        self.bytes_per_s: float | None = None
        self._target = target
        self._mode: Mode = "open"
        self._open: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"proxy-{port}", daemon=True)
        self._thread.start()
        if not self._up.wait(10):
            raise OSError(f"no proxy on port {port}")

    @property
    def mode(self) -> Mode:
        """What happens to connections now."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        before, self._mode = self._mode, mode
        self._loop.call_soon_threadsafe(self._flowing.clear if mode == "swallow" else self._flowing.set)
        if mode == "refuse" or before == "swallow":
            self._call(self._hang_up())

    @property
    def connections(self) -> int:
        """Connections held now, of both sides."""
        return len(self._open)

    def cut(self) -> None:
        """Hang up on everyone; who connects again is let through."""
        self._call(self._hang_up())

    def close(self) -> None:
        """Hang up, listen no more."""
        if self._thread.is_alive():
            self._call(self._hang_up())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)  # type: ignore[arg-type]  # coroutines of this class

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port))
        self._up.set()
        self._loop.run_forever()
        server.close()
        pending = asyncio.all_tasks(self._loop)
        for task in pending:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        self._loop.close()

    async def _hang_up(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()
        self._open.clear()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode == "refuse":
            writer.transport.abort()
            return
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:  # the node is down
            writer.transport.abort()
            return
        both = {writer, there_writer}
        self._open |= both
        ways = [asyncio.create_task(self._pass(a, b)) for a, b in ((reader, there_writer), (there_reader, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._open -= both
            for way in ways:
                way.cancel()
            for w in both:
                w.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction: read at once, write when its time has come, so that a delay does not narrow the pipe."""
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_IN_FLIGHT)

        async def write() -> None:
            while True:
                due, data = await pieces.get()
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                await self._flowing.wait()
                if self.bytes_per_s is not None:
                    await asyncio.sleep(len(data) / self.bytes_per_s)
                writer.write(data)
                await writer.drain()

        writing = asyncio.create_task(write())
        try:
            with contextlib.suppress(OSError):
                while data := await reader.read(PIECE if self.bytes_per_s is None else PIECE // 16):
                    await pieces.put((time.monotonic() + self.delay_s, data))
                    if writing.done():
                        return
        finally:
            writing.cancel()
