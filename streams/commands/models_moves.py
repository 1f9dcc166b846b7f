"""`trading-ml models promote` and `rollback`: move an alias, after every check a worker makes; and watch it come into force."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.commands.models_session import Json, Part, alias_of, logs_apart, served
from streams.commands.ordered import SwitchWatch, moment, orders_of, written_orders
from streams.commands.session import connected_settings, plain_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mlflow import MlflowClient

    from config import Settings
    from models.handle import ModelHandle
    from models.registry import Registry
    from models.spec import ServingSpec
    from streams.commands.ordered import Written
    from streams.switches import Order

_LOOK_S = 1.0
_SWITCH_S = 60.0
_GRACE_S = 30.0
_BUCKET_S = 60.0

Role = Annotated[Part, typer.Option("--role", help="Whose alias in the settings is moved.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until the order is given and every partition has switched.")]
Timeout = Annotated[
    float | None, typer.Option("--timeout", min=1, help="Seconds to wait for the order; default by inference.cache_ttl.")
]


def promote(
    name: Annotated[str, typer.Argument(help="A model of the settings.")],
    version: Annotated[str, typer.Argument(help="The version to bring into force.")],
    role: Role = Part.CHAMPION,
    wait: Wait = False,  # noqa: FBT002 - a switch of the command line
    timeout_s: Timeout = None,
    as_json: Json = False,  # noqa: FBT002 - the same
) -> None:
    """Let a role's alias name a version, once it has passed here every check that the workers make. Safe to repeat."""
    with plain_errors(), logs_apart():
        settings = connected_settings()
        alias = _alias(settings, name, role)
        client, written = _connected(settings)
        _check(settings, written, name, version)
        _move(settings, client, written, name, role, alias, version, wait=wait, timeout_s=timeout_s, as_json=as_json)


def rollback(
    name: Annotated[str, typer.Argument(help="A model of the settings.")],
    role: Role = Part.CHAMPION,
    wait: Wait = False,  # noqa: FBT002 - a switch of the command line
    timeout_s: Timeout = None,
    as_json: Json = False,  # noqa: FBT002 - the same
) -> None:
    """Let a role's alias name again the version before the one in force, by the timeline. Safe to repeat until it is in force.

    A challenger or canary with nothing before it is taken away.
    """
    with plain_errors(), logs_apart():
        from models.catalog import version_of_alias

        settings = connected_settings()
        alias = _alias(settings, name, role)
        client, written = _connected(settings)
        orders = orders_of(written, name, role)
        before = before_that(orders, name, role, named=version_of_alias(client, name, alias) or "", alias=alias)
        if before:
            handle = _check(settings, written, name, before)
            _refuse_other_files(handle, orders)
        _move(settings, client, written, name, role, alias, before, wait=wait, timeout_s=timeout_s, as_json=as_json)


def before_that(orders: list[Order], name: str, role: Part, *, named: str, alias: str) -> str:
    """The version to roll back to, "" for nobody. Raises `RolloutError` where there is none, or where it is not clear.

    `named`: what the alias names now.
    """
    from streams.errors import RolloutError

    if not orders:
        raise RolloutError(f"{name} {role}: no order was ever given, so there is nothing to roll back")
    now = orders[-1].version
    others = [o.version for o in orders if o.version != now]
    if not others and role is Part.CHAMPION:
        raise RolloutError(f"{name} {role}: version {now} is the only one ever in force; nothing is before it")
    before = others[-1] if others else ""
    if not before and role is Part.CHAMPION:
        raise RolloutError(f"{name} {role}: nobody was in force before version {now}")
    if named not in {now, before}:
        raise RolloutError(
            f"{name} {role}: alias {alias} names {named or 'nothing'}, in force is {now or 'nobody'}: its order has not come, or "
            f"it was refused. Say which you want: trading-ml models promote {name} {now or before} --role {role}"
        )
    return before


def _alias(settings: Settings, name: str, role: Part) -> str:
    alias = alias_of(served(settings, name), role)
    if alias is None:
        what = "canary" if role is Part.CANARY else f"{role}_alias"
        raise typer.BadParameter(f"model {name!r} has no {role}: set its {what} in the settings")
    return alias


def _connected(settings: Settings) -> tuple[MlflowClient, list[Written]]:
    from models.mlflow_client import connect

    written = written_orders(settings.kafka)
    return connect(settings.mlflow.tracking_uri), written


def _check(settings: Settings, written: list[Written], name: str, version: str) -> ModelHandle:
    """Load the version, which passes every check by that, and lay it beside all that counts. Raises what is wrong."""
    from streams.app import registry_of
    from streams.layout import merge_specs

    registry = registry_of(settings)
    handle = registry.load(name, version)
    merge_specs([*_beside(settings, registry, written, (name, version)), handle.spec])
    if not registry.flush_cache(_BUCKET_S):
        typer.echo("the bucket of the cache does not have the version yet; workers load it from the registry", err=True)
    return handle


