"""The plugin `audit`: keeps who did what, allowed and denied, by listening. Nobody calls it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from bottega.hookspecs import hookimpl
from bottega.plugins import Action, Entities

if TYPE_CHECKING:
    import typer
    from fastapi import APIRouter

    from bottega.bus import Bus
    from bottega.platform import Platform


@hookimpl
def bottega_entities() -> Entities:
    from .entities import Trace

    return Entities([Trace], Path(__file__).parent / "migrations")


@hookimpl
def bottega_actions() -> Iterable[Action]:
    return (Action("cts:trace:list", "Read the audit trail", "trace"),)


@hookimpl
def bottega_subscribe(bus: Bus) -> None:
    from .events import ApiCalled
    from .traces import on_called

    bus.on(ApiCalled, on_called)


@hookimpl
def bottega_routes(platform: Platform) -> APIRouter:
    from . import routes

    return routes.router(platform)


@hookimpl
def bottega_commands(cli: typer.Typer) -> None:
    from . import commands

    commands.add_to(cli)
