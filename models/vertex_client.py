"""Vertex AI over REST: one aiohttp session with a bound on calls at once, retries within a deadline. Shell.

| answer                            | what is done                                                            |
|-----------------------------------|-------------------------------------------------------------------------|
| 200                               | its body is handed on                                                   |
| 401                               | the token is renewed once, and the call made again                      |
| 429, 500, 502, 503, 504           | made again after a pause with full jitter, never sooner than Retry-After |
| a connection refused, reset, lost | the same                                                                |
| anything else                     | `EndpointUnavailable` with what Google says                             |
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

from models.errors import EndpointMismatch, EndpointUnavailable
from models.vertex_rules import retry_pause_s

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from aiohttp import ClientResponse, ClientSession

    from models.vertex_auth import Tokens

TRIES: Final = 6
_RETRIED: Final = frozenset({429, 500, 502, 503, 504})
_OK, _UNAUTHENTICATED, _NOT_FOUND = 200, 401, 404
_LONGEST_ANSWER: Final = 16 << 20
_SAID: Final = 300


class Client:
    """Calls with a token, each within a deadline of its event loop's clock. Make and use it on one loop."""

    def __init__(self, tokens: Tokens, *, calls_at_once: int, draw: Callable[[], float] = random.random) -> None:
        self._tokens = tokens
        self._calls_at_once = calls_at_once
        self._draw = draw
        self._session: ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def call(self, method: str, url: str, body: bytes | None = None, *, timeout_s: float, tries: int = TRIES) -> bytes:
        """The body of the answer to one call, made at most `tries` times within `timeout_s`.

        Raises `EndpointMismatch` for 404 (no such resource), `EndpointUnavailable` for all else that is not an answer.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await self._until(asyncio.get_running_loop().time() + timeout_s, method, url, body, tries)
        except TimeoutError:
            raise EndpointUnavailable(f"{method} {url}: no answer within {timeout_s:g} s") from None

    async def _until(self, deadline_s: float, method: str, url: str, body: bytes | None, tries: int) -> bytes:
        from aiohttp import ClientError

        now_s = asyncio.get_running_loop().time
        attempt, renewed = 0, False
        while True:
            token = await self._tokens.token()
            attempt += 1
            retry_after_s: float | None = None
            try:
                status, retry_after_s, data = await self._once(method, url, body, token)
            except (ClientError, OSError) as e:
                failure, again = f"{type(e).__name__}: {e}", True
            else:
                if status == _OK:
                    return data
                failure, again = f"status {status}, {_said(data)}", status in _RETRIED
                if status == _UNAUTHENTICATED and not renewed:
                    renewed, attempt = True, attempt - 1
                    await self._tokens.replace(token)
                    continue
                if status == _NOT_FOUND:
                    raise EndpointMismatch(f"{method} {url}: {failure}")
            pause_s = retry_pause_s(attempt, draw=self._draw(), retry_after_s=retry_after_s)
            if not again or attempt >= tries or now_s() + pause_s >= deadline_s:
                times = "" if attempt == 1 else f" ({attempt} times)"
                raise EndpointUnavailable(f"{method} {url}: {failure}{times}")
            await asyncio.sleep(pause_s)

    async def _once(self, method: str, url: str, body: bytes | None, token: str) -> tuple[int, float | None, bytes]:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        async with self._opened().request(method, url, data=body, headers=headers, allow_redirects=False) as response:
            return response.status, _retry_after_s(response.headers.get("Retry-After")), await _body(response)

    def _opened(self) -> ClientSession:
        if self._session is None:
            from aiohttp import ClientSession, ClientTimeout, TCPConnector

            connector = TCPConnector(limit=self._calls_at_once, keepalive_timeout=60.0)  # further calls wait for a connection
            self._session = ClientSession(connector=connector, timeout=ClientTimeout(total=None))  # `call` bounds the whole
        return self._session


async def _body(response: ClientResponse) -> bytes:
    parts: list[bytes] = []
    length = 0
    async for part in response.content.iter_any():
        length += len(part)
        if length > _LONGEST_ANSWER:
            raise EndpointUnavailable(f"the answer is longer than {_LONGEST_ANSWER} bytes")
        parts.append(part)
    return b"".join(parts)


def _retry_after_s(text: str | None) -> float | None:
    """Seconds from a Retry-After header, which holds seconds or a date; None for neither."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _said(data: bytes) -> str:
    """Google's own message, or the beginning of whatever came."""
    try:
        message = json.loads(data)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = data.decode("utf-8", errors="replace")
    return " ".join(str(message)[:_SAID].split())
