"""An endpoint behind the same predict as a loaded model: its answers, its failures, and what then scores."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import replace
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from models.errors import EndpointUnavailable
from models.loaders import load_lightgbm
from models.score import score
from models.vertex_rules import FAILURES, PAUSE_S
from tests.unit.models.vertex_bench import VALUES, Bench, summed
from tests.unit.models.vertex_server import Fault, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from models.handle import ModelHandle


@pytest.fixture(name="bench")
def fixture_bench(make_handle: Callable[..., ModelHandle]) -> Iterator[Bench]:
    with serving() as server:
        bench = Bench(server, replace(make_handle(summed), digest="ab" * 32))
        yield bench
        bench.close()


def test_a_real_model_answers_through_json_with_the_bits_of_the_loaded_one(
    bench: Bench, booster: Any, data: Any, tmp_path: Path
) -> None:
    booster.save_model(tmp_path / "model.lgb")
    bench.local = replace(bench.local, predict=load_lightgbm(tmp_path / "model.lgb", columns=3).predict)
    bench.server.predicts["11"] = bench.local.predict
    values = data.x.copy()
    values[::7, 1] = np.nan
    values[0] = [-0.0, 5e-324, 1.7976931348623157e308]
    served = bench.served(fallback="abstain")
    assert served.predict(values).tobytes() == bench.local.predict(values).tobytes()
    assert bench.by == ["endpoint"]
    told = bench.seen[0].deployed_model
    assert told is not None
    assert (told.id, told.model_name) == ("11", "projects/p/locations/us-central1/models/m@1")


def test_missing_goes_out_as_null_and_nothing_else_changes(bench: Bench) -> None:
    served = bench.served(fallback="abstain")
    assert served.predict(VALUES).tobytes() == summed(VALUES).tobytes()
    assert bench.server.bodies == [b'{"instances":[[0.1,0.2,0.3],[null,-0.0,5e-324],[1e300,0.3333333333333333,-2.5]]}']
    assert served.predict(np.empty((0, 3))).shape == (0,)
    assert len(bench.server.bodies) == 1


def test_a_null_answer_makes_its_row_abstain(bench: Bench) -> None:
    served = bench.served(fallback="abstain")
    bench.server.faults.append(Fault(body=b'{"predictions": [1, null, 0.5], "deployedModelId": "11", "modelVersionId": "1"}'))
    scores = score(served, VALUES)
    assert scores.reason == [None, "model_output_not_finite", None]
    assert scores.value[[0, 2]].tolist() == [1.0, 0.5]


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(body=b'{"predictions": [NaN, 1, 2], "deployedModelId": "11"}'), "cannot be read"),
        (Fault(body=b'{"predictions": [1, 2'), "cannot be read"),
        (Fault(body=b"<html>"), "cannot be read"),
        (Fault(body=b'{"predictions": ["1", "2", "3"], "deployedModelId": "11"}'), "cannot be read"),
        (Fault(body=b'{"predictions": [1, 2, 3]}'), "cannot be read"),
        (Fault(body=b'{"predictions": [1, 2], "deployedModelId": "11"}'), "2 predictions for 3 rows"),
        (Fault(body=b'{"predictions": [1,2,3], "deployedModelId": "11", "modelVersionId": "9"}'), "as model version 9, not 1"),
        (Fault(status=400), "status 400, as told"),
        (Fault(status=403), "status 403, as told"),
        (Fault(status=307, headers={"Location": "http://127.0.0.1:1/"}), "status 307"),
    ],
)
def test_an_answer_that_is_none_abstains_or_is_scored_by_the_local_copy(bench: Bench, fault: Fault, says: str) -> None:
    abstaining, falling_back = bench.served(fallback="abstain"), bench.served(fallback="local")
    bench.server.faults.append(fault)
    scores = score(abstaining, VALUES)
    assert scores.reason == ["endpoint_unavailable"] * 3
    assert says in str(scores.detail)
    bench.server.faults.append(fault)
    scores = score(falling_back, VALUES)
    assert scores.value.tobytes() == summed(VALUES).tobytes()
    assert bench.by == ["nobody", "local"]
    assert says in str(bench.seen[1].error)
    assert len(bench.server.bodies) == 2, "such an answer is not asked for again"


@pytest.mark.parametrize("fault", [Fault(status=429), Fault(status=503), Fault(status=500), Fault(drop=True)])
def test_one_batch_of_several_fails_and_recovers(bench: Bench, fault: Fault) -> None:
    served = bench.served(fallback="abstain", max_request_bytes=10_000, timeout_s=5.0)
    values = np.random.default_rng(3).normal(size=(1000, 3))
    bench.server.faults.extend([Fault(), fault, Fault()])
    assert served.predict(values).tobytes() == summed(values).tobytes()
    assert len(bench.server.bodies) > 5
    assert len(set(bench.server.bodies)) == len(bench.server.bodies) - 1, "one batch was sent twice, the others once"
    assert max(map(len, bench.server.bodies)) <= 10_000


def test_a_batch_that_fails_for_good_calls_the_others_off(bench: Bench) -> None:
    served = bench.served(fallback="abstain", max_request_bytes=10_000, calls_at_once=1, timeout_s=5.0)
    bench.server.faults.append(Fault(status=400))
    with pytest.raises(EndpointUnavailable, match="status 400"):
        served.predict(np.random.default_rng(3).normal(size=(5000, 3)))
    assert len(bench.server.bodies) < 5


def test_failures_to_the_end_of_the_tries_are_one_failure(bench: Bench) -> None:
    served = bench.served(fallback="abstain", timeout_s=5.0)
    bench.server.always = Fault(status=503)
    with pytest.raises(EndpointUnavailable, match=r"status 503, as told \(6 times\)"):
        served.predict(VALUES)


def test_a_slow_answer_ends_with_the_timeout(bench: Bench) -> None:
    served = bench.served(fallback="local", timeout_s=0.3)
    bench.server.faults.append(Fault(delay_s=3.0))
    began_s = time.monotonic()
    assert served.predict(VALUES).tobytes() == summed(VALUES).tobytes()
    assert time.monotonic() - began_s < 2.0
    assert "0.3 s" in str(bench.seen[0].error)
    assert served.predict(VALUES).tobytes() == summed(VALUES).tobytes()
    assert bench.by == ["local", "endpoint"]


@pytest.mark.parametrize("header", ["1", "date"])
def test_retry_after_is_waited_for(bench: Bench, header: str) -> None:
    served = bench.served(fallback="abstain", timeout_s=5.0)
    wanted = formatdate(time.time() + 2, usegmt=True) if header == "date" else header
    bench.server.faults.append(Fault(status=429, headers={"Retry-After": wanted}))
    began_s = time.monotonic()
    served.predict(VALUES)
    assert time.monotonic() - began_s > 0.9


def test_a_retry_after_beyond_the_timeout_fails_at_once(bench: Bench) -> None:
    served = bench.served(fallback="abstain", timeout_s=5.0)
    bench.server.faults.append(Fault(status=429, headers={"Retry-After": "60"}))
    began_s = time.monotonic()
    with pytest.raises(EndpointUnavailable, match="status 429"):
        served.predict(VALUES)
    assert time.monotonic() - began_s < 2.0


def test_calls_at_once_are_bounded_and_used(bench: Bench) -> None:
    served = bench.served(fallback="abstain", max_request_bytes=10_000, calls_at_once=3, timeout_s=20.0)
    bench.server.always = Fault(delay_s=0.05)
    values = np.random.default_rng(3).normal(size=(3000, 3))
    assert served.predict(values).tobytes() == summed(values).tobytes()
    assert len(bench.server.bodies) > 10
    assert bench.server.most_at_once == 3


def test_an_infinity_is_never_sent_as_missing(bench: Bench) -> None:
    abstaining, falling_back = bench.served(fallback="abstain"), bench.served(fallback="local")
    values = np.array([[np.inf, 1.0, 2.0]])
    for _ in range(FAILURES + 1):
        assert "infinity" in str(score(abstaining, values).detail)
    assert falling_back.predict(values).tolist() == [np.inf]
    assert bench.server.bodies == []
    abstaining.predict(VALUES)
    assert bench.by[-1] == "endpoint", "vectors that cannot be sent say nothing against the endpoint"


def test_an_endpoint_that_is_down_at_load_is_checked_with_the_first_rows(bench: Bench) -> None:
    bench.server.accepted.clear()
    served = bench.served(fallback="abstain")
    assert score(served, VALUES).reason == ["endpoint_unavailable"] * 3
    bench.server.accepted.update(f"token-{i}" for i in range(9))
    assert served.predict(VALUES).tobytes() == summed(VALUES).tobytes()
    assert len(bench.server.bodies) == 2, "the probe, then the rows"


def test_nobody_listening_is_a_failure_and_not_an_accident(bench: Bench) -> None:
    served = bench.served(fallback="abstain", api_url="http://127.0.0.1:1", timeout_s=1.0)
    assert "ClientConnectorError" in str(score(served, VALUES).detail)


def test_the_breaker_opens_tries_once_and_closes(bench: Bench) -> None:
    served = bench.served(fallback="local")
    bench.server.always = Fault(status=400)
    for _ in range(FAILURES + 2):
        served.predict(VALUES)
    assert len(bench.server.bodies) == FAILURES, "open: not asked any more"
    assert [s.breaker for s in bench.seen] == ["closed"] * (FAILURES - 1) + ["open"] * 3
    assert "left alone after repeated failures, the last: POST" in str(bench.seen[-1].error)
    bench.clock_s += PAUSE_S
    served.predict(VALUES)
    assert (len(bench.server.bodies), bench.seen[-1].breaker) == (FAILURES + 1, "open"), "the trial failed"
    bench.clock_s += PAUSE_S
    bench.server.always = None
    for _ in range(2):
        assert served.predict(VALUES).tobytes() == summed(VALUES).tobytes()
    assert bench.by[-2:] == ["endpoint", "endpoint"]
    assert bench.seen[-1].breaker == "closed"


def test_several_threads_may_ask_at_once(bench: Bench) -> None:
    served = bench.served(fallback="abstain", timeout_s=10.0)
    wrong: list[int] = []

    def ask(seed: int) -> None:
        values = np.random.default_rng(seed).normal(size=(50, 3))
        with contextlib.suppress(EndpointUnavailable):
            if served.predict(values).tobytes() == summed(values).tobytes():
                return
        wrong.append(seed)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_one_trial_at_a_time_goes_to_an_endpoint_that_failed(bench: Bench) -> None:
    served = bench.served(fallback="local", timeout_s=10.0)
    bench.server.always = Fault(status=400)
    for _ in range(FAILURES):
        served.predict(VALUES)
    bench.clock_s += PAUSE_S
    bench.server.always = Fault(delay_s=0.3)
    threads = [threading.Thread(target=served.predict, args=(VALUES,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(bench.server.bodies) == FAILURES + 1
    assert sorted(bench.by[FAILURES:]) == ["endpoint", "local", "local", "local"]
