"""Who scores which row: the quick answers for whole batches are those of each row alone; a canary's symbols."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.timeline import FROM_THE_START_US, canary_point
from streams.lanes import Lane
from streams.layout import merge_specs
from streams.records import FeatureBatch
from streams.switches import KEPT, NOBODY, History, InForce, Order
from tests.unit.streams.pipes import X, handle

if TYPE_CHECKING:
    from streams.served import Served

SYMBOLS = [f"S{i}" for i in range(12)]
VERSIONS = {str(v): handle("m", [X], version=str(v)) for v in range(1, 5)}

_times = st.lists(st.integers(0, 60), unique=True, max_size=3).map(sorted)
_spans = st.tuples(_times, st.lists(st.sampled_from(["1", "2", "3", "4"]), min_size=3, max_size=3))
_maybe = st.tuples(
    _times, st.lists(st.sampled_from(["3", "4", NOBODY]), min_size=3, max_size=3), st.sampled_from([0.0, 0.4, 1.0])
)
_histories = st.tuples(_spans, st.one_of(st.none(), _maybe), st.one_of(st.none(), _maybe))
_rows = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(SYMBOLS), st.integers(0, 70)), min_size=1, max_size=12)


def lane() -> Lane:
    specs = merge_specs(h.spec for h in VERSIONS.values())

    def known(_model: str, version: str, *_role: object) -> Any:
        return VERSIONS[version]

    return Lane(specs, handle=known, models=["m"], partitions=3, max_future_us=1, slack_rows=2, framed=())


def held(times: list[int], versions: list[str], role: Any, *, share: float = 0.0, first: bool = False) -> list[InForce]:
    starts = ([FROM_THE_START_US] if first else []) + times
    return [
        InForce(n, us, Order(model="m", role=role, seq=n + 1, version=v, effective_from_us=us, share=share))
        for n, (us, v) in enumerate(zip(starts, [*versions, "1"], strict=False))
    ]


def batch(rows: list[tuple[int, str, int]], feature_set: str = "bars") -> FeatureBatch:
    n = len(rows)
    event = np.array([r[2] for r in rows], dtype=np.int64)
    arrays: dict[str, Any] = {"ts_event_us": event, "ts_known_us": event, "offset": np.arange(n, dtype=np.int64)}
    arrays |= {"seq": np.arange(n, dtype=np.int64), "revision": np.zeros(n, dtype=np.int64)}
    partition = np.array([r[0] for r in rows], dtype=np.int64)
    return FeatureBatch(feature_set, "f", [r[1] for r in rows], partition=partition, values=np.zeros((n, 1)), **arrays)


def by_the_book(entries: list[InForce], event: int, *, oldest: bool) -> InForce | None:
    """The last of those that count whose time has come; for a champion's rows before all of them the oldest."""
    counted = entries[-KEPT:]
    come = [e for e in counted if e.from_us <= event]
    return come[-1] if come else counted[0] if oldest and counted else None


@given(st.lists(_histories, min_size=1, max_size=3), _rows)
def test_a_batch_is_scored_as_each_of_its_rows_alone(histories: list[Any], rows: list[tuple[int, str, int]]) -> None:
    here = lane()
    entries: dict[int, dict[str, list[InForce]]] = {}
    for p, (champion, challenger, canary) in enumerate(histories):
        mine = entries[p] = {"champion": held(champion[0], champion[1], "champion", first=True), "challenger": [], "canary": []}
        for role, drawn in (("challenger", challenger), ("canary", canary)):
            if drawn is not None:
                mine[role] = held(drawn[0], drawn[1], role, share=drawn[2])
        here.set(p, History(e for some in mine.values() for e in some))
    rows = [(p % len(histories), s, us) for p, s, us in rows]
    wanted: dict[tuple[int, str], tuple[str, str] | None] = {}
    for i, (p, symbol, event) in enumerate(rows):
        canary = by_the_book(entries[p]["canary"], event, oldest=False)
        champion = by_the_book(entries[p]["champion"], event, oldest=True)
        challenger = by_the_book(entries[p]["challenger"], event, oldest=False)
        assert champion is not None
        trial = canary is not None and canary.order.version != NOBODY and canary_point(symbol) < canary.order.share
        chosen = canary if trial else champion
        assert chosen is not None
        wanted[i, "traded"] = chosen.order.version, "canary" if trial else "champion"
        if challenger is not None and challenger.order.version != NOBODY:
            wanted[i, "shadow"] = challenger.order.version, "challenger"
    found: dict[tuple[int, str], tuple[str, str] | None] = {}
    for served, positions in here.scorers(batch(rows)):
        for i in range(len(rows)) if positions is None else positions.tolist():
            at = i, "shadow" if served.role == "challenger" else "traded"
            assert at not in found
            found[at] = served.handle.version, served.role
    assert found == wanted


