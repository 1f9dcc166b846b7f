"""A chunk cut into pieces that windows can take whole. Core."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streams.records import FeatureBatch


MOST_ROWS: Final = 2_048
"""Rows of a piece at most: a chunk of frames may bring a hundred thousand, whose vectors need not all be in memory at once."""


def cut(batches: Sequence[FeatureBatch], slack_rows: int, *, most_rows: int = MOST_ROWS) -> Iterator[list[FeatureBatch]]:
    """Cut a chunk, in record order: pieces of at most `most_rows` rows, in which no window receives more than `slack_rows`."""
    if sum(len(b.symbols) for b in batches) <= most_rows:
        yield from _by_slack(batches, slack_rows)
        return
    order = np.sort(np.concatenate([b.seq for b in batches]))
    edges = [*order[::most_rows].tolist(), int(order[-1]) + 1]
    for start, stop in pairwise(edges):
        yield from _by_slack(_between(batches, start, stop), slack_rows)


def _by_slack(batches: Sequence[FeatureBatch], slack_rows: int) -> Iterator[list[FeatureBatch]]:
    if not batches:
        return
    if all(max(Counter(b.symbols).values()) <= slack_rows for b in batches):
        yield list(batches)
        return
    for start, stop in pairwise(_edges(batches, slack_rows)):
        yield _between(batches, start, stop)


def _edges(batches: Sequence[FeatureBatch], slack_rows: int) -> list[int]:
    """Where pieces begin, and the end: each as late as the windows allow."""
    codes: dict[tuple[str, str], int] = {}
    code = np.array([codes.setdefault((b.feature_set, s), len(codes)) for b in batches for s in b.symbols])
    seq = np.concatenate([b.seq for b in batches])
    order = np.argsort(seq)
    seq, code = seq[order], code[order]
    by_window = np.argsort(code, kind="stable")
    first = np.flatnonzero(np.diff(code[by_window], prepend=-1))
    nth = np.empty(len(code), dtype=np.int64)  # how many rows of the same window came before
    nth[by_window] = np.arange(len(code)) - np.repeat(first, np.diff(first, append=len(code)))
    edges, at = [int(seq[0])], 0
    taken = np.zeros(len(codes), dtype=np.int64)
    while len(over := np.flatnonzero(nth[at:] - taken[code[at:]] >= slack_rows)):
        at += int(over[0])
        edges.append(int(seq[at]))
        taken = np.bincount(code[:at], minlength=len(codes))
    return [*edges, int(seq[-1]) + 1]


def _between(batches: Sequence[FeatureBatch], start: int, stop: int) -> list[FeatureBatch]:
    """The rows with `seq` in [start, stop), which ascends in each batch."""
    spans = [(b, *np.searchsorted(b.seq, [start, stop]).tolist()) for b in batches]
    return [b.slice(first, last) for b, first, last in spans if last > first]
