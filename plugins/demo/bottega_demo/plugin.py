"""Brings the command ``bottega demo``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bottega.hookspecs import hookimpl

if TYPE_CHECKING:
    import typer


@hookimpl
def bottega_commands(cli: typer.Typer) -> None:
    from bottega_demo.command import demo

    cli.command()(demo)
