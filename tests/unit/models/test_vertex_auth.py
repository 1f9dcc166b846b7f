"""Tokens: renewed when refused and before they end, by google-auth from a key file."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.errors import EndpointUnavailable
from models.vertex import Endpoint, served_by_endpoint
from models.vertex_auth import SCOPE, Tokens, google_tokens
from tests.unit.models.token_server import TokenServer, granting
from tests.unit.models.vertex_bench import VALUES, Bench, summed
from tests.unit.models.vertex_server import Issuer, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from models.handle import ModelHandle


@pytest.fixture(name="bench")
def fixture_bench(make_handle: Callable[..., ModelHandle]) -> Iterator[Bench]:
    with serving() as server:
        bench = Bench(server, replace(make_handle(summed), digest="ab" * 32))
        yield bench
        bench.close()


def test_a_refused_token_is_replaced_once_and_the_call_made_again(bench: Bench) -> None:
    served = bench.served(fallback="abstain", max_request_bytes=10_000)
    bench.server.accepted = {"token-2"}
    values = np.random.default_rng(3).normal(size=(1000, 3))
    assert served.predict(values).tobytes() == summed(values).tobytes()
    assert bench.issuer.issued == 2, "all batches were refused, one renewal served them all"
    bench.server.accepted = set()
    with pytest.raises(EndpointUnavailable, match="status 401, Request had invalid"):
        served.predict(VALUES)
    assert bench.issuer.issued == 3


def test_a_token_near_its_end_is_renewed_to_the_side(bench: Bench) -> None:
    served = bench.served(fallback="abstain")
    bench.server.accepted = {"token-1", "token-2"}
    bench.issuer.clock_s += 3600 - 200
    served.predict(VALUES)
    deadline_s = time.monotonic() + 5
    while bench.issuer.issued < 2 and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert bench.issuer.issued == 2
    bench.issuer.clock_s += 300
    bench.server.accepted = {"token-2"}
    served.predict(VALUES)
    assert bench.issuer.issued == 2


def test_no_token_is_a_failure_and_a_renewal_that_fails_is_not_while_the_old_one_lives(bench: Bench) -> None:
    served = bench.served(fallback="abstain")
    bench.issuer.error = EndpointUnavailable("no access token")
    bench.issuer.clock_s += 3600 - 200
    assert served.predict(VALUES).tobytes() == summed(VALUES).tobytes()
    bench.issuer.clock_s += 300
    with pytest.raises(EndpointUnavailable, match="no access token"):
        served.predict(VALUES)


async def test_who_was_refused_with_an_older_token_takes_the_newer_one() -> None:
    issuer = Issuer()
    tokens = Tokens(issuer, clock=issuer.clock)
    assert await tokens.token() == "token-1"
    await tokens.replace("token-1")
    await tokens.replace("token-1")
    assert (await tokens.token(), issuer.issued) == ("token-2", 2)


@pytest.fixture(name="google")
def fixture_google() -> Iterator[TokenServer]:
    with granting() as server:
        yield server


@pytest.fixture(name="key_file")
def fixture_key_file(google: TokenServer, tmp_path: Path) -> Path:
    return google.write_key(tmp_path / "key.json")


@pytest.mark.parametrize("given", [True, False])
def test_google_auth_gets_tokens_for_a_key_file(
    given: bool,  # noqa: FBT001 - a parameter of the case
    google: TokenServer,
    key_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not given:
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key_file))
    fetch = google_tokens(key_file if given else None)
    assert google.asked == [], "nothing is contacted until a token is needed"
    first, second = fetch(), fetch()
    assert (first.text, second.text) == ("token-1", "token-2")
    assert 3500 < first.expires_s - time.time() < 3601
    (assertion,) = google.asked[0]["assertion"]
    claims = json.loads(base64.urlsafe_b64decode(assertion.split(".")[1] + "=="))
    assert (claims["iss"], claims["scope"]) == ("worker@p.iam.gserviceaccount.com", SCOPE)


def test_a_key_that_google_refuses_is_said_without_the_key(google: TokenServer, key_file: Path) -> None:
    google.status = 400
    with pytest.raises(EndpointUnavailable, match="Invalid JWT Signature") as caught:
        google_tokens(key_file)()
    assert "PRIVATE KEY" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"type": "service_account", "private_key": "x"}'])
def test_a_key_file_that_is_none_is_said_by_its_name(content: str, tmp_path: Path) -> None:
    file = tmp_path / "broken.json"
    file.write_text(content)
    with pytest.raises(EndpointUnavailable, match=r"no access token from .*broken.json"):
        google_tokens(file)()


def test_no_credentials_at_all_are_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    with pytest.raises(EndpointUnavailable, match=r"the machine's credentials: .*absent.json"):
        google_tokens(None)()


def test_tokens_by_google_auth_open_the_endpoint(bench: Bench, key_file: Path, google: TokenServer) -> None:
    endpoint = Endpoint(bench.server.settings(fallback="abstain", credentials_file=key_file))
    bench.endpoints.append(endpoint)
    assert served_by_endpoint(bench.local, endpoint).predict(VALUES).tobytes() == summed(VALUES).tobytes()
    assert len(google.asked) == 1
