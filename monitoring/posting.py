"""One POST to a receiver, to no address that must not be called. Shell, over aiohttp.

The name is looked up once and each address it stands for is judged (`monitoring.addresses`); one that is refused refuses the
call. Only such an address is connected to, and it is judged once more where the socket is made, so an answer of the name
server that changes in between leads nowhere. TLS and the Host header keep the name. Redirects are not followed, proxies and
cookies not used, and of an answer 64 kB are read at most, all within `TIMEOUT_S`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from monitoring.addresses import refusal
from monitoring.deliveries import Answer, answered

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from monitoring.notices import Notice

TIMEOUT_S: Final = 5.0
MOST_BYTES: Final = 64 * 1024

Lookup: TypeAlias = "Callable[[str, int], list[str]]"
"""Host and port → its addresses; blocking, raises OSError."""


class AddressRefusedError(OSError):
    """A name or an address leads where notifications must not go."""


def look_up(host: str, port: int) -> list[str]:
    """The addresses a name stands for, as the system says."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class Poster:
    """Posts for one receiver; use it within one event loop, and close it."""

    def __init__(
        self,
        *,
        allow_private: bool,
        lookup: Lookup = look_up,
        tls: ssl.SSLContext | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """`tls`: whom to believe, default the system's authorities."""
        self._allow_private = allow_private
        self._timeout_s = timeout_s
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=_Judged(lookup, self._judge),
                use_dns_cache=False,
                force_close=True,
                limit=1,
                ssl=True if tls is None else tls,
                socket_factory=self._socket,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            auto_decompress=False,
            trust_env=False,
            headers={"User-Agent": "trading-ml", "Accept-Encoding": "identity"},
        )

    async def post(self, url: str, notice: Notice) -> Answer:
        """Send; never raises for what the other side does."""
        if not self._allow_private and not url.lower().startswith("https://"):
            return Answer("refused", "not https")
        answer: Answer | None = None
        try:
            async with self._session.post(url, data=notice.body, headers=notice.headers, allow_redirects=False) as response:
                answer = answered(response.status, retry_after=response.headers.get("Retry-After"))
                await _drain(response)
        except AddressRefusedError as e:
            return Answer("refused", str(e))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as e:
            # Once it has said what became of it, how the rest of its answer ends does not matter.
            return answer or _failure(e)
        return answer

    async def close(self) -> None:
        """Let go of connections."""
        await self._session.close()

    def _judge(self, address: str) -> None:
        why = refusal(address, allow_private=self._allow_private)
        if why is not None:
            raise AddressRefusedError(why)

    def _socket(self, info: Any) -> socket.socket:
        family, kind, protocol, _, at = info
        self._judge(str(at[0]))
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)  # noqa: FBT003 - the socket module's signature
        return made


def _failure(error: BaseException) -> Answer:
    """What an exception says; its own words may repeat the address, so only its kind is told."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, AddressRefusedError):
            return Answer("refused", str(cause))
        cause = getattr(cause, "os_error", None) or cause.__cause__ or cause.__context__
    if isinstance(error, aiohttp.InvalidURL):
        return Answer("refused", "not an address")
    if isinstance(error, TimeoutError):
        return Answer("away", "no answer in time")
    return Answer("away", type(error).__name__)


async def _drain(response: aiohttp.ClientResponse) -> None:
    left = MOST_BYTES
    while left > 0:
        piece = await response.content.read(left)
        if not piece:
            return
        left -= len(piece)


class _Judged(AbstractResolver):
    """Looks names up in a thread that nobody waits for at the process's end, and judges what they stand for."""

    def __init__(self, lookup: Lookup, judge: Callable[[str], None]) -> None:
        self._lookup = lookup
        self._judge = judge

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        del family  # all are judged, whichever are asked for
        addresses = list(dict.fromkeys(await _in_thread(self._lookup, host, port)))
        for address in addresses:
            self._judge(address)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


async def _in_thread(lookup: Lookup, host: str, port: int) -> list[str]:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[list[str]] = loop.create_future()

    def settle(found: list[str] | OSError) -> None:
        if future.done():
            return
        if isinstance(found, OSError):
            future.set_exception(found)
        else:
            future.set_result(found)

    def run() -> None:
        try:
            found: list[str] | OSError = lookup(host, port)
        except OSError as e:
            found = e
        except UnicodeError:  # a name that cannot be one
            found = OSError("not a host name")
        with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits any more
            loop.call_soon_threadsafe(settle, found)

    threading.Thread(target=run, name="look-up", daemon=True).start()
    return await future
