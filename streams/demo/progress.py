"""The live display of a run: a table that redraws on a terminal, a plain line every few seconds elsewhere. Shell."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

_PLAIN_EVERY_S = 3.0
_RATE_OVER_S = 2.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment of a run. `waiting`: trigger rows logged without an answer yet, the consumer's lag as an outsider sees it."""

    stage: str
    rows: int
    rows_total: int
    predictions: int
    waiting: int
    rejected: int
    version: str
    drift: str
    worst: str
    firing: int
    alerts: int
    stream_time_us: int


class RateMeter:
    """Events a second over the last two seconds.

    >>> meter = RateMeter()
    >>> meter.update(0, now_s=0.0), meter.update(50, now_s=0.5)
    (0.0, 100.0)
    """

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque()

    def update(self, count: int, *, now_s: float) -> float:
        """Note the count so far and return the rate."""
        self._points.append((now_s, count))
        while self._points[0][0] < now_s - _RATE_OVER_S:
            self._points.popleft()
        since_s, before = self._points[0]
        return 0.0 if now_s == since_s else (count - before) / (now_s - since_s)


class Display:
    """Context manager; `show` it a snapshot as often as you like."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._meter = RateMeter()
        self._printed_s = float("-inf")

    def __enter__(self) -> Self:
        from rich.live import Live  # the command line's start must stay quick

        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=8, transient=True)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, s: Snapshot) -> None:
        """Draw it."""
        now_s = time.monotonic()
        rate = self._meter.update(s.predictions, now_s=now_s)
        if self._live is not None:
            self._live.update(table(s, rate))
        elif now_s - self._printed_s >= _PLAIN_EVERY_S:
            self._printed_s = now_s
            self._console.print(line(s, rate), markup=False, highlight=False, soft_wrap=True)


def when(time_us: int) -> str:
    """Return an event time as people read it, UTC; a dash for none.

    >>> when(1_205_182_800_000_000)
    '2008-03-10 21:00:00'
    """
    return "-" if time_us == 0 else datetime.fromtimestamp(time_us // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def line(s: Snapshot, rate: float) -> str:
    """Return a snapshot as one line."""
    return (
        f"{s.stage}: {when(s.stream_time_us)}  rows {s.rows:,}/{s.rows_total:,}  predictions {s.predictions:,} ({rate:,.0f}/s)  "
        f"waiting {s.waiting:,}  rejected {s.rejected:,}  model {s.version}  drift {s.drift}{s.worst and f' ({s.worst})'}  "
        f"alerts {s.alerts} ({s.firing} firing)"
    )


def table(s: Snapshot, rate: float) -> Table:
    """Return a snapshot as a table for the terminal."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    grid = Table(title=s.stage, title_justify="left", show_header=False, box=None, padding=(0, 2))
    grid.add_column(justify="right", style="dim")
    grid.add_column()
    grid.add_row("stream time", when(s.stream_time_us))
    grid.add_row("rows in", f"{s.rows:,} of {s.rows_total:,}")
    grid.add_row("", ProgressBar(total=max(1, s.rows_total), completed=s.rows, width=40))
    grid.add_row("predictions", f"{s.predictions:,}   {rate:,.0f}/s")
    grid.add_row("waiting", f"{s.waiting:,}")
    grid.add_row("rejected", f"{s.rejected:,}")
    grid.add_row("model", s.version)
    grid.add_row("drift", f"{s.drift}   {s.worst}")
    grid.add_row("alerts", f"{s.alerts} so far, [{'red' if s.firing else 'green'}]{s.firing} firing[/]")
    return grid
