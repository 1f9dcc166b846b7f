"""A chunk cut into pieces that windows can take whole. Core."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streams.records import FeatureBatch


def cut_by_slack(batches: Sequence[FeatureBatch], slack_rows: int) -> Iterator[list[FeatureBatch]]:
    """Cut a chunk, in record order, so that no window receives more than `slack_rows` rows in one piece."""
    if not batches:
        return
    if all(max(Counter(b.symbols).values()) <= slack_rows for b in batches):
        yield list(batches)
        return
    order = sorted(
        (seq, at, symbol) for at, b in enumerate(batches) for seq, symbol in zip(b.seq.tolist(), b.symbols, strict=True)
    )
    held: Counter[tuple[int, str]] = Counter()
    edges = [-1]
    for seq, at, symbol in order:
        held[at, symbol] += 1
        if held[at, symbol] > slack_rows:
            edges.append(seq)
            held.clear()
            held[at, symbol] = 1
    edges.append(order[-1][0] + 1)
    for start, stop in pairwise(edges):
        piece = []
        for b in batches:
            rows = np.flatnonzero((b.seq >= start) & (b.seq < stop))
            if len(rows):
                piece.append(b.take(rows))
        yield piece
