"""`trading-ml models diff`: two versions side by side."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.commands.models_look import column_text
from streams.commands.models_session import Json, logs_apart
from streams.commands.session import plain_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.spec import ServingSpec

_MOST_SHOWN = 20


def diff(
    name: Annotated[str, typer.Argument(help="The registered model.")],
    a: Annotated[str, typer.Argument(help="The one version.")],
    b: Annotated[str, typer.Argument(help="The other.")],
    as_json: Json = False,  # noqa: FBT002 - a switch of the command line
) -> None:
    """Print what B has otherwise than A: columns and lags, windows, training distributions (PSI), metrics side by side."""
    with plain_errors(), logs_apart():
        from config import load_settings
        from models.catalog import find_version, run_metrics
        from models.mlflow_client import connect
        from streams.app import registry_of
        from streams.spec_diff import diff_references, diff_specs

        settings = load_settings()
        registry = registry_of(settings)
        specs = [registry.load_spec(name, version) for version in (a, b)]
        client = connect(settings.mlflow.tracking_uri)
        found = [find_version(client, name, version) for version in (a, b)]
        left, right = (run_metrics(client, one) for one in found)
        said: dict[str, Any] = {
            "model": name,
            "versions": [a, b],
            "same_files": found[0].digest == found[1].digest,
            "spec": diff_specs(*specs),
            "psi": diff_references(*specs),
            "metrics": {metric: [left.get(metric), right.get(metric)] for metric in sorted({*left, *right})},
        }
        typer.echo(json.dumps(said) if as_json else "\n".join(_lines(said, *specs)))


def _lines(said: dict[str, Any], left: ServingSpec, right: ServingSpec) -> Iterator[str]:
    a, b = said["versions"]
    spec = said["spec"]
    yield f"{said['model']} version {a} -> {b}{': the same files' if said['same_files'] else ''}"
    for fact, (one, other) in spec["facts"].items():
        yield f"  {fact:<12}{one} -> {other}"
    by_name = {c.name: c for c in (*left.columns, *right.columns)}
    for sign, which in (("+", "columns_added"), ("-", "columns_removed")):
        for column in spec[which]:
            yield f"  {sign} column    {column}: {column_text(by_name[column])}"
    old, new = ({c.name: c for c in s.columns} for s in (left, right))
    for column in spec["columns_changed"]:
        yield f"  ~ column    {column}: {column_text(old[column])} -> {column_text(new[column])}"
    if spec["columns_reordered"]:
        yield "  ~ columns   in another order"
    for name, changed in spec["feature_sets"].items():
        if isinstance(changed, str):
            yield f"  ~ set       {name}: {changed}"
        else:
            yield f"  ~ set       {name}: " + "; ".join(f"{key} {one} -> {other}" for key, (one, other) in changed.items())
    if not any(spec.values()):
        yield "  the specs ask for the same"
    psi = sorted(said["psi"].items(), key=lambda item: -(item[1] or 0.0))
    for name, distance in psi[:_MOST_SHOWN]:
        yield f"  psi         {name} {'unknown' if distance is None else f'{distance:.4f}'}"
    if len(psi) > _MOST_SHOWN:
        yield f"  psi         {len(psi) - _MOST_SHOWN} more, all at or below {psi[_MOST_SHOWN][1] or 0.0:.4f}"
    for name, (one, other) in said["metrics"].items():
        yield f"  metric      {name} {_number(one)} -> {_number(other)}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"
