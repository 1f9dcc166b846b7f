"""Following the registry: when a leader gives an order, what is refused and goes on, what is loaded, kept and let go of."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from config.sections import Canary, ServedModel
from models.errors import ModelError, ModelOutputError, RegistryUnreachable, UntrustedModel
from models.spec import ColumnSpec
from models.timeline import FROM_THE_START_US
from streams import following as module
from streams import metrics
from streams.following import Following
from streams.switches import Order, switches_due
from tests.unit.streams.following_world import AHEAD_US, NOW_US, FakeRegistry, FakeTopic, World
from tests.unit.streams.pipes import X, handle

if TYPE_CHECKING:
    from models.handle import ModelHandle

CANARY: dict[str, Any] = {"canary": {"alias": "canary", "share": 0.25}}


@pytest.fixture(autouse=True)
def _retry_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_S", -1.0)


def refused(check: str) -> float:
    value: float = metrics.REFUSED.labels("m", check)._value.get()
    return value


def test_the_first_worker_of_a_model_orders_its_first_version_from_the_beginning_of_time() -> None:
    world = World()
    (first,) = world.orders
    assert (first.version, first.seq, first.role, first.effective_from_us) == ("1", 1, "champion", FROM_THE_START_US)
    assert [h.version for h in world.handles] == ["1"]
    world.registry.aliases["champion"] = "2"
    world.again(world.model)
    assert world.orders == [first]


def test_a_worker_that_cannot_serve_its_first_version_does_not_order_it() -> None:
    registry: Any = FakeRegistry(champion="1")
    registry.broken["1"] = UntrustedModel("bytes", check="digest")
    topic: Any = FakeTopic()
    with pytest.raises(UntrustedModel):
        Following([ServedModel(name="m")], registry, topic, ahead_us=AHEAD_US, load_deadline_s=0.0).start()
    assert topic.written == {}


def test_an_order_is_given_when_the_alias_names_another_version_and_only_then() -> None:
    world = World()
    assert world.lead() == []
    world.registry.aliases["champion"] = "3"
    (order,) = world.lead()
    assert (order.seq, order.version, order.role, order.effective_from_us) == (2, "3", "champion", NOW_US + AHEAD_US)
    assert world.lead() == []
    world.registry.aliases["champion"] = "1"
    (back,) = world.lead()
    assert (back.seq, back.version) == (3, "1")


def test_an_order_before_any_row_takes_effect_at_once() -> None:
    world = World()
    world.registry.aliases["champion"] = "2"
    asyncio.run(world.following.give_orders(stream_time_us=-1))
    assert world.following.newest()[0].effective_from_us == 0


def test_numbers_go_on_from_what_is_in_force_though_the_timeline_was_lost() -> None:
    world = World()
    world.following.in_force = lambda _model, role: 7 if role == "champion" else 0
    world.registry.aliases["champion"] = "3"
    (order,) = world.lead()
    assert (order.seq, order.version) == (8, "3")


@pytest.mark.parametrize(
    ("error", "check"),
    [
        (UntrustedModel("no", check="flavor"), "flavor"),
        (ModelOutputError("no"), str(ModelOutputError("no").check or "ModelOutputError")),
        (ModelError("no"), "ModelError"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_a_version_that_fails_is_refused_by_its_check_and_what_is_in_force_goes_on(error: Exception, check: str) -> None:
    world = World()
    before = refused(check)
    world.registry.aliases["champion"] = "2"
    world.registry.broken["2"] = error
    assert world.lead() == []
    assert refused(check) == before + 1
    assert [o.version for o in world.following.newest()] == ["1"]
    assert set(world.following.loaded) == {("m", "1")}
    assert world.registry.pins == ["1"]
    del world.registry.broken["2"]
    assert [o.version for o in world.lead()] == ["2"]


def test_a_version_that_failed_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_S", 3_600.0)
    world = World()
    world.registry.aliases["champion"] = "2"
    world.registry.broken["2"] = UntrustedModel("no", check="digest")
    for _ in range(3):
        assert world.lead() == []
    assert world.registry.loads.count("2") == 1
    world.registry.aliases["champion"] = "3"
    assert [o.version for o in world.lead()] == ["3"]


def test_a_version_whose_windows_do_not_fit_those_in_force_is_refused_as_layout() -> None:
    world = World()
    slower = handle("m", [X], version="2")
    sets = {"bars": type(slower.spec.feature_sets["bars"])(features=("x", "y"), bar_us=10, depth_rows=4, publication_lag_us=7)}
    spec = type(slower.spec)(model="m", trigger="bars", horizon_us=10, columns=slower.spec.columns, feature_sets=sets)
    world.registry.handles["2"] = type(slower)(name="m", version="2", digest="", spec=spec, predict=slower.predict)
    long = ColumnSpec(name="x" * 500_000, feature_set="bars", feature="x")
    world.registry.handles["3"] = handle("m", [long], version="3")
    before = refused("layout")
    for version in ("2", "3"):
        world.registry.aliases["champion"] = version
        assert world.lead() == []
    assert refused("layout") == before + 2


def test_a_registry_that_does_not_answer_changes_nothing_whatever_the_cache_remembers() -> None:
    world = World(challenger_alias="next", **CANARY)
    world.registry.aliases |= {"next": "2", "canary": "3"}
    assert {o.role for o in world.lead()} == {"challenger", "canary"}
    failures = metrics.REGISTRY_FAILURES._value.get()
    world.registry.away = True
    for world.registry.remembers in (False, True):
        world.registry.aliases["champion"] = "2"
        assert world.lead() == []
    assert metrics.REGISTRY_FAILURES._value.get() == failures + 6
    world.registry.away = False
    assert [o.version for o in world.lead()] == ["2"]


def test_a_registry_lost_while_it_loads_refuses_no_version() -> None:
    world = World()
    world.registry.aliases["champion"] = "2"
    world.registry.broken["2"] = RegistryUnreachable("away")
    before = refused("RegistryUnreachable")
    assert world.lead() == []
    assert refused("RegistryUnreachable") == before
    del world.registry.broken["2"]
    assert [o.version for o in world.lead()] == ["2"]


def test_a_champions_alias_taken_away_is_no_order_for_nobody() -> None:
    world = World()
    del world.registry.aliases["champion"]
    assert world.lead() == []


def test_a_challengers_alias_taken_away_is_an_order_for_nobody_and_set_again_one_more() -> None:
    world = World(challenger_alias="next")
    assert world.lead() == []
    world.registry.aliases["next"] = "2"
    (first,) = world.lead()
    assert (first.role, first.seq, first.version) == ("challenger", 1, "2")
    del world.registry.aliases["next"]
    (gone,) = world.lead()
    assert (gone.role, gone.seq, gone.version, gone.digest) == ("challenger", 2, "", "")
    assert world.lead() == []
    world.registry.aliases["next"] = "2"
    assert [(o.seq, o.version) for o in world.lead()] == [(3, "2")]


def test_a_canary_has_its_share_and_another_share_is_another_order() -> None:
    world = World(**CANARY)
    world.registry.aliases["canary"] = "4"
    assert [(o.version, o.share) for o in world.lead()] == [("4", 0.25)]
    assert world.lead() == []
    world.again(ServedModel(name="m", canary=Canary(alias="canary", share=0.5)))
    assert [(o.seq, o.version, o.share) for o in world.lead()] == [(2, "4", 0.5)]
    world.again(ServedModel(name="m"))
    assert [(o.seq, o.version, o.share) for o in world.lead()] == [(3, "", 0.0)]


def test_of_two_leaders_orders_the_first_counts_and_the_second_leader_looks_again() -> None:
    world = World()
    world.topic.before = Order(model="m", role="champion", seq=2, version="5", effective_from_us=7)
    world.registry.aliases["champion"] = "3"
    assert [o.version for o in world.lead()] == ["5"]
    assert [(o.seq, o.version) for o in world.lead()] == [(3, "3")]


def test_a_broker_that_does_not_take_the_order_is_asked_again() -> None:
    world = World()
    world.registry.aliases["champion"] = "3"
    world.topic.away = True
    assert world.lead() == []
    world.topic.away = False
    assert [o.version for o in world.lead()] == ["3"]


def test_what_others_ordered_is_loaded_once_and_tried_again_after_a_failure() -> None:
    world = World()
    world.topic.append(Order(model="m", role="champion", seq=2, version="2", effective_from_us=9))
    world.topic.append(Order(model="other", role="champion", seq=1, version="5", effective_from_us=9))
    world.registry.broken["2"] = OSError("disk")
    world.load_ordered()
    assert set(world.following.loaded) == {("m", "1")}
    del world.registry.broken["2"]
    world.load_ordered()
    world.load_ordered()
    assert set(world.following.loaded) == {("m", "1"), ("m", "2")}
    assert world.registry.loads == ["1", "2", "2"]


def test_versions_are_pinned_while_they_count_and_let_go_when_nothing_needs_them() -> None:
    world = World()
    for version in ("2", "3", "4"):
        world.registry.aliases["champion"] = version
        world.lead()
    assert sorted(world.registry.pins) == ["1", "2", "3", "4"]
    world.following.forget({("m", "2"), ("m", "3")})
    assert sorted(world.registry.pins) == ["2", "3", "4"]
    world.following.forget(())
    assert world.registry.pins == ["4"]
    assert set(world.following.loaded) == {("m", "4")}
    (again,) = asyncio.run(world.following.have([("m", "2")]))
    assert again.version == "2"
    assert sorted(world.registry.pins) == ["2", "4"]


def test_only_a_champion_goes_through_what_serves_it_and_a_challenger_once_it_is_promoted() -> None:
    through: list[str] = []

    def serve(h: ModelHandle) -> ModelHandle:
        through.append(h.version)
        return h

    world = World(serve, challenger_alias="next")
    world.registry.aliases["next"] = "2"
    world.lead()
    assert through == ["1"]
    world.registry.aliases["champion"] = "2"
    world.lead()
    assert through == ["1", "2"]


def test_a_version_in_force_that_is_not_to_be_had_in_time_raises_the_reason() -> None:
    world = World()
    world.registry.broken["2"] = RegistryUnreachable("gone")
    with pytest.raises(RegistryUnreachable, match="gone"):
        asyncio.run(world.following.have([("m", "2")]))


def test_switches_are_due_where_a_loaded_version_is_not_in_force_yet() -> None:
    two = Order(model="m", role="champion", seq=2, version="2", effective_from_us=0)
    none = Order(model="m", role="canary", seq=3, version="", effective_from_us=0)
    seen = {(0, "champion"): 1, (1, "champion"): 2, (0, "canary"): 3, (1, "canary"): 0}

    def due(*loaded: tuple[str, str]) -> list[tuple[int, int]]:
        return [(p, o.seq) for p, o in switches_due([two, none], [0, 1], lambda p, _m, role: seen[p, role], loaded)]

    assert due() == [(1, 3)]
    assert due(("m", "2")) == [(0, 2), (1, 3)]
