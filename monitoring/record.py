"""The record of one window of one model version, for training and for storage. Core.

| part       | what it says                                                           | null                            |
|------------|------------------------------------------------------------------------|---------------------------------|
| `drift`    | how the window's vectors and predictions differ from training          | in revisions                    |
| `quality`  | how well predictions agreed with what came, with standard errors       | where none was due              |
| `paired`   | a challenger against the champion, on the same rows                    | of a champion; without such rows |
| `estimate` | the quality to expect by the inputs alone, before outcomes are known   | in revisions; where nothing can |
| `concept`  | whether inputs and outcomes still belong together as they did          | in revisions; where too early   |

Late or revised outcomes change a window that was reported: it is reported again with a greater `revision`, and of `quality` and
`paired` the greatest holds. The rest is said once, in revision 0, and stands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA_VERSION = 2
"""Number of the performance record's schema."""
PARTS = ("drift", "quality", "paired", "estimate", "concept")
"""What a record is made of; any may be null."""


def performance_record(  # noqa: PLR0913 - one keyword for each thing a record says
    *,
    model: str,
    version: str,
    role: str,
    window_start_us: int,
    window_end_us: int,
    revision: int = 0,
    drift: Mapping[str, Any] | None = None,
    quality: Mapping[str, Any] | None = None,
    paired: Mapping[str, Any] | None = None,
    estimate: Mapping[str, Any] | None = None,
    concept: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The record of the window (window_start_us, window_end_us] of event time; a part that was not measured is None.

    The parts are taken as they are; `encode` writes what is NaN in them as null. The id is made of what names the
    record, so a replay repeats it.

    >>> r = performance_record(model="m", version="3", role="champion", window_start_us=0, window_end_us=60)
    >>> r["performance_id"], r["drift"]
    ('m:3:champion:0:60:0', None)
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "performance_id": f"{model}:{version}:{role}:{window_start_us}:{window_end_us}:{revision}",
        "model": model,
        "version": version,
        "role": role,
        "window_start_us": window_start_us,
        "window_end_us": window_end_us,
        "revision": revision,
        "drift": drift,
        "quality": quality,
        "paired": paired,
        "estimate": estimate,
        "concept": concept,
    }


def encode(record: Mapping[str, Any]) -> bytes:
    """A record as JSON; NaN and infinities are null, numpy's scalars and arrays what they hold.

    >>> encode({"psi": float("nan"), "counts": np.array([1, 2]), "rows": np.int64(3)})
    b'{"psi":null,"counts":[1,2],"rows":3}'
    """
    return _ENCODER.encode(record)


def _plain(value: Any) -> Any:  # what msgspec does not know by itself
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise NotImplementedError(f"a record holds {type(value).__name__}, which is not JSON")


_ENCODER = msgspec.json.Encoder(enc_hook=_plain)
