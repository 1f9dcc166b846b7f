"""Vectors to the request bodies of an online prediction endpoint, and its answers back to numbers. Core.

    {"instances": [[0.013, null], [0.02, 1.5]]}                                     null = missing (NaN)
    {"predictions": [0.0021, null], "deployedModelId": "77", "modelVersionId": "3"}  null = no finite answer (NaN)

Every float is written with the shortest digits that read back to the same bits, so what the endpoint computes with is
what the vector held. An infinity cannot be written and is refused, never sent as missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import numpy as np

from models.errors import EndpointUnavailable, UnsendableVector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PUBLIC_LIMIT_BYTES: Final = 1_500_000
"""What a shared public endpoint takes in one request, and answers in one (dedicated and private ones: 10 MB)."""

MAX_ROWS: Final = 10_000
"""Rows of one request: their answers, about 30 bytes each as Google lays them out, must pass the same limit."""

_OPEN, _CLOSE = b'{"instances":[', b"]}"
_ENCODER = msgspec.json.Encoder()


class Batch(NamedTuple):
    """One request: rows `start` (first) to `stop` (one past the last), and its body."""

    start: int
    stop: int
    body: bytes


class Answer(msgspec.Struct, frozen=True, rename="camel"):
    """What `:predict` says: a number or null for each instance, and which deployed model computed them."""

    predictions: list[float | None]
    deployed_model_id: str
    model: str = ""
    model_version_id: str = ""

    def values(self) -> NDArray[np.float64]:
        """The predictions as float64[rows], NaN for null."""
        return np.array(self.predictions, dtype=np.float64)


_DECODER = msgspec.json.Decoder(Answer)


def request_batches(values: NDArray[np.float64], *, max_bytes: int = PUBLIC_LIMIT_BYTES) -> list[Batch]:
    """Requests of at most `max_bytes` and `MAX_ROWS` for float64[rows, columns], in order; none for no rows.

    Raises `UnsendableVector` for an infinity, and for a row longer than a request may be.

    >>> request_batches(np.array([[0.5, np.nan], [1.0, 2.0]]))
    [Batch(start=0, stop=2, body=b'{"instances":[[0.5,null],[1.0,2.0]]}')]
    """
    if np.isinf(values).any():
        raise UnsendableVector("a vector holds an infinity, which JSON cannot carry; its producer should send it as missing")
    room = max_bytes - len(_OPEN) - len(_CLOSE)
    rows = [_ENCODER.encode(row) for row in values.tolist()]
    batches: list[Batch] = []
    start = used = 0
    for at, row in enumerate(rows):
        if len(row) > room:
            size = f"a vector of {values.shape[1]} columns takes {len(row)} bytes"
            raise UnsendableVector(f"{size}, a request at most {max_bytes}; raise vertex.max_request_bytes")
        if at > start and (used + 1 + len(row) > room or at - start == MAX_ROWS):
            batches.append(_batch(rows, start, at))
            start, used = at, 0
        used += len(row) + (at > start)
    if rows:
        batches.append(_batch(rows, start, len(rows)))
    return batches


def _batch(rows: Sequence[bytes], start: int, stop: int) -> Batch:
    return Batch(start, stop, _OPEN + b",".join(rows[start:stop]) + _CLOSE)


def read_answer(body: bytes, *, rows: int) -> Answer:
    """The answer to a request of `rows` instances. Raises `EndpointUnavailable` unless it has a number or null for each.

    >>> read_answer(b'{"predictions": [0.25, 1, null], "deployedModelId": "7"}', rows=3).values().tolist()
    [0.25, 1.0, nan]
    """
    try:
        answer = _DECODER.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as e:
        raise EndpointUnavailable(f"the endpoint's answer cannot be read ({e}); right is a number or null for each row") from e
    if len(answer.predictions) != rows:
        raise EndpointUnavailable(f"the endpoint gave {len(answer.predictions)} predictions for {rows} rows")
    return answer
