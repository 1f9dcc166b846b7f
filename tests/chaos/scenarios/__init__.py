"""The scenarios, in the order in which a whole run takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.chaos.scenarios import around, brokers, ending, folders, kills, memory, naive, rebalances

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.chaos.world import Context, Result


@dataclass(frozen=True)
class Scenario:
    """What to run; the share of the free time it gets, and the time it needs in any case."""

    run: Callable[[Context], Result]
    weight: float = 1.0
    fixed_s: float = 0.0


SCENARIOS = {
    "kills": Scenario(kills.run, weight=10),
    "naive": Scenario(naive.run),
    "wiped": Scenario(folders.wiped),
    "rebalances": Scenario(rebalances.joins_and_leaves, weight=2),
    "takeover": Scenario(rebalances.takeover),
    "evictions": Scenario(rebalances.evictions),
    "one_of_three": Scenario(brokers.one_of_three, weight=2),
    "away_held": Scenario(brokers.away_held, weight=0, fixed_s=brokers.AWAY_S + brokers.BACK_S),
    "away_killed": Scenario(brokers.away_killed, weight=0, fixed_s=brokers.AWAY_S + brokers.BACK_S),
    "away_long": Scenario(brokers.away_long, weight=0, fixed_s=brokers.LONG_S + brokers.BACK_S),
    "slow": Scenario(brokers.slow),
    "burst": Scenario(memory.burst, weight=0.2, fixed_s=70),
    "sigterm": Scenario(ending.sigterm),
    "hung_model": Scenario(ending.hung_model, weight=0.3, fixed_s=10),
    "disk_full": Scenario(folders.disk_full, weight=0.7),
    "damaged": Scenario(folders.damaged),
    "refused": Scenario(folders.refused, weight=0, fixed_s=10),
    "warehouse_held": Scenario(folders.warehouse_held, weight=0.7),
    "registry_away": Scenario(around.registry_away, weight=0.7),
    "webhook_away": Scenario(around.webhook_away, weight=0.7),
    "clock_jumps": Scenario(around.clock_jumps, weight=0.7),
}
