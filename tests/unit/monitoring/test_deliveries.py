"""What waits for a receiver: order, retries, bounds, what may be committed."""

from __future__ import annotations

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from monitoring.deliveries import (
    GIVE_UP_S,
    LAST_BOUND_S,
    MOST_REFUSALS,
    MOST_WAITING,
    Answer,
    Deliveries,
    Event,
    Firing,
    answered,
    wait_s,
)

TAKEN, AWAY, REFUSED = Answer("delivered"), Answer("away"), Answer("refused")


def event(offset: int, fingerprint: str = "a", *, partition: int = 0, state: str = "firing") -> Event:
    return Event(partition, offset, {"fingerprint": fingerprint, "event_id": f"{partition}-{offset}", "state": state}, 0.0)


def waiting(*events: Event) -> Deliveries:
    found = Deliveries()
    for e in events:
        found.passed(e.partition, e.offset + 1)
        found.add(e)
    return found


def settle(to: Deliveries, e: Event, answer: Answer, *, now_s: float = 0.0, wall_s: float = 0.0, chance: float = 0.5) -> str:
    return to.settle(e, answer, now_s=now_s, wall_s=wall_s, chance=chance)


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_wait_is_anything_below_a_bound_that_doubles_to_a_minute(failures: int, chance: float) -> None:
    bound = min(LAST_BOUND_S, 2.0 ** min(failures - 1, 10))
    assert 0 <= wait_s(failures, chance=chance) <= bound
    assert math.isclose(wait_s(failures, chance=chance), chance * bound)


def test_what_an_answer_means() -> None:
    assert {s: answered(s).verdict for s in (200, 204, 301, 307, 400, 401, 404, 408, 410, 425, 429, 500, 503)} == {
        200: "delivered",
        204: "delivered",
        301: "refused",
        307: "refused",
        400: "refused",
        401: "refused",
        404: "refused",
        408: "away",
        410: "refused",
        425: "away",
        429: "away",
        500: "away",
        503: "away",
    }
    assert answered(503, retry_after="3").retry_after_s == 3.0
    assert answered(503, retry_after="99999999999").retry_after_s == 300.0
    assert answered(503, retry_after="Wed, 21 Oct 2026 07:28:00 GMT").retry_after_s is None
    assert answered(503, retry_after="-1").retry_after_s is None


def test_a_receiver_that_is_away_gets_nothing_until_its_wait_is_over() -> None:
    box = waiting(event(0), event(1, "b"))
    first = box.due(0.0)
    assert first is not None
    assert settle(box, first, Answer("away", retry_after_s=7.0), now_s=1.0) == "again"
    assert box.due(7.9) is None
    then = box.due(8.0)
    assert then is not None
    assert then.offset == 1  # another is tried: that one may have been the trouble
    assert settle(box, then, TAKEN, now_s=8.0) == "delivered"
    assert (box.failures, box.due(8.0)) == (0, first)


def test_a_refused_event_holds_up_others_of_its_alert_and_no_more() -> None:
    box = waiting(event(0), event(1), event(2, "b"))
    first = box.due(0.0)
    assert first is not None
    assert settle(box, first, REFUSED) == "again"
    other = box.due(0.1)
    assert other is not None
    assert other.offset == 2
    settle(box, other, TAKEN)
    assert box.due(0.1) is None
    for n in range(1, MOST_REFUSALS):
        again = box.due(1000.0 * n)
        assert again is first
        assert settle(box, first, REFUSED, now_s=1000.0 * n) == ("dead" if n == MOST_REFUSALS - 1 else "again")
    after = box.due(0.0)
    assert after is not None
    assert after.offset == 1


def test_an_event_is_given_up_after_a_day_but_never_untried() -> None:
    box = waiting(event(0))
    first = box.due(0.0)
    assert first is not None
    assert settle(box, first, AWAY, wall_s=GIVE_UP_S) == "again"
    assert settle(box, first, AWAY, wall_s=GIVE_UP_S + 1) == "dead"
    assert len(box) == 0
    late = waiting(event(0))
    assert settle(late, event(0), TAKEN, wall_s=10 * GIVE_UP_S) == "delivered"


def test_no_more_is_read_than_may_wait() -> None:
    box = waiting(*(event(n, f"{n}") for n in range(MOST_WAITING)))
    assert box.full
    first = box.due(0.0)
    assert first is not None
    settle(box, first, TAKEN)
    assert not box.full


@given(st.integers(0, 10**6))
def test_nothing_is_committed_that_was_not_taken_and_each_alert_keeps_its_order(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - the same every time
    box, now_s = Deliveries(), 0.0
    taken: list[Event] = []
    dead: list[Event] = []
    ends = {0: 0, 1: 0}
    told = set()
    for _ in range(60):
        partition = rng.randrange(2)
        if rng.random() < 0.5:
            box.passed(partition, ends[partition] + 1)
            if rng.random() < 0.8:
                box.add(event(ends[partition], f"{partition}{rng.randrange(3)}", partition=partition))
                told.add((partition, ends[partition]))
            ends[partition] += 1
        now_s += rng.uniform(0, 30)
        due = box.due(now_s)
        if due is not None:
            fate = settle(box, due, rng.choice([TAKEN, TAKEN, AWAY, REFUSED]), now_s=now_s, chance=rng.random())
            if fate != "again":
                (taken if fate == "delivered" else dead).append(due)
        done = {(e.partition, e.offset) for e in taken + dead}
        for p, offset in box.committable().items():
            assert all((p, o) in done for o in range(offset) if (p, o) in told)
    for fingerprint in {e.record["fingerprint"] for e in taken + dead}:
        order = [e.offset for e in sorted(taken + dead, key=(taken + dead).index) if e.record["fingerprint"] == fingerprint]
        delivered = [e.offset for e in taken if e.record["fingerprint"] == fingerprint]
        assert delivered == sorted(delivered)
        assert len(set(order)) == len(order)


def test_what_fires_is_said_again_until_it_ends() -> None:
    firing = Firing(60.0)
    firing.told(event(0).record)
    firing.told(event(1, "b").record, now_s=10.0)
    assert [r["fingerprint"] for r in firing.due(20.0)] == ["a"]
    firing.told(event(0).record, now_s=20.0)
    assert [r["fingerprint"] for r in firing.due(70.0)] == ["b"]
    assert len(firing.due(80.0)) == 2
    assert len(firing.due(80.0, most=1)) == 1
    firing.told(event(2, state="resolved").record)
    firing.told(event(3, "b", state="resolved").record)
    assert firing.due(1e9) == []