def _roles(served: Served | None) -> tuple[str, str] | None:
    return None if served is None else (served.handle.version, served.role)


def test_only_rows_of_the_versions_trigger_are_scored_and_nobody_in_a_partition_not_read() -> None:
    here = lane()
    here.set(0, History(held([], ["1"], "champion", first=True)))
    assert list(here.scorers(batch([(0, "S1", 5)], "slow"))) == []
    assert _roles(here.scorer("m", "champion", 0, "S1", 5)) == ("1", "champion")
    assert here.scorer("m", "champion", 1, "S1", 5) is None
    assert here.scorer("other", "champion", 0, "S1", 5) is None
    assert here.scorer("m", "challenger", 0, "S1", 5) is None


def test_what_was_answered_before_a_switch_is_not_answered_after_it() -> None:
    here = lane()
    here.set(0, History(held([], ["1"], "champion", first=True)))
    rows = batch([(0, "S1", 50), (0, "S2", 51)])
    assert [(s.handle.version, at) for s, at in here.scorers(rows)] == [("1", None)]
    here.set(0, History(held([40], ["1", "2"], "champion", first=True)))
    assert [(s.handle.version, at) for s, at in here.scorers(rows)] == [("2", None)]
    here.set(1, History(held([], ["1"], "champion", first=True)))
    split = {s.handle.version: at for s, at in here.scorers(batch([(0, "S1", 50), (1, "S2", 51)]))}
    assert {v: None if at is None else at.tolist() for v, at in split.items()} == {"2": [0], "1": [1]}
    here.leave(1)
    assert [(s.handle.version, at) for s, at in here.scorers(rows)] == [("2", None)]


@pytest.mark.parametrize(
    ("symbol", "digest"),
    [("GOOG", "5b718973017e50f8"), ("AAPL", "6b4aff72f6bfebf4"), ("", "e4a6a0577479b2b4"), ("Ω", "cbb40e1b1fd9740f")],
)
def test_a_symbols_point_is_the_same_for_ever(symbol: str, digest: str) -> None:
    """As `printf SYMBOL | b2sum -l 64` tells."""
    assert canary_point(symbol) == int(digest, 16) / 2**64


def test_a_greater_share_only_adds_symbols_and_shares_are_about_what_they_say() -> None:
    symbols = [f"SYM{i:05}" for i in range(20_000)]
    points = [canary_point(s) for s in symbols]
    assert all(0 <= p < 1 for p in points)
    for share in (0.01, 0.1, 0.5):
        assert sum(p < share for p in points) / len(points) == pytest.approx(share, abs=4 * (share / len(points)) ** 0.5)
    here = lane()

    def traded(share: float) -> set[str]:
        canary = held([0], ["2"], "canary", share=share)
        here.set(0, History([*held([], ["1"], "champion", first=True), *canary]))
        return {s for s in symbols[:300] if _roles(here.scorer("m", "champion", 0, s, 5)) == ("2", "canary")}

    shares = [traded(share) for share in (0.0, 0.1, 0.3, 1.0)]
    assert shares[0] == set()
    assert len(shares[3]) == 300
    assert shares[0] < shares[1] < shares[2] < shares[3]
