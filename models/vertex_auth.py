"""Access tokens for Google's APIs, renewed off to the side before they end. Shell.

google-auth blocks, so it runs in a thread: whoever asks while a token still lives gets that one and waits for nothing.
Credentials are a service account's key file or the machine's own (Workload Identity, `gcloud auth application-default
login`, GOOGLE_APPLICATION_CREDENTIALS).
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from models.errors import EndpointUnavailable, RuntimeMissing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"

_AHEAD_S: Final = 300.0
"""A token that ends within this is renewed while it still serves (Google's live an hour)."""

_LAST_S: Final = 10.0
"""A token this near its end may end on the way: nobody gets it any more."""

_AGAIN_S: Final = 5.0
"""Pause after a renewal that failed while the old token still served."""

_ANSWER_S: Final = 10.0


class Token(NamedTuple):
    """A token and the end of its life, in seconds since 1970 (infinite when it has none)."""

    text: str
    expires_s: float


class Tokens:
    """The token of one client, from a `fetch` that may block. To be used on one event loop."""

    def __init__(self, fetch: Callable[[], Token], *, clock: Callable[[], float] = time.time) -> None:
        self._fetch = fetch
        self._clock = clock
        self._token: Token | None = None
        self._renewal: asyncio.Task[Token] | None = None
        self._not_before_s = 0.0

    async def token(self) -> str:
        """A token that is good for this call. Raises `EndpointUnavailable` when there is none to be had."""
        now_s = self._clock()
        token = self._token
        if token is None or now_s >= token.expires_s - _LAST_S:
            return (await self._renew()).text
        if now_s >= token.expires_s - _AHEAD_S and now_s >= self._not_before_s:
            self._start()
        return token.text

    async def replace(self, refused: str) -> None:
        """See to another token than the one the server just refused; at most one renewal for all who were refused."""
        if self._token is not None and self._token.text == refused:
            self._token = None
            await self._renew()

    async def _renew(self) -> Token:
        return await asyncio.shield(self._start())  # one caller's deadline must not end it for the others

    def _start(self) -> asyncio.Task[Token]:
        if self._renewal is None:
            self._renewal = asyncio.create_task(asyncio.to_thread(self._fetch))
            self._renewal.add_done_callback(self._done)
        return self._renewal

    def _done(self, renewal: asyncio.Task[Token]) -> None:
        self._renewal = None
        if renewal.cancelled() or renewal.exception() is not None:
            self._not_before_s = self._clock() + _AGAIN_S
        else:
            self._token = renewal.result()


def google_tokens(credentials_file: Path | None) -> Callable[[], Token]:
    """A `fetch` by google-auth. Nothing is read or contacted until it is called.

    It raises `EndpointUnavailable` when there are no credentials or Google refuses them. Raises `RuntimeMissing` at once
    without the extra `vertex`.
    """
    try:
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import Request
    except ImportError as e:
        raise RuntimeMissing("vertex.enabled needs the extra vertex: install trading-ml-inference[vertex]") from e
    ask: Any = partial(Request(), timeout=_ANSWER_S)
    held: list[Any] = []

    def fetch() -> Token:
        try:
            if not held:
                held.append(_credentials(credentials_file, ask))
            held[0].refresh(ask)
        except (GoogleAuthError, OSError, ValueError) as e:
            where = "the machine's credentials" if credentials_file is None else str(credentials_file)
            raise EndpointUnavailable(f"no access token from {where}: {e}; check vertex.credentials_file and its roles") from e
        expiry: datetime | None = held[0].expiry  # naive, in UTC
        return Token(str(held[0].token), inf if expiry is None else expiry.replace(tzinfo=UTC).timestamp())

    return fetch


def _credentials(file: Path | None, ask: Any) -> Any:
    if file is not None:
        from google.oauth2 import service_account

        kind: Any = service_account.Credentials  # its makers are untyped
        return kind.from_service_account_file(str(file), scopes=[SCOPE])
    import google.auth

    found, _ = google.auth.default(scopes=[SCOPE], request=ask)
    return found