def _beside(settings: Settings, registry: Registry, written: list[Written], but: tuple[str, str]) -> Iterator[ServingSpec]:
    """Specs of the versions that count, as workers see them; one that is not to be had is passed over, as there."""
    from models.errors import ModelError
    from streams.switches import KEPT

    counted = dict.fromkeys(
        (model.name, o.version)
        for model in settings.models
        for role in Part
        for o in orders_of(written, model.name, role)[-KEPT:]
    )
    for at in counted:
        if at[1] and at != but:
            try:
                yield registry.load_spec(*at)
            except ModelError as e:
                typer.echo(f"not held against {at[0]} version {at[1]}, which cannot be looked at: {e}", err=True)


def _refuse_other_files(handle: ModelHandle, orders: Iterable[Order]) -> None:
    from models.errors import UntrustedModel

    for o in orders:
        if o.version == handle.version and o.digest not in {"", handle.digest}:
            raise UntrustedModel(
                f"model {o.model!r} version {o.version} had the digest {o.digest} when it was in force, the registry now says "
                f"{handle.digest}; find out who changed it"
            )


def _move(
    settings: Settings,
    client: MlflowClient,
    written: list[Written],
    name: str,
    role: Part,
    alias: str,
    version: str,
    *,
    wait: bool,
    timeout_s: float | None,
    as_json: bool,
) -> None:
    from config.durations import format_duration
    from models.catalog import move_alias, version_of_alias

    say: Callable[[str], None] = (lambda _: None) if as_json else typer.echo
    was = version_of_alias(client, name, alias)
    if was != (version or None):
        move_alias(client, name, alias, version or None)
    say(f"{name}: alias {alias} names {version or 'nothing'}{', as it did' if was == (version or None) else f', was {was}'}")
    said: dict[str, Any] = {"model": name, "role": role.value, "alias": alias, "version": version, "was": was}
    orders = orders_of(written, name, role)
    last = orders[-1] if orders else None
    if last is not None and last.version == version:
        say(f"in force already, by order {last.seq}, from {moment(last.effective_from_us)}")
        said["order"] = _plain(last)
    elif not wait:
        every, ahead = (format_duration(d) for d in (settings.inference.cache_ttl, settings.inference.switch_ahead))
        say(f"workers ask within {every} (at once with the registry's webhook); in force {ahead} of stream time after that")
    else:
        said |= _waited(settings, name, role, version, after=0 if last is None else last.seq, timeout_s=timeout_s, say=say)
    if as_json:
        typer.echo(json.dumps(said))


def _waited(
    settings: Settings, name: str, role: Part, version: str, *, after: int, timeout_s: float | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """Wait for the order, then for its switches. Raises `RolloutError` for what did not come in time."""
    from streams.errors import RolloutError

    given = settings.inference.cache_ttl.total_seconds() + _GRACE_S if timeout_s is None else timeout_s
    deadline = time.monotonic() + given
    with SwitchWatch(settings.kafka) as watch:
        noted = ends = watch.ends()
        while not (found := [o for o in orders_of(written_orders(settings.kafka), name, role) if _is(o, version, after)]):
            if time.monotonic() > deadline:
                raise RolloutError(
                    f"the alias is set, but no order for it came within {given:g} s: is a worker running, and what says "
                    "trading_ml_refused_versions_total?"
                )
            noted = ends  # from before a look that did not find the order, so its switches come after these
            time.sleep(_LOOK_S)
            ends = watch.ends()
        order = found[-1]
        say(f"order {order.seq}: {order.version or 'nobody'} from {moment(order.effective_from_us)}")
        places = watch.find(order.key, after=noted, timeout_s=_SWITCH_S)
        say(f"switched in {len(places)} of {len(watch.partitions)} partitions, in each from then or from after its newest row")
        if len(places) < len(watch.partitions):
            missing = ", ".join(str(p) for p in watch.partitions if p not in places)
            raise RolloutError(
                f"no switch within {_SWITCH_S:g} s in partition {missing}: no worker holds it, or it has not loaded the version"
            )
    return {"order": _plain(order), "switched": {str(p): offset for p, offset in sorted(places.items())}}


def _is(order: Order, version: str, after: int) -> bool:
    return order.seq > after and order.version == version


def _plain(order: Order) -> dict[str, Any]:
    return {"seq": order.seq, "effective_from_us": order.effective_from_us, "effective_from": moment(order.effective_from_us)}
