"""Kafka security settings as the credential objects Faust's client takes: never in a URL, which shows in logs. Shell."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import faust
from aiokafka.abc import AbstractTokenProvider
from faust.auth import OAuthCredentials

from streams.clients import plain
from streams.tls import client_context
from streams.tokens import TokenSource, token_source

if TYPE_CHECKING:
    from config.security import Security


class TokenProvider(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka is untyped
    """Tokens as aiokafka asks for them: at every new connection."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source

    async def token(self) -> str:
        """One that is good; fetched off the event loop."""
        return (await asyncio.to_thread(self._source.token)).text


def faust_credentials(security: Security) -> Any:
    """`broker_credentials` of a Faust app, None for PLAINTEXT. Raises `AccessError` for files that are not right."""
    context = client_context(security) if security.encrypts else None
    if security.mechanism == "OAUTHBEARER":
        return OAuthCredentials(oauth_cb=TokenProvider(token_source(security)), ssl_context=context)
    if security.logs_in:
        return faust.SASLCredentials(
            username=security.username,
            password=plain(security.password),
            mechanism=security.mechanism,
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context=context)
