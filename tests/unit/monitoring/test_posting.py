"""One POST, to a receiver with every fault, and never to an address that must not be called."""

from __future__ import annotations

import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

import pytest

from monitoring.notices import Notice
from monitoring.posting import Poster, look_up
from tests.kafka.certificates import Authority
from tests.unit.monitoring.receiver import Receiver

if TYPE_CHECKING:
    from pathlib import Path

    from monitoring.deliveries import Answer
    from tests.unit.monitoring.receiver import Mode

NOTICE = Notice(b'{"a": 1}', {"Content-Type": "application/json", "Idempotency-Key": "k"})


async def post(url: str, *, allow_private: bool = True, timeout_s: float = 0.3, **changes: Any) -> Answer:
    poster = Poster(allow_private=allow_private, timeout_s=timeout_s, **changes)
    try:
        return await poster.post(url, NOTICE)
    finally:
        await poster.close()


@pytest.mark.parametrize(
    ("mode", "verdict", "why"),
    [
        ("take", "delivered", ""),
        ("fail", "away", "status 503"),
        ("busy", "away", "status 429"),
        ("hang", "away", "no answer in time"),
        ("drip", "away", "no answer in time"),
        ("drip body", "delivered", ""),
        ("huge", "delivered", ""),
        ("redirect", "refused", "status 307"),
        ("refuse", "refused", "status 404"),
    ],
)
async def test_what_comes_of_a_receiver_that(mode: Mode, verdict: str, why: str) -> None:
    with Receiver(mode) as receiver:
        began = time.monotonic()
        answer = await post(receiver.url)
        assert (answer.verdict, answer.why) == (verdict, why)
        assert time.monotonic() - began < 2.0
        assert receiver.asked == 1
        assert answer.retry_after_s == (7.0 if mode == "busy" else None)


async def test_nobody_there() -> None:
    with Receiver() as receiver:
        receiver.close()
        answer = await post(receiver.url)
    assert (answer.verdict, answer.why) == ("away", "ClientConnectorError")


@pytest.mark.parametrize(
    ("address", "own"),
    [("127.0.0.1", True), ("10.0.0.1", True), ("169.254.169.254", False), ("::ffff:169.254.169.254", False), ("0.0.0.0", False)],  # noqa: S104 - nobody listens here
)
async def test_a_name_that_stands_for_an_address_that_must_not_be_called(address: str, own: bool, monkeypatch: Any) -> None:  # noqa: FBT001 - a table
    """Nor is it when only one of several is such. The socket is never made."""
    made: list[Any] = []
    monkeypatch.setattr("monitoring.posting.socket.socket", lambda *a: made.append(a))
    for found in ([address], ["93.184.215.14", address]):
        for private in (False,) if own else (False, True):
            answer = await post("https://hooks.example.com/x", allow_private=private, lookup=lambda *_, found=found: found)
            assert answer.verdict == "refused"
            assert " is " in answer.why
    assert made == []


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "10.1.1.1", "169.254.169.254", "2130706433", "127.1"]
)
async def test_an_address_in_place_of_a_name(host: str) -> None:
    answer = await post(f"https://{host}/x", allow_private=False)
    assert answer.verdict == "refused"


async def test_a_name_server_that_changes_its_mind_leads_nowhere_else() -> None:
    """Only what was judged is connected to: the name is asked for once."""
    with Receiver() as receiver:
        asked: list[str] = []

        def rebinding(host: str, _port: int) -> list[str]:
            asked.append(host)
            return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

        answer = await post(f"http://hooks.example.com:{receiver.port}/x", lookup=rebinding)
        assert (answer.verdict, asked) == ("delivered", ["hooks.example.com"])
        [(path, headers, body)] = receiver.taken
        assert (path, headers["host"], body) == ("/x", f"hooks.example.com:{receiver.port}", NOTICE.body)
        answer = await post(f"http://hooks.example.com:{receiver.port}/x", lookup=rebinding)
        assert (answer.verdict, len(receiver.taken)) == ("refused", 1)


async def test_the_address_is_judged_once_more_where_the_socket_is_made(monkeypatch: Any) -> None:
    """Should the first judgement ever be passed by."""
    with Receiver() as receiver:
        monkeypatch.setattr("monitoring.posting._Judged.resolve", _unjudged)
        answer = await post(f"https://hooks.example.com:{receiver.port}/x", allow_private=False)
        assert (answer.verdict, answer.why) == ("refused", "127.0.0.1 is loopback")
        assert receiver.asked == 0


async def _unjudged(_self: object, host: str, port: int = 0, family: int = 0) -> list[Any]:
    del family
    return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}]


async def test_plain_http_only_where_private_addresses_are_allowed() -> None:
    with Receiver() as receiver:
        answer = await post(receiver.url, allow_private=False)
        assert (answer.verdict, answer.why, receiver.asked) == ("refused", "not https", 0)


async def test_a_name_that_nobody_knows() -> None:
    def unknown(_host: str, _port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    assert (await post("https://nowhere.invalid/x", lookup=unknown)).verdict == "away"


async def test_a_name_server_that_does_not_answer() -> None:
    def silent(_host: str, _port: int) -> list[str]:
        time.sleep(1.0)
        return ["127.0.0.1"]

    began = time.monotonic()
    assert (await post("https://nowhere.invalid/x", lookup=silent)).why == "no answer in time"
    assert time.monotonic() - began < 0.9


async def test_the_certificate_must_be_that_of_the_name(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    own = authority.issue("localhost")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(own.certificate, own.key)
    client = ssl.create_default_context(cafile=str(authority.file))
    with Receiver(tls=server) as receiver:
        url = f"https://localhost:{receiver.port}/x"
        assert (await post(url, tls=client, timeout_s=2.0)).verdict == "delivered"
        other = f"https://hooks.example.com:{receiver.port}/x"
        wrong = await post(other, tls=client, lookup=lambda *_: ["127.0.0.1"], timeout_s=2.0)
        assert (wrong.verdict, wrong.why) == ("away", "ClientConnectorCertificateError")
        unknown = await post(url, timeout_s=2.0)
        assert (unknown.verdict, unknown.why) == ("away", "ClientConnectorCertificateError")
        assert len(receiver.taken) == 1


def test_the_system_is_asked_for_addresses() -> None:
    assert "127.0.0.1" in look_up("localhost", 80)
