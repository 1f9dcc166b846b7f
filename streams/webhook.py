"""MLflow's signed webhook: whether a call is the registry's own. The clock is the caller's.

MLflow 3 signs much as Standard Webhooks describe:

    X-MLflow-Delivery-Id: <id>    X-MLflow-Timestamp: <seconds since 1970>
    X-MLflow-Signature: v1,<base64 of HMAC-SHA256(secret, "<id>.<timestamp>.<body>")>

A call changes nothing and is not read: it only hurries the next look at the registry, which is the truth. So what a call
kept back, repeated or lost could do is small; it is refused all the same.
"""

from __future__ import annotations

import base64
import hmac
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

DELIVERY_ID: Final = "X-MLflow-Delivery-Id"
TIMESTAMP: Final = "X-MLflow-Timestamp"
SIGNATURE: Final = "X-MLflow-Signature"

TOLERANCE_S: Final = 300
"""How far a call's timestamp may be from our clock, either way."""
_LONGEST_TIMESTAMP: Final = 12

Refusal = Literal["unsigned", "bad_signature", "bad_timestamp", "repeated"]


class Webhook:
    """Checks calls against one secret, and remembers those it took for as long as they could be repeated."""

    def __init__(self, secret: str) -> None:
        self._keyed = hmac.new(secret.encode(), digestmod="sha256")  # and the secret itself is not kept
        self._taken: dict[str, int] = {}

    def refusal(self, headers: Mapping[str, str], body: bytes, *, now_s: float) -> Refusal | None:
        """Why a call is not taken; None if it is. Only a call with the right signature is looked at any further.

        >>> hook = Webhook("s3cret")
        >>> hook.refusal({}, b"{}", now_s=0.0)
        'unsigned'
        >>> said = {DELIVERY_ID: "1", TIMESTAMP: "0", SIGNATURE: hook.signature("1", "0", b"{}")}
        >>> hook.refusal(said, b"{}", now_s=10.0), hook.refusal(said, b"{}", now_s=11.0)
        (None, 'repeated')
        """
        delivery_id, timestamp, signature = (headers.get(name, "") for name in (DELIVERY_ID, TIMESTAMP, SIGNATURE))
        if not (delivery_id and timestamp and signature):
            return "unsigned"
        if not hmac.compare_digest(_bytes(self.signature(delivery_id, timestamp, body)), _bytes(signature)):
            return "bad_signature"
        number = timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= _LONGEST_TIMESTAMP
        if not number or abs(now_s - int(timestamp)) > TOLERANCE_S:
            return "bad_timestamp"
        self._taken = {one: until_s for one, until_s in self._taken.items() if until_s >= now_s}
        if delivery_id in self._taken:
            return "repeated"
        self._taken[delivery_id] = int(timestamp) + TOLERANCE_S
        return None

    def signature(self, delivery_id: str, timestamp: str, body: bytes) -> str:
        """The value of the signature header of a call."""
        mac = self._keyed.copy()
        mac.update(_bytes(f"{delivery_id}.{timestamp}.") + body)
        return f"v1,{base64.b64encode(mac.digest()).decode()}"


def _bytes(text: str) -> bytes:
    """A header as it came: aiohttp gives bytes that are no UTF-8 as surrogates."""
    return text.encode(errors="surrogateescape")
