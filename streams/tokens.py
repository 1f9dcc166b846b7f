"""Tokens for OAUTHBEARER: fetched from an OpenID provider with client credentials (RFC 6749, 4.4), kept while they last. Shell.

Both Kafka clients ask the same source, from threads of their own: confluent-kafka by its callback, aiokafka by a provider.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from base64 import b64encode
from functools import lru_cache
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import quote_plus, urlencode
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from streams.clients import Hidden
from streams.errors import AccessError, BrokerError
from streams.tls import client_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from config.security import Security

_ANSWER_S = 10.0
_LONGEST_ANSWER = 256 * 1024
_RENEW_AFTER = 0.75
"""Share of a token's life after which another is fetched. librdkafka asks again after 0.8 of it."""

_OUR_FAULT = range(400, 500)
_TOO_MANY = 429


class Token(NamedTuple):
    """A token and the end of its life, in seconds since 1970: as confluent-kafka's callback returns it."""

    text: str
    expires_s: float


class TokenSource:
    """The tokens of one client at one provider. Thread-safe; whoever asks while one is fetched waits for it."""

    def __init__(self, fetch: Callable[[], Token], *, clock: Callable[[], float] = time.time) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._renew_s = 0.0

    def token(self) -> Token:
        """A token that is good for a while yet.

        Raises `AccessError` when the provider refuses us, `BrokerError` when it does not answer; neither while the last
        token still lives.
        """
        with self._lock:
            now = self._clock()
            if self._token is not None and now < self._renew_s:
                return self._token
            try:
                self._token = self._fetch()
            except (AccessError, BrokerError):
                if self._token is None or now >= self._token.expires_s:
                    raise
                return self._token
            self._renew_s = now + _RENEW_AFTER * (self._token.expires_s - now)
            return self._token


@lru_cache(maxsize=8)
def token_source(security: Security) -> TokenSource:
    """The source these settings name; the same for all clients of the process."""
    return TokenSource(lambda: fetch_token(security))


def fetch_token(security: Security) -> Token:
    """Ask the provider for a token. Raises `AccessError`, `BrokerError`."""
    url, secret = security.oauth_token_url, security.oauth_client_secret
    if url is None or secret is None or security.oauth_client_id is None:
        raise AccessError("OAUTHBEARER needs kafka.security.oauth_token_url, oauth_client_id and oauth_client_secret; set them")
    form = {"grant_type": "client_credentials"} | ({} if security.oauth_scope is None else {"scope": security.oauth_scope})
    asked_s = time.time()
    answer = _ask(url, urlencode(form).encode(), _basic(security.oauth_client_id, secret.get_secret_value()), _context(security))
    try:
        said = json.loads(answer)
        text, lasts_s = said["access_token"], float(said["expires_in"])
    except (ValueError, KeyError, TypeError):
        raise AccessError(f"{url} answers without access_token and expires_in; is it a token endpoint?") from None
    # What a token may consist of (RFC 6750): anything else could end the line it is sent in.
    if not isinstance(text, str) or re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", text) is None or not lasts_s > 0:
        raise AccessError(f"{url} answers with a token that cannot be sent to Kafka, or one that has expired")
    return Token(Hidden(text), asked_s + lasts_s)


class _NoRedirect(HTTPRedirectHandler):
    """A redirect would take the secret to another place."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _ask(url: str, form: bytes, authorization: str, context: ssl.SSLContext) -> bytes:
    headers = {"Authorization": authorization, "Accept": "application/json"}
    request = Request(url, data=form, headers=headers, method="POST")  # noqa: S310 - the settings allow https only
    try:
        with build_opener(_NoRedirect(), HTTPSHandler(context=context)).open(request, timeout=_ANSWER_S) as answer:
            body: bytes = answer.read(_LONGEST_ANSWER)
            return body
    except HTTPError as e:
        said = f"{url} gives no token: {e.code} {_error_code(e)}".rstrip()
        if e.code in _OUR_FAULT and e.code != _TOO_MANY:
            raise AccessError(f"{said}; check kafka.security.oauth_client_id, oauth_client_secret and oauth_scope") from None
        raise BrokerError(f"{said}; the provider of kafka.security.oauth_token_url has a problem") from None
    except (OSError, HTTPException) as e:
        cause = getattr(e, "reason", e)
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise AccessError(
                f"the certificate of {url} is not accepted: {cause.verify_message.rstrip('.')}; kafka.security.ca_file may hold "
                "further authorities beside the system's"
            ) from None
        raise BrokerError(f"no answer from {url} ({cause}); check kafka.security.oauth_token_url and the network") from None


def _error_code(e: HTTPError) -> str:
    """The `error` of RFC 6749, 5.2; no other part of an answer is repeated."""
    try:
        code = json.loads(e.read(_LONGEST_ANSWER))["error"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return code if isinstance(code, str) and re.fullmatch(r"[a-z_]{1,40}", code) is not None else ""


def _basic(client_id: str, secret: str) -> str:
    return "Basic " + b64encode(f"{quote_plus(client_id)}:{quote_plus(secret)}".encode()).decode()


def _context(security: Security) -> ssl.SSLContext:
    """The system's authorities, and the brokers' where the settings name their own."""
    context = ssl.create_default_context()
    if security.ca_file is not None:
        client_context(security)  # says what is wrong in better words
        context.load_verify_locations(cafile=str(security.ca_file))
    return context
