"""What a timeline of model versions is measured by: its beginning, and a symbol's place among the canary's. Core.

Which version serves at which event time is decided in each partition (`streams.switches`).
"""

from __future__ import annotations

from hashlib import blake2b

FROM_THE_START_US = -(2**63)
"""An `effective_from_us` before every event time: for the first version of a model."""


def canary_point(symbol: str) -> float:
    """Where a symbol stands between 0 and 1: it is the canary's if below the share. The same everywhere and for ever.

    The first 8 bytes of BLAKE2b of its UTF-8 as a big-endian integer, divided by 2**64. A greater share only adds symbols.

    >>> round(canary_point("GOOG"), 6), round(canary_point("AAPL"), 6)
    (0.357201, 0.419113)
    """
    return int.from_bytes(blake2b(symbol.encode(), digest_size=8).digest(), "big") / 2**64
