"""The chunk path in worlds of one thread and virtual time: a fixed budget of seeds, and proof that they find what is wrong."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import structlog

from tests.simulation import mutations
from tests.simulation.judge import faults
from tests.simulation.world import Plan, World

if TYPE_CHECKING:
    from collections.abc import Iterator

SEEDS = range(8)
MOST_SEEDS = 25
"""A mutation must be found within so many."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Workers of a world warn of what is done to them, a thousand times."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_wrong_or_contradictory_whatever_happens_to_the_workers(seed: int) -> None:
    world = World(Plan(seed)).run()
    assert faults(world) == [], f"python -m tests.simulation.run --seeds {seed}-{seed}"
    assert world.lives > 4


@pytest.mark.parametrize("seed", range(3))
def test_challengers_and_canaries_come_and_go_as_well(seed: int) -> None:
    plan = Plan(seed, rows=250, swaps=8, roles=True)
    assert faults(World(plan).run()) == [], plan


def test_a_seed_is_a_world() -> None:
    one, again, other = (World(Plan(seed, rows=150)).run() for seed in (3, 3, 4))
    assert (one.trace.digest(), one.steps, one.broker.logs) == (again.trace.digest(), again.steps, again.broker.logs)
    assert one.trace.digest() != other.trace.digest()


def test_worlds_have_what_goes_wrong_in_them() -> None:
    did = {what for seed in range(5) for what in World(Plan(seed, rows=100)).run().did}
    assert {"killed", "killed, and its disk lost", "paused", "added", "version", "killed at: table batch"} <= did
    assert any(what.startswith("75: ") for what in did)


@pytest.mark.parametrize("name", mutations.NAMES)
def test_it_finds(name: str) -> None:
    plan = mutations.PLANS.get(name, mutations.USUAL)
    assert any(faults(_wrong(name, replace(plan, seed=seed))) for seed in range(MOST_SEEDS))


def _wrong(name: str, plan: Plan) -> World:
    """A world of workers with one thing wrong; who judges it has it right."""
    with mutations.mutated(name):
        return World(plan).run()
