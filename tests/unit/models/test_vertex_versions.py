"""Only the version asked for answers: mixed, wrong, unnamed and otherwise computing deployments are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.errors import EndpointMismatch
from models.vertex import REREAD_S
from models.vertex_rules import FAILURES
from models.vertex_versions import description
from tests.unit.models.vertex_bench import VALUES, Bench, summed
from tests.unit.models.vertex_server import Fault, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.handle import ModelHandle


@pytest.fixture(name="bench")
def fixture_bench(make_handle: Callable[..., ModelHandle]) -> Iterator[Bench]:
    with serving() as server:
        bench = Bench(server, replace(make_handle(summed), digest="ab" * 32))
        yield bench
        bench.close()


def test_answers_of_two_deployed_models_are_refused_together(bench: Bench, make_handle: Callable[..., ModelHandle]) -> None:
    other = replace(make_handle(summed), version="2", digest="cd" * 32)
    bench.server.deploy(other, deployed_id="22", vertex_version="2")
    bench.server.endpoint["trafficSplit"] = {"11": 50, "22": 50}
    served = bench.served(fallback="abstain", max_request_bytes=10_000)
    bench.server.faults.extend([Fault(deployed_id="11"), Fault(deployed_id="22")])
    with pytest.raises(EndpointMismatch, match=r"deployed models 11, 22; send all traffic to one version"):
        served.predict(np.random.default_rng(3).normal(size=(300, 3)))


def test_two_deployments_of_the_version_may_share_the_traffic(bench: Bench) -> None:
    bench.server.deploy(bench.local, deployed_id="12", vertex_version="1")
    served = bench.served(fallback="abstain", max_request_bytes=10_000)
    bench.server.faults.extend([Fault(deployed_id="11"), Fault(deployed_id="12")])
    values = np.random.default_rng(3).normal(size=(300, 3))
    assert served.predict(values).tobytes() == summed(values).tobytes()


def test_another_versions_answer_is_refused_until_the_own_one_is_back(
    bench: Bench, make_handle: Callable[..., ModelHandle]
) -> None:
    served = bench.served(fallback="local")
    bench.server.deploy(replace(make_handle(np.zeros_like), version="2"), deployed_id="22", vertex_version="2")
    bench.server.predicts["22"] = lambda x: np.zeros(len(x))
    assert served.predict(VALUES).tobytes() == summed(VALUES).tobytes()
    assert "deployed model 22 answered, which is another version" in str(bench.seen[0].error)
    bench.server.endpoint["trafficSplit"] = {"11": 100}
    assert served.predict(VALUES).tobytes() == summed(VALUES).tobytes()
    assert bench.by == ["local", "endpoint"]


def test_the_version_deployed_anew_under_another_id_is_found(bench: Bench) -> None:
    served = bench.served(fallback="abstain")
    bench.server.deploy(bench.local, deployed_id="33", vertex_version="1")
    with pytest.raises(EndpointMismatch, match="deployed model 33"):
        served.predict(VALUES)  # read a moment ago: not again yet
    bench.clock_s += REREAD_S
    assert served.predict(VALUES).tobytes() == summed(VALUES).tobytes()
    assert bench.seen[-1].deployed_model is not None
    assert bench.seen[-1].deployed_model.id == "33"


@pytest.mark.parametrize(
    "said",
    [
        "",
        description("m", "1", "cd" * 32),
        description("m", "7", "ab" * 32),
        description("other", "1", "ab" * 32),
    ],
)
def test_a_model_that_says_it_is_something_else_is_not_the_version(bench: Bench, said: str) -> None:
    bench.server.undeploy("11")
    bench.server.deploy(bench.local, deployed_id="11", vertex_version="1", versionDescription=said)
    with pytest.raises(EndpointMismatch, match=r"model 'm' version 1 \(m-v1\) is not deployed"):
        bench.served(fallback="abstain")
    assert bench.served(fallback="local").predict(VALUES).tobytes() == summed(VALUES).tobytes()
    assert bench.by == ["local"]
    assert bench.server.bodies == []


def test_an_endpoint_that_computes_otherwise_scores_nothing(bench: Bench) -> None:
    bench.server.predicts["11"] = lambda x: np.nextafter(summed(x), np.inf)
    with pytest.raises(EndpointMismatch, match="serve it with the libraries it was published with"):
        bench.served(fallback="abstain")
    assert bench.served(fallback="local").predict(VALUES).tobytes() == summed(VALUES).tobytes()
    assert bench.by == ["local"]


def test_an_endpoint_that_does_not_exist_is_said_at_load(bench: Bench) -> None:
    with pytest.raises(EndpointMismatch, match="404"):
        bench.served(fallback="abstain", endpoint_id="2")


def test_a_deployment_that_is_new_computes_the_same_or_scores_nothing(bench: Bench) -> None:
    served = bench.served(fallback="abstain")
    bench.server.deploy(bench.local, deployed_id="33", vertex_version="1")
    bench.server.predicts["33"] = lambda x: np.nextafter(summed(x), np.inf)
    bench.clock_s += REREAD_S
    for _ in range(2):
        with pytest.raises(EndpointMismatch, match="serve it with the libraries"):
            served.predict(VALUES)


def test_the_next_version_is_not_left_alone_for_the_failures_of_the_one_before(
    bench: Bench, make_handle: Callable[..., ModelHandle]
) -> None:
    endpoint = bench.endpoint(fallback="local")
    old = endpoint.serve(bench.local)
    following = replace(make_handle(summed), version="2", digest="cd" * 32)
    bench.server.deploy(following, deployed_id="22", vertex_version="2")
    new = endpoint.serve(following)
    for _ in range(FAILURES + 1):
        old.predict(VALUES)
    assert new.predict(VALUES).tobytes() == summed(VALUES).tobytes()
    assert bench.by == ["local"] * (FAILURES + 1) + ["endpoint"]
    assert bench.seen[FAILURES].breaker == "open"
