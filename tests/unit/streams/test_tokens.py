"""Tokens: one source for both clients, fetched over TLS from nobody else, kept while they last; refusals in one line."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from config.sections import Kafka
from config.security import Security
from streams.clients import kafka_client_config
from streams.credentials import faust_credentials
from streams.errors import AccessError, BrokerError
from streams.tokens import Token, TokenSource, fetch_token, token_source
from tests.kafka.certificates import Authority
from tests.kafka.tokens import SPECIAL, Provider

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "planted: ü%+&"  # noqa: S105 - must come through as it is, and be seen nowhere


class Desk:
    """A provider, and settings that lead to it."""

    def __init__(self, provider: Provider, authority: Authority) -> None:
        self.provider = provider
        self.authority = authority

    def security(self, **changes: Any) -> Security:
        right = {
            "protocol": "SASL_SSL",
            "mechanism": "OAUTHBEARER",
            "ca_file": self.authority.file,
            "oauth_token_url": self.provider.url,
            "oauth_client_id": SPECIAL,
            "oauth_client_secret": SECRET,
        }
        return Security(**{**right, **changes})


@pytest.fixture
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    authority = Authority(tmp_path_factory.mktemp("ca"), "ca")
    with Provider(authority.issue("server"), subject="trader", client=SPECIAL, secret=SECRET) as provider:
        yield Desk(provider, authority)


def test_a_token_comes_for_id_and_secret_of_any_characters(desk: Desk) -> None:
    token = fetch_token(desk.security())
    assert token.text.count(".") == 2
    assert 250 < token.expires_s - time.time() <= 300
    assert desk.provider.asked == [{"grant_type": ["client_credentials"]}]
    assert token.text not in repr(token)


def test_the_scope_is_asked_for(desk: Desk) -> None:
    fetch_token(desk.security(oauth_scope="kafka read"))
    assert desk.provider.asked == [{"grant_type": ["client_credentials"], "scope": ["kafka read"]}]


async def test_both_clients_use_one_token(desk: Desk) -> None:
    security = desk.security()
    callback: Any = kafka_client_config(Kafka(bootstrap_servers="k:1", security=security))["oauth_cb"]
    text, expires_s = callback("")
    assert await faust_credentials(security).oauth_cb.token() == text
    assert expires_s > time.time()
    assert len(desk.provider.asked) == 1
    assert token_source(security) is token_source(desk.security())
    assert token_source(desk.security(oauth_scope="s")) is not token_source(security)


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        ((400, {}, b'{"error": "invalid_scope"}'), AccessError, "400 invalid_scope; check"),
        ((401, {}, b'{"error": "planted <x>", "error_description": "planted"}'), AccessError, "401; check"),
        ((403, {}, b"<html>planted"), AccessError, "403; check"),
        ((429, {}, b""), BrokerError, "429; the provider .* has a problem"),
        ((500, {}, b"planted"), BrokerError, "500; the provider .* has a problem"),
        ((200, {}, b"planted"), AccessError, "answers without access_token and expires_in"),
        ((200, {}, b"[1]"), AccessError, "answers without access_token and expires_in"),
        ((200, {}, b'{"access_token": "planted"}'), AccessError, "answers without access_token and expires_in"),
        (
            (200, {}, b'{"access_token": "planted", "expires_in": 0}'),
            AccessError,
            "cannot be sent to Kafka, or one that has expired",
        ),
        ((200, {}, b'{"access_token": "planted\\u0001x", "expires_in": 9}'), AccessError, "cannot be sent to Kafka"),
        ((200, {}, b'{"access_token": 7, "expires_in": 9}'), AccessError, "cannot be sent to Kafka"),
    ],
)
def test_what_is_not_a_token_is_told_without_repeating_it(
    desk: Desk, answer: tuple[int, dict[str, str], bytes], error: type[Exception], said: str
) -> None:
    desk.provider.answer = answer
    with pytest.raises(error, match=rf"^{desk.provider.url} .*{said}") as e:
        fetch_token(desk.security())
    assert "planted" not in str(e.value)


def test_a_wrong_secret_is_refused_and_not_repeated(desk: Desk) -> None:
    with pytest.raises(AccessError, match=r"401 invalid_client; check kafka\.security\.oauth_client_id") as e:
        fetch_token(desk.security(oauth_client_secret="planted"))  # noqa: S106 - the wrong one
    assert "planted" not in str(e.value)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_secret_does_not_follow_a_redirect(desk: Desk, status: int) -> None:
    desk.provider.answer = (status, {"Location": f"{desk.provider.url}/elsewhere"}, b"")
    with pytest.raises(BrokerError, match=str(status)):
        fetch_token(desk.security())
    assert len(desk.provider.asked) == 1


def test_a_provider_whose_certificate_is_not_believed_is_not_asked(desk: Desk) -> None:
    with pytest.raises(AccessError, match=r"certificate of https://.* is not accepted: unable to get local issuer certificate"):
        fetch_token(desk.security(ca_file=None))
    assert desk.provider.asked == []


def test_a_provider_that_is_not_there_is_waited_for() -> None:
    nowhere = Security(
        protocol="SASL_SSL",
        mechanism="OAUTHBEARER",
        oauth_token_url="https://127.0.0.1:1/token",  # noqa: S106 - an address
        oauth_client_id="me",
        oauth_client_secret="planted",  # noqa: S106 - of nobody
    )
    with pytest.raises(BrokerError, match=r"^no answer from https://127\.0\.0\.1:1/token \(.*refused\)"):
        fetch_token(nowhere)


class Clerk:
    """Gives numbered tokens of 100 s, or fails; the clock is set by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.given = 0
        self.error: Exception | None = None
        self.source = TokenSource(self._fetch, clock=lambda: self.now_s)

    def _fetch(self) -> Token:
        if self.error is not None:
            raise self.error
        self.given += 1
        return Token(f"t{self.given}", self.now_s + 100)

    def at(self, now_s: float) -> str:
        self.now_s = now_s
        return self.source.token().text


def test_a_token_is_kept_for_three_quarters_of_its_life() -> None:
    clerk = Clerk()
    assert [clerk.at(t) for t in (1000, 1074.9, 1075, 1149, 1150.1)] == ["t1", "t1", "t2", "t2", "t3"]


@pytest.mark.parametrize("error", [AccessError("refused"), BrokerError("away")])
def test_while_none_is_to_be_had_the_last_one_serves_to_its_end(error: Exception) -> None:
    clerk = Clerk()
    clerk.at(1000)
    clerk.error = error
    assert clerk.at(1099) == "t1"
    with pytest.raises(type(error)):
        clerk.at(1100)
    clerk.error = None
    assert clerk.at(1101) == "t2"


def test_an_answer_is_read_to_a_limit_only(desk: Desk) -> None:
    long = json.dumps({"access_token": "a" * 1_000_000, "expires_in": 9}).encode()
    desk.provider.answer = (200, {}, long)
    with pytest.raises(AccessError, match="answers without access_token"):
        fetch_token(desk.security())
