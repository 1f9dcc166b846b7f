"""Champions beside challengers that do all that models can do wrong: the champions' bytes are as without them."""

from __future__ import annotations

import json
import random
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import apart
from models.apart import Allowance, Apart
from models.errors import ChallengerUnavailable
from streams.inference_log import decode_log
from streams.partitions import NUL
from tests.unit.models.apart_actor import COMMAND, Cue
from tests.unit.streams.pipes import PARTITIONS, X1, X, bar, bodies, handle, part, put_in_force, serve, total
from tests.unit.streams.wire import nothing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from models.handle import Predict
    from streams.pipeline import Pipeline, StepResult

SYMBOLS = "ABCDEFGH"
ENDS = dict.fromkeys(range(PARTITIONS), 0)
CHAMPION = handle("m", [X, X1])


def unavailable(_x: Any) -> Any:
    raise ChallengerUnavailable("gone")


WAYS: dict[str, Predict] = {
    "model_raised": lambda x: x / None,  # type: ignore[operator]  # it is to raise
    "model_output_not_finite": lambda x: np.full(len(x), np.nan),
    "model_output_length": lambda x: x,
    "model_output_type": lambda x: total(x).astype(str),
    "challenger_unavailable": unavailable,
}


def chunks_of(seed: int, cues: Iterable[Cue] = ()) -> list[list[Any]]:
    """Bars of all symbols in chunks of any size; some have a cue, the next one, in place of a value."""
    rng = random.Random(seed)  # noqa: S311 - the same rows every time
    rows = []
    for event in range(10, 400, 10):
        for symbol in SYMBOLS:
            event_us = max(event - rng.choice([0, 0, 0, 30]), 10)
            rows.append(bar(event_us, symbol, x=rng.gauss(0, 1), revision=rng.choice([0, 0, 0, 1])))
    out, at, coming = [], 0, iter(cues)
    while at < len(rows):
        some = rows[at : at + rng.randint(1, 20)]
        if rng.random() < 0.7 and (cue := next(coming, None)) is not None:
            rng.choice(some)["values"]["x"] = float(cue)
        out.append(part(*some, first=10 + at))
        at += len(some)
    return out


def challenged(predict: Predict) -> Pipeline:
    pipeline = serve(CHAMPION)
    put_in_force(pipeline, handle("m", [X, X1], version="2", predict=predict), offsets=ENDS, seq=1, role="challenger")
    return pipeline


def kept(pipeline: Pipeline) -> list[tuple[int, bytes, bytes]]:
    """The windows changed: all that a challenger must leave as they are."""
    return sorted(e for e in pipeline.take_dirty() if not e[1].startswith(NUL.encode()))


def logs(out: StepResult, role: str) -> list[tuple[int, bytes]]:
    return [(p, data) for p, data in out.logs if decode_log(data).table.schema.metadata[b"role"] == role.encode()]


@pytest.mark.parametrize("reason", WAYS)
@given(seed=st.integers(0, 10**6))
@settings(max_examples=8, deadline=None)
def test_the_champions_output_is_the_same_bytes_whatever_a_challenger_does(reason: str, seed: int) -> None:
    alone, beside = serve(CHAMPION), challenged(WAYS[reason])
    for chunk in chunks_of(seed):
        one, two = alone.step(chunk, nothing), beside.step(chunk, nothing)
        assert two.predictions == one.predictions
        assert logs(two, "champion") == one.logs
        assert two.rejected == one.rejected
        assert kept(beside) == kept(alone)
        assert {json.loads(v)["reason"] for _, _, v in two.shadow} <= {reason}
        assert len(two.shadow) == len(two.predictions)


def test_with_a_process_that_hangs_dies_and_lies_the_champions_output_is_the_same_bytes_and_it_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "FIRST_REST_S", 0.0)
    monkeypatch.setattr(apart, "MOST_FAILURES", 1_000)
    (tmp_path / "MLmodel").touch()
    allowance = Allowance(0.3)
    one = Apart(tmp_path, name="m", version="2", digest="", allowance=allowance, command=COMMAND)
    assert one.wait(20) is None
    alone, beside = serve(CHAMPION), challenged(one)
    reasons: set[str | None] = set()
    restarts = 0
    for chunk in chunks_of(5, Cue):
        if one.state == "resting" and restarts < 12:
            restarts += 1
            until(lambda: one.state == "ready")
        allowance.begin()
        want, out = alone.step(chunk, nothing), beside.step(chunk, nothing)
        assert out.predictions == want.predictions
        assert logs(out, "champion") == want.logs
        hashes = {(b["symbol"], b["ts_event_us"], b["revision"]): (b["vector_hash"], b["value"]) for b in bodies(out)}
        for body in (json.loads(v) for _, _, v in out.shadow):
            vector_hash, value = hashes.pop((body["symbol"], body["ts_event_us"], body["revision"]))
            assert body["vector_hash"] == vector_hash
            assert body["value"] == (value if body["reason"] is None else None)
            reasons.add(body["reason"])
        assert not hashes
    assert restarts > 3
    assert one.started > 3
    assert reasons == {None, "challenger_unavailable", *WAYS}
    one.close()


def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)
