"""`trading-ml models gate`: whether the challenger may take the champion's place, by what came of both on the same rows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.commands.models_session import Json, Part, alias_of, logs_apart
from streams.commands.ordered import moment
from streams.commands.session import plain_errors
from streams.commands.when import instant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from config import Settings
    from monitoring.gate import GateVerdict
    from streams.history import History
    from streams.same_rows import SameRows

PROMOTE, KEEP, CANNOT_TELL = 0, 1, 2
"""Exit codes; an error is the last, too: it must never pass for an answer."""
_WORDS = ("PROMOTE", "KEEP", "CANNOT TELL")
_FOREVER_US = (1 << 63) - 1


class Policy(StrEnum):
    """What the challenger must be."""

    BETTER = "better"
    NOT_WORSE = "not-worse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which versions of which model, and on which event times: start_us < time <= end_us, None for what the records show."""

    model: str
    champion: str
    challenger: str
    start_us: int | None
    end_us: int | None


def gate(
    name: Annotated[str, typer.Argument(help="The registered model.")],
    challenger: Annotated[str, typer.Option(help="Alias or version that asks for the place.")] = "challenger",
    champion: Annotated[str, typer.Option(help="Alias or version that has it.")] = "champion",
    start: Annotated[
        str | None,
        typer.Option("--from", help="Event time from which rows count, such as 2026-11-01; default: since both serve."),
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="Event time up to which rows count; default: up to now.")] = None,
    policy: Annotated[
        Policy, typer.Option(help="better: significantly smaller errors. not-worse: at most 1 % greater, shown by a test.")
    ] = Policy.BETTER,
    monitor: Annotated[str | None, typer.Option("--monitor", metavar="URL", help="Ask the monitor at this address.")] = None,
    as_json: Json = False,  # noqa: FBT002 - a switch of the command line
) -> None:
    """Compare the challenger with the champion on the rows both predicted, and say whether it may be promoted. Changes nothing.

    Exit code 0: promote; 1: keep the champion; 2: too little data to tell, or an error.
    """
    try:
        with plain_errors(), logs_apart():
            from config import load_settings
            from streams.history import history_of

            settings = load_settings()
            end_us = None if end is None else instant(end, option="--to")
            question = Question(
                model=name,
                champion=_version(settings, name, champion),
                challenger=_version(settings, name, challenger),
                start_us=None if start is None else instant(start, option="--from", before_us=end_us),
                end_us=end_us,
            )
            history = history_of(settings, monitor_url=monitor)
            try:
                said = answer(history, question, policy=policy)
            finally:
                history.close()
            typer.echo(json.dumps(said) if as_json else "\n".join(_lines(said)))
    except typer.Exit as e:
        raise typer.Exit(CANNOT_TELL) from e
    raise typer.Exit(said["exit_code"])


def answer(history: History, question: Question, *, policy: Policy) -> dict[str, Any]:
    """The verdict with all it rests on, ready for JSON. Raises `WarehouseError`, `RolloutError`."""
    from streams.errors import RolloutError
    from streams.same_rows import OUTCOMES, PREDICTIONS, horizon_of, of_versions, same_rows

    q = question
    if q.champion == q.challenger:
        raise RolloutError(f"{q.model}: version {q.champion} would be compared with itself; name two versions")
    start_us, end_us = _bounds(history, q)
    table = history.table("predictions", start_us=start_us, end_us=end_us, model=q.model, columns=PREDICTIONS)
    predictions = of_versions(table, q.champion, q.challenger)
    del table
    horizon_us = horizon_of(predictions)
    if horizon_us == 0:
        raise RolloutError(f"{q.model}: versions {q.champion} and {q.challenger} have different horizons and cannot be compared")
    said: dict[str, Any] = {
        "model": q.model,
        "champion": q.champion,
        "challenger": q.challenger,
        "policy": policy.value,
        "source": history.source,
    }
    if horizon_us is None:
        why = "There are no predictions of either version with a value in this time."
        return said | _unknown(q, why) | {"rows": 0}
    outcomes = history.table("outcomes", start_us=start_us, end_us=end_us, columns=OUTCOMES)
    rows = same_rows(predictions, outcomes, champion=q.champion, challenger=q.challenger, horizon_us=horizon_us)
    said |= {"rows": len(rows.champion), "predicted": dict(zip(("champion", "challenger"), rows.predicted, strict=True))}
    if not len(rows.champion):
        why = f"There is no row that both predicted and whose outcome was due: {rows.predicted[0]} of the champion, "
        why += f"{rows.predicted[1]} of the challenger."
        return said | _unknown(q, why)
    when = rows.champion.ts_event_us
    said |= {"from": moment(int(when[0])), "to": moment(int(when[-1]))}
    return said | _judged(rows, q, policy)


