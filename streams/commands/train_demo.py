"""`trading-ml train-demo`: train the demo's model and publish it as champion in the configured registry."""

from __future__ import annotations

from typing import Annotated

import typer

from streams.commands.session import plain_errors


def train_demo(
    synthetic: Annotated[bool, typer.Option("--synthetic", help="The model of `generate` instead of Google's.")] = False,  # noqa: FBT002 - a switch of the command line
) -> None:
    """Train the demo's LightGBM model on real bars of 2004-2006, or on the generator, and publish it as champion."""
    with plain_errors():
        from config import load_settings
        from streams.demo.scenarios import train_market
        from streams.demo.synthetic import SyntheticPlan, train_synthetic
        from streams.demo.training import publish_champion

        mlflow = load_settings().mlflow
        trained = train_synthetic(SyntheticPlan()) if synthetic else train_market()
        published = publish_champion(trained, tracking_uri=mlflow.tracking_uri, artifact_root=mlflow.model_registry)
        learned, calibration = len(trained.learned.y), len(trained.calibration.y)
        typer.echo(
            f"{published.name} version {published.version} is {published.alias} at {mlflow.tracking_uri}: "
            f"{len(published.spec.columns)} columns, {learned} rows learned, {calibration} rows for calibration"
        )
