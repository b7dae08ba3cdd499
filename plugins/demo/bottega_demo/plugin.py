"""Brings the command ``bottega demo``."""

from __future__ import annotations

import typer

from bottega.hookspecs import hookimpl
from bottega_demo.command import demo


@hookimpl
def bottega_commands(cli: typer.Typer) -> None:
    cli.command()(demo)
