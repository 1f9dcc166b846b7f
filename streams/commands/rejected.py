"""`trading-ml rejected`: look at what was refused, and send it again once its cause is cured."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from streams.commands.session import FAILED, connected_settings, plain_errors

if TYPE_CHECKING:
    from config.sections import Kafka
    from streams.replays import Choice, Refused, Selection

app = typer.Typer(no_args_is_help=True, help="Look at refused records, and send them again.")

_MOST_SHOWN = 200

Reason = Annotated[str | None, typer.Option(help="Only this reason, such as undecodable, conflict, expired, future.")]
Symbol = Annotated[str | None, typer.Option(help="Only records with this symbol as key.")]
Partition = Annotated[int | None, typer.Option(min=0, help="Only records of this source partition.")]
Since = Annotated[
    str | None, typer.Option(metavar="TIME", help="Refused at or after: ISO 8601 (UTC unless it says), or so long ago: 90s, 2h.")
]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Refused before; written as for --since.")]


@app.command("list")
def list_(
    reason: Reason = None,
    symbol: Symbol = None,
    partition: Partition = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the newest so many.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines, whole values, for programs.")] = False,  # noqa: FBT002 - a switch of the command line
) -> None:
    """Print the rejected records: time, where the original stands, reason, message, key and value, oldest first."""
    choice = _choice(reason, symbol, partition, since, until)
    with plain_errors():
        import msgspec

        from streams.replays import as_row

        found = [r for r in _refused(connected_settings().kafka) if choice.takes(r)]
        for r in found if limit is None else found[-limit:]:
            typer.echo(msgspec.json.encode(as_row(r)).decode() if as_json else _line(r))


@app.command()
def replay(
    reason: Reason = None,
    symbol: Symbol = None,
    partition: Partition = None,
    since: Since = None,
    until: Until = None,
    most_replays: Annotated[int, typer.Option(min=1, help="Leave records refused again after so many replays.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and send nothing.")] = False,  # noqa: FBT002 - a switch of the command line
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,  # noqa: FBT002 - the same
) -> None:
    """Send rejected records to the topic and partition they came from: same bytes, key and headers, and how often it was.

    Safe to repeat: a row that was taken meanwhile is a duplicate, which changes nothing. Exit code 1 if any was not delivered.
    """
    choice = _choice(reason, symbol, partition, since, until)
    with plain_errors():
        from streams.replays import select

        kafka = connected_settings().kafka
        sources = {kafka.topics.features, kafka.topics.outcomes, kafka.topics.inference_log}
        chosen = select(_refused(kafka), choice, topics=sources, most_replays=most_replays)
        for why, n in sorted(chosen.left.items()):
            typer.echo(f"{n} left: {why}")
        for r in chosen.send if dry_run else ():
            typer.echo(_line(r))
        if dry_run or not chosen.send:
            typer.echo(f"{len(chosen.send)} to send")
            return
        if not yes:
            typer.confirm(f"Send {len(chosen.send)} records again?", abort=True)
        _send(kafka, chosen)


def _send(kafka: Kafka, chosen: Selection) -> None:
    from confluent_kafka import Producer

    from streams.clients import producer_config
    from streams.replays import headers_again

    failed: list[str] = []
    producer = Producer({**producer_config(kafka), "log_level": 2})
    for r in chosen.send:
        while True:
            try:
                producer.produce(
                    r.topic,
                    r.value,
                    r.key,
                    r.partition,
                    headers=headers_again(r),
                    on_delivery=lambda error, _: failed.append(str(error)) if error is not None else None,
                )
            except BufferError:
                producer.poll(0.05)
            else:
                break
    left = producer.flush(60)
    delivered = len(chosen.send) - len(failed) - left
    typer.echo(f"{delivered} of {len(chosen.send)} sent again")
    if delivered < len(chosen.send):
        typer.echo(f"not delivered: {failed[0] if failed else 'no answer within 60 s'}", err=True)
        raise typer.Exit(FAILED)


def _refused(kafka: Kafka) -> list[Refused]:
    """All that the rejected topic holds, in the order of time."""
    from streams.reading import as_bytes, headers_of, records_of
    from streams.replays import refused

    found = []
    for m in records_of(kafka, kafka.topics.features_rejected, from_beginning=True, follow=False):
        r = refused(m.timestamp()[1], as_bytes(m.key()), as_bytes(m.value()), headers_of(m))
        if r is not None:
            found.append(r)
    return sorted(found, key=lambda r: (r.ts_ms, r.topic, r.partition, r.offset))


def _line(r: Refused) -> str:
    when = datetime.fromtimestamp(r.ts_ms / 1000, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    again = f", replay {r.replays}" if r.replays else ""
    message = r.message if len(r.message) <= _MOST_SHOWN else f"{r.message[:_MOST_SHOWN]}…"
    return f"{when}Z {r.topic} {r.partition}:{r.offset} {r.reason}{again}: {message} | {_shown(r.key)} | {_shown(r.value)}"


def _shown(data: bytes | None) -> str:
    if data is None:
        return "(none)"
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = f"0x{data[:_MOST_SHOWN].hex()}"
    return text if len(text) <= _MOST_SHOWN and len(data) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}… ({len(data)} bytes)"


def _choice(reason: str | None, symbol: str | None, partition: int | None, since: str | None, until: str | None) -> Choice:
    from streams.replays import Choice

    return Choice(
        reason=reason, symbol=symbol, partition=partition, since_ms=_time("--since", since), until_ms=_time("--until", until)
    )


def _time(option: str, text: str | None) -> int | None:
    """Milliseconds since 1970 of a moment, or of so long ago."""
    from config.durations import parse_duration

    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            return round((datetime.now(UTC) - parse_duration(text)).timestamp() * 1000)
        except ValueError as e:
            raise typer.BadParameter(
                f"{option} {text!r} is neither a time such as 2026-11-24T09:00 nor a duration such as 2h"
            ) from e
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)
