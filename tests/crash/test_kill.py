"""Workers killed, paused and cut off while rows flow: nothing lost, nothing wrong, no repetition that contradicts.

Each kill lands after the worker is ready and has taken a random (seeded) number of rows; what is right is worked out
from the features topic as it was read back.
"""

from __future__ import annotations

import random
import shutil
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from streams.broker import Api, EmbeddedBroker
from tests.broker import inference_judge as judging
from tests.broker import inference_rows as making
from tests.broker.inference_rows import Feeder
from tests.broker.inference_world import LIGHT, Worker, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

pytestmark = [pytest.mark.broker, pytest.mark.timeout(240)]

KILLS = 5
MESSAGE_TOO_LARGE, REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS = 10, 7, 19


@contextmanager
def flowing(feeder: Feeder, records: Sequence[dict[str, Any]], *, pause_s: float = 0.01) -> Iterator[None]:
    """Send records in small batches beside what happens in the block, and to the end before it is left."""

    def send() -> None:
        for at in range(0, len(records), 30):
            feeder.send(records[at : at + 30])
            pace.wait(pause_s)

    pace = threading.Event()
    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def finish(folder: Path, servers: str, *, state: str = "state") -> None:
    """One more worker takes what is left, and leaves in good order."""
    with Worker(folder, servers, state=state, command=LIGHT) as last:
        last.wait_ready()
        wait_until(judging.all_committed(servers), 60, alive=last)
        assert last.stop() == 0


def test_kill_9_at_any_moment_loses_nothing_and_contradicts_nothing(tmp_path: Path) -> None:
    """Wiped folders also go through the recovery from a filled changelog with rows already waiting."""
    rng = random.Random(4)  # noqa: S311 - the same moments every time
    with EmbeddedBroker(making.topics_of_the_broker()) as broker:
        servers = broker.bootstrap_servers
        feeder = Feeder(servers)
        rows = list(making.stream(4, 40 * (KILLS + 1)))
        share = len(rows) // (KILLS + 1)
        for kill in range(KILLS):
            mine = rows[kill * share : (kill + 1) * share]
            feeder.send(mine[: share // 2])
            if kill % 2:
                shutil.rmtree(tmp_path / "state")
            with Worker(tmp_path, servers, command=LIGHT) as worker:
                worker.wait_ready()
                goal = rng.randint(1, share)
                with flowing(feeder, mine[share // 2 :]):
                    wait_until(lambda worker=worker, goal=goal: worker.rows() >= goal, alive=worker)  # type: ignore[misc]  # bound now
                    worker.kill()
        feeder.send(rows[KILLS * share :])
        finish(tmp_path, servers)
        outcome, want = judging.judge(servers)
    assert outcome.faults == {}
    assert outcome.repeated, "no kill fell between a prediction and its commit: this proved nothing"
    assert len(want.vectors) > 3000


def test_a_delivery_that_fails_is_retried_or_ends_the_worker_before_anything_is_committed(tmp_path: Path) -> None:
    with EmbeddedBroker(making.topics_of_the_broker()) as broker:
        servers = broker.bootstrap_servers
        with Worker(tmp_path, servers, command=LIGHT) as first:  # it writes the first order of the timeline
            first.wait_ready()
            assert first.stop() == 0
        Feeder(servers).send(list(making.stream(9, 12)))
        # The first two are answered by trying again, the third never: that record cannot be delivered.
        broker.push_errors(Api.PRODUCE, [REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS, MESSAGE_TOO_LARGE])
        with Worker(tmp_path, servers, command=LIGHT) as worker:
            assert worker.process.wait(40) == 75
            assert "nothing was committed: record for trading." in worker.log.splitlines()[-1]
        assert set(judging.committed(servers).values()) == {0}
        broker.clear_errors(Api.PRODUCE)
        broker.push_errors(Api.PRODUCE, [NOT_ENOUGH_REPLICAS, REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS])
        finish(tmp_path, servers)
        outcome, _ = judging.judge(servers)
    assert outcome.faults == {}


def test_members_that_join_leave_and_come_back_from_a_pause_lose_nothing_and_write_nothing_old(tmp_path: Path) -> None:
    """The paused one has rows it did not commit; by the time it wakes others have its partitions and newer state."""
    with EmbeddedBroker(making.topics_of_the_broker()) as broker:
        servers = broker.bootstrap_servers
        feeder = Feeder(servers)
        rows = list(making.stream(3, 130))
        at = [len(rows) * n // 5 for n in range(6)]
        with (
            Worker(tmp_path, servers, state="a", command=LIGHT) as first,
            Worker(tmp_path, servers, state="b", command=LIGHT, INFERENCE__COMMIT_INTERVAL="60s") as second,
        ):

            def split() -> bool:
                held = first.partitions(), second.partitions()
                return sorted(held[0] + held[1]) == [0, 1, 2, 3] and all(held)

            with flowing(feeder, rows[: at[1]]):
                first.wait_ready()
                wait_until(split, alive=second)
            taken = second.rows()
            feeder.send(rows[at[1] : at[2]])
            wait_until(lambda: second.rows() > taken, alive=second)
            second.process.send_signal(signal.SIGSTOP)
            wait_until(lambda: first.partitions() == [0, 1, 2, 3], alive=first)
            feeder.send(rows[at[2] : at[3]])
            wait_until(judging.all_committed(servers), alive=first)
            second.process.send_signal(signal.SIGCONT)
            wait_until(split, alive=second)
            with flowing(feeder, rows[at[3] : at[4]]):
                assert second.stop() == 0
            wait_until(judging.all_committed(servers), alive=first)
            assert first.stop() == 0
        shutil.rmtree(tmp_path / "a")
        feeder.send(rows[at[4] :])
        finish(tmp_path, servers, state="a")  # from the changelog alone
        outcome, _ = judging.judge(servers)
    assert outcome.faults == {}
