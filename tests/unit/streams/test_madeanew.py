"""A topic that is shorter than what was read of it is not read on as if nothing had happened."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest
from faust.exceptions import ConsistencyError
from faust.tables import recovery as faust_recovery
from mode import Service
from structlog.testing import capture_logs

from streams import madeanew
from streams.errors import TopicError
from streams.leave import EX_CONFIG
from streams.madeanew import Beginnings, refuse_short_changelog
from streams.records import PartitionRecords
from tests.record import Record
from tests.unit.streams.test_waiting import value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from faust.types import TP

HELD = value((100, 1), (120, 2))
"""Was read up to 100, committed or not, then up to 120."""


class Log:
    """A partition whose end is told with a fetch, and when asked."""

    def __init__(self, fetched: int | None, asked: int = 0, held: bytes | None = HELD) -> None:
        self.fetched, self.asked, self.held = fetched, asked, held
        self.questions = 0
        self.beginnings = Beginnings(lambda _: self.held, lambda _: self.fetched, self._ask)

    async def _ask(self, tp: TP) -> Mapping[TP, int]:
        self.questions += 1
        return {tp: self.asked}

    async def read(self, first: int) -> list[Any]:
        with capture_logs() as said:
            await self.beginnings.check([PartitionRecords("f", 3, [Record(first, 0, b"k", b"v")])])
        return said


@pytest.mark.parametrize("first", [100, 110, 120])
async def test_reading_goes_on_where_the_state_knows_it(first: int) -> None:
    log = Log(fetched=120)
    assert await log.read(first) == []
    assert log.questions == 0


async def test_a_partition_that_ends_before_what_was_read_is_refused() -> None:
    with pytest.raises(TopicError, match="partition 3 of f ends at 7, but was read up to 120: it was deleted and made again"):
        await Log(fetched=7, asked=7).read(0)


async def test_an_end_that_is_behind_after_a_leader_moved_is_asked_for() -> None:
    log = Log(fetched=110, asked=130)
    assert await log.read(100) == []
    assert log.questions == 1


@pytest.mark.parametrize("held", [None, value()])
async def test_without_state_reading_may_begin_anywhere(held: bytes | None) -> None:
    assert await Log(fetched=1, held=held).read(0) == []


async def test_reading_from_before_all_that_is_known_is_said_once_until_the_partition_comes_again() -> None:
    log = Log(fetched=500)
    (said,) = await log.read(0)
    assert (said["log_level"], said["begins"], said["read_up_to"]) == ("warning", 0, 120)
    assert await log.read(0) == []
    log.beginnings.forget({3})
    assert len(await log.read(0)) == 1


async def test_a_short_changelog_ends_the_worker_in_one_line_and_other_faults_go_their_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left: list[tuple[int, str]] = []
    monkeypatch.setattr(madeanew, "leave", lambda code, message: left.append((code, message)))
    crashed: list[BaseException] = []

    class Recovery:
        async def crash(self, reason: BaseException) -> None:
            crashed.append(reason)

    recovery: Any = Recovery()
    refuse_short_changelog(recovery)
    other = RuntimeError("else")
    await recovery.crash(other)
    assert (crashed, left) == ([other], [])
    await recovery.crash(ConsistencyError("offset is higher\nthan the last"))
    ((code, message),) = left
    assert code == EX_CONFIG
    assert message.startswith("a changelog ends before what this worker's state folder has of it")
    assert "\n" not in message


def test_faust_finds_it_while_recovering_and_passes_it_to_crash() -> None:
    assert "raise ConsistencyError(" in inspect.getsource(faust_recovery)
    assert "await self.crash(exc)" in inspect.getsource(Service._execute_task)
    assert list(inspect.signature(Service.crash).parameters) == ["self", "reason"]
