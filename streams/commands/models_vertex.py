"""`trading-ml models vertex-deploy` and `vertex-serve`: bring a version onto a Vertex AI endpoint, and serve it there."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated

import typer

from streams.commands.session import plain_errors

if TYPE_CHECKING:
    from config import Settings


def vertex_deploy(
    model: Annotated[str, typer.Argument(help="The registered model as NAME@ALIAS or NAME/VERSION.")],
    image: Annotated[str, typer.Option("--image", help="Container image in Artifact Registry that serves it.")],
    image_args: Annotated[str, typer.Option("--image-args", help="What it is started with.")] = "models vertex-serve",
    artifact_uri: Annotated[str | None, typer.Option("--artifact-uri", help="Its gs:// folder; default the registry's.")] = None,
    machine_type: Annotated[str, typer.Option("--machine-type", help="Machine of a replica.")] = "n1-standard-2",
    replicas: Annotated[str, typer.Option("--replicas", help="How many, or least-most.")] = "1",
    service_account: Annotated[str | None, typer.Option("--service-account", help="What the container runs as.")] = None,
    keep_old: Annotated[bool, typer.Option("--keep-old", help="Leave deployed, without traffic, what was there.")] = False,  # noqa: FBT002 - a switch of the command line
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the requests as JSON and make none.")] = False,  # noqa: FBT002 - the same
) -> None:
    """Upload a version to Vertex AI, deploy it with all traffic, take off what was there; safe to repeat."""
    named = re.fullmatch(r"([^@/]+)(?:@([^@/]+)|/(\d+))", model)
    bounds = re.fullmatch(r"(\d+)(?:-(\d+))?", replicas)
    if named is None or bounds is None:
        raise typer.BadParameter("right is NAME@ALIAS or NAME/VERSION, and --replicas 2 or --replicas 2-4")
    with plain_errors():
        from config import load_settings
        from models.vertex_deploy import run_deployment
        from models.vertex_requests import Deployment, plan
        from streams.endpoint import endpoint_settings

        settings = load_settings()
        vertex = settings.vertex
        if vertex.project is None or vertex.location is None:
            raise typer.BadParameter("vertex.project and vertex.location must be set to say where to deploy")
        name, alias, version = named.groups()
        version, digest, source = _registered(settings, name, alias, version)
        deployment = Deployment(
            parent=f"projects/{vertex.project}/locations/{vertex.location}",
            name=name,
            version=version,
            digest=digest,
            artifact_uri=source if artifact_uri is None else artifact_uri,
            image_uri=image,
            endpoint_id=vertex.endpoint_id,
            args=tuple(image_args.split()),
            machine_type=machine_type,
            min_replicas=int(bounds[1]),
            max_replicas=int(bounds[2] or bounds[1]),
            service_account=service_account,
        )
        deployment.check()
        if dry_run:
            typer.echo(json.dumps(plan(deployment), indent=2))
            return
        outcome = run_deployment(deployment, endpoint_settings(vertex), keep_old=keep_old, say=typer.echo)
        off = f", undeployed {', '.join(outcome.undeployed)}" if outcome.undeployed else ""
        typer.echo(f"{name} version {version} is {outcome.model} at {outcome.endpoint}{off}")


def vertex_serve() -> None:
    """Serve one version inside a Vertex AI container, as the variables say that Vertex AI and `vertex-deploy` set."""
    with plain_errors():
        import os

        from models.vertex_container import serve

        serve(os.environ)


def _registered(settings: Settings, name: str, alias: str | None, version: str | None) -> tuple[str, str, str]:
    """(version, digest, where its files are), by the registry."""
    from models.artifacts import DIGEST_TAG
    from models.errors import UntrustedModel
    from models.mlflow_client import connect, registry_errors

    client = connect(settings.mlflow.tracking_uri)
    with registry_errors(f"model {name!r}, {f'version {version}' if alias is None else f'alias {alias!r}'}"):
        found = client.get_model_version(name, str(version)) if alias is None else client.get_model_version_by_alias(name, alias)
        source = str(client.get_model_version_download_uri(name, found.version))
    digest = found.tags.get(DIGEST_TAG)
    if digest is None:
        raise UntrustedModel(f"model {name!r} version {found.version} has no tag {DIGEST_TAG!r}; publish it with models.publish")
    return str(found.version), str(digest), source
