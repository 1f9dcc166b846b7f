"""`trading-ml demo`: the whole platform on real market data, or on a generator with known truth, with one command."""

from __future__ import annotations

from typing import Annotated

import typer

from streams.commands.session import plain_errors

_INTERRUPTED = 130
_SYMBOLS, _RATE, _SECONDS = 500, 5_000.0, 30.0


def demo(
    synthetic: Annotated[bool, typer.Option("--synthetic", help="A generator with known truth instead of real bars.")] = False,  # noqa: FBT002 - a switch of the command line
    symbols: Annotated[int | None, typer.Option(min=1, max=9_999, help=f"Synthetic symbols [{_SYMBOLS}].")] = None,
    rate: Annotated[
        float | None, typer.Option(min=1.0, help=f"Feature rows a second [20 market days; synthetic {_RATE:.0f}].")
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=1.0, help=f"How long to generate [{_SECONDS:.0f}].")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed makes the same synthetic values [11].")] = None,
) -> None:
    """Train, publish, replay 2007-2008 through Kafka, score, watch for drift; ends by itself with a summary.

    Starts the embedded broker and both worker groups as processes of its own and keeps everything in var/demo. Exit code 1,
    with the reason, if a row is unaccounted for.
    """
    for name, given in {"--symbols": symbols, "--seconds": seconds, "--seed": seed}.items():
        if given is not None and not synthetic:
            raise typer.BadParameter(f"{name} is for --synthetic; the real data has its own")
    with plain_errors():
        from rich.console import Console

        from streams.demo.run import run_demo
        from streams.demo.scenarios import market_scenario, synthetic_scenario

        scenario = (
            synthetic_scenario(
                symbols=_SYMBOLS if symbols is None else symbols,
                rate=_RATE if rate is None else rate,
                seconds=_SECONDS if seconds is None else seconds,
                seed=11 if seed is None else seed,
            )
            if synthetic
            else market_scenario(rate=rate)
        )
        try:
            code = run_demo(scenario, Console())
        except KeyboardInterrupt:
            typer.echo("interrupted; every process of the demo has ended", err=True)
            raise typer.Exit(_INTERRUPTED) from None
    if code != 0:
        raise typer.Exit(code)
