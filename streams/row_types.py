"""The msgspec structs of JSON feature rows, built from a layout. Core."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streams.layout import SetLayout


MAX_NESTING = 400
TOO_DEEP = f"not a feature row: arrays or objects nested more than {MAX_NESTING} deep"
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_ALL_BUT_BRACKETS = bytes(c for c in range(256) if c not in b"[]{}")


def too_deep(value: bytes) -> bool:
    """Whether a JSON text is nested deeper than `MAX_NESTING`; a text that is no JSON may be called so.

    Decoders give up at a depth that depends on who called them, and a row must be good or bad whoever reads it.

    >>> too_deep(b"[" * 500 + b"]" * 500), too_deep(b"[" + b"[]," * 500 + b"[]]"), too_deep(b'["' + b"[" * 999 + b'"]')
    (True, False, False)
    """
    if len(value) <= 2 * MAX_NESTING or value.count(b"[") + value.count(b"{") <= MAX_NESTING:
        return False
    brackets = np.frombuffer(_STRING.sub(b"", value).translate(None, _ALL_BUT_BRACKETS), np.uint8)
    steps = np.where((brackets == ord("[")) | (brackets == ord("{")), 1, -1)
    return bool(np.cumsum(steps).max(initial=0) > MAX_NESTING)


class Head(msgspec.Struct):
    """All that is read of a row to say which set it names."""

    feature_set: str


class Nameless(msgspec.Struct, tag_field="feature_set", tag=""):
    """No feature set has this name; beside it a row must name its own, which msgspec asks only where there is a choice."""


def row_decoder(types: Iterable[type[msgspec.Struct]]) -> Callable[[bytes], Any]:
    """Bytes → a row of one of these types."""
    union: Any = Nameless
    for row in types:
        union = union | row
    decode: Callable[[bytes], Any] = msgspec.json.Decoder(union).decode
    return decode


def row_type(layout: SetLayout, *, exact: bool = False) -> type[msgspec.Struct]:
    """The struct of one feature set's rows, tagged by its name; an exact one refuses features it does not know."""
    # Wire names need not be Python identifiers, so fields are f0, f1, … renamed to them.
    fields = [f"f{i}" for i in range(len(layout.features))]
    values = msgspec.defstruct(
        "Values",
        [(f, float | bool | None, math.nan) for f in fields],
        rename=dict(zip(fields, layout.features, strict=True)),
        gc=False,
        forbid_unknown_fields=exact,
    )
    return msgspec.defstruct(
        "Row",
        [
            ("symbol", str),
            ("ts_event_us", int),
            ("values", values),
            ("ts_known_us", int | None, None),
            ("revision", int, 0),
        ],
        tag_field="feature_set",
        tag=layout.feature_set,
        gc=False,
    )
