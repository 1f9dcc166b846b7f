"""Topics deleted and made again, or cut short, under a group's state: said in one line instead of rows that go unseen. Shell.

What a worker keeps counts by offsets. Where a topic begins anew, rows up to the old offsets would pass for rows taken before,
and a changelog that is shorter than what was recovered from it holds something else. Which of the two is right only people
know, so the worker leaves: starting again is no cure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from faust.exceptions import ConsistencyError
from faust.types import TP

from streams.errors import TopicError
from streams.leave import EX_CONFIG, leave
from streams.waiting import ends_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from streams.records import PartitionRecords

log = structlog.get_logger()


class Beginnings:
    """Holds the first records that come of a partition against how far its table says it was read."""

    def __init__(
        self,
        stream_time: Callable[[int], bytes | None],
        end_of: Callable[[TP], int | None],
        ask: Callable[[TP], Awaitable[Mapping[TP, int]]],
    ) -> None:
        """How a partition is looked up.

        `stream_time`: its table value, None if there is none; `end_of`: where the source partition ended at its last fetch,
        which may be behind after a leader has moved; `ask`: where it ends, from the broker.
        """
        self._stream_time = stream_time
        self._end_of = end_of
        self._ask = ask
        self._seen: set[int] = set()

    async def check(self, parts: Sequence[PartitionRecords]) -> None:
        """Raise `TopicError` where a partition ends before what was read of it; warn where reading begins before all known."""
        for part in parts:
            if part.partition in self._seen:
                continue
            self._seen.add(part.partition)
            held = self._stream_time(part.partition)
            known = [] if held is None else ends_of(held)
            if not known:
                continue
            tp, first = TP(part.topic, part.partition), part.records[0].offset
            end = self._end_of(tp)
            if end is not None and known[-1] > end:
                end = (await self._ask(tp)).get(tp)
            if end is not None and known[-1] > end:
                raise TopicError(
                    f"partition {part.partition} of {part.topic} ends at {end}, but was read up to {known[-1]}: it was deleted "
                    "and made again, or lost records, and rows up to there would pass for taken. Stop the group's workers, "
                    "delete their state folders and the windows changelog, and begin with empty windows"
                )
            if first < known[0]:
                log.warning(
                    "reading begins before all that the state knows: rows up to there count as taken",
                    partition=part.partition,
                    begins=first,
                    read_up_to=known[-1],
                )

    def forget(self, partitions: Iterable[int]) -> None:
        """These were revoked: what comes next of them is looked at again."""
        self._seen.difference_update(partitions)


def refuse_short_changelog(recovery: Any) -> None:
    """Make Faust's recovery service leave in one line where a changelog holds less than the state folder says it read of it."""
    crash = recovery.crash

    async def said(reason: BaseException) -> None:
        if isinstance(reason, ConsistencyError):
            leave(
                EX_CONFIG,
                "a changelog ends before what this worker's state folder has of it: it was deleted and made again, or lost "
                f"records. Delete the state folder to begin with what the changelog holds ({' '.join(str(reason).split())})",
            )
        await crash(reason)

    recovery.crash = said
