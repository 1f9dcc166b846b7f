"""`trading-ml models list`, `show` and `timeline`: what the registry has, and what was ordered."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.commands.models_session import Json, Part, alias_of, logs_apart, span
from streams.commands.ordered import moment, orders_of, written_orders
from streams.commands.session import connected_settings, plain_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mlflow import MlflowClient

    from config import Settings
    from config.sections import ServedModel
    from models.catalog import ListedVersion
    from models.spec import ColumnSpec, ServingSpec
    from streams.commands.ordered import Written

_SHOWN_DIGEST = 12


def list_(as_json: Json = False) -> None:  # noqa: FBT002 - a switch of the command line
    """Print the models of the settings: what each alias names, which version was ordered last, and all versions."""
    with plain_errors(), logs_apart():
        from models.mlflow_client import connect

        settings = connected_settings()
        written = written_orders(settings.kafka)
        client = connect(settings.mlflow.tracking_uri)
        for model in settings.models:
            row = _listed(client, model, written)
            typer.echo(json.dumps(row) if as_json else "\n".join(_list_lines(row)))


def show(
    name: Annotated[str, typer.Argument(help="The registered model.")],
    version: Annotated[str | None, typer.Option("--version", help="Default the champion's.")] = None,
    as_json: Json = False,  # noqa: FBT002 - a switch of the command line
) -> None:
    """Print what a version needs and brings: its serving spec, metrics and tags, and whether it is kept on this machine."""
    with plain_errors(), logs_apart():
        from models.catalog import find_version, run_metrics
        from models.mlflow_client import connect
        from streams.app import registry_of
        from streams.spec_diff import spec_facts

        settings = connected_settings()
        registry = registry_of(settings)
        if version is None:
            alias = next((m.champion_alias for m in settings.models if m.name == name), "champion")
            version = registry.resolve(name, alias)
        client = connect(settings.mlflow.tracking_uri)
        found = find_version(client, name, version)
        cached = found.digest is not None and _cached(settings, found.digest)
        spec = registry.load_spec(name, version)
        metrics = run_metrics(client, found)
        if as_json:
            typer.echo(json.dumps(_row(found) | {"cached": cached, "metrics": metrics, "spec": spec_facts(spec)}))
        else:
            typer.echo("\n".join(_show_lines(found, spec, metrics, cached=cached)))


def timeline(
    name: Annotated[str | None, typer.Argument(help="Only this model.")] = None,
    role: Annotated[Part | None, typer.Option(help="Only this role.")] = None,
    as_json: Json = False,  # noqa: FBT002 - a switch of the command line
) -> None:
    """Print every order ever given, oldest first: which version serves from which event time on, and why. Needs Kafka only."""
    with plain_errors():
        import msgspec

        written = written_orders(connected_settings().kafka)
        for w in written:
            if name in {None, w.order.model} and role in {None, w.order.role}:
                said = msgspec.to_builtins(w.order) | {"effective_from": moment(w.order.effective_from_us)}
                said |= {"written_at": _when(w.written_ms)}
                typer.echo(json.dumps(said) if as_json else _order_line(w))


def _listed(client: MlflowClient, model: ServedModel, written: Iterable[Written]) -> dict[str, Any]:
    from models.catalog import list_versions, version_of_alias

    versions = list_versions(client, model.name)
    roles = {}
    for role in Part:
        alias, orders = alias_of(model, role), orders_of(written, model.name, role)
        if alias is None and not orders:
            continue
        roles[role.value] = {
            "alias": alias,
            "names": None if alias is None else version_of_alias(client, model.name, alias),
            "ordered": None if not orders else orders[-1].version,
            "effective_from_us": None if not orders else orders[-1].effective_from_us,
            "share": None if not orders else orders[-1].share,
        }
    return {"model": model.name, "roles": roles, "versions": [_row(v) for v in versions]}


def _row(v: ListedVersion) -> dict[str, Any]:
    return {
        "model": v.name,
        "version": v.version,
        "aliases": list(v.aliases),
        "digest": v.digest,
        "created": moment(v.created_us),
        "tags": v.tags,
    }


def _list_lines(row: dict[str, Any]) -> Iterator[str]:
    yield str(row["model"])
    for role, said in row["roles"].items():
        named = f"alias {said['alias']} names {said['names'] or 'nothing'}" if said["alias"] else "no alias in the settings"
        share = f", {said['share']:g} of the symbols" if said["share"] else ""
        if said["ordered"] is None:
            ordered = "nothing was ordered yet"
        else:
            ordered = f"{said['ordered'] or 'nobody'} in force from {moment(said['effective_from_us'])}{share}"
        yield f"  {role:<11}{named}; {ordered}"
    for v in row["versions"]:
        yield f"  version {v['version']:<4}{_short(v['digest'])}  {v['created'][:19]}Z  {', '.join(v['aliases'])}".rstrip()


def _show_lines(found: ListedVersion, spec: ServingSpec, metrics: dict[str, float], *, cached: bool) -> Iterator[str]:
    aliases = ", ".join(found.aliases)
    yield f"{found.name} version {found.version}{f' ({aliases})' if aliases else ''}"
    yield f"  digest      {found.digest or 'none: it cannot be served'}; spec {spec.digest()}"
    yield f"  created     {moment(found.created_us)}; {'kept' if cached else 'not kept'} on this machine"
    yield f"  trigger     {spec.trigger}, horizon {span(spec.horizon_us)}, waits at most {span(spec.deadline_us)}"
    yield f"  runtime     {spec.runtime}"
    yield f"  interval    level {spec.level:g}, {len(spec.residuals)} residuals"
    yield f"  abstains    where less than {spec.min_completeness:g} of the required columns is there"
    answers = "and the prediction" if spec.prediction_reference is not None else "not the prediction"
    yield f"  reference   {len(spec.reference)} of {len(spec.columns)} columns, {answers}"
    yield from _trained_lines(spec)
    for name, one in sorted(spec.feature_sets.items()):
        sessions = f", {len(one.sessions)} sessions" if one.sessions else ""
        yield (
            f"  set         {name}: {len(one.features)} features, bar {span(one.bar_us)}, "
            f"publication lag {span(one.publication_lag_us)}, {one.depth_rows} rows deep{sessions}"
        )
    for c in spec.columns:
        yield f"  column      {c.name}: {column_text(c)}"
    for name, value in metrics.items():
        yield f"  metric      {name} {value:g}"
    for name, tag in sorted(found.tags.items()):
        yield f"  tag         {name} {tag}"


def _trained_lines(spec: ServingSpec) -> Iterator[str]:
    """What else of training the monitor holds serving against; nothing of a version published before there was more."""
    from streams.spec_diff import level_columns

    levels = level_columns(spec)
    if levels:
        yield f"  levels      {', '.join(levels)}"
    if spec.rows_per_instant != 1.0:
        yield f"  instants    {spec.rows_per_instant:.4g} training rows in each"
    if spec.reconstruction is not None:
        r = spec.reconstruction
        yield f"  components  {len(r.components)}, which explain {r.explained:.0%} of the variance of the columns"
    if spec.loss_estimate is not None:
        loss = spec.loss_estimate
        yield (
            f"  losses      absolute {loss.absolute.intercept:.3g} on average, {loss.absolute.explained:.1%} of its variance "
            f"foreseen; squared {loss.squared.intercept:.3g}, {loss.squared.explained:.1%}"
        )


def column_text(c: ColumnSpec) -> str:
    """Where a column comes from, in words.

    >>> from models.spec import ColumnSpec, Lag
    >>> column_text(ColumnSpec(name="a", feature_set="bars", feature="ret", lag=Lag(bars=5), required=False))
    'bars.ret, 5 bars back, may be missing'
    """
    back = "" if c.lag == 0 else f", {c.lag.bars} bars back" if c.lag.us is None else f", {span(c.lag.us)} back"
    age = "" if c.max_age_us is None else f", at most {span(c.max_age_us)} old"
    return f"{c.feature_set}.{c.feature}{back}{age}{'' if c.required else ', may be missing'}"


def _cached(settings: Settings, digest: str) -> bool:
    """Whether the folder of commands, or of this machine's inference worker, has it."""
    from models.cache import is_kept
    from streams.app import in_own_folder, model_cache_folder

    return any(is_kept(model_cache_folder(s), digest) for s in (settings, in_own_folder(settings, "inference")))


def _order_line(w: Written) -> str:
    o = w.order
    share = f" share {o.share:g}" if o.share else ""
    return (
        f"{o.model} {o.role} {o.seq}: {f'version {o.version}' if o.version else 'nobody'}{share} from "
        f"{moment(o.effective_from_us)} ({o.effective_from_us} us), {_short(o.digest)}, written {_when(w.written_ms)}: {o.why}"
    )


def _short(digest: str | None) -> str:
    return digest[:_SHOWN_DIGEST] if digest else "no digest"


def _when(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
