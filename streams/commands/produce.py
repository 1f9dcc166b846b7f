"""`trading-ml produce`: send the rows of a file, at the pace they were known or as fast as possible."""

from __future__ import annotations

import time
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from streams.commands.session import FAILED, connected_settings, plain_errors

if TYPE_CHECKING:
    from collections.abc import Callable

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

_LONGEST_SLEEP_S = 0.2
_ANSWER_S = 10.0


def produce(
    file: Annotated[Path, typer.Argument(help="CSV, Parquet, or newline-delimited JSON in wire format.")],
    feature_set: Annotated[str | None, typer.Option(help="Feature set of a CSV or Parquet file of features.")] = None,
    topic: Annotated[Literal["features", "outcomes"], typer.Option(help="What the rows are.")] = "features",
    speed: Annotated[float, typer.Option(min=0, help="Times real time, by ts_known_us else ts_event_us; 0: at once.")] = 0.0,
    max_ahead: Annotated[
        int | None,
        typer.Option(min=1, help="Wait while a partition holds more rows than this that the reading group has not committed."),
    ] = None,
    as_frames: Annotated[  # noqa: FBT002 - typer makes it --frames
        bool, typer.Option("--frames", help="Send features as frames of many rows: the fastest way in. CSV and Parquet only.")
    ] = False,
) -> None:
    """Send the rows of FILE in file order, keyed by symbol; print how many were delivered, exit 1 if any was not.

    CSV and Parquet have the columns symbol, ts_event_us and optionally ts_known_us and revision; all others are features
    (outcomes: horizon_us and value). A row earlier than one before it is sent at once. Towards the embedded broker use
    --max-ahead 5000 (or 20 with --frames), or it forgets rows before they are read.
    """
    if as_frames and (topic != "features" or speed > 0):
        raise typer.BadParameter("--frames is for features, at once: it goes with neither --topic outcomes nor --speed")
    with plain_errors():
        from streams.access import cluster
        from streams.clients import kafka_client_config
        from streams.frames_out import FRAME_HEADERS
        from streams.pacing import MAX_AHEAD, PacedProducer
        from streams.rowfile import read_frames, read_rows

        kafka = connected_settings().kafka
        cluster(kafka, timeout_s=_ANSWER_S)  # or else a refused login would be known when the first rows are given up
        names = {"features": kafka.topics.features, "outcomes": kafka.topics.outcomes}
        group = {"features": kafka.inference_group, "outcomes": kafka.monitor_group}[topic] if max_ahead is not None else None
        rows = () if as_frames else read_rows(file, kind=topic, feature_set=feature_set)
        framed = read_frames(file, feature_set=feature_set, partitions=kafka.partitions) if as_frames else ()
        pace = Pace(speed)
        limit = MAX_AHEAD if max_ahead is None else max_ahead
        stopped = False
        with PacedProducer(kafka_client_config(kafka), names[topic], group=group, max_ahead=limit) as producer:
            try:
                for row in rows:
                    pace.wait_for(row.ts_us)
                    producer.send(row.key, row.value)
                for partition, frame in framed:
                    producer.send(None, frame, partition=partition, headers=FRAME_HEADERS)
            except KeyboardInterrupt:
                stopped = True
            result = producer.flush()
        what = "frames" if as_frames else "rows"
        typer.echo(f"{result.delivered} of {result.sent} {what} delivered to {names[topic]}")
        if result.failed:
            typer.echo(f"{result.failed} {what} not delivered: {result.first_error}", err=True)
            raise typer.Exit(FAILED)
        if stopped:
            raise typer.Exit(INTERRUPTED)


class Pace:
    """Waits until a row's time has come: `speed` times real time from the first row on; 0 never waits."""

    def __init__(
        self, speed: float, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self._speed = speed
        self._clock = clock
        self._sleep = sleep
        self._start: tuple[float, int] | None = None

    def wait_for(self, ts_us: int) -> None:
        """Return when it is this row's turn; one that is already late returns at once."""
        if self._speed == 0:
            return
        if self._start is None:
            self._start = (self._clock(), ts_us)
        begun, first_us = self._start
        due = begun + (ts_us - first_us) / 1e6 / self._speed
        while (left := due - self._clock()) > 0:
            self._sleep(min(left, _LONGEST_SLEEP_S))
