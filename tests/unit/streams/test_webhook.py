"""MLflow's webhook: what is taken hurries the worker, everything else is refused and changes nothing."""

from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import pytest

from streams.web import WEBHOOK_PATH, WebServer
from streams.webhook import DELIVERY_ID, SIGNATURE, TIMESTAMP, TOLERANCE_S, Webhook

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streams.group import Group

KEY = "s3cret-of-the-registry"
BODY = json.dumps({"entity": "model_version_alias", "action": "created", "data": {"name": "m", "alias": "champion"}}).encode()


def signed(body: bytes = BODY, *, delivery_id: str = "d-1", key: str = KEY, age_s: int = 0) -> dict[str, str]:
    """Headers as MLflow sets them."""
    timestamp = str(int(time.time()) - age_s)
    signature = Webhook(key).signature(delivery_id, timestamp, body)
    return {DELIVERY_ID: delivery_id, TIMESTAMP: timestamp, SIGNATURE: signature}


class Server:
    """The worker's web server on a free port, and how often it was hurried."""

    def __init__(self, secret: str | None = KEY) -> None:
        self.hurried = 0
        webhook = None if secret is None else (Webhook(secret), self._hurry)
        group = cast("Group", SimpleNamespace(ready=False))
        self._web = WebServer(group, "inference", host="127.0.0.1", port=0, webhook=webhook)

    def _hurry(self) -> None:
        self.hurried += 1

    def calls(self, *calls: tuple[bytes, Mapping[str, str]], method: str = "POST") -> list[int]:
        """The status of each call, made one after another."""

        async def make() -> list[int]:
            await self._web.on_start()
            runner: Any = self._web._runner
            url = f"http://127.0.0.1:{runner.addresses[0][1]}{WEBHOOK_PATH}"
            try:
                async with aiohttp.ClientSession() as session:
                    found = []
                    for body, headers in calls:
                        async with session.request(method, url, data=body, headers=headers) as answer:
                            found.append(answer.status)
                            said = await answer.text()
                            assert KEY not in said
                    return found
            finally:
                await self._web.on_stop()

        return asyncio.run(make())


def test_a_signed_call_hurries_once_and_again_with_another_delivery() -> None:
    server = Server()
    assert server.calls((BODY, signed()), (b"", signed(b"", delivery_id="d-2"))) == [202, 202]
    assert server.hurried == 2


def test_the_signature_is_mlflows_own() -> None:
    from mlflow.webhooks import constants, delivery

    payload = json.dumps({"data": {"name": "näme"}})
    theirs = delivery._generate_hmac_signature(KEY, "d-1", "1700000000", payload)
    assert Webhook(KEY).signature("d-1", "1700000000", payload.encode()) == theirs
    names = constants.WEBHOOK_DELIVERY_ID_HEADER, constants.WEBHOOK_TIMESTAMP_HEADER, constants.WEBHOOK_SIGNATURE_HEADER
    assert names == (DELIVERY_ID, TIMESTAMP, SIGNATURE)


@pytest.mark.parametrize(
    ("body", "changes"),
    [
        (BODY, {SIGNATURE: ""}),
        (BODY, {DELIVERY_ID: ""}),
        (BODY, {TIMESTAMP: ""}),
        (BODY, {SIGNATURE: "v1,"}),
        (BODY, {SIGNATURE: "v1,é"}),
        (BODY, {DELIVERY_ID: "d-2"}),
        (BODY, {TIMESTAMP: "1"}),
        (BODY + b" ", {}),
    ],
    ids="unsigned no_id no_time empty odd_bytes other_id other_time other_body".split(),
)
def test_a_call_that_is_not_as_it_was_signed_is_refused(body: bytes, changes: dict[str, str]) -> None:
    server = Server()
    assert server.calls((body, signed() | changes)) == [401]
    assert server.hurried == 0


def test_another_secret_another_time_and_too_large_a_body_are_refused() -> None:
    server, large = Server(), b"x" * 70_000
    others = (signed(key="another"), signed(age_s=TOLERANCE_S + 60), signed(age_s=-TOLERANCE_S - 60))
    assert server.calls(*((BODY, headers) for headers in others), (large, signed(large))) == [401, 400, 400, 413]
    assert server.hurried == 0


def test_a_delivery_is_taken_once() -> None:
    server, headers = Server(), signed()
    assert server.calls((BODY, headers), (BODY, headers)) == [202, 409]
    assert server.hurried == 1


@pytest.mark.parametrize("timestamp", ["soon", "-5", "1e9", "٣", "9" * 13])
def test_a_signed_timestamp_must_be_a_number_of_seconds(timestamp: str) -> None:
    webhook = Webhook(KEY)
    said = {DELIVERY_ID: "1", TIMESTAMP: timestamp, SIGNATURE: webhook.signature("1", timestamp, b"")}
    assert webhook.refusal(said, b"", now_s=0.0) == "bad_timestamp"


def test_deliveries_are_remembered_only_while_they_could_be_repeated() -> None:
    webhook = Webhook(KEY)
    for at in range(0, 10_000, 100):
        said = {DELIVERY_ID: str(at), TIMESTAMP: str(at), SIGNATURE: webhook.signature(str(at), str(at), b"")}
        assert webhook.refusal(said, b"", now_s=at) is None
    assert len(webhook._taken) == TOLERANCE_S // 100 + 1


def test_without_a_secret_there_is_no_such_path() -> None:
    server = Server(secret=None)
    assert server.calls((BODY, signed()), (b"", {})) == [404, 404]


def test_it_is_only_ever_posted_to() -> None:
    assert Server().calls((b"", signed(b"")), method="GET") == [405]


def test_the_secret_is_not_kept_where_it_could_be_shown() -> None:
    assert KEY not in repr(vars(Webhook(KEY)))
