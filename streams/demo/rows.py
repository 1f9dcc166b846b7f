"""What the demo's producers hold in memory before it becomes records: feature rows and outcomes, column-wise.

Core: no clock, no I/O. Every row of the demo has revision 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import pandas as pd
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """Rows of one feature set.

    `symbols`: one per row; `ts_event_us`, `ts_known_us`: int64[rows]; `values`: float64[rows, features], NaN = missing.
    """

    feature_set: str
    features: tuple[str, ...]
    symbols: tuple[str, ...]
    ts_event_us: NDArray[np.int64]
    ts_known_us: NDArray[np.int64]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.symbols)

    def take(self, chosen: NDArray[np.bool_]) -> FeatureRows:
        """Return the rows where `chosen` (bool[rows]) holds."""
        symbols = tuple(s for s, keep in zip(self.symbols, chosen, strict=True) if keep)
        return FeatureRows(
            self.feature_set, self.features, symbols, self.ts_event_us[chosen], self.ts_known_us[chosen], self.values[chosen]
        )

    def only(self, symbols: Collection[str]) -> FeatureRows:
        """Return the rows of these symbols."""
        return self.take(np.array([s in symbols for s in self.symbols], dtype=np.bool_))

    def frame(self) -> pd.DataFrame:
        """Return the rows as a table: symbol, feature_set, ts_event_us, ts_known_us, revision, one column a feature."""
        import pandas as pd  # heavy; reachable from the command line's start

        head: dict[str, Any] = {"symbol": list(self.symbols), "feature_set": self.feature_set, "ts_event_us": self.ts_event_us}
        head |= {"ts_known_us": self.ts_known_us, "revision": 0}
        return pd.DataFrame(head | {name: self.values[:, i] for i, name in enumerate(self.features)})


def concatenate(blocks: Sequence[FeatureRows]) -> FeatureRows:
    """Return blocks of one feature set as one, in order."""
    first = blocks[0]
    return FeatureRows(
        first.feature_set,
        first.features,
        tuple(s for b in blocks for s in b.symbols),
        np.concatenate([b.ts_event_us for b in blocks]),
        np.concatenate([b.ts_known_us for b in blocks]),
        np.concatenate([b.values for b in blocks]),
    )


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Realised targets of one horizon. `ts_event_us` is that of the row predicted from; `value` float64[rows]."""

    horizon_us: int
    symbols: tuple[str, ...]
    ts_event_us: NDArray[np.int64]
    ts_known_us: NDArray[np.int64]
    value: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.symbols)

    def take(self, chosen: NDArray[np.bool_]) -> Outcomes:
        """Return the outcomes where `chosen` (bool[rows]) holds."""
        symbols = tuple(s for s, keep in zip(self.symbols, chosen, strict=True) if keep)
        return Outcomes(self.horizon_us, symbols, self.ts_event_us[chosen], self.ts_known_us[chosen], self.value[chosen])

    def frame(self) -> pd.DataFrame:
        """Return the outcomes as a table: symbol, ts_event_us, ts_known_us, value."""
        import pandas as pd

        head = {"symbol": list(self.symbols), "ts_event_us": self.ts_event_us, "ts_known_us": self.ts_known_us}
        return pd.DataFrame(head | {"value": self.value})


class RowEncoder:
    """Turns rows of one feature set into wire JSON, through a msgspec struct built once from the feature names.

    >>> rows = FeatureRows("s", ("x", "y"), ("A",), np.array([5]), np.array([7]), np.array([[0.5, np.nan]]))
    >>> RowEncoder("s", ("x", "y")).encode(rows)[0].decode()
    '{"symbol":"A","feature_set":"s","ts_event_us":5,"ts_known_us":7,"revision":0,"values":{"x":0.5,"y":null}}'
    """

    def __init__(self, feature_set: str, features: Sequence[str]) -> None:
        self._feature_set = feature_set
        # Feature names need not be Python identifiers: the fields are numbered, the wire names are the features.
        fields = [f"f{i}" for i in range(len(features))]
        self._values: Any = msgspec.defstruct(
            "Values", [(f, float) for f in fields], rename=dict(zip(fields, features, strict=True)), gc=False
        )
        wire = [("symbol", str), ("feature_set", str), ("ts_event_us", int), ("ts_known_us", int), ("revision", int)]
        self._row: Any = msgspec.defstruct("Row", [*wire, ("values", self._values)], gc=False)
        self._encoder = msgspec.json.Encoder()

    def encode(self, rows: FeatureRows) -> list[bytes]:
        """Return one JSON document per row, in order; NaN becomes null."""
        encode, row, values, name = self._encoder.encode, self._row, self._values, self._feature_set
        times = zip(rows.symbols, rows.ts_event_us.tolist(), rows.ts_known_us.tolist(), rows.values.tolist(), strict=True)
        return [encode(row(symbol, name, event, known, 0, values(*x))) for symbol, event, known, x in times]


def encode_outcomes(outcomes: Outcomes) -> list[bytes]:
    """Return one wire JSON document per outcome, in order.

    >>> encode_outcomes(Outcomes(10, ("A",), np.array([5]), np.array([16]), np.array([0.25])))[0].decode()
    '{"symbol":"A","ts_event_us":5,"horizon_us":10,"value":0.25,"ts_known_us":16,"revision":0}'
    """
    encode, horizon_us = msgspec.json.Encoder().encode, outcomes.horizon_us
    columns = zip(
        outcomes.symbols, outcomes.ts_event_us.tolist(), outcomes.value.tolist(), outcomes.ts_known_us.tolist(), strict=True
    )
    return [
        encode({"symbol": s, "ts_event_us": event, "horizon_us": horizon_us, "value": x, "ts_known_us": known, "revision": 0})
        for s, event, x, known in columns
    ]