def _judged(rows: SameRows, question: Question, policy: Policy) -> dict[str, Any]:
    from monitoring.gate import GatePolicy
    from monitoring.gate import gate as judge
    from monitoring.paired import paired_instants, paired_report
    from monitoring.quality import quality_report
    from monitoring.sums import instants_of

    horizon_us = rows.horizon_us
    paired = paired_report(paired_instants(rows.champion, rows.challenger, horizon_us=horizon_us))
    one, other = (
        quality_report(instants_of(side, horizon_us=horizon_us), horizon_us=horizon_us)
        for side in (rows.champion, rows.challenger)
    )
    asked = GatePolicy(mode="better" if policy is Policy.BETTER else "not_worse", level=rows.level)
    verdict = judge(paired, one, other, policy=asked)
    told = verdict.to_dict()
    return _verdict(_code(verdict), question) | {
        "test": verdict.test,
        "reasons": list(verdict.reasons),
        "checks": told["checks"],
        "loss": {name: told[name] for name in ("difference", "standard_error", "p_value", "upper_bound", "limit")},
        "paired": paired.to_dict(),
        "quality": {"champion": one.to_dict(), "challenger": other.to_dict()},
    }


def _code(verdict: GateVerdict) -> int:
    if verdict.promote:
        return PROMOTE
    return CANNOT_TELL if any(c.name == "sample" and not c.holds for c in verdict.checks) else KEEP


def _verdict(code: int, question: Question) -> dict[str, Any]:
    command = f"trading-ml models promote {question.model} {question.challenger}" if code == PROMOTE else None
    return {"verdict": _WORDS[code].lower().replace(" ", "-"), "exit_code": code, "command": command}


def _unknown(question: Question, why: str) -> dict[str, Any]:
    return _verdict(CANNOT_TELL, question) | {"test": None, "reasons": [why], "checks": []}


def _bounds(history: History, question: Question) -> tuple[int, int]:
    """What was asked for; else since the challenger's first performance record, for before it there is nothing to compare."""
    import pyarrow.compute as pc

    start_us, end_us = question.start_us, question.end_us
    if start_us is None:
        columns = ("version", "window_start_us", "window_end_us")
        to_us = _FOREVER_US if end_us is None else end_us
        windows = history.table("performance", start_us=-_FOREVER_US, end_us=to_us, model=question.model, columns=columns)
        windows = windows.filter(pc.equal(windows["version"], question.challenger))
        start_us = pc.min(windows["window_start_us"]).as_py() if len(windows) else -_FOREVER_US
    return start_us, _FOREVER_US if end_us is None else end_us


def _version(settings: Settings, name: str, text: str) -> str:
    """The version itself, or what an alias names. A role's name stands for its alias in the settings."""
    if text.isdecimal():
        return text
    from models.catalog import version_of_alias
    from models.errors import RegistryError
    from models.mlflow_client import connect

    alias = text
    for model in settings.models:
        if model.name == name and text in set(Part):
            alias = alias_of(model, Part(text)) or text
    found = version_of_alias(connect(settings.mlflow.tracking_uri), name, alias)
    if found is None:
        raise RegistryError(f"model {name!r} has no alias {alias!r}; set it, or give a version")
    return found


def _lines(said: dict[str, Any]) -> Iterator[str]:
    yield f"{said['model']}: version {said['challenger']} for the place of {said['champion']}, policy {said['policy']}"
    if said["test"] is not None:
        yield f"  rows   {said['rows']} that both predicted, from {said['from']} to {said['to']}, out of {said['source']}"
        yield f"  test   {said['test']}"
    for check in said["checks"]:
        yield f"  {'holds' if check['holds'] else 'FAILS'}  {check['name']}: {check['sentence']}"
    yield _WORDS[said["exit_code"]] + ("" if said["checks"] else f": {said['reasons'][0]}")
    if said["command"] is not None:
        yield f"  {said['command']}"
